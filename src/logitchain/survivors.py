"""The fast path: a chain needs only the tokens of a row that can still matter.

Look at the row once, block by block. The controls that change the order (a bias, the penalties) name
few tokens: only their blocks are copied and changed. Each truncation that follows knows a floor, a
logit under which nothing survives it; only the tokens above the highest floor are gathered. On these
few, or on a whole row that has no floor, the controls' own kernels run in order, and the draw after
them. `docs/design.md` has the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .controls import logit_bias, min_p, penalties, temperature, top_k, top_p, xtc
from .lanes import LANES, lowest_bit, peak, reaching
from .numerics import F32, F64, I64, SLACK, Row, kernel, total_mass
from .order import NO_CUT, at_least, largest, scan
from .rows import BFLOAT16, FLOAT32
from .sample import EVERY, race

Ids = NDArray[np.int32]

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

#: The columns of what a row's request asks, at their controls' places; XTC has two.
ASKED = ("n", *NAMES[1:8], "xtc_probability", "xtc_threshold")
_THRESHOLD = 9
_OFF = (0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)

#: In the place of rows to fill in, where tokens are drawn.
NO_ROWS = np.empty((0, 0), np.float32)
_NO_MARKS = np.empty(0, np.bool_)

_READ = 1024  # logits at a time where they are converted, or scaled and weighed
_NOTHING = -30.0  # e**-30 is less than a unit of mass


class Steps(NamedTuple):
    """A chain's controls as arrays."""

    control: NDArray[np.int64]  # (steps,) a place in NAMES
    option: NDArray[np.int64]  # (steps,) all ties; scope; what protection does
    source: NDArray[np.int64]  # (steps,) which of the histories, which row of marks
    marks: NDArray[np.bool_]  # (protections, vocab)


class Requests(NamedTuple):
    """A batch's rows as arrays: what they ask, what was said. A span is (start, stop)."""

    asked: NDArray[np.float64]  # (rows, ASKED)
    seeds: NDArray[np.uint64]
    positions: NDArray[np.uint64]
    said: NDArray[np.int64]  # (3, n) distinct tokens, how often in the prompt, in the output
    said_spans: NDArray[np.int64]  # (histories, rows, 2)
    bias_ids: NDArray[np.int64]
    bias_values: NDArray[np.float64]
    bias_spans: NDArray[np.int64]  # (rows, 2)


class Scratch(NamedTuple):
    """Memory for one row, used again for the next."""

    own: Row  # (vocab,) the blocks that a bias or a penalty changed
    is_own: NDArray[np.bool_]  # (blocks,) which those are
    peaks: Row  # (blocks,) each block's largest logit
    buffer: Row  # (_READ,) a part of the row, converted or scaled
    values: Row  # (vocab,) the survivors' logits
    ids: Ids  # (vocab,) and which tokens they are, ascending
    places: NDArray[np.int64]  # (vocab,) where among the survivors a history's tokens are
    counts: NDArray[np.int64]  # (vocab,) how often they occur
    masses: NDArray[np.int64]  # (vocab,)


def scratch(vocab: int) -> Scratch:
    """Scratch for rows of this length."""
    blocks = -(-vocab // LANES)
    return Scratch(
        own=np.empty(vocab, np.float32),
        is_own=np.zeros(blocks, np.bool_),
        peaks=np.empty(blocks, np.float32),
        buffer=np.empty(_READ, np.float32),
        values=np.empty(vocab, np.float32),
        ids=np.empty(vocab, np.int32),
        places=np.empty(vocab, np.int64),
        counts=np.empty(vocab, np.int64),
        masses=np.empty(vocab, np.int64),
    )


class Source(NamedTuple):
    """One row as the caller stores it."""

    kind: Any
    wide: Row  # (vocab,), or empty
    narrow: NDArray[np.uint16]  # (vocab,), or empty
    vocab: Any


@kernel
def run(
    first: I64,
    last: I64,
    kind: I64,
    wide: NDArray[np.float32],
    narrow: NDArray[np.uint16],
    steps: Steps,
    requests: Requests,
    memory: Scratch,
    out: NDArray[np.float32],
    tokens: NDArray[np.int64],
    fit: NDArray[np.bool_],
) -> None:
    """Apply the steps to rows first .. last of the logits, `wide` or `narrow` by their kind.

    Fills in `out`, (rows, vocab), or if that has no rows draws `tokens`. A row that is not `fit` gets
    the token -1 and keeps what `out` has. `out` may be `wide`.
    """
    for r in range(first, last):
        vocab = wide.shape[1] if kind == FLOAT32 else narrow.shape[1]
        source = Source(
            kind,
            wide[r if kind == FLOAT32 else 0],
            narrow[0 if kind == FLOAT32 else r],
            vocab,
        )
        whole = out[r] if out.shape[0] else memory.values
        n = survive(source, steps, requests, r, memory, whole)
        fit[r] = n > 0
        ids = memory.ids[:n] if n < vocab else memory.ids[:0]
        if not out.shape[0]:
            seed, position = requests.seeds[r], requests.positions[r]
            tokens[r] = race(memory.values[:n], ids, seed, position) if n else -1
        elif 0 < n < vocab:
            whole[:] = -np.inf
            for i in range(n):
                whole[ids[i]] = memory.values[i]


@kernel
def survive(
    source: Source, steps: Steps, requests: Requests, r: I64, memory: Scratch, whole: Row
) -> I64:
    """How many tokens are left to consider: in `values` and `ids`, or all of them in `whole`.

    0 if the row is not fit. Of those left, the removed ones have -inf.
    """
    vocab = source.vocab
    if not look(source, memory):
        return 0
    lead = change_order(source, steps, requests, r, memory)
    best = largest(memory.peaks)
    if best == -np.inf:
        return 0
    floor, weighs = highest_floor(steps, requests, r, lead, memory.peaks, best, vocab)
    if floor > NO_CUT:
        n = gather(source, memory, at_least(floor))
    else:
        n, weighs = vocab, -1
        copy(source, memory, whole)
    if n == vocab:
        row, ids = whole, EVERY
        if floor > NO_CUT:
            whole[:] = memory.values
    else:
        row, ids = memory.values[:n], memory.ids[:n]
    for s in range(lead, steps.control.size):
        total = np.int64(0)
        if s == weighs:
            total = weigh_all(source, steps, requests.asked[r], lead, s, memory, row, best)
        apply(steps, s, requests, r, memory, row, ids, total)
        if steps.control[s] == BIAS and largest(row) == -np.inf:
            return 0
    return n


# ---- the row, block by block


@kernel
def read(source: Source, start: I64, stop: I64, buffer: Row) -> Row:
    """Part of a row as float32: the row itself, or in the buffer."""
    if source.kind == FLOAT32:
        return source.wide[start:stop]
    bits = source.narrow[start:stop]
    part = buffer[: stop - start]
    if source.kind == BFLOAT16:
        for i in range(part.size):
            part[i] = np.uint32(np.uint32(bits[i]) << np.uint32(16)).view(np.float32)
    else:
        for i in range(part.size):
            part[i] = from_float16(np.uint32(bits[i]))
    return part


@kernel
def from_float16(bits: Any) -> F32:
    """A float16 as float32, exactly: its bits moved to their places, the exponent's offset made good
    by a product that also takes care of subnormals.
    """
    sign = np.uint32(np.uint32(bits & np.uint32(0x8000)) << np.uint32(16))
    rest = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
    magnitude = rest.view(np.float32) * np.float32(2.0**112)
    if magnitude >= np.float32(65536.0):  # infinity or NaN
        magnitude = np.uint32(rest | np.uint32(0x7F800000)).view(np.float32)
    return np.uint32(np.float32(magnitude).view(np.uint32) | sign).view(np.float32)


@kernel
def block(source: Source, memory: Scratch, b: I64) -> Row:
    """A block of the row as it is after the controls that change its order."""
    start, stop = b * LANES, min(b * LANES + LANES, source.vocab)
    if memory.is_own[b]:
        return memory.own[start:stop]
    return read(source, start, stop, memory.buffer)


@kernel
def look(source: Source, memory: Scratch) -> bool:
    """Find each block's largest logit, and whether the row is fit: one pass."""
    has_nan = False
    for start in range(0, source.vocab, _READ):
        part = read(source, start, min(start + _READ, source.vocab), memory.buffer)
        b = start // LANES
        for i in range(0, part.size - LANES + 1, LANES):
            memory.peaks[b], nan = peak(part, i)
            has_nan |= nan
            b += 1
        rest = part[part.size // LANES * LANES :]
        if rest.size:
            memory.peaks[b] = largest(rest)
            for i in range(rest.size):
                has_nan |= np.isnan(rest[i])
    best, fit = scan(memory.peaks)
    return fit and not has_nan


@kernel
def gather(source: Source, memory: Scratch, floor: F32) -> I64:
    """Collect the tokens that reach the floor; how many."""
    n = 0
    for b in range(memory.peaks.size):
        if memory.peaks[b] < floor:
            continue
        part = block(source, memory, b)
        if part.size == LANES:
            bits = reaching(part, 0, floor)
            while bits:
                j = lowest_bit(bits)
                memory.values[n], memory.ids[n] = part[j], b * LANES + j
                n += 1
                bits &= bits - np.uint64(1)
        else:
            for j in range(part.size):
                if part[j] >= floor:
                    memory.values[n], memory.ids[n] = part[j], b * LANES + j
                    n += 1
    return n


@kernel
def copy(source: Source, memory: Scratch, whole: Row) -> None:
    """The whole row, where there is no floor."""
    for start in range(0, source.vocab, _READ):
        stop = min(start + _READ, source.vocab)
        whole[start:stop] = read(source, start, stop, memory.buffer)
    for b in range(memory.is_own.size):
        if memory.is_own[b]:
            start, stop = b * LANES, min(b * LANES + LANES, source.vocab)
            whole[start:stop] = memory.own[start:stop]


# ---- controls that change the order: few tokens, whose blocks are copied


@kernel
def is_off(steps: Steps, s: I64, requests: Requests, r: I64) -> bool:
    """Whether a step does nothing to a row."""
    control = steps.control[s]
    if control == BIAS:
        return bool(requests.bias_spans[r, 0] == requests.bias_spans[r, 1])
    asked = requests.asked[r]
    if control == XTC:
        coin = xtc.comes_up(requests.seeds[r], requests.positions[r], asked[XTC])
        return not coin or asked[_THRESHOLD] == 0.0
    return bool(asked[control] == _OFF[control])


@kernel
def change_order(source: Source, steps: Steps, requests: Requests, r: I64, memory: Scratch) -> I64:
    """Apply the biases and penalties that the chain begins with; how many steps they are."""
    memory.is_own[:] = False
    lead = 0
    changes = False
    while lead < steps.control.size and steps.control[lead] < TEMPERATURE:
        if not is_off(steps, lead, requests, r):
            changes = True
            for i in range(find(steps, lead, requests, r, memory, EVERY)):
                b = memory.places[i] // LANES
                if not memory.is_own[b]:
                    part = block(source, memory, b)
                    memory.own[b * LANES : b * LANES + part.size] = part
                    memory.is_own[b] = True
        lead += 1
    if changes:
        for s in range(lead):
            apply(steps, s, requests, r, memory, memory.own, EVERY, 0)
        for b in range(memory.peaks.size):
            if memory.is_own[b]:
                memory.peaks[b] = largest(block(source, memory, b))
    return lead


@kernel
def find(steps: Steps, s: I64, requests: Requests, r: I64, memory: Scratch, ids: Ids) -> I64:
    """Where among the survivors `ids` a step's own tokens are; how many. Fills in their counts."""
    n = 0
    if steps.control[s] == BIAS:
        start, stop = requests.bias_spans[r]
        for j in range(start, stop):
            memory.places[n] = place_of(requests.bias_ids[j], ids)
            memory.counts[n] = j
            n += memory.places[n] >= 0
        return n
    start, stop = requests.said_spans[steps.source[s], r]
    scope = steps.option[s]
    for j in range(start, stop):
        count = 0
        if scope != 2:
            count += requests.said[1, j]
        if scope != 1:
            count += requests.said[2, j]
        memory.places[n] = place_of(requests.said[0, j], ids)
        memory.counts[n] = count
        n += count > 0 and memory.places[n] >= 0
    return n


@kernel
def place_of(token: I64, ids: Ids) -> I64:
    """Where a token is among ascending ids, or -1; its own number where ids stand for all."""
    if not ids.size:
        return token
    place = np.searchsorted(ids, token)
    return place if place < ids.size and ids[place] == token else -1


# ---- floors


@kernel
def highest_floor(
    steps: Steps, requests: Requests, r: I64, lead: I64, peaks: Row, best: F32, vocab: I64
) -> tuple[float, int]:
    """(a logit of the changed row under which nothing matters, the step that weighs it, or -1).

    From `lead` on, as long as each control keeps the order and removes from its end, what one of
    them removes is lost, whatever the others do. But top_p looks at the mass of all that is left: if
    nothing is removed yet it weighs the whole row, otherwise the floors end with it.
    """
    asked = requests.asked[r]
    floor, heat, weighs, sealed = NO_CUT, 1.0, -1, False
    for s in range(lead, steps.control.size):
        control = steps.control[s]
        if is_off(steps, s, requests, r):
            continue
        if control == TEMPERATURE:
            floor = max(floor, temperature.floor(best, asked[TEMPERATURE]))
            sealed |= asked[TEMPERATURE] == 0.0
            heat *= asked[TEMPERATURE] if asked[TEMPERATURE] > 0.0 else 1.0
        elif control == TOP_K:
            floor = max(floor, top_k.floor(peaks, np.int64(asked[TOP_K])))
            sealed = True
        elif control == MIN_P:
            floor = max(floor, min_p.floor(best, heat, asked[MIN_P]))
            sealed = True
        elif control == TOP_P:
            if sealed or weighs >= 0:
                break
            weighs = s
            floor = max(floor, top_p.floor(best, heat, asked[TOP_P], vocab))
        else:
            break
    return lowered(floor, heat, best), weighs


@kernel
def lowered(floor: F64, heat: F64, best: F32) -> F64:
    """A floor made safe against rounding: logits that scaling makes equal stay on one side of it."""
    safe = 2.0**-20 <= heat <= 2.0**20 and abs(floor) < 2.0**100 and abs(best) < 2.0**100
    return floor - 2.0**-18 * (abs(floor) + abs(best)) - 2.0**-100 if safe else NO_CUT


@kernel
def weigh_all(
    source: Source,
    steps: Steps,
    asked: NDArray[np.float64],
    lead: I64,
    until: I64,
    memory: Scratch,
    row: Row,
    best: F32,
) -> I64:
    """The mass of the whole row before step `until`, or enough of it to show that top_p keeps all
    survivors.
    """
    heat = 1.0
    for s in range(lead, until):
        if steps.control[s] == TEMPERATURE:
            heat *= asked[TEMPERATURE]
    enough = total_mass(row, largest(row)) / (asked[TOP_P] - SLACK)
    total = np.int64(0)
    for start in range(0, source.vocab, _READ):
        blocks = memory.peaks[start // LANES : (start + _READ) // LANES]
        if (np.float64(largest(blocks)) - np.float64(best)) < _NOTHING * heat:
            continue
        part = memory.buffer[: min(_READ, source.vocab - start)]
        fill(source, memory, start, part)
        top = np.float32(best)
        for s in range(lead, until):
            if steps.control[s] == TEMPERATURE:
                top = temperature.scale_below(part, asked[TEMPERATURE], top)
        total += total_mass(part, top)
        if total > enough + 1.0:
            break
    return total


@kernel
def fill(source: Source, memory: Scratch, start: I64, part: Row) -> None:
    """Copy part of the changed row."""
    stop = start + part.size
    here = read(source, start, stop, part)
    if source.kind == FLOAT32:
        part[:] = here
    for b in range(start // LANES, (stop + LANES - 1) // LANES):
        if memory.is_own[b]:
            low, high = b * LANES, min(b * LANES + LANES, stop)
            part[low - start : high - start] = memory.own[low:high]


# ---- the same kernels on survivors and on whole rows


@kernel
def apply(
    steps: Steps,
    s: I64,
    requests: Requests,
    r: I64,
    memory: Scratch,
    row: Row,
    ids: Ids,
    total: I64,
) -> None:
    """One step on one row of survivors, in place; with `ids` empty, on a whole row."""
    if is_off(steps, s, requests, r):
        return
    control, option = steps.control[s], steps.option[s]
    asked = requests.asked[r]
    if control < TEMPERATURE:
        n = find(steps, s, requests, r, memory, ids)
        places, counts = memory.places[:n], memory.counts[:n]
        if control == BIAS:
            logit_bias.add(row, places, requests.bias_values[counts])
        elif control == REPETITION:
            penalties.repeat(row, places, counts, asked[control])
        elif control == FREQUENCY:
            penalties.be_frequent(row, places, counts, asked[control])
        else:
            penalties.be_present(row, places, counts, asked[control])
    elif control == TEMPERATURE:
        temperature.scale(row, asked[control])
    elif control == TOP_K:
        top_k.truncate(row, np.int64(asked[control]), option != 0)
    elif control == TOP_P:
        top_p.truncate(row, asked[control], option != 0, memory.masses, total)
    elif control == MIN_P:
        min_p.truncate(row, asked[control])
    else:
        marks = _NO_MARKS
        if steps.source[s] >= 0:
            marks = steps.marks[steps.source[s]]
            if ids.size:
                marks = marks[ids]
        xtc.exclude_top(row, asked[_THRESHOLD], marks, option)
