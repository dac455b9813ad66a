"""DRY, "don't repeat yourself"."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists, token_sequences
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, I64, Row, finite, log
from ..params import FIELDS, Phrases, column
from .record import Control, Request

Longs = NDArray[np.int64]

#: llama.cpp's logarithm of the largest float32; with bases up to the second it sets no cap.
_LARGEST, _NO_CAP = np.float32(88.7228391), np.float32(1.000001)
_NOTHING = np.empty(0, np.int64)


@in_standard_mode
def dry(
    logits: Any,
    tokens: Any,
    dry_multiplier: Any,
    dry_base: Any = 1.75,
    dry_allowed_length: Any = 2,
    dry_window: Any = None,
    dry_sequence_breakers: Iterable[Any] = (),
    *,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Lower the logits of tokens that would continue a repetition, more for a longer one.

    logits                  (vocab,) or (rows, vocab); -inf is removed
    tokens                  the history, any 64-bit integers: one sequence for all rows, or one per
                            row; an id outside the vocabulary equals only itself
    dry_multiplier          scalar or (rows,), in [0, inf), the penalty in logits of the shortest
                            repetition that counts; 0 is off
    dry_base                scalar or (rows,), in [1, inf), by how much each further token
                            multiplies it
    dry_allowed_length      scalar or (rows,), in [0, inf), shorter repetitions do not count
    dry_window              scalar or (rows,), in [0, inf), only so many of the last tokens count;
                            None for all
    dry_sequence_breakers   sequences of at most 64 token ids: no repetition reaches back over one,
                            and a breaker of one token is never penalised

    If the last n tokens have occurred before, the token that followed them then loses
    `dry_multiplier * dry_base ** (n - dry_allowed_length)`, with the largest such n. As in
    llama.cpp, the exponent is at most 88.7228391 / log(dry_base), in float32. Returns a new float32
    array of the same shape as `logits`, or `out`. Raises ValueError if a parameter is out of range
    or a row is invalid. Source: p-e-w, text-generation-webui pull request 5677 (2024).

    >>> dry([0.0, 0.0, 0.0], [0, 1, 2, 0, 1], 0.8)
    array([ 0. ,  0. , -0.8], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    count, vocab = rows.shape
    values = (
        column("dry_multiplier", dry_multiplier, count),
        column("dry_base", dry_base, count),
        column("dry_allowed_length", dry_allowed_length, count),
        column("dry_window", 2**62 if dry_window is None else dry_window, count),
    )
    given = FIELDS["dry_sequence_breakers"].check("dry_sequence_breakers", dry_sequence_breakers)
    breakers = breaker_table(token_sequences("dry_sequence_breakers", given, vocab))
    found, lengths, room = np.empty((3, vocab), np.int64)
    histories = token_lists(tokens, count)
    for row, history, *each in zip(rows, histories, *values, strict=True):
        multiplier, base, allowed, window = each
        if multiplier > 0.0:
            last = np.ascontiguousarray(history[max(0, history.size - window) :])
            n = find(last, _NOTHING, *breakers, base, allowed, found, lengths, room)
            penalise_row(row, found[:n], lengths[:n], multiplier, base, allowed)
    return reading.result()


def breaker_table(breakers: Phrases) -> tuple[Longs, Longs]:
    """Sequence breakers as `find` reads them: (tokens, starts), two arrays of the same size.

    tokens   the breakers one after the other, in the order of tuples
    starts   the place of each in `tokens`, and then -1
    """
    ordered = sorted(set(breakers))
    tokens = np.fromiter(chain.from_iterable(ordered), np.int64)
    starts = np.full(tokens.size, -1)
    starts[: len(ordered)] = np.cumsum([0, *map(len, ordered)])[:-1]
    return tokens, starts


@kernel
def find(
    history: Longs,
    gaps: Longs,
    breakers: Longs,
    starts: Longs,
    base: F64,
    allowed: I64,
    found: Longs,
    lengths: Longs,
    room: Longs,
) -> I64:
    """List the tokens that would continue a repetition, and the length of each; how many they are.

    gaps               how far before each token of the history the same one stands, 0 if it does
                       not; or empty if that is not known
    breakers, starts   as `breaker_table` gives them
    found, lengths     (vocab,) to be filled in
    room               (vocab,) scratch
    """
    most = np.int64(history.size)  # a longer repetition would get the same penalty
    if base == 1.0:
        most = allowed
    elif largest_exponent(base) > 0:
        most = min(most, allowed + largest_exponent(base))
    limit = reach(history, breakers, starts, most)
    if history.size <= allowed or limit < allowed:
        return np.int64(0)
    if gaps.size and allowed > 0:
        n = _look_back(history, gaps, breakers, starts, limit, allowed, found, lengths, room)
        if n >= 0:
            return n
    n, last = np.int64(0), history[::-1].copy()
    repeated = common_beginnings(last)
    for k in range(1, last.size):
        length = min(repeated[k], limit)
        if length >= allowed:  # the token before is the one that came then
            n = _note(last[k - 1], length, breakers, starts, found, lengths, room, n)
    return n


@kernel
def _look_back(
    history: Longs,
    gaps: Longs,
    breakers: Longs,
    starts: Longs,
    limit: I64,
    allowed: I64,
    found: Longs,
    lengths: Longs,
    room: Longs,
) -> I64:
    """The same, from one place of the last token to the one before; -1 if that takes too long."""
    n, end = np.int64(0), history.size - 1
    place, work = end, np.int64(0)
    while gaps[place] > 0 and place >= gaps[place]:
        place -= gaps[place]
        length, longest = np.int64(1), min(limit, place + 1)
        while length < longest and history[place - length] == history[end - length]:
            length += 1
        work += length
        if work > 2 * history.size:
            return np.int64(-1)
        if length >= allowed:
            n = _note(history[place + 1], length, breakers, starts, found, lengths, room, n)
    return n


@kernel
def _note(
    token: I64,
    length: I64,
    breakers: Longs,
    starts: Longs,
    found: Longs,
    lengths: Longs,
    room: Longs,
    n: I64,
) -> I64:
    """Add a token to the n found, or a longer repetition to a token that is there; how many."""
    if not 0 <= token < room.size:
        return n
    place = room[token]  # stale if the token is not among the n found
    if 0 <= place < n and found[place] == token:
        lengths[place] = max(lengths[place], length)
        return n
    first = _first_from(token, np.int64(0), np.int64(0), _count(starts), breakers, starts)
    begins_so = first < _count(starts) and breakers[starts[first]] == token
    if begins_so and _end(first, starts) == starts[first] + 1:  # the shortest comes first
        return n
    found[n], lengths[n], room[token] = token, length, n
    return n + 1


@kernel
def reach(history: Longs, breakers: Longs, starts: Longs, most: I64) -> I64:
    """How many of the latest tokens come after the last sequence breaker; at most `most`."""
    sizes = np.int64(0)
    for b in range(_count(starts)):
        sizes = max(sizes, _end(b, starts) - starts[b])
    for i in range(min(history.size, most + sizes) if starts.size else 0):
        longest = _breaker_at(history[history.size - 1 - i :], breakers, starts)
        if longest > 0:
            return min(np.int64(i + 1 - longest), most)
    return min(np.int64(history.size), most)


@kernel
def _breaker_at(tokens: Longs, breakers: Longs, starts: Longs) -> I64:
    """The size of the longest breaker with which the tokens begin; 0 if they begin with none."""
    low, high, longest, size = np.int64(0), _count(starts), np.int64(0), np.int64(0)
    while low < high and size < tokens.size:  # the breakers from low to high begin alike
        token = tokens[size]
        low = _first_from(token, size, low, high, breakers, starts)
        high = _first_from(token + 1, size, low, high, breakers, starts)
        size += 1
        if low < high and _end(low, starts) == starts[low] + size:
            longest = size
            low += 1
    return longest


@kernel
def _first_from(token: I64, at: I64, low: I64, high: I64, breakers: Longs, starts: Longs) -> I64:
    """The first of the breakers from low to high with this token, or a higher one, at a place."""
    while low < high:
        middle = (low + high) // 2
        if breakers[starts[middle] + at] < token:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _count(starts: Longs) -> I64:
    """How many breakers there are."""
    low, high = np.int64(0), np.int64(starts.size)
    while low < high:
        middle = (low + high) // 2
        if starts[middle] >= 0:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _end(i: I64, starts: Longs) -> I64:
    """Where the i-th breaker ends."""
    is_last = i + 1 == starts.size or starts[i + 1] < 0
    return np.int64(starts.size) if is_last else starts[i + 1]


@kernel
def common_beginnings(tokens: Longs) -> Longs:
    """For each k how many tokens from k on equal those from the beginning on, in linear time."""
    lengths = np.zeros(tokens.size, np.int64)
    first, end = np.int64(0), np.int64(0)  # the stretch known to equal the beginning that ends last
    for k in range(1, tokens.size):
        n = min(lengths[k - first], end - k) if k < end else np.int64(0)
        while k + n < tokens.size and tokens[n] == tokens[k + n]:
            n += 1
        lengths[k] = n
        if k + n > end:
            first, end = np.int64(k), np.int64(k + n)
    return lengths


@kernel
def penalise_row(
    row: Row, places: Longs, lengths: Longs, multiplier: F64, base: F64, allowed: I64
) -> None:
    """The kernel, in place."""
    most = largest_exponent(base)
    for j in range(places.size):
        i, exponent = places[j], lengths[j] - allowed
        if most > 0:
            exponent = min(exponent, most)
        if row[i] > -np.inf:
            row[i] = finite(np.float64(row[i]) - multiplier * power(base, exponent))


@kernel
def largest_exponent(base: F64) -> I64:
    """llama.cpp's cap of the exponent; 0 for none."""
    if np.float32(base) <= _NO_CAP:
        return np.int64(0)
    return np.int64(_LARGEST / np.float32(log(np.float64(np.float32(base)))))


@kernel
def power(base: F64, exponent: I64) -> F64:
    """A power by multiplications, the same on every CPU."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel
def _find(request: Request, found: Longs, lengths: Longs, room: Longs) -> I64:
    return find(
        request.history,
        request.gaps,
        request.tokens,
        request.numbers,
        request.values[1],
        np.int64(request.values[2]),
        found,
        lengths,
        room,
    )


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    multiplier, base, allowed = request.values[:3]
    penalise_row(row, request.places, request.counts, multiplier, base, np.int64(allowed))


CONTROL = Control(
    name="dry",
    fields=(
        *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_window"),
        "dry_sequence_breakers",
    ),
    kind="adjust",
    kernel=_apply,
    find=_find,
    tokens="dry_sequence_breakers",
    window="dry_window",
    exempt="penalty_exempt",
    options={"window": None},
    keeps_one=True,
)
