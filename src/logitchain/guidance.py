"""Guidance: logits from two models, or from one model with two prompts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs.logits import DType, Reading
from .logprobs import normaliser
from .numeric.compile import kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F64, REMOVED, SLACK, Row, finite, log
from .numeric.order import at_least, largest
from .params import real_number


@in_standard_mode
def guide(
    conditional: Any,
    unconditional: Any,
    guidance_scale: float,
    *,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Classifier-free guidance: move the log-probabilities away from those without the prompt.

    conditional      (vocab,) or (rows, vocab), the logits with the prompt
    unconditional    the same shape, the logits without it or with a negative prompt
    guidance_scale   in [0, inf): 0 gives the unconditional log-probabilities, 1 the conditional
                     ones; more than 1 is the usual range

    The result is `u + guidance_scale * (c - u)`, with c and u the log-probabilities of the rows, as
    transformers computes it. A token that either row has removed is removed. Returns a new float32
    array of that shape, or `out`. Raises ValueError if the scale is out of range, a row is
    invalid, the shapes differ, or no token is left. Source: Sanchez et al., "Stay on topic with
    Classifier-Free Guidance", arXiv:2306.17806.

    >>> guide([1.0, 1.0, 1.0], [1.0, 0.0, 1.5], 1.5)
    array([-1.0958531 , -0.59585315, -1.3458531 ], dtype=float32)
    """
    scale = real_number("guidance_scale", guidance_scale, "[0, inf)")
    reading, others = _both(conditional, unconditional, "unconditional", dtype, out)
    for row, other in zip(reading.rows, others, strict=True):
        guide_row(row, other, scale)
    return reading.result()


@in_standard_mode
def contrast(
    expert: Any,
    amateur: Any,
    beta: float,
    alpha: float,
    *,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Contrastive decoding: prefer what a strong model knows and a weak one does not.

    expert    (vocab,) or (rows, vocab), the logits of the strong model
    amateur   the same shape, the logits of the weak one
    beta      in [0, inf), the strength; 0 leaves the expert's logits as they are
    alpha     in [0, 1]; tokens stay that are at least `alpha` times as probable as the expert's
              best one

    The result is `e + beta * (e - a)`, with e and a the two logits. A token that either row has
    removed is removed. Returns a new float32 array of that shape, or `out`. Raises ValueError if a
    parameter is out of range, a row is invalid, the shapes differ, or no token is left. Source:
    O'Brien and Lewis, "Contrastive Decoding Improves Reasoning in Large Language Models",
    arXiv:2309.09117.

    >>> contrast([3.0, 2.5, -4.0], [3.0, 1.0, 0.0], 0.5, 0.1)
    array([3.  , 3.25, -inf], dtype=float32)
    """
    strength = real_number("beta", beta, "[0, inf)")
    ratio = real_number("alpha", alpha, "[0, 1]")
    reading, others = _both(expert, amateur, "amateur", dtype, out)
    for row, other in zip(reading.rows, others, strict=True):
        contrast_row(row, other, strength, ratio)
    return reading.result()


def _both(
    logits: Any, others: Any, name: str, dtype: DType, out: Any
) -> tuple[Reading, NDArray[np.float32]]:
    """Both inputs, checked; the first one's rows are for the result."""
    second = Reading(others, dtype=dtype)
    rows = second.checked()
    reading = Reading(logits, out, dtype)
    reading.checked()
    if reading.shape != second.shape:
        raise ValueError(f"{name} must have the shape {reading.shape}, not {second.shape}")
    return reading, rows


@kernel
def guide_row(row: Row, other: Row, scale: F64) -> None:
    """The kernel of `guide`, in place of the conditional row."""
    best, log_mass = normaliser(row)
    other_best, other_mass = normaliser(other)
    for i in range(row.size):
        c = (np.float64(row[i]) - np.float64(best)) - log_mass
        u = (np.float64(other[i]) - np.float64(other_best)) - other_mass
        is_left = row[i] > REMOVED and other[i] > REMOVED
        row[i] = finite(u + scale * (c - u)) if is_left else REMOVED


@kernel
def contrast_row(row: Row, other: Row, beta: F64, alpha: F64) -> None:
    """The kernel of `contrast`, in place of the expert's row."""
    cut = REMOVED
    if alpha > 0.0:
        best = largest(row)
        cut = at_least(log(alpha * (1.0 - SLACK)), np.float64(best))
    for i in range(row.size):
        e, a = np.float64(row[i]), np.float64(other[i])
        is_left = row[i] > REMOVED and other[i] > REMOVED and row[i] >= cut
        row[i] = finite(e + beta * (e - a)) if is_left else REMOVED
