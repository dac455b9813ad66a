"""The fast path: a chain needs only the tokens of a row that can still matter.

Look at the row once, block by block. The controls that change the order (a bias, the penalties) name
few tokens: only the blocks of these are copied and changed. Each truncation that follows knows a
floor, a logit under which nothing survives it: only the tokens above the highest floor are gathered.
On these few, or on a whole row that has no floor, the controls' own kernels run, and then the draw.
`docs/design.md` has the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import (
    READ,
    Blocks,
    Ids,
    Source,
    block,
    block_count,
    copy,
    gather,
    look,
    look_again,
    make_own,
)
from .controls import logit_bias, min_p, penalties, temperature, top_k, top_p, xtc
from .lanes import LANES
from .numerics import F32, F64, I64, Row, kernel, mass, total_mass
from .order import NO_CUT, at_least, largest, mass_before
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

_NEGLIGIBLE = np.float32(-12.0)  # a block this far below the best is first bounded, not weighed


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

    floats: NDArray[np.float32]  # (2, vocab) changed blocks; the survivors' logits
    small: NDArray[np.float32]  # blocks' peaks and a buffer
    ids: Ids  # (vocab,) which tokens survive, ascending
    longs: NDArray[np.int64]  # (3, vocab) places and counts of named tokens; masses
    is_own: NDArray[np.bool_]  # (blocks,)


def scratch(vocab: int) -> Scratch:
    """Scratch for rows of this length."""
    number = block_count(vocab)
    return Scratch(
        floats=np.empty((2, vocab), np.float32),
        small=np.empty(number + READ, np.float32),
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
) -> None:
    """Apply the steps to some of the rows given: fill in `out`, or draw if `out` has no rows.

    A row that is not fit gets the token -1, the others a token or 0, and `out` keeps what it has.
    `out` may be where the rows are.
    """
    # Of a tuple numba finds out the type anew at each call, which took 7 us.
    _run(rows.start, rows.stop, *given[:3], *steps, *requests, *memory, out, tokens)


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
    floats: NDArray[np.float32],
    small: NDArray[np.float32],
    ids: Ids,
    longs: NDArray[np.int64],
    is_own: NDArray[np.bool_],
    out: Rows,
    tokens: NDArray[np.int64],
) -> None:
    todo = np.empty_like(table)
    blocks = Blocks(small[: is_own.size], floats[0], is_own, small[is_own.size :])
    for r in range(first, last):
        source = Source(
            kind, wide[r if kind == FLOAT32 else 0], narrow[0 if kind == FLOAT32 else r], ids.size
        )
        count = choose(table, asked[r], spans[:, r], keys[r], todo)
        task = Task(
            todo[:count], asked[r], keys[r, 0], keys[r, 1], named, spans[:, r], marks, longs
        )
        draws = out.shape[0] == 0
        whole = floats[1] if draws else out[r]
        n, token = survive(source, blocks, task, floats[1], ids, whole, draws)
        tokens[r] = token
        if n <= 0:
            continue
        left = ids[:n] if n < ids.size else ids[:0]
        if draws:
            tokens[r] = race(whole[:n], left, task.seed, task.position)
        elif n < ids.size:
            whole[:] = -np.inf
            for i in range(n):
                whole[left[i]] = floats[1, i]


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
            todo[n] = table[s]
            n += 1
    return n


@kernel
def survive(
    source: Source, blocks: Blocks, task: Task, values: Row, ids: Ids, whole: Row, draws: bool
) -> tuple[int, int]:
    """(how many tokens are left to consider, 0) with these in `values` and `ids`, or if they are all
    in `whole`; (0, -1) if the row is not fit; (-1, token) if the draw is decided without them.

    Of those left, the removed ones have -inf.
    """
    if not look(source, blocks):
        return 0, -1
    lead = change_order(source, blocks, task)
    best = largest(blocks.peaks)
    if best == -np.inf:
        return 0, -1
    steps = task.table.shape[0]
    floor, weighs, loose = highest_floor(task, lead, blocks.peaks, best, source.vocab)
    if loose and draws:
        return -1, draw_first(source, blocks, task, lead, weighs, best)
    if floor > NO_CUT:
        n = gather(source, blocks, at_least(floor), values, ids)
    else:
        n, weighs = source.vocab, -1
        copy(source, blocks, whole)
    if n < source.vocab:
        row, left = values[:n], ids[:n]
    else:
        row, left = whole, EVERY
        if floor > NO_CUT:
            whole[:] = values
    for s in range(lead, steps):
        if s == weighs:
            truncate_by_mass(source, blocks, task, lead, s, best, row)
        else:
            apply(task, s, row, left)
        if task.table[s, 0] == BIAS and largest(row) == -np.inf:
            return 0, -1
    return n, 0


# ---- controls that change the order


@kernel
def change_order(source: Source, blocks: Blocks, task: Task) -> I64:
    """Apply the biases and penalties that the chain begins with; how many steps they are."""
    lead = 0
    while lead < task.table.shape[0] and task.table[lead, 0] < TEMPERATURE:
        for i in range(find(task, lead, EVERY)):
            make_own(source, blocks, task.longs[0, i] // LANES)
        lead += 1
    if lead:
        for s in range(lead):
            apply(task, s, blocks.own, EVERY)
        look_again(source, blocks)
    return lead


@kernel
def find(task: Task, s: I64, ids: Ids) -> I64:
    """Where among the survivors the tokens are that a step names, and their counts; how many."""
    control, scope, source = task.table[s]
    start, stop = task.spans[source]
    n = 0
    for j in range(start, stop):
        token, count, in_output = task.named[0, j], task.named[1, j], task.named[2, j]
        if control != BIAS:
            count = (scope != 2) * count + (scope != 1) * in_output
            if count == 0:
                continue
        place = token
        if ids.size:
            place = np.searchsorted(ids, token)
            if place == ids.size or ids[place] != token:
                continue
        task.longs[0, n], task.longs[1, n] = place, count
        n += 1
    return n


# ---- floors


@kernel
def highest_floor(
    task: Task, lead: I64, peaks: Row, best: F32, vocab: I64
) -> tuple[float, int, bool]:
    """(a logit of the changed row under which nothing matters; the step that weighs the row, or -1;
    whether only temperatures and that step are left, so that the draw may come first).

    From `lead` on, as long as each control keeps the order and removes from its end, what one of
    them removes is lost, whatever the others do. But top_p looks at the mass of all that is left: if
    nothing is removed yet it weighs the whole row, otherwise the floors end with it.
    """
    floor, heat, weighs, loose = NO_CUT, 1.0, -1, True
    for s in range(lead, task.table.shape[0]):
        control = task.table[s, 0]
        asked = task.asked[control]
        if control == TEMPERATURE and asked > 0.0:
            heat *= asked
        elif control == TOP_P and loose and weighs < 0:
            weighs = s
            floor = top_p.floor(best, heat, asked, vocab)
        else:
            loose = False
            if control == TEMPERATURE:
                floor = temperature.floor(best)
            elif control == TOP_K:
                floor = max(floor, top_k.floor(peaks, np.int64(asked)))
            elif control == MIN_P:
                floor = max(floor, min_p.floor(best, heat, asked))
            else:
                break
    floor, is_safe = lowered(floor, heat, best)
    return floor, weighs, loose and is_safe


@kernel
def lowered(floor: F64, heat: F64, best: F32) -> tuple[float, bool]:
    """(a floor made safe against rounding, which can make logits equal; whether it can be made so)."""
    is_safe = 2.0**-20 <= heat <= 2.0**20 and abs(best) < 2.0**100
    if not is_safe or abs(floor) > 2.0**100:
        return NO_CUT, is_safe
    return floor - 2.0**-18 * (abs(floor) + abs(best)) - 2.0**-100, True


# ---- the mass of a whole row


@kernel
def scaled_peaks(blocks: Blocks, task: Task, lead: I64, until: I64, best: F32) -> Row:
    """The blocks' largest logits as they are before step `until`."""
    peaks = blocks.peaks.copy()
    rescale(peaks, task, lead, until, best)
    return peaks


@kernel
def rescale(part: Row, task: Task, lead: I64, until: I64, best: F32) -> F32:
    """Apply the temperatures before step `until`, in place; what the row's largest logit becomes."""
    top = np.float32(best)
    for s in range(lead, until):
        if task.table[s, 0] == TEMPERATURE:
            top = temperature.scale_below(part, task.asked[TEMPERATURE], top)
    return top


@kernel
def scaled_block(
    source: Source, blocks: Blocks, b: I64, task: Task, lead: I64, until: I64, best: F32
) -> Row:
    """A block as it is before step `until`."""
    part = block(source, blocks, b)
    scaled = blocks.buffer[LANES : LANES + part.size]
    scaled[:] = part
    rescale(scaled, task, lead, until, best)
    return scaled


@kernel
def weigh(
    source: Source,
    blocks: Blocks,
    task: Task,
    lead: I64,
    until: I64,
    best: F32,
    tops: Row,
    value: F32,
    token: I64,
    exactly: bool,
) -> tuple[int, int, int]:
    """(the row's mass before step `until` at least, at most; that of the tokens before a token).

    Blocks far below the best are only bounded by their peaks, unless it is asked for exactly.
    """
    top = largest(tops)
    total, before, loose = np.int64(0), np.int64(0), np.int64(0)
    for b in range(tops.size):
        if not exactly and tops[b] - top < _NEGLIGIBLE and tops[b] < value:
            loose += mass(tops[b] - top)
            continue
        part = scaled_block(source, blocks, b, task, lead, until, best)
        total += total_mass(part, top)
        if tops[b] >= value:
            before += mass_before(part, top, value, token - b * LANES)
    return total, total + loose * LANES, before


@kernel
def truncate_by_mass(
    source: Source, blocks: Blocks, task: Task, lead: I64, s: I64, best: F32, row: Row
) -> None:
    """top_p on survivors, where others are left that have a part in the row's mass."""
    p, all_ties, masses = task.asked[TOP_P], task.table[s, 1] != 0, task.longs[2]
    tops = scaled_peaks(blocks, task, lead, s, best)
    own = top_p.weigh(row, masses)
    low, high, _ = weigh(source, blocks, task, lead, s, best, tops, _INF, 0, False)
    if not top_p.agree(row, masses, own, top_p.target(low, p), top_p.target(high, p)):
        low, _, _ = weigh(source, blocks, task, lead, s, best, tops, _INF, 0, True)
    top_p.keep(row, masses, own, top_p.target(low, p), all_ties)


@kernel
def draw_first(
    source: Source, blocks: Blocks, task: Task, lead: I64, weighs: I64, best: F32
) -> I64:
    """The draw where nothing removes tokens, or nothing but one top_p.

    Who wins among all tokens wins among the nucleus, if it is in there. If not, then neither is any
    that comes after it in the order, and the others race again.
    """
    steps, at = task.table.shape[0], max(weighs, lead)
    tops = scaled_peaks(blocks, task, lead, at, best)
    top = largest(tops)
    final_tops = tops.copy()
    rescale(final_tops, task, at, steps, top)
    came = arrivals(task.seed, task.position, np.arange(tops.size))
    bound = final_tops + came.noise
    favourite = np.argmax(bound)
    limit, limit_token = -_INF, 0
    while True:
        winner, score, value = -1, -np.inf, limit
        for turn in range(-1, tops.size):  # the favourite's score is one that few can reach
            b = favourite if turn < 0 else turn
            if turn == favourite or tops[b] < limit or bound[b] < score - MARGIN:
                continue
            part = scaled_block(source, blocks, b, task, lead, at, best)
            final = blocks.buffer[2 * LANES : 2 * LANES + part.size]
            final[:] = part
            rescale(final, task, at, steps, top)
            for j in range(part.size):
                token = b * LANES + j
                if part[j] > limit or (part[j] == limit and token < limit_token):
                    mine = contest(final[j], token, came, b, task.seed, task.position, score)
                    if mine > score or (mine == score and token < winner):
                        winner, score, value = token, mine, part[j]
        if weighs < 0:
            return winner
        limit, limit_token = value, 0 if task.table[weighs, 1] != 0 else winner
        if is_before(source, blocks, task, lead, at, best, tops, limit, limit_token):
            return winner


@kernel
def is_before(
    source: Source,
    blocks: Blocks,
    task: Task,
    lead: I64,
    s: I64,
    best: F32,
    tops: Row,
    value: F32,
    token: I64,
) -> bool:
    """Whether a token comes before the end of the nucleus that top_p, step s, keeps."""
    p = task.asked[TOP_P]
    for exactly in (False, True):
        low, high, before = weigh(source, blocks, task, lead, s, best, tops, value, token, exactly)
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
            logit_bias.add(row, places, counts.view(np.float64))
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
            marks = task.marks[source]
            if ids.size:
                marks = marks[ids]
        xtc.exclude_top(row, task.asked[_THRESHOLD], marks, option)
