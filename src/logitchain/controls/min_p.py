"""Min-p truncation. Source: Nguyen et al., "Turning Up the Heat", arXiv:2407.01082."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..numerics import SLACK, kernel, log
from ..order import keep_from, largest
from ..params import column
from ..rows import Reading, Rows


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
    truncate(reading.checked(), column("min_p", min_p, len(reading.rows)))
    return reading.result()


def step(rows: Rows, batch: Batch) -> None:
    """Apply each row's own min_p."""
    truncate(rows, batch["min_p"])


@kernel
def truncate(rows: Rows, min_p: NDArray[np.float64]) -> None:
    """The kernel, in place: q >= min_p * max q, in logits."""
    for r in range(rows.shape[0]):
        if min_p[r] > 0.0:
            keep_from(rows[r], largest(rows[r]) + log(min_p[r] * (1.0 - SLACK)))
