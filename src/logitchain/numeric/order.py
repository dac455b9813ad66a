"""The one total order, logit descending then token id ascending, and what is found with it.

A float32's bits, taken as sign and magnitude, are an integer that orders as the float does. Integer
maxima vectorise without fastmath, and a search for a logit is a binary search over such integers.
"""

from typing import Any

import numpy as np

from .compile import kernel
from .functions import F32, F64, FLT_MAX, I32, I64, REMOVED, Row, one_unless_nan
from .simd import LANES, count_bits, equal_to, highest_bit, lowest_bit

_MAGNITUDE = np.int32(0x7FFFFFFF)
_INF_BITS = 0x7F800000
_LOWEST_KEY = -0x7F7FFFFF  # of -FLT_MAX, the lowest finite logit

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
    """(largest logit, whether the row is valid), in one pass.

    A row is valid if it holds neither NaN nor +inf and at least one finite logit.
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
    """The largest logit of a valid row."""
    return scan(row)[0]


@kernel
def at_least(cut: F64, best: F64 = 0.0) -> F32:
    """The smallest float32 logit x with x - best >= cut.

    `best + cut` as a float64 would lose the cut beside a large best.
    """
    near = np.float32(max(best + cut, -FLT_MAX))
    if np.float64(near) - best < cut:
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


#: From so many logits on three passes over their keys take less time than comparisons do.
_MANY = 1000
_DIGIT = np.uint32(2**11 - 1)


@kernel
def in_ascending_order(row: Row) -> Row:
    """The logits of a row, sorted: of many, 11 bits of the keys at a time from the lowest on.

    128,256 logits took np.sort 13 ms, of which mispredicted comparisons were most.
    """
    if row.size < _MANY:
        return np.sort(row)
    keys, others = np.empty(row.size, np.uint32), np.empty(row.size, np.uint32)
    for i in range(row.size):
        keys[i] = np.uint32(float_to_key(row[i])) ^ np.uint32(2**31)
    for digit in range(3):
        shift, ends = np.uint32(11 * digit), np.zeros(2**11, np.int64)
        for key in keys:
            ends[(key >> shift) & _DIGIT] += 1
        ends[:] = np.cumsum(ends) - ends  # where each digit's keys begin, and then end
        for key in keys:
            place = (key >> shift) & _DIGIT
            others[ends[place]] = key
            ends[place] += 1
        keys, others = others, keys
    ordered = np.empty(row.size, np.float32)
    for i in range(row.size):
        ordered[i] = key_to_float(np.int32(keys[i] ^ np.uint32(2**31)))
    return ordered


@kernel
def keep_first(row: Row, value: F32, equals: I64) -> None:
    """Remove all logits below `value`, and all but the first `equals` >= 1 of those equal to it."""
    present, one = np.int32(0), one_unless_nan(value)
    for i in range(row.size):
        x = row[i]
        present = np.int32(present + np.int32(x == value))
        row[i] = x * one if x >= value else REMOVED
    if present > equals:
        rest = row[nth_equal(row, value, equals) + 1 :]
        for i in range(rest.size):
            rest[i] = REMOVED if rest[i] == value else rest[i] * one


@kernel
def nth_equal(row: Row, value: F32, n: I64) -> I64:
    """The index of the n-th logit equal to `value`; the row's last index if there are fewer."""
    above = key_to_float(np.int32(float_to_key(value) + 1))
    whole = row.size // LANES * LANES
    for start in range(0, whole, LANES):
        equals = equal_to(row, start, value, above)
        present = count_bits(equals)
        if present < n:
            n -= present
            continue
        for _ in range(n - 1):
            equals &= equals - np.uint64(1)
        return start + lowest_bit(equals)
    for i in range(whole, row.size):
        n -= row[i] == value
        if n == 0:
            return i
    return row.size - 1


@kernel
def last_equal(row: Row, value: F32) -> I64:
    """The index of the last logit equal to `value`, or -1."""
    whole = row.size // LANES * LANES
    for i in range(row.size - 1, whole - 1, -1):
        if row[i] == value:
            return i
    above = key_to_float(np.int32(float_to_key(value) + 1))
    for start in range(whole - LANES, -1, -LANES):
        equals = equal_to(row, start, value, above)
        if equals:
            return start + highest_bit(equals)
    return -1


@kernel
def keep_from(row: Row, value: F32) -> None:
    """Remove all logits below `value`."""
    one = one_unless_nan(value)
    for i in range(row.size):
        row[i] = row[i] * one if row[i] >= value else REMOVED


@kernel
def place_of(token: I64, ids: Any) -> I64:
    """The place of the first id, of ascending ones, that is not below a token."""
    low, high = 0, ids.size
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low
