"""Temperature: sharpen or flatten the distribution, down to greedy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit import inlined, kernel
from ..numerics import F32, F64, FLT_MAX, Row, finite, fma
from ..order import keep_first, largest
from ..params import column
from ..rows import Reading

#: Lower temperatures act as this one: there any two ordinary float32 logits are 2**40 apart.
_COLDEST = 2.0**-64
_ORDINARY = 2.0**-20


def temperature(
    logits: Any, temperature: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Divide every logit by `temperature`; 0 keeps the first of the largest only, unchanged.

    logits        (vocab,) or (rows, vocab); -inf is removed
    temperature   scalar or (rows,), in [0, inf); 1 is off

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if the temperature is
    out of range or a row is not fit to use. No temperature makes a finite logit infinite.

    >>> temperature([2.0, 1.0, -1.0], 0.5)
    array([ 4.,  2., -2.], dtype=float32)
    >>> temperature([2.0, 2.0, -1.0], 0)
    array([  2., -inf, -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, t in zip(rows, column("temperature", temperature, len(rows)), strict=True):
        scale(row, t)
    return reading.result()


@kernel
def scale(row: Row, t: F64) -> None:
    """The kernel, in place."""
    scale_below(row, t, largest(row))


@kernel
def scale_below(row: Row, t: F64, best: F32) -> F32:
    """The same for part of a row whose largest logit is `best`; what that becomes."""
    if t == 1.0:
        return np.float32(best)
    if t == 0.0:
        keep_first(row, best, 1)
        return np.float32(best)
    t = max(t, _COLDEST)
    top = np.float64(best)
    if _ORDINARY <= t <= 1.0 / _ORDINARY and abs(top) / t < FLT_MAX:
        high, low = factors(t)
        for i in range(row.size):
            row[i] = product(row[i], high, low)
        return product(np.float32(best), high, low)
    # A row whose best would overflow moves there first: to every filter it is the same row.
    shift = 0.0 if abs(top) / t < FLT_MAX else top
    for i in range(row.size):
        if row[i] > -np.inf:
            row[i] = finite((np.float64(row[i]) - shift) / t)
    return finite((top - shift) / t)


@inlined
def factors(t: F64) -> tuple[F32, F32]:
    """1 / t in two parts, for an ordinary t."""
    high = np.float32(1.0 / t)
    return high, np.float32(1.0 / t - np.float64(high))


@inlined
def product(x: F32, high: F32, low: F32) -> F32:
    """x / t by its factors: rounded as a float64 division but once in 2**20, and faster."""
    y = max(fma(x, high, x * low), np.float32(-FLT_MAX))
    return y if x > -np.inf else x


@kernel
def floor(best: F32) -> F64:
    """Under this logit nothing survives a temperature of 0."""
    return np.float64(best)
