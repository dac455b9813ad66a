"""Min-p truncation. Source: Nguyen et al., "Turning Up the Heat", arXiv:2407.01082."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit import kernel
from ..numerics import F32, F64, SLACK, Row, log
from ..order import NO_CUT, keep_from, largest
from ..params import column
from ..rows import Reading


def min_p(
    logits: Any, min_p: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens at least `min_p` times as probable as the most probable one.

    logits   (vocab,) or (rows, vocab); -inf is removed
    min_p    scalar or (rows,), a ratio of two probabilities in [0, 1]; 0 is off

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `min_p` is out of
    range or a row is not fit to use.

    >>> min_p(np.log([0.5, 0.3, 0.2]), 0.5)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, ratio in zip(rows, column("min_p", min_p, len(rows)), strict=True):
        truncate(row, ratio)
    return reading.result()


@kernel
def truncate(row: Row, min_p: F64) -> None:
    """The kernel, in place: q >= min_p * max q, in logits."""
    if min_p > 0.0:
        keep_from(row, floor(largest(row), 1.0, min_p))


@kernel
def floor(best: F32, heat: F64, min_p: F64) -> F64:
    """Under this logit nothing survives, the temperature being `heat`."""
    return np.float64(best) + heat * log(min_p * (1.0 - SLACK)) if min_p > 0.0 else NO_CUT
