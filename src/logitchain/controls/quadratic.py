"""Quadratic smoothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, Row, finite
from ..numeric.order import largest
from ..params import column
from .record import Control, Request


@in_standard_mode
def quadratic(
    logits: Any,
    smoothing_factor: Any,
    smoothing_curve: Any = 1.0,
    *,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Bend the logits around the largest one, by a curve of their distance to it.

    logits             (vocab,) or (rows, vocab); -inf is removed
    smoothing_factor   scalar or (rows,), in [0, inf); 0 is off
    smoothing_curve    scalar or (rows,), in [1, inf): 1 is a parabola, more adds a cubic part

    With d the distance `l - max l`, k = (3 - curve) / 2 and s = (curve - 1) / 2 the result is
    `max l - k * factor * d ** 2 + s * factor * d ** 3`. Near logits come nearer to the best, far
    ones go further away. With a curve above 3, some get above the best. Returns a new float32 array
    of the same shape, or `out`. Raises ValueError if a parameter is out of range or a row is
    invalid. Source: kalomaze, text-generation-webui pull request 5403 (2024).

    >>> quadratic([3.0, 2.5, 1.0], 0.5)
    array([3.   , 2.875, 1.   ], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    factors = column("smoothing_factor", smoothing_factor, len(rows))
    curves = column("smoothing_curve", smoothing_curve, len(rows))
    for row, factor, curve in zip(rows, factors, curves, strict=True):
        bend(row, factor, curve)
    return reading.result()


@kernel
def bend(row: Row, factor: F64, curve: F64) -> None:
    """The kernel, in place."""
    if factor > 0.0:
        best = np.float64(largest(row))
        k, s = (3.0 - curve) / 2.0, (curve - 1.0) / 2.0
        for i in range(row.size):
            if row[i] > -np.inf:
                d = np.float64(row[i]) - best
                row[i] = finite(best + d * d * (s * d - k) * factor)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    bend(row, request.values[0], request.values[1])


CONTROL = Control(
    name="quadratic",
    fields=("smoothing_factor", "smoothing_curve"),
    kind="free",
    kernel=_apply,
    keeps_one=True,
)
