"""Top-n-sigma truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, SLACK, Row
from ..numeric.order import at_least, keep_from, largest
from ..numeric.statistics import MOST_SUMS, add_distances, deviation, least
from .record import Control, Request


@in_standard_mode
def top_n_sigma(
    logits: Any, top_n_sigma: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens within `top_n_sigma` standard deviations of the largest logit.

    logits        (vocab,) or (rows, vocab); -inf marks a removed token, which is not counted
    top_n_sigma   scalar or (rows,), in [0, inf); 0 is off

    The deviation is that of a population: all finite logits of the row. Returns a new float32 array
    of the same shape, or `out`. Raises ValueError if `top_n_sigma` is out of range or a row is
    invalid. Source: Tang et al., "Top-nσ: Not All Logits Are You Need", arXiv:2411.07641.

    >>> top_n_sigma([0.0, 1.0, 2.0, 3.0, 4.0], 1)
    array([-inf, -inf, -inf,   3.,   4.], dtype=float32)
    """
    return each_row(truncate, "top_n_sigma", top_n_sigma, logits, dtype, out)


@kernel
def truncate(row: Row, top_n_sigma: F64) -> None:
    """The kernel, in place: l >= max l - n * sigma."""
    if top_n_sigma > 0.0:
        best, sums = largest(row), np.zeros(MOST_SUMS, np.int64)
        lowest = least(row, best)
        add_distances(row, best, lowest, sums)
        _keep_near(row, best, top_n_sigma * deviation(sums, best, lowest))


@kernel
def _keep_near(row: Row, best: F32, reach: F64) -> None:
    keep_from(row, at_least(-reach * (1.0 + SLACK), np.float64(best)))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    _keep_near(row, largest(row), request.values[0] * request.deviation)


CONTROL = Control(
    name="top_n_sigma",
    fields=("top_n_sigma",),
    kind="cut",
    kernel=_apply,
    statistics=("deviation",),
)
