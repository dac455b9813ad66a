"""Eta sampling."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, SLACK, Row, exp, log
from ..numeric.order import NO_CUT, largest
from ..numeric.statistics import MOST_SUMS, add_surprises, entropy
from .epsilon_cutoff import keep_probable
from .record import Control, Request, Values


@in_standard_mode
def eta_cutoff(
    logits: Any, eta_cutoff: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens with a probability of at least `min(eta, sqrt(eta) * exp(-entropy))`.

    logits       (vocab,) or (rows, vocab); -inf is removed
    eta_cutoff   scalar or (rows,), a probability in [0, 1); 0 is off

    The entropy, in nats, is that of the row. If no token is that probable, the most probable one
    stays, with its equals. Returns a new float32 array of the same shape, or `out`. Raises
    ValueError if `eta_cutoff` is out of range or a row is invalid. Source: Hewitt et al.,
    "Truncation Sampling as Language Model Desmoothing", arXiv:2210.15191.

    >>> eta_cutoff(np.log([0.5, 0.3, 0.2]), 0.5)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    return each_row(truncate, "eta_cutoff", eta_cutoff, logits, dtype, out)


@kernel
def truncate(row: Row, eta: F64) -> None:
    """The kernel, in place: q >= min(eta, sqrt(eta) * exp(-H))."""
    if eta > 0.0:
        best, sums = largest(row), np.zeros(MOST_SUMS, np.int64)
        add_surprises(row, best, best, sums)
        _keep(row, best, eta, sums[0], entropy(sums))


@kernel
def _keep(row: Row, best: F32, eta: F64, mass: I64, nats: F64) -> None:
    share = np.float64(exp(np.float32(-nats)))
    keep_probable(row, best, min(eta, math.sqrt(eta) * share), mass)


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    eta = values[0]  # the entropy is at most log(vocab_size)
    least = min(eta, math.sqrt(eta) / vocab_size) * (1.0 - SLACK)
    return np.float64(best) + temperature * log(least) if eta > 0.0 else NO_CUT


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    _keep(row, largest(row), request.values[0], request.mass, request.entropy)


CONTROL = Control(
    name="eta_cutoff",
    fields=("eta_cutoff",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("entropy",),
)
