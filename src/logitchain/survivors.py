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
    block_count,
    convert_and_look,
    copy,
    fetch,
    from_bits,
    gather,
    look,
    look_again,
    make_own,
)
from .controls import logit_bias, min_p, penalties, temperature, top_k, top_p, xtc
from .jit import kernel
from .lanes import LANES
from .logprobs import log_normaliser, normaliser_of
from .numerics import F32, F64, I64, MASS_BITS, Row, exp, mass
from .order import NO_CUT, at_least, float_to_key, key_to_float, largest
from .rows import FLOAT32, Rows, Stored
from .sample import EVERY, MARGIN, arrivals, contest, race

#: The named controls; a step names one by its place. The first four change the order of few tokens.
NAMES = (
    "logit_bias",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "xtc",
)
BIAS, REPETITION, FREQUENCY, PRESENCE, TEMPERATURE, TOP_K, TOP_P, MIN_P, XTC = range(9)

#: The columns of what a row's request asks, at their controls' places; XTC has two, a bias none.
ASKED = ("n", *NAMES[1:8], "xtc_probability", "xtc_threshold")
_THRESHOLD = 9
_OFF = (0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)

#: In the place of rows to fill in, where tokens are drawn.
NO_ROWS = np.empty((0, 0), np.float32)
_NO_MARKS = np.empty(0, np.bool_)
_INF = np.float32(np.inf)
_SURELY = 1.0 - 2.0 * top_p.ESTIMATE_ERROR
#: More than the mass of any row, and a float64.
NEVER = np.int64(2**63 - 2**10)


class Steps(NamedTuple):
    """A chain's named controls as arrays."""

    table: NDArray[np.int64]  # (steps, 3) each one's control, option, source
    marks: NDArray[np.bool_]  # (protections, vocab)


class Requests(NamedTuple):
    """A batch's rows as arrays."""

    asked: NDArray[np.float64]  # (rows, ASKED)
    keys: NDArray[np.uint64]  # (rows, 2) seed and position
    named: NDArray[np.int64]  # (3, n) tokens with a bias, as bits; or with counts in prompt, output
    spans: NDArray[np.int64]  # (sources, rows, 2) where in there: a row's bias, its histories


class Scratch(NamedTuple):
    """Memory for one row, used again for the next."""

    own: Row  # (blocks * 64,)
    values: Row  # (vocab,) the survivors' logits
    small: NDArray[np.float32]  # the blocks' peaks; a block
    ids: Ids  # (vocab,) which tokens survive, ascending
    longs: NDArray[np.int64]  # (3, vocab) places and counts of named tokens; masses
    is_own: NDArray[np.bool_]  # (blocks,)


class Wanted(NamedTuple):
    """Log-probabilities to be filled in beside the tokens; arrays without rows if none are."""

    of: int  # NOTHING, RAW or PROCESSED: which row they are of
    chosen: NDArray[np.float32]  # (rows,) that of the token drawn
    top_ids: NDArray[np.int64]  # (rows, n) the best tokens, best first; -1 where there is none left
    top: NDArray[np.float32]  # (rows, n) theirs


NOTHING, RAW, PROCESSED = range(3)


def wanted(of: int, rows: int, n: int) -> Wanted:
    """Room for log-probabilities."""
    ids, top = np.full((rows, n), -1, np.int64), np.full((rows, n), -np.inf, np.float32)
    return Wanted(of, np.full(rows, -np.inf, np.float32), ids, top)


UNWANTED = wanted(NOTHING, 0, 0)


def scratch(vocab: int) -> Scratch:
    """Scratch for rows of this length."""
    number = block_count(vocab)
    return Scratch(
        own=np.empty(number * LANES, np.float32),
        values=np.empty(vocab, np.float32),
        small=np.empty(number + LANES, np.float32),
        ids=np.empty(vocab, np.int32),
        longs=np.empty((3, vocab), np.int64),
        is_own=np.zeros(number, np.bool_),
    )


class Task(NamedTuple):
    """One row's work."""

    table: NDArray[np.int64]  # (steps, 3) the steps that do something to this row
    asked: NDArray[np.float64]
    seed: Any
    position: Any
    named: NDArray[np.int64]
    spans: NDArray[np.int64]  # (sources, 2)
    marks: NDArray[np.bool_]
    longs: NDArray[np.int64]


def run(
    rows: range,
    given: Stored,
    steps: Steps,
    requests: Requests,
    memory: Scratch,
    out: Rows,
    tokens: NDArray[np.int64],
    logprobs: Wanted = UNWANTED,
) -> None:
    """Apply the steps to some of the rows given: fill in `out`, or draw if `out` has no rows.

    A row that is not fit gets the token -1, the others a token or 0, and `out` keeps what it has.
    `out` may be where the rows are.
    """
    # Of a tuple numba finds out the type anew at each call, which took 7 us.
    arrays: tuple[Any, ...] = (*given[:3], *steps, *requests, *memory, out, tokens, *logprobs)
    _run(rows.start, rows.stop, *arrays)


@kernel
def _run(
    first: I64,
    last: I64,
    kind: I64,
    wide: Rows,
    narrow: NDArray[np.uint16],
    table: NDArray[np.int64],
    marks: NDArray[np.bool_],
    asked: NDArray[np.float64],
    keys: NDArray[np.uint64],
    named: NDArray[np.int64],
    spans: NDArray[np.int64],
    own: Row,
    values: Row,
    small: NDArray[np.float32],
    ids: Ids,
    longs: NDArray[np.int64],
    is_own: NDArray[np.bool_],
    out: Rows,
    tokens: NDArray[np.int64],
    of: I64,
    chosen: NDArray[np.float32],
    top_ids: NDArray[np.int64],
    top: NDArray[np.float32],
) -> None:
    todo = np.empty_like(table)
    peaks, buffer = small[: is_own.size], small[is_own.size :]
    for r in range(first, last):
        if kind == FLOAT32:
            blocks = Blocks(wide[r], own, is_own, peaks, buffer)
            is_fit = look(blocks)
        else:
            blocks = Blocks(own[:0], own, is_own, peaks, buffer)
            is_fit = convert_and_look(kind, narrow[r], blocks)
        count = choose(table, asked[r], spans[:, r], keys[r], todo)
        task = Task(
            todo[:count], asked[r], keys[r, 0], keys[r, 1], named, spans[:, r], marks, longs
        )
        normaliser = 0.0
        if is_fit and of == RAW:
            total, _, _ = weigh(blocks, 1.0, peaks, _INF, 0, NEVER, True)
            normaliser = normaliser_of(largest(peaks), total)
            n = gather(blocks, at_least(top_k.floor(peaks, top_ids.shape[1])), values, ids)
            list_best(values[:n], ids[:n], normaliser, top_ids[r], top[r])
        draws = out.shape[0] == 0
        whole = values if draws else out[r]
        may_draw_first = draws and of != PROCESSED
        n, token = survive(blocks, task, values, ids, whole, may_draw_first) if is_fit else (0, -1)
        left = ids[:n] if 0 <= n < ids.size else ids[:0]
        if draws and n > 0:
            token = race(whole[:n], left, task.seed, task.position)
        tokens[r] = token
        if of == RAW and token >= 0:
            raw = wide[r, token] if kind == FLOAT32 else from_bits(kind, narrow[r, token])
            chosen[r] = np.float64(raw) - normaliser
        elif of == PROCESSED and token >= 0:
            normaliser = log_normaliser(whole[:n])
            list_best(whole[:n], left, normaliser, top_ids[r], top[r])
            place = np.searchsorted(left, token) if left.size else token
            chosen[r] = np.float64(whole[place]) - normaliser
        if not draws and 0 < n < ids.size:
            for i in range(ids.size):
                whole[i] = -np.inf
            for i in range(n):
                whole[left[i]] = values[i]


@kernel
def list_best(values: Row, ids: Ids, normaliser: F64, top_ids: NDArray[np.int64], top: Row) -> None:
    """Fill in the best tokens and their log-probabilities, in order, as far as there are any."""
    last, last_id = _INF, -1
    for place in range(top.size):
        best, best_id = -_INF, -1
        for i in range(values.size):
            token = int(ids[i]) if ids.size else i
            comes_later = values[i] < last or (values[i] == last and token > last_id)
            if comes_later and values[i] > best:
                best, best_id = values[i], token
        if best_id < 0:
            return
        top_ids[place], top[place] = best_id, np.float64(best) - normaliser
        last, last_id = best, best_id


@kernel
def choose(
    table: NDArray[np.int64],
    asked: NDArray[np.float64],
    spans: NDArray[np.int64],
    key: NDArray[np.uint64],
    todo: NDArray[np.int64],
) -> I64:
    """List the steps that do something to a row; how many."""
    n = 0
    for s in range(table.shape[0]):
        control = table[s, 0]
        if control == BIAS:
            is_off = spans[0, 0] == spans[0, 1]
        elif control == XTC:
            is_off = asked[_THRESHOLD] == 0.0 or not xtc.comes_up(key[0], key[1], asked[XTC])
        else:
            is_off = asked[control] == _OFF[control]
        if not is_off:
            for i in range(3):
                todo[n, i] = table[s, i]
            n += 1
    return n


@kernel
def survive(
    blocks: Blocks, task: Task, values: Row, ids: Ids, whole: Row, draws: bool
) -> tuple[int, int]:
    """(how many tokens are left to consider, 0): they are in `values` and `ids`, or if it is all of
    them in `whole`; (0, -1) if none is left; (-1, token) if the draw is decided without them.

    Of those to consider, the removed ones have -inf.
    """
    lead = change_order(blocks, task)
    best = largest(blocks.peaks)
    if best == -np.inf:
        return 0, -1
    steps = task.table.shape[0]
    floor = highest_floor(task, lead, blocks.peaks, best, ids.size)
    if floor.is_loose and draws:
        return -1, draw_first(blocks, task, floor, best)
    if floor.logit > NO_CUT:
        n = gather(blocks, at_least(floor.logit), values, ids)
    else:
        n = ids.size
        copy(blocks, whole)
    if n < ids.size:
        row, left = values[:n], ids[:n]
    else:
        row, left = whole, EVERY
        if floor.logit > NO_CUT:
            for i in range(n):
                whole[i] = values[i]
    for s in range(lead, steps):
        if s == floor.weighs and n < ids.size:
            truncate_by_mass(blocks, task, s, floor.heat_before, best, row)
        else:
            apply(task, s, row, left)
        if task.table[s, 0] == BIAS and largest(row) == -np.inf:
            return 0, -1
    return n, 0


# ---- controls that change the order


@kernel
def change_order(blocks: Blocks, task: Task) -> I64:
    """Apply the biases and penalties that the chain begins with; how many steps they are."""
    lead = 0
    while lead < task.table.shape[0] and task.table[lead, 0] < TEMPERATURE:
        start, stop = task.spans[task.table[lead, 2]]
        if lead == 0 or task.table[lead, 2] != task.table[lead - 1, 2]:
            make_own(blocks, task.named[0, start:stop])
        lead += 1
    if lead:
        for s in range(lead):
            apply(task, s, blocks.own, EVERY)
        look_again(blocks)
    return lead


@kernel
def find(task: Task, s: I64, ids: Ids) -> I64:
    """Where among the survivors the tokens are that a step names, and their counts; how many."""
    control, scope, source = task.table[s]
    start, stop = task.spans[source]
    tokens, in_prompt, in_output = task.named[:, start:stop]
    places, counts = task.longs[0], task.longs[1]
    n = 0
    for j in range(tokens.size):
        place, count = tokens[j], in_prompt[j]
        if control != BIAS:
            count = (scope != 2) * count + (scope != 1) * in_output[j]
            if count == 0:
                continue
        if ids.size:
            place = np.searchsorted(ids, tokens[j])
            if place == ids.size or ids[place] != tokens[j]:
                continue
        places[n], counts[n] = place, count
        n += 1
    return n


# ---- floors


class Floor(NamedTuple):
    """What is known of a row's survivors before any is looked at."""

    logit: Any  # nothing under it survives; NO_CUT if nothing is known
    weighs: Any  # the step, a top_p, that needs the mass of all tokens; or -1
    heat_before: Any  # the temperature before that step
    heat: Any  # the temperature at the end
    is_loose: Any  # whether no other step removes anything: then the draw may come first


@kernel
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


# ---- the mass of a whole row


@kernel
def weigh(
    blocks: Blocks,
    heat: F64,
    tops: Row,
    value: F32,
    token: I64,
    enough: I64,
    exactly: bool,
) -> tuple[I64, I64, I64]:
    """(the row's mass at least, at most; the mass of the tokens before one in the order).

    heat        the temperature, after which the blocks' largest logits are `tops`
    value       the token's logit; +inf if it does not matter
    enough      a mass with which to stop
    exactly     whether blocks without tokens before that one are weighed too, or only estimated
    """
    row, own, is_own, peaks, _ = blocks
    top = largest(tops)
    high, low = temperature.factors(heat)
    above = key_to_float(np.int32(float_to_key(value) + 1))
    total, before, estimate = np.int64(0), np.int64(0), 0.0
    exactly |= abs(top) > top_p.ESTIMABLE
    for b in range(tops.size):
        place = np.uint64(b * LANES)
        if tops[b] < value and not exactly:
            if is_own[b]:
                share = top_p.estimate_block(own, place, peaks[b], heat)
            else:
                share = top_p.estimate_block(row, place, peaks[b], heat)
            estimate += share * np.float64(exp(tops[b] - top)) * 2.0**MASS_BITS
            if total + estimate * _SURELY > enough:
                return enough + 1, enough + 1, before
            continue
        bar = value if (b + 1) * LANES <= token else above
        if is_own[b]:
            here = top_p.weigh_block(own, place, high, low, top, bar)
        else:
            here = top_p.weigh_block(row, place, high, low, top, bar)
        total += here[0]
        before += here[1]
        if total > enough:
            return total, total, before
    b = token // LANES  # in the token's own block, its equals before it
    fetch(blocks, b)
    for j in range(token - b * LANES):
        x = temperature.product(blocks.buffer[j], high, low)
        if x == value:
            before += mass(x - top)
    if estimate == 0.0:
        return total, total, before
    # Each mass is rounded down; a total as float64 is off by 512 at most.
    error = estimate * top_p.ESTIMATE_ERROR + tops.size * LANES + 512.0
    high_total = min(np.float64(total) + estimate + error, np.float64(NEVER))
    return total + np.int64(max(estimate - error, 0.0)), np.int64(high_total), before


@kernel
def truncate_by_mass(blocks: Blocks, task: Task, s: I64, heat: F64, best: F32, row: Row) -> None:
    """top_p on survivors, where others are left that have a part in the row's mass."""
    p, all_ties, masses = task.asked[TOP_P], task.table[s, 1] != 0, task.longs[2]
    tops = blocks.peaks.copy()
    temperature.scale_below(tops, heat, best)
    own = top_p.weigh(row, masses)
    enough = top_p.enough(own, p)
    low, high, _ = weigh(blocks, heat, tops, _INF, 0, enough, False)
    if not top_p.agree(row, masses, own, top_p.target(low, p), top_p.target(high, p)):
        low, _, _ = weigh(blocks, heat, tops, _INF, 0, enough, True)
    top_p.keep(row, masses, own, top_p.target(low, p), all_ties)


@kernel
def draw_first(blocks: Blocks, task: Task, floor: Floor, best: F32) -> I64:
    """The draw where nothing removes tokens, or nothing but one top_p.

    Who wins among all tokens wins among the nucleus, if it is in there. If not, then neither is any
    that comes after it in the order, and the others race again.
    """
    tops = blocks.peaks.copy()
    top = temperature.scale_below(tops, floor.heat_before, best)
    heat_after = floor.heat if floor.heat_before == 1.0 else 1.0
    final_tops = tops.copy()
    temperature.scale_below(final_tops, heat_after, top)
    before, after = temperature.factors(floor.heat_before), temperature.factors(heat_after)
    came = arrivals(task.seed, task.position, np.arange(tops.size))
    bound = final_tops + came.noise
    favourite = int(np.argmax(bound))
    limit, limit_token = -_INF, 0
    while True:
        winner, score, value = -1, -np.inf, limit
        for turn in range(-1, tops.size):  # the favourite's score is one that few can reach
            b = favourite if turn < 0 else turn
            if turn == favourite or tops[b] < limit or bound[b] < score - MARGIN:
                continue
            fetch(blocks, b)
            for j in range(LANES):
                x = temperature.product(blocks.buffer[j], *before)
                token = b * LANES + j
                if x > limit or (x == limit and token < limit_token):
                    y = temperature.product(x, *after)
                    mine = contest(y, token, came, b, task.seed, task.position, score)
                    if mine > score or (mine == score and token < winner):
                        winner, score, value = token, mine, x
        if floor.weighs < 0:
            return winner
        limit, limit_token = value, 0 if task.table[floor.weighs, 1] != 0 else winner
        if is_before(blocks, task, floor.heat_before, tops, limit, limit_token):
            return winner


@kernel
def is_before(blocks: Blocks, task: Task, heat: F64, tops: Row, value: F32, token: I64) -> bool:
    """Whether a token comes before the end of the nucleus."""
    p = task.asked[TOP_P]
    for exactly in (False, True):
        low, high, before = weigh(blocks, heat, tops, value, token, NEVER, exactly)
        if before < top_p.target(low, p):
            return True
        if before >= top_p.target(high, p):
            return False
    return False


# ---- one step


@kernel
def apply(task: Task, s: I64, row: Row, ids: Ids) -> None:
    """A step's own kernel on one row of survivors, in place; with `ids` empty, on a whole row."""
    control, option, source = task.table[s]
    asked = task.asked[control]
    if control < TEMPERATURE:
        n = find(task, s, ids)
        places, counts = task.longs[0, :n], task.longs[1, :n]
        if control == BIAS:
            values = np.empty(n)
            for j in range(n):
                values[j] = np.int64(counts[j]).view(np.float64)
            logit_bias.add(row, places, values)
        elif control == REPETITION:
            penalties.repeat(row, places, counts, asked)
        elif control == FREQUENCY:
            penalties.be_frequent(row, places, counts, asked)
        else:
            penalties.be_present(row, places, counts, asked)
    elif control == TEMPERATURE:
        temperature.scale(row, asked)
    elif control == TOP_K:
        top_k.truncate(row, np.int64(asked), option != 0)
    elif control == TOP_P:
        top_p.truncate(row, asked, option != 0, task.longs[2])
    elif control == MIN_P:
        min_p.truncate(row, asked)
    else:
        marks = _NO_MARKS
        if source >= 0:
            marks = task.marks[source][: row.size].copy()
            for i in range(ids.size):
                marks[i] = task.marks[source, ids[i]]
        xtc.exclude_top(row, task.asked[_THRESHOLD], marks, option)
