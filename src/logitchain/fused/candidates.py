"""One row on the fast path: look, change, find the floor, gather, apply, draw."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..controls import temperature, token_bitmask, top_k
from ..controls.record import ADJUST, CUT, MASK, MOST_FIELDS, call_floor
from ..inputs.logits import Rows, Stored
from ..logprobs import log_of_mass, logprob, normaliser, subtract
from ..numeric.blocks import (
    FLOAT32,
    Blocks,
    Ids,
    are_many,
    convert_and_look,
    copy,
    fetch,
    from_bits,
    gather,
    look,
    look_again,
    make_own,
    mask,
)
from ..numeric.compile import borrowed, kernel, part, spliced
from ..numeric.float_mode import restore_mode, standard_mode
from ..numeric.functions import F32, F64, I64, REMOVED, Row
from ..numeric.order import NO_CUT, at_least, float_to_key, key_to_float, largest
from ..numeric.prefix import floor_of_top
from ..numeric.simd import LANES, lowest_bit, reaching
from ..sample import EVERY, race
from .nucleus import draw_first, total, truncate_by_mass, weigh_all
from .step import apply, choose, limit, named_by, names_the_same, place_of
from .tables import (
    DIVIDES,
    FLAGS,
    FLOOR,
    KEEPS_SHARE,
    KIND,
    MAY_EMPTY,
    NOTHING,
    PROCESSED,
    RAW,
    SEED,
    WEIGHS,
    Drawn,
    Floor,
    Requests,
    Scratch,
    Steps,
    Task,
    lay_out,
)

Longs = NDArray[np.int64]

#: For a literal 0 all callees would be compiled again.
START = np.int64(0)


def run(
    first: int,
    last: int,
    given: Stored,
    steps: Steps,
    requests: Requests,
    memory: NDArray[np.uint8],
    out: Rows,
    drawn: Drawn,
) -> int:
    """Apply the steps to some of the rows given: fill in `out`, or draw if `out` has no rows.

    Returns how many rows are invalid: these get the token -1, the others a token or 0, and `out`
    keeps what it has. `out` may be where the rows are.
    """
    # Of a tuple as an argument numba finds out the type anew at each call, which took 7 us.
    kind, wide, narrow, _ = given
    arrays: Any = (*steps, requests.table, memory, out, *drawn)
    return int(_run(first, last, kind, wide, narrow, *arrays))


@kernel
def _run(
    first: I64,
    last: I64,
    kind: I64,
    wide: Rows,
    narrow: NDArray[np.uint16],
    table: Longs,
    marks: NDArray[np.bool_],
    lines: Longs,
    memory: NDArray[np.uint8],
    out: Rows,
    of: I64,
    tokens: Longs,
    logprobs: Rows,
) -> I64:
    given = Given(kind, borrowed(wide), borrowed(narrow))
    steps = Steps(borrowed(table), borrowed(marks))
    drawn = Drawn(of, borrowed(tokens), borrowed(logprobs))
    vocab = wide.shape[1] if kind == FLOAT32 else narrow.shape[1]
    scratch = lay_out(borrowed(memory), vocab)
    chosen = Chosen(
        np.empty(table.shape[0], np.int64), np.empty((table.shape[0] + 1, MOST_FIELDS), np.float64)
    )
    invalid = 0
    mode = standard_mode()
    for r in range(first, last):
        invalid += not run_row(
            r, given, steps, borrowed(lines), scratch, chosen, borrowed(out), drawn
        )
    restore_mode(mode)
    return invalid


class Given(NamedTuple):
    """The unprocessed rows."""

    kind: Any
    wide: Rows
    narrow: NDArray[np.uint16]


class Chosen(NamedTuple):
    """Room for the steps that do something to a row, and the values of their fields."""

    steps: Longs  # (steps,)
    values: NDArray[np.float64]  # (steps + 1, MOST_FIELDS)


@spliced
def run_row(
    r: I64,
    given: Given,
    steps: Steps,
    lines: Longs,
    scratch: Scratch,
    chosen: Chosen,
    out: Rows,
    drawn: Drawn,
) -> bool:
    """Run the steps on one row. Returns whether the row is valid."""
    task = prepare(r, steps, lines, scratch, chosen)
    if given.kind == FLOAT32:
        blocks = Blocks(given.wide[r], scratch.own, scratch.is_own, scratch.peaks, scratch.buffer)
        is_fit = look(blocks)
    else:
        blocks = Blocks(scratch.own[:0], scratch.own, scratch.is_own, scratch.peaks, scratch.buffer)
        is_fit = convert_and_look(given.kind, given.narrow[r], blocks)
    token = -1
    if is_fit:
        best, log_mass = np.float32(0.0), 0.0
        if drawn.of == RAW:
            best, log_mass = list_best_as_given(blocks, scratch, drawn, r)
        draws = out.shape[0] == 0
        whole = scratch.values if draws else out[r]
        n, token = survive(blocks, task, whole, draws and drawn.of != PROCESSED)
        left = scratch.ids[:n] if 0 <= n < scratch.ids.size else scratch.ids[:0]
        if draws and n > 0:
            token = race(whole[:n], left, task.seed, task.position)
        if drawn.of != NOTHING and token >= 0:
            if drawn.of == PROCESSED:
                best, log_mass = normaliser(whole[:n])
                list_best(whole[:n], left, best, log_mass, drawn, r)
                logit = whole[place_of(token, left) if left.size else token]
            elif given.kind == FLOAT32:
                logit = given.wide[r, token]
            else:
                logit = from_bits(given.kind, given.narrow[r, token])
            drawn.logprobs[r, 0] = logprob(logit, best, log_mass)
        if left.size and not draws:
            whole[:] = -np.inf
            for i in range(n):
                whole[left[i]] = scratch.values[i]
    drawn.tokens[r, 0] = token
    return token >= 0


@spliced
def prepare(r: I64, steps: Steps, lines: Longs, scratch: Scratch, chosen: Chosen) -> Task:
    """A row's work: the steps that do something to it, and what they read."""
    line = lines[r]
    key = part(line, SEED, 2, np.uint64)
    values = part(line, 0, line.size, np.float64)
    n = choose(steps.table, values, key[0], key[1], chosen.steps, chosen.values)
    return Task(
        steps.table,
        chosen.steps[:n],
        chosen.values[:n],
        key[0],
        key[1],
        line,
        steps.marks,
        scratch,
    )


@kernel
def list_best(values: Row, ids: Ids, best: F32, log_mass: F64, drawn: Drawn, r: I64) -> None:
    """Fill in the best tokens and their log-probabilities, in order, as far as there are any."""
    tokens, logits = drawn.tokens[r, 1:], drawn.logprobs[r, 1:]
    if tokens.size == 0:
        return
    floor, found = floor_of_top(values, tokens.size), np.int64(0)
    whole = values.size // LANES * LANES
    for start in range(0, whole, LANES):
        found = list_block(values, start, start, ids, floor, tokens, logits, found)
    for i in range(whole, values.size):
        if values[i] > REMOVED:
            found = insert(values[i], int(ids[i]) if ids.size else i, tokens, logits, found)
    subtract(logits[:found], best, log_mass)


@spliced
def list_best_as_given(blocks: Blocks, scratch: Scratch, drawn: Drawn, r: I64) -> tuple[F32, F64]:
    """Fill in the best tokens of the unprocessed row. Returns its `normaliser`."""
    best, log_mass = largest(blocks.peaks), log_of_mass(total(blocks, 1.0, blocks.peaks))
    tokens, logits = drawn.tokens[r, 1:], drawn.logprobs[r, 1:]
    if tokens.size:
        floor, found = at_least(top_k.floor(blocks.peaks, tokens.size)), np.int64(0)
        for b in range(blocks.peaks.size):
            if blocks.peaks[b] >= floor:
                fetch(blocks, b)
                first = b * LANES
                found = list_block(blocks.buffer, START, first, EVERY, floor, tokens, logits, found)
        subtract(logits[:found], best, log_mass)
    return best, log_mass


@kernel
def list_block(
    row: Row, start: I64, first: I64, ids: Ids, floor: F32, tokens: Longs, logits: Row, found: I64
) -> I64:
    """Insert the logits of a block of 64 that are among the best into the list of the best.

    The block begins with the token `first`, unless there are `ids`. Returns the list's length.
    """
    bar = floor
    if found == tokens.size:  # an equal one comes too late
        bar = max(floor, key_to_float(np.int32(float_to_key(logits[-1]) + 1)))
    bits = reaching(row, start, bar)
    while bits:
        j = lowest_bit(bits)
        token = int(ids[start + j]) if ids.size else first + j
        found = insert(row[start + j], token, tokens, logits, found)
        bits &= bits - np.uint64(1)
    return found


@kernel
def insert(logit: F32, token: I64, tokens: Longs, logits: Row, found: I64) -> I64:
    """Insert a token into the list of the best, by descending logit. Returns the list's length."""
    if found == tokens.size and logit <= logits[-1]:
        return found
    place = min(found, tokens.size - 1)
    while place > 0 and logits[place - 1] < logit:  # an equal one has the lower id
        tokens[place], logits[place] = tokens[place - 1], logits[place - 1]
        place -= 1
    tokens[place], logits[place] = token, logit
    return min(found + 1, tokens.size)


@spliced
def survive(blocks: Blocks, task: Task, whole: Row, draws: bool) -> tuple[int, int]:
    """(how many tokens are left to consider, 0): they are in the scratch, or if it is all of them
    in `whole`; (0, -1) if none is left; (-1, token) if the draw is decided without them.

    Of those to consider, the removed ones have -inf.
    """
    next_step = change_order(blocks, task)
    best = largest(blocks.peaks)
    n, token = 0, -1
    if best > -np.inf:
        floor = highest_floor(task, next_step, blocks.peaks, best, whole.size)
        if floor.is_loose and draws:
            n, token = -1, draw_first(blocks, task, floor)
        else:
            n = truncate(blocks, task, whole, next_step, floor)
            token = 0 if n > 0 else -1
    return n, token


@spliced
def truncate(blocks: Blocks, task: Task, whole: Row, next_step: I64, floor: Floor) -> I64:
    """Gather the tokens that reach the floor, and apply the steps from `next_step` on to them.

    Returns the number of candidates, or 0 if all are removed.
    """
    values, ids, n = task.scratch.values, task.scratch.ids, whole.size
    bar = at_least(floor.logit)
    if floor.logit > NO_CUT and not are_many(blocks, bar):
        n = gather(blocks, bar, values, ids)
    if n < whole.size:
        row, left = values[:n], ids[:n]
    else:  # of a whole row more of the work runs in vectors
        row, left = whole, EVERY
        copy(blocks, whole)
    for s in range(next_step, task.steps.size):
        flags, mass = task.table[task.steps[s], FLAGS], np.int64(0)
        has_part = s == floor.weighs and n < whole.size  # others have a part in the row's mass
        if has_part and flags & KEEPS_SHARE:
            truncate_by_mass(blocks, task, s, floor.divisor_before, row)
        else:
            if flags & WEIGHS:
                mass = weigh_all(blocks, floor.divisor_before, has_part, row)
            apply(task, s, row, left, mass)
        if flags & MAY_EMPTY and largest(row) == -np.inf:
            n = 0
            break
    return n


# ---- controls that mask, or change the order


@spliced
def change_order(blocks: Blocks, task: Task) -> I64:
    """Apply the masks, biases and penalties that the chain begins with; how many steps they are."""
    next_step, is_changed = np.int64(0), False  # for a literal 0 all callees are compiled again
    while next_step < task.steps.size and task.table[task.steps[next_step], KIND] <= ADJUST:
        if task.table[task.steps[next_step], KIND] == MASK:
            task.scratch.words[:] = token_bitmask.ALL
            while next_step < task.steps.size and task.table[task.steps[next_step], KIND] == MASK:
                limit(task, next_step)
                next_step += 1
            mask(blocks, task.scratch.words)
        else:
            if next_step == 0 or not names_the_same(task, next_step, next_step - 1):
                make_own(blocks, named_by(task, next_step))
            apply(task, next_step, blocks.own, EVERY, np.int64(0))
            is_changed = True
            next_step += 1
    if is_changed:
        look_again(blocks)
    return next_step


# ---- floors


@spliced
def highest_floor(task: Task, next_step: I64, peaks: Row, best: F32, vocab: I64) -> Floor:
    """The highest of the floors of the steps from `next_step` on that keep the order and remove
    from its end: a token that one of them removes is lost, whatever the others do.

    A step that needs the row's mass takes it of all that is left: if nothing is removed yet, of the
    whole row, otherwise the floors end with it.
    """
    logit, weighs, divisor_before, divisor, is_loose = NO_CUT, -1, 1.0, 1.0, True
    for s in range(next_step, task.steps.size):
        step, values = task.table[task.steps[s]], task.values[s]
        kind, flags = step[KIND], step[FLAGS]
        if flags & DIVIDES and values[0] > 0.0 and divisor == 1.0:
            divisor = values[0]
            continue
        if flags & WEIGHS and is_loose and weighs < 0 and step[FLOOR] != 0:
            weighs, divisor_before = s, divisor
            is_loose = flags & KEEPS_SHARE != 0
        else:
            is_loose = False
            is_cut = kind == CUT or (flags & DIVIDES and values[0] == 0.0)
            if not is_cut or flags & WEIGHS or step[FLOOR] == 0:
                break
        logit = max(logit, call_floor(step[FLOOR], best, divisor, peaks, values, vocab))
    # Rounding can make logits equal: the floor is lowered, or given up where that is not enough.
    is_safe = temperature.is_ordinary(divisor) and abs(best) < 2.0**100
    if is_safe and abs(logit) < 2.0**100:
        logit -= 2.0**-18 * (abs(logit) + abs(best)) + 2.0**-100 * max(1.0, divisor)
    else:
        logit = NO_CUT
    return Floor(logit, weighs, divisor_before, divisor, is_loose and is_safe)
