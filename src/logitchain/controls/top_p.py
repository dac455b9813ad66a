"""Top-p truncation, the nucleus. Source: Holtzman et al., "The Curious Case of Neural Text
Degeneration", arXiv:1904.09751.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..numerics import F32, F64, I64, SLACK, Row, kernel, log, mass
from ..order import NO_CUT, keep_first, largest, mass_crossing
from ..params import column
from ..rows import Reading, keeps_all_ties


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
    rows, all_ties = reading.checked(), keeps_all_ties(ties)
    masses = np.empty(rows.shape[1], np.int64)
    for row, p in zip(rows, column("top_p", top_p, len(rows)), strict=True):
        truncate(row, p, all_ties, masses, 0)
    return reading.result()


@kernel
def truncate(row: Row, p: F64, all_ties: bool, masses: NDArray[np.int64], total: I64) -> None:
    """The kernel, in place; `masses` is scratch, `total` the mass of more than the row, or 0."""
    if p < 1.0:
        own = weigh(row, masses)
        target = max(math.ceil(max(total, own) * (p - SLACK)), 1)
        if target <= own:
            value, equals = mass_crossing(row, masses[: row.size], target)
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


@kernel
def floor(best: F32, heat: F64, p: F64, vocab: I64) -> F64:
    """Under this logit nothing survives: all such tokens together have less than 1 - p."""
    share = (1.0 - p + SLACK) / vocab / 4.0
    return np.float64(best) + heat * log(share) if p < 1.0 else NO_CUT
