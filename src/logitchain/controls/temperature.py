"""Temperature: sharpen or flatten the distribution, down to greedy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..numerics import F64, FLT_MAX, finite, fma, kernel
from ..order import keep_first, largest
from ..params import column
from ..rows import Reading, Rows

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
    scale(reading.checked(), column("temperature", temperature, len(reading.rows)))
    return reading.result()


def step(rows: Rows, batch: Batch) -> None:
    """Apply each row's own temperature."""
    scale(rows, batch["temperature"])


@kernel
def scale(rows: Rows, temperature: NDArray[np.float64]) -> None:
    """The kernel, in place."""
    for r in range(rows.shape[0]):
        row, t = rows[r], temperature[r]
        if t == 1.0:
            continue  # off
        best = np.float64(largest(row))
        if t == 0.0:
            keep_first(row, best, 1)
            continue
        t = max(t, _COLDEST)
        # A row whose best would overflow moves there first: to every filter it is the same row.
        shift = 0.0 if abs(best) / t < FLT_MAX else best
        if shift == 0.0 and _ORDINARY <= t <= 1.0 / _ORDINARY:
            divide(row, t)
        else:
            for i in range(row.size):
                if row[i] > -np.inf:
                    row[i] = finite((np.float64(row[i]) - shift) / t)


@kernel
def divide(row: NDArray[np.float32], t: F64) -> None:
    """row / t for an ordinary t: as a float64 division rounds it but once in 2**20, and as fast as
    a product.
    """
    high = np.float32(1.0 / t)
    low = np.float32(1.0 / t - np.float64(high))
    for i in range(row.size):
        x = row[i]
        y = max(fma(x, high, x * low), np.float32(-FLT_MAX))
        row[i] = y if x > -np.inf else x
