"""Top-k truncation. Source: Fan et al., "Hierarchical Neural Story Generation", 2018."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..numerics import kernel
from ..order import keep_first, kth_largest
from ..params import column
from ..rows import Reading, Rows, keeps_all_ties


def top_k(
    logits: Any, top_k: Any, *, ties: str = "first", dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the `top_k` largest logits; of equal ones the lowest ids.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_k    scalar or (rows,), integers in [0, inf); 0 is off, as is more than there are
    ties     "first", or "all" to keep every equal of the last one kept

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `top_k` is out of
    range or a row is not fit to use.

    >>> top_k([1.0, 3.0, 2.0, 2.0], 2)
    array([-inf,   3.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    all_ties = keeps_all_ties(ties)
    truncate(reading.checked(), column("top_k", top_k, len(reading.rows)), all_ties)
    return reading.result()


def step(rows: Rows, batch: Batch, *, ties: str = "first") -> None:
    """Apply each row's own top_k."""
    truncate(rows, batch["top_k"], keeps_all_ties(ties))


@kernel
def truncate(rows: Rows, top_k: NDArray[np.int64], all_ties: bool) -> None:
    """The kernel, in place."""
    for r in range(rows.shape[0]):
        row, k = rows[r], top_k[r]
        if 0 < k < row.size:
            value, equals = kth_largest(row, k)
            keep_first(row, value, row.size if all_ties else equals)
