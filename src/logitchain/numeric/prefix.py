"""Where a prefix of the order ends: after k tokens, or where its mass reaches a target.

The last logit of the prefix is found by bisection over keys. Over a whole row that would take
thirty passes. So the largest logits are looked at first, by themselves; then a sample of the row
gives two keys that the answer probably lies between, and one pass over the row says whether so.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .compile import inlined, kernel
from .functions import CHUNK, F32, I64, Row, join, mass, mass_halves
from .order import NO_CUT, at_least, float_to_key, key_to_float, kth_largest, largest
from .simd import LANES, lowest_bit, move, peak, reaching

Weights = NDArray[np.int64]

_NO_MASS = np.float32(32.0)  # a logit so far below the best has a mass of 0
_FEW = 1024  # so many logits are bisected at once
_TOP = 16  # how many of the row's 64-token pieces the largest logits are taken from
_GUESSES = 12  # guesses; after them each step halves the interval of keys
_ROUNDS = _GUESSES + 32

_ALL = np.uint64(2**64 - 1)

#: In the place of a row's best logit: tokens are counted, not weighed.
COUNTED = np.float32(np.inf)


@inlined
def _key(value: F32) -> I64:
    """A logit's key, in a type that is the same for all."""
    return np.int64(float_to_key(value))


@kernel
def first_k(row: Row, k: I64) -> tuple[F32, I64]:
    """(the k-th logit of the order, how many of its equals belong to the first k).

    With fewer than k finite logits: the lowest float, of which all belong.
    """
    finite = np.int32(0)
    for i in range(row.size):
        finite = np.int32(finite + np.int32(row[i] > -np.inf))
    if finite <= k:
        return at_least(NO_CUT), np.int64(row.size)
    value, equals, _ = prefix_end(row, COUNTED, np.int64(finite), k)
    return value, equals


@kernel
def prefix_end(row: Row, best: F32, total: I64, target: I64) -> tuple[F32, I64, I64]:
    """(the logit at which a prefix of the order reaches a target, how many of its equals that
    takes, the mass of the prefix with these).

    best     the row's largest logit, or COUNTED: then a token's mass is 1
    total    the row's mass in units of that one's
    target   in [1, total]
    """
    if best == COUNTED:
        low, high = _key(at_least(NO_CUT)), _key(largest(row))
    else:
        low, high = _key(np.float32(best - _NO_MASS)), _key(best)
    values, left, above = row, total, np.int64(0)  # above: the mass of keys over `high`
    skipped = np.int64(0)  # the part of that which is among the values
    if row.size > _FEW:
        bottom = max(low, _key(floor_of_top(row, target if best == COUNTED else _TOP)))
        values, heavy = _weighed_top(row, best, bottom, high)
        if heavy >= target:
            low, left = bottom, heavy
        else:
            high, left, above, skipped = bottom - 1, total - heavy, heavy, heavy
            values = row
    for turn in range(_ROUNDS):
        if low == high or values.size <= _FEW:
            break
        bottom, end = low + (high - low) // 2 + 1, high
        if turn < _GUESSES:
            bottom, end = _guess(values, best, low, high, left, target - above, turn)
        first = values
        if best != COUNTED and 4 * _count(values, bottom, _key(best)) < values.size:
            first = _within(values, bottom, _key(best))  # to weigh all would take longer
        over = _mass_over(first, best, end) - skipped
        inside, mass_inside = _weighed(first, best, bottom, end)
        reached = over + mass_inside
        if over < target - above <= reached:
            low, high, left, above, values = bottom, end, mass_inside, above + over, inside
        else:
            if target - above <= over:
                low, left = end + 1, over
            else:
                high, left, above = bottom - 1, left - reached, above + reached
            values = _within(values, low, high)
        low, high = _ends(values, low, high)
        skipped = np.int64(0)
    if low < high:
        weights = _masses(values, best)
        low = _bisect(values, weights, low, high, target - above + skipped)
        above += _mass_above(values, weights, low) - skipped
    value = key_to_float(np.int32(low))
    each = max(_mass(value, best), np.int64(1))
    equals = (target - above + each - 1) // each
    return value, equals, above + equals * each


@kernel
def floor_of_top(row: Row, k: I64) -> F32:
    """A logit that at least k tokens reach, and about the fewest: the k-th largest of all pieces'
    largest logits; -FLT_MAX if there are not as many pieces.
    """
    pieces = row.size // LANES
    if k > pieces:
        return at_least(NO_CUT)
    peaks = np.empty(pieces, np.float32)
    for b in range(pieces):
        peaks[b] = peak(row, b * LANES)[0]
    return kth_largest(peaks, k)[0]


@kernel
def _weighed_top(row: Row, best: F32, bottom: I64, high: I64) -> tuple[Row, I64]:
    """(the logits whose keys are in [bottom, high], or all if these are many; their mass)."""
    value, count = key_to_float(np.int32(bottom)), np.int32(0)
    for i in range(row.size):
        count = np.int32(count + np.int32(row[i] >= value))
    if 8 * count > row.size:
        return row, _mass_over(row, best, bottom - 1)
    top = _within(row, bottom, high)
    return top, _masses(top, best).sum()


@kernel
def _weighed(values: Row, best: F32, low: I64, high: I64) -> tuple[Row, I64]:
    """(the logits whose keys are in [low, high], one of them if they are equal; their mass)."""
    if low < high:
        found = _within(values, low, high)
        return found, _masses(found, best).sum()
    value, count = key_to_float(np.int32(low)), np.int32(0)
    for i in range(values.size):
        count = np.int32(count + np.int32(values[i] == value))
    return np.full(1, value, np.float32), count * _mass(value, best)


@kernel
def _guess(
    values: Row, best: F32, low: I64, high: I64, left: I64, wanted: I64, turn: I64
) -> tuple[I64, I64]:
    """Two keys that the answer's key probably lies between, by a sample of the logits.

    left     the mass of the logits with keys in [low, high]
    wanted   the mass within `left` at which the prefix ends
    turn     if most of the sample lies between the two keys, both become one key: in an even turn
             the likeliest, in an odd turn a quantile, first of the largest 1/32, then the median
    """
    stride = max(1, values.size // _FEW) | 1  # odd, as rows may have periods of 2**n tokens
    sample = _within(values[::stride].copy(), low, high)
    weights = _masses(sample, best)
    known = np.float64(weights.sum())
    # Counted from the light end: a heavy token that the sample lacks does not matter.
    rest = np.float64(left - wanted) / stride
    middle = known - rest
    key = _bisect(sample, weights, low, high, np.int64(middle))
    each = np.float64(_mass(key_to_float(np.int32(key)), best))
    error = 3.0 * math.sqrt(each * rest) + 3.0 * each
    bottom = _bisect(sample, weights, low, high, np.int64(min(middle + error, known)))
    end = _bisect(sample, weights, low, high, np.int64(middle - error))
    most = _ends(sample, low, high)[1]
    bottom = min(bottom, most)
    if middle > 0.0:  # the sample reaches the answer
        end = min(end, most)
    if 4 * _count(sample, bottom, end) > sample.size:  # ties, or a few tokens with most of the mass
        bottom = key
        if turn % 2 == 1:
            part = 32 if turn == 1 else 2
            bottom = _key(kth_largest(sample, sample.size // part + 1)[0])
        end = bottom
    if bottom == low and end == high:
        bottom = low + (high - low) // 2 + 1
    return bottom, end


@kernel
def _bisect(values: Row, weights: Weights, low: I64, high: I64, target: I64) -> I64:
    """The largest key in [low, high] whose prefix of the order has the target's mass; else low."""
    while low < high:
        middle = low + (high - low + 1) // 2
        if _mass_above(values, weights, middle - 1) >= target:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def _mass_above(values: Row, weights: Weights, key: I64) -> I64:
    value, total = key_to_float(np.int32(key)), np.int64(0)
    for i in range(values.size):
        total += weights[i] if values[i] > value else np.int64(0)
    return total


@kernel
def _mass(value: F32, best: F32) -> I64:
    return np.int64(1) if best == COUNTED else mass(np.float32(value - best))


@kernel
def _masses(values: Row, best: F32) -> Weights:
    weights = np.ones(values.size, np.int64)
    if best != COUNTED:
        for i in range(values.size):
            weights[i] = mass(np.float32(values[i] - best))
    return weights


@kernel
def _mass_over(values: Row, best: F32, key: I64) -> I64:
    """The mass of the logits above a key's."""
    value, total = key_to_float(np.int32(key)), np.int64(0)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        highs, lows = np.int32(0), np.int32(0)
        if best == COUNTED:
            for i in range(part.size):
                lows = np.int32(lows + np.int32(part[i] > value))
        else:
            for i in range(part.size):
                high, low = mass_halves(part[i] - best)
                highs = np.int32(highs + (high if part[i] > value else np.int32(0)))
                lows = np.int32(lows + (low if part[i] > value else np.int32(0)))
        total += join(highs, lows)
    return total


@kernel
def _count(values: Row, low: I64, high: I64) -> I64:
    """How many logits have keys in [low, high]."""
    bottom, above = key_to_float(np.int32(low)), key_to_float(np.int32(high + 1))
    size = np.int32(0)
    for i in range(values.size):
        size = np.int32(size + np.int32((values[i] >= bottom) & (values[i] < above)))
    return np.int64(size)


@kernel
def _within(values: Row, low: I64, high: I64) -> Row:
    """The logits whose keys are in [low, high]."""
    bottom, above = key_to_float(np.int32(low)), key_to_float(np.int32(high + 1))
    found = np.empty(_count(values, low, high), np.float32)
    n = 0
    whole = values.size // LANES * LANES
    for start in range(0, whole, LANES):  # tokens one by one take 12 times as long
        bits = reaching(values, start, bottom) & ~reaching(values, start, above)
        if bits == _ALL:
            move(values, start, found, n)
            n += LANES
            bits = np.uint64(0)
        while bits:
            found[n] = values[start + lowest_bit(bits)]
            n += 1
            bits &= bits - np.uint64(1)
    for i in range(whole, values.size):
        if bottom <= values[i] < above:
            found[n] = values[i]
            n += 1
    return found


@kernel
def _ends(values: Row, low: I64, high: I64) -> tuple[I64, I64]:
    """The least and the largest key of some logits, if there are any."""
    if values.size == 0:
        return low, high
    least = largest = values[0]
    for i in range(values.size):
        least, largest = min(least, values[i]), max(largest, values[i])
    return _key(least), _key(largest)
