"""Top-a truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, MASS_BITS, SLACK, Row, log, total_mass
from ..numeric.order import NO_CUT, at_least, keep_from, largest
from .record import Control, Request, Values


@in_standard_mode
def top_a(logits: Any, top_a: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the tokens with a probability of at least `top_a` times the square of the largest one.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_a    scalar or (rows,), in [0, 1]; 0 is off

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `top_a` is out of
    range or a row is invalid. Source: Henk717 and Xanthos, KoboldAI (2021).

    >>> top_a(np.log([0.5, 0.3, 0.2]), 0.9)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    return each_row(truncate, "top_a", top_a, logits, dtype, out)


@kernel
def truncate(row: Row, top_a: F64) -> None:
    """The kernel, in place: q >= a * max q ** 2."""
    if top_a > 0.0:
        best = largest(row)
        _keep(row, best, top_a, total_mass(row, best))


@kernel
def _keep(row: Row, best: F32, top_a: F64, mass: I64) -> None:
    largest_prob = 2.0**MASS_BITS / mass
    keep_from(row, at_least(_cut(top_a * largest_prob), np.float64(best)))


@kernel
def _cut(ratio: F64) -> F64:
    """The logit, relative to the best one, of a token with this share of the best one's mass."""
    return log(ratio * (1.0 - SLACK))


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    is_on = values[0] > 0.0  # the best token has at least 1 / vocab_size
    return np.float64(best) + temperature * _cut(values[0] / vocab_size) if is_on else NO_CUT


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    _keep(row, largest(row), request.values[0], request.mass)


CONTROL = Control(
    name="top_a",
    fields=("top_a",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("mass",),
)
