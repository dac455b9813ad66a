"""Top-k truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Ties, each_row, keeps_all_ties
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, Row
from ..numeric.order import NO_CUT, keep_first, kth_largest
from ..numeric.prefix import first_k
from .record import Control, Request, Values


@in_standard_mode
def top_k(
    logits: Any, top_k: Any, *, ties: Ties = "first", dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the `top_k` largest logits; of equal ones the lowest ids.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_k    scalar or (rows,), integers in [0, inf); 0 is off, as is more than there are
    ties     "first", or "all" to keep every equal of the last one kept

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `top_k` is out of
    range or a row is invalid. Source: Fan et al., "Hierarchical Neural Story Generation", 2018.

    >>> top_k([1.0, 3.0, 2.0, 2.0], 2)
    array([-inf,   3.,   2., -inf], dtype=float32)
    """
    return each_row(truncate, "top_k", top_k, logits, dtype, out, keeps_all_ties(ties))


@kernel
def truncate(row: Row, k: I64, all_ties: bool) -> None:
    """The kernel, in place."""
    if 0 < k < row.size:
        value, equals = first_k(row, k)
        keep_first(row, value, row.size if all_ties else equals)


@kernel
def floor(peaks: Row, k: I64) -> F64:
    """A logit below which no token survives: k blocks reach it, and so do at least k tokens."""
    return np.float64(kth_largest(peaks, k)[0]) if 0 < k <= peaks.size else NO_CUT


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    return floor(peaks, np.int64(values[0]))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, np.int64(request.values[0]), request.option != 0)


CONTROL = Control(
    name="top_k",
    fields=("top_k",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    options={"ties": "first"},
)
