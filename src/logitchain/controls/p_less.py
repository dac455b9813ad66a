"""P-less sampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, SLACK, Row, log
from ..numeric.order import largest
from ..numeric.statistics import MOST_SUMS, add_squares, squares
from .epsilon_cutoff import keep_probable
from .record import Control, Request, Values


@in_standard_mode
def p_less(logits: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the tokens with a probability of at least the sum of all squared probabilities.

    logits   (vocab,) or (rows, vocab); -inf is removed

    The sum is the probability that two draws give the same token. There is no parameter: the
    request field `p_less` switches the control on. Returns a new float32 array of the same shape,
    or `out`. Raises ValueError if a row is invalid. Source: Tan et al., "p-less Sampling",
    arXiv:2509.23234.

    >>> p_less(np.log([0.5, 0.3, 0.2]))
    array([-0.6931472,       -inf,       -inf], dtype=float32)
    >>> p_less([1.0, 1.0, 1.0])
    array([1., 1., 1.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    for row in reading.checked():
        truncate(row)
    return reading.result()


@kernel
def truncate(row: Row) -> None:
    """The kernel, in place: q >= sum of q ** 2."""
    best, sums = largest(row), np.zeros(MOST_SUMS, np.int64)
    add_squares(row, best, best, sums)
    keep_probable(row, best, squares(sums), sums[0])


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    return np.float64(best) + temperature * log((1.0 - SLACK) / vocab_size)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    keep_probable(row, largest(row), request.squares, request.mass)


CONTROL = Control(
    name="p_less",
    fields=("p_less",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("squares",),
)
