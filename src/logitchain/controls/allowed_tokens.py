"""Allowed tokens: every other token is removed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.simd import LANES
from .record import Control
from .token_bitmask import Words, apply_allowed, masked_by

Longs = NDArray[np.int64]


_ONE = np.uint64(1)


@in_standard_mode
def allowed_tokens(
    logits: Any, allowed_tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token that is not in a list.

    logits           (vocab,) or (rows, vocab); -inf is removed
    allowed_tokens   one sequence of token ids for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a token is outside
    the vocabulary, or an invalid row, before or after, as with an empty list. Source: vLLM.

    >>> allowed_tokens([1.0, 2.0, 3.0], [0, 2])
    array([  1., -inf,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(allowed_tokens, len(rows), rows.shape[1], name="allowed_tokens")
    return masked_by(reading, lambda r, words: allow(words, lists[r]))


@kernel
def allow(words: Words, tokens: Longs) -> None:
    """Clear the bits of all other tokens."""
    kept = np.zeros_like(words)
    for i in range(tokens.size):
        kept[tokens[i] // LANES] |= _ONE << np.uint64(tokens[i] % LANES)
    words &= kept


CONTROL = Control(
    name="allowed_tokens",
    fields=("allowed_tokens",),
    kind="mask",
    kernel=apply_allowed,
    tokens="allowed_tokens",
)
