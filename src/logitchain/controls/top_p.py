"""Top-p truncation, the nucleus. Source: Holtzman et al., "The Curious Case of Neural Text
Degeneration", arXiv:1904.09751.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..numerics import I64, SLACK, Row, kernel, mass
from ..order import keep_first, largest, mass_crossing
from ..params import column
from ..rows import Reading, Rows, keeps_all_ties


def top_p(
    logits: Any, top_p: Any, *, ties: str = "first", dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the most probable tokens until their probabilities reach `top_p`.

    The token that crosses `top_p` is kept, the next one is not; of equal ones the lowest ids stay.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_p    scalar or (rows,), a probability in (0, 1]; 1 is off
    ties     "first", or "all" to keep every equal of the last one kept

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `top_p` is out of
    range or a row is not fit to use.

    >>> top_p(np.log([0.5, 0.3, 0.2]), 0.6)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    all_ties = keeps_all_ties(ties)
    truncate(reading.checked(), column("top_p", top_p, len(reading.rows)), all_ties)
    return reading.result()


def step(rows: Rows, batch: Batch, *, ties: str = "first") -> None:
    """Apply each row's own top_p."""
    truncate(rows, batch["top_p"], keeps_all_ties(ties))


@kernel
def truncate(rows: Rows, top_p: NDArray[np.float64], all_ties: bool) -> None:
    """The kernel, in place."""
    masses = np.empty(rows.shape[1], np.int64)
    for r in range(rows.shape[0]):
        row, p = rows[r], top_p[r]
        if p < 1.0:
            target = weigh(row, masses) * (p - SLACK)
            value, equals = mass_crossing(row, masses, max(math.ceil(target), 1))
            keep_first(row, value, row.size if all_ties else equals)


@kernel
def weigh(row: Row, masses: NDArray[np.int64]) -> I64:
    """Fill in each token's mass; their sum."""
    best = largest(row)
    total = np.int64(0)
    for i in range(row.size):
        masses[i] = mass(row[i] - best)
        total += masses[i]
    return total
