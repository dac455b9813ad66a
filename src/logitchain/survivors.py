"""The fast path: a chain needs only the tokens of a row that can still matter.

Look at the row once, block by block. The controls that change the order (a bias, the penalties)
name few tokens: only the blocks of these are copied and changed. Each truncation that follows knows
a floor, a logit under which nothing survives it: only the tokens above the highest floor are
gathered. On these few, or on a whole row that has no floor, the controls' own kernels run, and then
the draw.
`docs/design.md` has the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import (
    Blocks,
    Ids,
    convert_and_look,
    copy,
    from_bits,
    gather,
    look,
    look_again,
    make_own,
    mask,
)
from .controls import min_p, temperature, token_bitmask, top_k, top_p
from .jit import borrowed, kernel, spliced
from .logprobs import log_normaliser, normaliser_of
from .nucleus import NEVER, NO_TOKEN, draw_first, truncate_by_mass, weigh
from .numerics import F32, F64, I64, Row
from .order import NO_CUT, at_least, largest
from .plan import (
    BIAS,
    MIN_P,
    NOTHING,
    PROCESSED,
    RAW,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Drawn,
    Floor,
    Requests,
    Scratch,
    Steps,
    Task,
    columns_of,
    lay_out,
)
from .rows import FLOAT32, Rows, Stored
from .sample import EVERY, race
from .steps import apply, choose, limit, named_by, names_the_same, place_of

Longs = NDArray[np.int64]

_INF = np.float32(np.inf)


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

    Returns how many rows are not fit: these get the token -1, the others a token or 0, and `out`
    keeps what it has. `out` may be where the rows are.
    """
    # Of a tuple as an argument numba finds out the type anew at each call, which took 7 us.
    kind, wide, narrow, _ = given
    arrays: Any = (*steps, *requests, memory, out, *drawn)
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
    columns: Longs,
    named: Longs,
    said: Longs,
    words: NDArray[np.uint64],
    memory: NDArray[np.uint8],
    out: Rows,
    of: I64,
    tokens: Longs,
    logprobs: Rows,
) -> I64:
    given = Given(kind, borrowed(wide), borrowed(narrow))
    steps = Steps(borrowed(table), borrowed(marks))
    requests = Requests(borrowed(columns), borrowed(named), borrowed(said), borrowed(words))
    drawn = Drawn(of, borrowed(tokens), borrowed(logprobs))
    vocab = wide.shape[1] if kind == FLOAT32 else narrow.shape[1]
    here = lay_out(borrowed(memory), vocab)
    todo = np.empty_like(table)
    unfit = 0
    for r in range(first, last):
        unfit += not run_row(r, given, steps, requests, here, todo, borrowed(out), drawn)
    return unfit


class Given(NamedTuple):
    """The rows as they came."""

    kind: Any
    wide: Rows
    narrow: NDArray[np.uint16]


@spliced
def run_row(
    r: I64,
    given: Given,
    steps: Steps,
    requests: Requests,
    here: Scratch,
    todo: Longs,
    out: Rows,
    drawn: Drawn,
) -> bool:
    """One row; whether it is fit."""
    task = prepare(r, steps, requests, here, todo)
    if given.kind == FLOAT32:
        blocks = Blocks(given.wide[r], here.own, here.is_own, here.peaks, here.buffer)
        is_fit = look(blocks)
    else:
        blocks = Blocks(here.own[:0], here.own, here.is_own, here.peaks, here.buffer)
        is_fit = convert_and_look(given.kind, given.narrow[r], blocks)
    token = -1
    if is_fit:
        normaliser = list_best_as_given(blocks, here, drawn, r) if drawn.of == RAW else 0.0
        draws = out.shape[0] == 0
        whole = here.values if draws else out[r]
        n, token = survive(blocks, task, whole, draws and drawn.of != PROCESSED)
        left = here.ids[:n] if 0 <= n < here.ids.size else here.ids[:0]
        if draws and n > 0:
            token = race(whole[:n], left, task.seed, task.position)
        if drawn.of != NOTHING and token >= 0:
            if drawn.of == PROCESSED:
                normaliser = log_normaliser(whole[:n])
                list_best(whole[:n], left, normaliser, drawn, r)
                logit = whole[place_of(token, left) if left.size else token]
            elif given.kind == FLOAT32:
                logit = given.wide[r, token]
            else:
                logit = from_bits(given.kind, given.narrow[r, token])
            drawn.logprobs[r, 0] = np.float64(logit) - normaliser
        if left.size and not draws:
            whole[:] = -np.inf
            for i in range(n):
                whole[left[i]] = here.values[i]
    drawn.tokens[r, 0] = token
    return token >= 0


@spliced
def prepare(r: I64, steps: Steps, requests: Requests, here: Scratch, todo: Longs) -> Task:
    """A row's work: the steps that do something to it, and what they read."""
    asked, key, spans = columns_of(requests.columns, r)
    n = choose(steps.table, asked, key, todo)
    given_words = requests.words[r] if requests.words.shape[0] else requests.words[:, 0]
    return Task(
        todo[:n],
        asked,
        key[0],
        key[1],
        spans,
        requests.named,
        requests.said,
        given_words,
        steps.marks,
        here,
    )


@kernel
def list_best(values: Row, ids: Ids, normaliser: F64, drawn: Drawn, r: I64) -> None:
    """Fill in the best tokens and their log-probabilities, in order, as far as there are any."""
    last, last_id = _INF, -1
    for place in range(1, drawn.tokens.shape[1]):
        best, best_id = -_INF, -1
        for i in range(values.size):
            token = int(ids[i]) if ids.size else i
            comes_later = values[i] < last or (values[i] == last and token > last_id)
            if comes_later and values[i] > best:
                best, best_id = values[i], token
        if best_id < 0:
            return
        drawn.tokens[r, place], drawn.logprobs[r, place] = best_id, np.float64(best) - normaliser
        last, last_id = best, best_id


@spliced
def list_best_as_given(blocks: Blocks, here: Scratch, drawn: Drawn, r: I64) -> F64:
    """The same of the row as it came; its normaliser."""
    total, _, _ = weigh(blocks, 1.0, blocks.peaks, _INF, NO_TOKEN, NEVER, True)
    normaliser = normaliser_of(largest(blocks.peaks), total)
    best = drawn.tokens.shape[1] - 1
    if best > 0:
        n = gather(blocks, at_least(top_k.floor(blocks.peaks, best)), here.values, here.ids)
        list_best(here.values[:n], here.ids[:n], normaliser, drawn, r)
    return normaliser


@spliced
def survive(blocks: Blocks, task: Task, whole: Row, draws: bool) -> tuple[int, int]:
    """(how many tokens are left to consider, 0): they are in the scratch, or if it is all of them
    in `whole`; (0, -1) if none is left; (-1, token) if the draw is decided without them.

    Of those to consider, the removed ones have -inf.
    """
    lead = change_order(blocks, task)
    best = largest(blocks.peaks)
    n, token = 0, -1
    if best > -np.inf:
        floor = highest_floor(task, lead, blocks.peaks, best, whole.size)
        if floor.is_loose and draws:
            n, token = -1, draw_first(blocks, task, floor, best)
        else:
            n = truncate(blocks, task, whole, lead, floor, best)
            token = 0 if n > 0 else -1
    return n, token


@spliced
def truncate(blocks: Blocks, task: Task, whole: Row, lead: I64, floor: Floor, best: F32) -> I64:
    """Gather what reaches the floor, and apply the steps from `lead` on; how many tokens that are,
    or 0 if all are removed.
    """
    values, ids, n = task.here.values, task.here.ids, whole.size
    if floor.logit > NO_CUT:
        n = gather(blocks, at_least(floor.logit), values, ids)
    if n < whole.size:
        row, left = values[:n], ids[:n]
    else:
        row, left = whole, EVERY
        copy(blocks, whole)
    for s in range(lead, task.table.shape[0]):
        if s == floor.weighs and n < whole.size:
            truncate_by_mass(blocks, task, s, floor.heat_before, best, row)
        else:
            apply(task, s, row, left)
        if task.table[s, 0] <= BIAS and largest(row) == -np.inf:
            n = 0
            break
    return n


# ---- controls that mask, or change the order


@spliced
def change_order(blocks: Blocks, task: Task) -> I64:
    """Apply the masks, biases and penalties that the chain begins with; how many steps they are."""
    lead, is_changed = np.int64(0), False  # of a literal numba compiles every callee once more
    while lead < task.table.shape[0] and task.table[lead, 0] < TEMPERATURE:
        if task.table[lead, 0] < BIAS:
            task.here.words[:] = token_bitmask.ALL
            while lead < task.table.shape[0] and task.table[lead, 0] < BIAS:
                limit(task, lead)
                lead += 1
            mask(blocks, task.here.words)
        else:
            if lead == 0 or not names_the_same(task, lead, lead - 1):
                make_own(blocks, named_by(task, lead))
            apply(task, lead, blocks.own, EVERY)
            is_changed = True
            lead += 1
    if is_changed:
        look_again(blocks)
    return lead


# ---- floors


@spliced
def highest_floor(task: Task, lead: I64, peaks: Row, best: F32, vocab: I64) -> Floor:
    """From step `lead` on, as long as each control keeps the order and removes from its end, what
    one of them removes is lost, whatever the others do.

    But top_p looks at the mass of all that is left: if nothing is removed yet it weighs the whole
    row, otherwise the floors end with it.
    """
    logit, weighs, heat_before, heat, is_loose = NO_CUT, -1, 1.0, 1.0, True
    for s in range(lead, task.table.shape[0]):
        control = task.table[s, 0]
        asked = task.asked[control]
        if control == TEMPERATURE and asked > 0.0 and heat == 1.0:
            heat = asked
        elif control == TOP_P and is_loose and weighs < 0:
            weighs, heat_before = s, heat
            logit = top_p.floor(best, heat, asked, vocab)
        else:
            is_loose = False
            if control == TEMPERATURE and asked == 0.0:
                logit = temperature.floor(best)
            elif control == TOP_K:
                logit = max(logit, top_k.floor(peaks, np.int64(asked)))
            elif control == MIN_P:
                logit = max(logit, min_p.floor(best, heat, asked))
            else:
                break
    # Rounding can make logits equal: the floor is lowered, or given up where that is not enough.
    is_safe = 2.0**-20 <= heat <= 2.0**20 and abs(best) < 2.0**100
    if is_safe and abs(logit) < 2.0**100:
        logit -= 2.0**-18 * (abs(logit) + abs(best)) + 2.0**-100
    else:
        logit = NO_CUT
    return Floor(logit, weighs, heat_before, heat, is_loose and is_safe)
