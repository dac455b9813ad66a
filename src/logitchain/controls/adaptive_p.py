"""Adaptive-p: draw tokens whose probabilities are near a target, on average."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..inputs.values import listed, show
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, MASS_BITS, MASS_FLOOR, Row, exp, total_mass
from ..numeric.order import largest
from ..params import real_number, reals
from .record import Control, Request, Values

#: A token at the target gets this logit; one this far from it loses half of `_DROP`.
_PEAK, _WIDTH, _DROP = 5.0, 0.3, 10.0


@in_standard_mode
def adaptive_p(
    logits: Any, target: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Replace each logit by one that is the larger the nearer the token's probability is.

    logits   (vocab,) or (rows, vocab); -inf is removed
    target   scalar or (rows,), the probability in [0, 1] that is favoured. In a chain it is what
             `adaptive_p_target` gives

    With d = abs(q - target) / 0.3 the new logit is 5 - 10 d**2 / (1 + d). The tail of improbable
    tokens gets more probable, so something like `min_p` should come before. Returns a new float32
    array of the same shape, or `out`. Raises ValueError if `target` is out of range or a row is
    invalid. Source: MrJackSpade, llama.cpp pull request 17927 (2025).

    >>> adaptive_p(np.log([0.1, 0.2, 0.3, 0.4]), 0.2)
    array([4.1666665, 5.       , 4.1666665, 2.3333333], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, one in zip(rows, reals("target", target, "[0, 1]", len(rows)), strict=True):
        favour(row, one)
    return reading.result()


def adaptive_p_update(
    state: tuple[float, float] | None, prob: float, target: float, decay: float
) -> tuple[float, float]:
    """The state after a token was drawn.

    state    None before the first token, or (weighted sum, total weight) of the probabilities of
             the tokens so far
    prob     in [0, 1], the probability that the token had before `adaptive_p`
    target   in [0, 1], the probability that is aimed at
    decay    in [0, 0.99], how much the tokens so far still count: about 1 / (1 - decay) of them do

    Raises ValueError if an argument is out of range.

    >>> total, weight = adaptive_p_update(None, 0.3, target=0.5, decay=0.9)
    >>> round(total / weight, 4), round(weight, 4)
    (0.48, 10.0)
    """
    checked = real_number("target", target, "[0, 1]"), real_number("decay", decay, "[0, 0.99]")
    sums = _sums(state)
    _advance(sums, real_number("prob", prob, "[0, 1]"), *checked)
    return float(sums[0]), float(sums[1])


def adaptive_p_target(state: tuple[float, float] | None, target: float) -> float:
    """The probability to favour for the next token: `adaptive_p` takes it.

    state    as `adaptive_p_update` gives it
    target   in [0, 1], the probability that is aimed at

    It is 2 * `target` less the average of the tokens so far, within [0, 1]. Raises ValueError if
    an argument is out of range.

    >>> round(adaptive_p_target((4.8, 10.0), 0.5), 12)
    0.52
    """
    sums = _sums(state)
    return float(_favoured(sums, real_number("target", target, "[0, 1]")))


def _sums(state: Any) -> Values:
    """A state as the kernels have it: (weighted sum, total weight), NaN before the first token."""
    if state is None:
        return np.array([np.nan, np.nan])
    pair = listed("state", state, "a sum and a weight")
    if len(pair) != 2:
        raise ValueError(f"state must be a sum and a weight, not {show(state)}")
    total = real_number("the sum in state", pair[0], "[0, inf)")
    return np.array([total, real_number("the weight in state", pair[1], "(0, inf)")])


@kernel
def favour(row: Row, target: F64) -> None:
    """The kernel, in place."""
    best = largest(row)
    total = total_mass(row, best) * 2.0**-MASS_BITS
    for i in range(row.size):
        if row[i] > -np.inf:
            prob = np.float64(exp(max(np.float32(row[i] - best), MASS_FLOOR))) / total
            distance = abs(prob - target) / _WIDTH
            row[i] = np.float32(_PEAK - _DROP * distance * distance / (1.0 + distance))


@kernel
def _is_known(sums: Values) -> bool:
    return bool(sums[0] >= 0.0 and sums[1] > 0.0)


@kernel
def _favoured(sums: Values, target: F64) -> F64:
    if not _is_known(sums):
        return target
    return min(max(2.0 * target - sums[0] / sums[1], 0.0), 1.0)


@kernel
def _advance(sums: Values, prob: F64, target: F64, decay: F64) -> None:
    """Count a token; before the first, as if all before it had been at the target."""
    if not _is_known(sums):
        sums[0], sums[1] = target / (1.0 - decay), 1.0 / (1.0 - decay)
    sums[0] = prob + decay * sums[0]
    sums[1] = 1.0 + decay * sums[1]


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    favour(row, _favoured(request.values[2:4], request.values[0]))


@kernel
def _update(values: Values, logprob: F64, state: Values) -> None:
    state[:2] = values[2:4]
    _advance(state, np.float64(exp(np.float32(logprob))), values[0], values[1])


CONTROL = Control(
    name="adaptive_p",
    fields=("adaptive_target", "adaptive_decay"),
    kind="free",
    kernel=_apply,
    state=("adaptive_sum", "adaptive_weight"),
    update=_update,
    follows="before",
    keeps_one=True,
)
