"""Min-p truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, SLACK, Row, log
from ..numeric.order import NO_CUT, at_least, keep_from, largest
from .record import Control, Request, Values


@in_standard_mode
def min_p(logits: Any, min_p: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the tokens at least `min_p` times as probable as the most probable one.

    logits   (vocab,) or (rows, vocab); -inf is removed
    min_p    scalar or (rows,), a ratio of two probabilities in [0, 1]; 0 is off

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `min_p` is out of
    range or a row is invalid. Source: Nguyen et al., "Turning Up the Heat", arXiv:2407.01082.

    >>> min_p(np.log([0.5, 0.3, 0.2]), 0.5)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    return each_row(truncate, "min_p", min_p, logits, dtype, out)


@kernel
def truncate(row: Row, min_p: F64) -> None:
    """The kernel, in place: q >= min_p * max q, in logits."""
    if min_p > 0.0:
        keep_from(row, at_least(log(min_p * (1.0 - SLACK)), np.float64(largest(row))))


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    ratio = values[0]
    return np.float64(best) + temperature * log(ratio * (1.0 - SLACK)) if ratio > 0.0 else NO_CUT


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, request.values[0])


CONTROL = Control(name="min_p", fields=("min_p",), kind="cut", kernel=_apply, floor=_floor)
