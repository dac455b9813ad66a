"""Epsilon sampling."""

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
def epsilon_cutoff(
    logits: Any, epsilon_cutoff: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens with a probability of at least `epsilon_cutoff`, and always the best.

    logits           (vocab,) or (rows, vocab); -inf is removed
    epsilon_cutoff   scalar or (rows,), a probability in [0, 1); 0 is off

    If no token is that probable, the most probable one stays, with its equals. Returns a new
    float32 array of the same shape, or `out`. Raises ValueError if `epsilon_cutoff` is out of range
    or a row is invalid. Source: Hewitt et al., "Truncation Sampling as Language Model Desmoothing",
    arXiv:2210.15191.

    >>> epsilon_cutoff(np.log([0.5, 0.3, 0.2]), 0.25)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    return each_row(truncate, "epsilon_cutoff", epsilon_cutoff, logits, dtype, out)


@kernel
def truncate(row: Row, epsilon: F64) -> None:
    """The kernel, in place: q >= epsilon."""
    if epsilon > 0.0:
        best = largest(row)
        keep_probable(row, best, epsilon, total_mass(row, best))


@kernel
def keep_probable(row: Row, best: F32, epsilon: F64, mass: I64) -> None:
    """Keep the tokens of a probability, or else the best, in a row of which `mass` is the mass."""
    cut = at_least(log(epsilon * (1.0 - SLACK) * (mass * 2.0**-MASS_BITS)), np.float64(best))
    keep_from(row, min(cut, best))


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    epsilon = values[0]  # a share of the best token's probability, which is at most 1
    return np.float64(best) + temperature * log(epsilon * (1.0 - SLACK)) if epsilon else NO_CUT


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    keep_probable(row, largest(row), request.values[0], request.mass)


CONTROL = Control(
    name="epsilon_cutoff",
    fields=("epsilon_cutoff",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("mass",),
)
