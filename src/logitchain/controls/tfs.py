"""Tail free sampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, I64, SLACK, Row, mass
from ..numeric.order import in_ascending_order, keep_first, largest
from .record import Control, Request


@in_standard_mode
def tfs(logits: Any, tfs: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the tokens before the tail, where the sorted probabilities no longer bend.

    logits   (vocab,) or (rows, vocab); -inf is removed
    tfs      scalar or (rows,), a share in (0, 1]; 1 is off

    The absolute second differences of the sorted probabilities are divided by their sum. The first
    i + 1 tokens stay, i being the first index at which the cumulative sum exceeds `tfs`. A row of
    fewer than three tokens, or whose second differences add up to 2**-20 or less, stays as it is.
    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `tfs` is out of
    range or a row is invalid. Source: Trenton Bricken, "Tail Free Sampling" (2019).

    >>> tfs(np.log([0.5, 0.3, 0.1, 0.06, 0.04]), 0.7)
    array([-0.6931472, -1.2039728,       -inf,       -inf,       -inf],
          dtype=float32)
    """
    return each_row(truncate, "tfs", tfs, logits, dtype, out)


@kernel
def truncate(row: Row, z: F64) -> None:
    """The kernel, in place."""
    if z >= 1.0:
        return
    best, finite = largest(row), np.int64(0)
    likely = np.empty(row.size, np.float32)
    n = np.int64(0)
    for i in range(row.size):
        finite += row[i] > -np.inf
        if mass(row[i] - best) > 0:
            likely[n] = row[i]
            n += 1
    ascending = in_ascending_order(likely[:n])
    kept = _before_tail(ascending, finite, z)
    if kept < finite:
        value, equals = ascending[n - kept], np.int64(0)
        for i in range(n - kept, n):
            equals += ascending[i] == value
        keep_first(row, value, equals)


@kernel
def _before_tail(ascending: Row, finite: I64, z: F64) -> I64:
    """How many of the first tokens stay; all but `ascending` of the finite ones have no mass."""
    n = ascending.size
    masses = np.zeros(n + 2, np.int64)
    for i in range(n):
        masses[i] = mass(ascending[n - 1 - i] - ascending[n - 1])
    bends = np.zeros(max(min(n, finite - 2), 0), np.int64)
    for i in range(bends.size):
        bends[i] = abs(masses[i] - 2 * masses[i + 1] + masses[i + 2])
    kept, total, all_bends = finite, np.int64(0), np.float64(bends.sum())
    if all_bends > SLACK * np.float64(masses.sum()):  # or else rounding alone would say where
        for i in range(bends.size):
            total += bends[i]
            if np.float64(total) > (z + SLACK) * all_bends:
                kept = np.int64(i + 1)
                break
    return kept


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, request.values[0])


CONTROL = Control(name="tfs", fields=("tfs",), kind="cut", kernel=_apply)
