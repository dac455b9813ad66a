"""Top-n-sigma truncation. Source: Tang et al., "Top-nσ: Not All Logits Are You Need",
arXiv:2411.07641.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import Reading
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, REMOVED, SLACK, Row
from ..numeric.order import at_least, keep_from, largest
from ..params import column
from .record import Control, Request

#: Distances are scaled so that the largest is in [2**29, 2**30): the biased exponents of the scale
#: and of the largest distance add up to this.
_EXPONENTS = np.int64(2 * 1023 + 29)
#: Squares are summed in two halves of so many bits.
_HALF = np.int64(30)


@in_standard_mode
def top_n_sigma(
    logits: Any, top_n_sigma: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens within `top_n_sigma` standard deviations of the largest logit.

    logits        (vocab,) or (rows, vocab); -inf marks a removed token, which is not counted
    top_n_sigma   scalar or (rows,), in [0, inf); 0 is off

    The deviation is that of a population: all finite logits of the row. Returns a new float32 array
    of the same shape, or `out`. Raises ValueError if `top_n_sigma` is out of range or a row is
    invalid.

    >>> top_n_sigma([0.0, 1.0, 2.0, 3.0, 4.0], 1)
    array([-inf, -inf, -inf,   3.,   4.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, n in zip(rows, column("top_n_sigma", top_n_sigma, len(rows)), strict=True):
        truncate(row, n)
    return reading.result()


@kernel
def truncate(row: Row, top_n_sigma: F64) -> None:
    """The kernel, in place: l >= max l - n * sigma."""
    if top_n_sigma > 0.0:
        best = largest(row)
        reach = top_n_sigma * deviation(row, best) * (1.0 + SLACK)
        keep_from(row, at_least(-reach, np.float64(best)))


@kernel
def deviation(row: Row, best: F32) -> F64:
    """The population's standard deviation of the finite logits; `best` is the largest.

    The distances from the best logit are rounded to integers, whose sums have no order.
    """
    lowest = best
    for i in range(row.size):
        lowest = min(lowest, row[i] if row[i] > REMOVED else best)
    spread = np.float64(best) - np.float64(lowest)
    if spread == 0.0:
        return 0.0
    exponent = np.int64(np.float64(spread).view(np.int64) >> np.int64(52))
    scale = np.int64((_EXPONENTS - exponent) << np.int64(52)).view(np.float64)
    count, total, high, low = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for i in range(row.size):
        is_left = row[i] > REMOVED
        distance = np.float64(best) - np.float64(row[i] if is_left else best)
        rounded = np.int64(np.int32(distance * scale + 0.5))
        square = rounded * rounded
        count += is_left
        total += rounded
        high += square >> _HALF
        low += square & ((np.int64(1) << _HALF) - np.int64(1))
    mean = total / count
    mean_square = (np.float64(high) * 2.0**30 + np.float64(low)) / count
    return np.sqrt(max(mean_square - mean * mean, 0.0)) / scale


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, request.values[0])


CONTROL = Control(name="top_n_sigma", fields=("top_n_sigma",), kind="cut", kernel=_apply)
