"""Logit bias: add a number to the logits of chosen tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, bias_arrays
from ..inputs.values import show
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row, finite
from .record import Control, Request


@in_standard_mode
def logit_bias(
    logits: Any, bias: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Add to each token of `bias` its number; -inf removes the token.

    logits   (vocab,) or (rows, vocab); -inf is removed
    bias     {token id: number} for all rows, or one such mapping per row; numbers in [-inf, inf)

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a number is out of
    range, a token outside the vocabulary, or an invalid row, before or after. Source: the OpenAI
    API.

    >>> logit_bias([1.0, 2.0, 3.0], {0: 5, 2: float("-inf")})
    array([  6.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    if not isinstance(bias, (Mapping, Sequence)):
        raise TypeError(f"bias must be a mapping of token ids to numbers, not {show(bias)}")
    mappings = [bias] * len(rows) if isinstance(bias, Mapping) else bias
    if len(mappings) != len(rows):
        raise ValueError(f"bias must be one mapping or one per row ({len(rows)}), not {len(bias)}")
    parts = [bias_arrays(mapping, rows.shape[1]) for mapping in mappings]
    for row, part in zip(rows, parts, strict=True):
        add(row, *part)
    return reading.result()


@kernel
def add(row: Row, ids: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    """The kernel, in place."""
    for j in range(ids.size):
        x = row[ids[j]] + values[j]
        row[ids[j]] = finite(x) if x > -np.inf else -np.inf


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    add(row, request.places, request.counts.view(np.float64))


CONTROL = Control(
    name="logit_bias", fields=("logit_bias",), kind="adjust", kernel=_apply, tokens="logit_bias"
)
