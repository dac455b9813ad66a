"""Temperature: sharpen or flatten the distribution, down to greedy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import inlined, kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, FLT_MAX, I64, REMOVED, Row, finite, fma
from ..numeric.order import NO_CUT, keep_first, largest
from .record import Control, Request, Values

#: From here to `_MOST_ORDINARY` a product stands for the division.
_LEAST_ORDINARY, _MOST_ORDINARY = 2.0**-20, 2.0**60
#: A token whose logit is so far below the best has no probability.
_FAR = 64.0
#: The lowest temperature, in units of the distance from the best logit to the next lower one.
_COLDEST = 2.0**-64


@in_standard_mode
def temperature(
    logits: Any, temperature: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Divide every logit by `temperature`; 0 keeps the first of the largest only, unchanged.

    logits        (vocab,) or (rows, vocab); -inf is removed
    temperature   scalar or (rows,), in [0, inf); 1 is off

    No temperature makes a finite logit infinite. Returns a new float32 array of the same shape, or
    `out`. Raises ValueError if the temperature is out of range or a row is invalid. Source: none of
    its own, every engine divides; greedy at 0 is as in llama.cpp.

    >>> temperature([2.0, 1.0, -1.0], 0.5)
    array([ 4.,  2., -2.], dtype=float32)
    >>> temperature([2.0, 2.0, -1.0], 0)
    array([  2., -inf, -inf], dtype=float32)
    """
    return each_row(scale, "temperature", temperature, logits, dtype, out)


@kernel
def scale(row: Row, t: F64) -> None:
    """The kernel, in place."""
    best = largest(row)
    if t == 0.0:
        keep_first(row, best, np.int64(1))
    elif t == 1.0 or (is_ordinary(t) and abs(np.float64(best)) / t <= FLT_MAX):
        scale_ordinary(row, t)
    else:
        _scale_extreme(row, t, best)


@inlined
def is_ordinary(t: F64) -> bool:
    """Whether quotients by this temperature neither become coarse nor vanish."""
    return bool(_LEAST_ORDINARY <= t <= _MOST_ORDINARY)


@kernel
def scale_ordinary(row: Row, t: F64) -> None:
    """The kernel for an ordinary temperature that does not make the row's best infinite."""
    if t != 1.0:
        high, low = factors(t)
        for i in range(row.size):
            row[i] = product(row[i], high, low)


@kernel
def _scale_extreme(row: Row, t: F64, best: F32) -> None:
    """The same for a temperature that may make logits infinite, or round different ones to a tie.

    A temperature at which the row does not fit into float32 acts as the lowest one at which it
    does, unless a token would gain probability by that. Where x / t would be infinite, or so coarse
    that the best tokens became equal, the row is moved as a whole: the result is (x - best) / t.
    """
    top = np.float64(best)
    second, last = -np.inf, top
    for i in range(row.size):
        if row[i] > -np.inf:
            last = min(last, np.float64(row[i]))
            if row[i] < best:
                second = max(second, np.float64(row[i]))
    gap, spread = top - max(second, last), top - last
    t = max(t, min(spread / FLT_MAX, gap * _COLDEST))
    is_coarse = t < _LEAST_ORDINARY and gap / t < _FAR
    shift = top if is_coarse or not abs(top) / t <= FLT_MAX else 0.0
    for i in range(row.size):
        if row[i] > -np.inf:
            row[i] = finite((np.float64(row[i]) - shift) / t)


@inlined
def factors(t: F64) -> tuple[F32, F32]:
    """1 / t in two parts, for an ordinary t."""
    high = np.float32(1.0 / t)
    return high, np.float32(1.0 / t - np.float64(high))


@inlined
def product(x: F32, high: F32, low: F32) -> F32:
    """x / t by its factors: rounded as a float64 division but once in 2**20, and faster."""
    y = max(fma(x, high, x * low), np.float32(-FLT_MAX))
    return y if x > REMOVED else x * high  # not x: see `one_unless_nan`


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    return np.float64(best) if values[0] == 0.0 else NO_CUT


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    scale(row, request.values[0])


CONTROL = Control(
    name="temperature",
    fields=("temperature",),
    kind="scale",
    kernel=_apply,
    floor=_floor,
    divides=True,
)
