"""Dynamic temperature."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, REMOVED, Row, exp, log
from ..numeric.order import largest
from ..numeric.statistics import MOST_SUMS, add_surprises, entropy
from ..params import column
from .record import Control, Request
from .temperature import scale

#: The largest float64: a sum beyond it would be infinite.
_HOTTEST = 1.7976931348623157e308


@in_standard_mode
def dynamic_temperature(
    logits: Any,
    temperature: Any,
    dynatemp_range: Any,
    dynatemp_exponent: Any = 1.0,
    *,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Divide every logit by a temperature that grows with the entropy of the row.

    logits              (vocab,) or (rows, vocab); -inf is removed
    temperature         scalar or (rows,), in [0, inf), the middle of the range
    dynatemp_range      scalar or (rows,), in [0, inf), how far the temperature may be from that; 0
                        is `temperature`
    dynatemp_exponent   scalar or (rows,), in [0, inf), the curve: 1 is a straight line

    The temperature goes from `max(0, temperature - dynatemp_range)` for a row that is certain to
    `temperature + dynatemp_range` for a uniform one, by `(H / log n) ** dynatemp_exponent`, with H
    the entropy and n the number of the finite logits. A row of one token stays as it is, unless the
    range is 0. Returns a new float32 array of the same shape, or `out`. Raises ValueError if a
    parameter is out of range or a row is invalid. Source: kalomaze, koboldcpp (2023).

    >>> dynamic_temperature([1.0, 1.0], 1.0, 0.5)
    array([0.6666667, 0.6666667], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    values = (
        column("temperature", temperature, len(rows)),
        column("dynatemp_range", dynatemp_range, len(rows)),
        column("dynatemp_exponent", dynatemp_exponent, len(rows)),
    )
    for row, t, reach, exponent in zip(rows, *values, strict=True):
        if reach == 0.0:
            scale(row, t)
        else:
            scale_by_entropy(row, t, reach, exponent)
    return reading.result()


@kernel
def scale_by_entropy(row: Row, t: F64, reach: F64, exponent: F64) -> None:
    """The kernel, in place, for a range above 0."""
    best, sums, finite = largest(row), np.zeros(MOST_SUMS, np.int64), np.int64(0)
    for i in range(row.size):
        finite += row[i] > REMOVED
    if finite > 1:
        add_surprises(row, best, best, sums)
        share = min(max(entropy(sums) / log(np.float64(finite)), 0.0), 1.0)
        lowest, highest = max(0.0, t - reach), min(t + reach, _HOTTEST)
        scale(row, lowest + (highest - lowest) * _power(share, exponent))


@kernel
def _power(share: F64, exponent: F64) -> F64:
    """A power of a number in [0, 1], the same on every CPU; 0 to the power of 0 is 1."""
    if exponent == 0.0 or share == 1.0:
        return 1.0
    if exponent == 1.0 or share == 0.0:
        return share
    return np.float64(exp(np.float32(exponent * log(share))))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    reach, t, exponent = request.values[:3]
    scale_by_entropy(row, t, reach, exponent)


CONTROL = Control(
    name="dynamic_temperature",
    fields=("dynatemp_range", "temperature", "dynatemp_exponent"),
    kind="scale",
    kernel=_apply,
    instead_of="temperature",
)
