"""The one total order, logit descending then token id ascending, and what is found with it.

A float32's bits, taken as sign and magnitude, are an integer that orders as the float does. Integer
maxima vectorise without fastmath, and a search for a logit is a binary search over such integers.
"""

import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .lanes import LANES, lowest_bit, reaching
from .numerics import F32, F64, FLT_MAX, I32, I64, Row

_MAGNITUDE = np.int32(0x7FFFFFFF)
_INF_BITS = 0x7F800000
_LOWEST_KEY = -0x7F7FFFFF  # of -FLT_MAX, the lowest finite logit

_NO_MASS = np.float32(32.0)  # so far below the best a token has none
_HALVINGS = 8

#: A float64 that no logit of a finite row is below.
NO_CUT = -FLT_MAX


@kernel
def order_key(bits: I32) -> I32:
    """A float32's bits as an integer that orders as the float does; 0.0 and -0.0 are one key."""
    sign = np.int32(bits >> np.int32(31))
    return np.int32(np.int32(np.int32(bits & _MAGNITUDE) ^ sign) - sign)  # numba widens operators


@kernel
def float_to_key(x: F32) -> I32:
    """`order_key` of one float."""
    return order_key(np.float32(x).view(np.int32))


@kernel
def key_to_float(key: I32) -> F32:
    """The float32 that `order_key` gave this key."""
    sign = np.int32(key >> np.int32(31))
    magnitude = np.int32((key ^ sign) - sign)
    return np.int32(magnitude | (sign << np.int32(31))).view(np.float32)


@kernel
def scan(row: Row) -> tuple[F32, bool]:
    """(largest logit, whether the row is fit to use), in one pass.

    A row is fit if it holds neither NaN nor +inf and at least one finite logit.
    """
    bits = row.view(np.int32)
    best = np.int32(-2147483648)
    magnitude = np.int32(0)
    for i in range(bits.size):
        best = max(best, order_key(bits[i]))
        magnitude = max(magnitude, np.int32(bits[i] & _MAGNITUDE))
    fit = bool(magnitude <= _INF_BITS and best >= _LOWEST_KEY and best < _INF_BITS)
    return key_to_float(best), fit


@kernel
def largest(row: Row) -> F32:
    """The largest logit of a row that is fit."""
    return scan(row)[0]


@kernel
def at_least(cut: F64) -> F32:
    """The smallest float32 that is not below a float64 cut: `row[i] < at_least(cut)` is exact."""
    if cut <= -FLT_MAX:
        return np.float32(-FLT_MAX)
    near = np.float32(cut)
    if np.float64(near) < cut:
        near = key_to_float(np.int32(float_to_key(near) + 1))
    return near


@kernel
def kth_largest(row: Row, k: I64) -> tuple[F32, I64]:
    """(the k-th logit of the order, how many of its equals belong to the first k).

    With fewer than k finite logits: the lowest float, of which all belong.
    """
    low, high = _LOWEST_KEY, int(float_to_key(largest(row)))
    while low < high:  # the largest key that at least k logits reach
        middle = low + (high - low + 1) // 2
        value = key_to_float(np.int32(middle))
        reached = np.int32(0)
        for i in range(row.size):
            reached = np.int32(reached + np.int32(row[i] >= value))
        if reached >= k:
            low = middle
        else:
            high = middle - 1
    value = key_to_float(np.int32(low))
    above = 0
    for i in range(row.size):
        above += row[i] > value
    return value, k - above


@kernel
def mass_crossing(row: Row, masses: NDArray[np.int64], target: I64) -> tuple[F32, I64]:
    """(the logit at which the mass of the order's prefix reaches target > 0, how many of its equals
    that takes).

    A few halvings of the logits' range leave few tokens; among these it is a search over keys.
    """
    bottom, end, above = _bracket(row, masses, target)
    values, weights = _between(row, masses, bottom, end)
    low, high = int(float_to_key(bottom)), int(float_to_key(end)) - 1
    while low < high:  # the largest key whose prefix reaches the target
        middle = low + (high - low + 1) // 2
        if above + _mass_from(values, weights, key_to_float(np.int32(middle))) >= target:
            low = middle
        else:
            high = middle - 1
    value = key_to_float(np.int32(low))
    each = np.int64(1)
    for i in range(values.size):
        if values[i] > value:
            above += weights[i]
        elif values[i] == value:
            each = weights[i]
    return value, (target - above + each - 1) // each


@kernel
def _between(
    row: Row, masses: NDArray[np.int64], bottom: F32, end: F32
) -> tuple[Row, NDArray[np.int64]]:
    """The logits in [bottom, end) and their masses."""
    size = np.int32(0)
    for i in range(row.size):
        size = np.int32(size + np.int32((row[i] >= bottom) & (row[i] < end)))
    values, weights = np.empty(size, np.float32), np.empty(size, np.int64)
    n = 0
    whole = row.size // LANES * LANES
    for start in range(0, whole, LANES):  # tokens one by one take 12 times as long
        bits = reaching(row, start, bottom) & ~reaching(row, start, end)
        while bits:
            i = start + lowest_bit(bits)
            values[n], weights[n] = row[i], masses[i]
            n += 1
            bits &= bits - np.uint64(1)
    for i in range(whole, row.size):
        if bottom <= row[i] < end:
            values[n], weights[n] = row[i], masses[i]
            n += 1
    return values, weights


@kernel
def _bracket(row: Row, masses: NDArray[np.int64], target: I64) -> tuple[F32, F32, I64]:
    """(a logit whose prefix reaches the target, a larger one whose does not, the latter's mass)."""
    best = largest(row)
    bottom, end = np.float32(best - _NO_MASS), key_to_float(np.int32(float_to_key(best) + 1))
    above = np.int64(0)
    for _ in range(_HALVINGS):
        middle = np.float32(bottom + (end - bottom) * np.float32(0.5))
        if not bottom < middle < end:
            break
        reached = _mass_from(row, masses, middle)
        if reached >= target:
            bottom = middle
        else:
            end, above = middle, reached
    return bottom, end, above


@kernel
def _mass_from(row: Row, masses: NDArray[np.int64], value: F32) -> I64:
    total = np.int64(0)
    for i in range(row.size):
        total += masses[i] if row[i] >= value else np.int64(0)
    return total


@kernel
def keep_first(row: Row, value: F32, equals: I64) -> None:
    """Remove all logits below `value`, and all but the first `equals` of those equal to it."""
    present = np.int32(0)
    for i in range(row.size):
        present = np.int32(present + np.int32(row[i] == value))
        row[i] = row[i] if row[i] >= value else -np.inf
    if present > equals:
        for i in range(row.size):
            if row[i] == value:
                if equals <= 0:
                    row[i] = -np.inf
                equals -= 1


@kernel
def keep_from(row: Row, cut: F64) -> None:
    """Remove all logits below `cut`."""
    value = at_least(cut)
    for i in range(row.size):
        row[i] = row[i] if row[i] >= value else -np.inf
