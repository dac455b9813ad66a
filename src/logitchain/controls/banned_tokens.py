"""Banned tokens: the listed tokens are removed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row
from ..numeric.simd import LANES
from .record import Control, Request
from .token_bitmask import Words, masked_by

Longs = NDArray[np.int64]


_ONE = np.uint64(1)


@in_standard_mode
def banned_tokens(
    logits: Any, banned_tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token in a list.

    logits          (vocab,) or (rows, vocab); -inf is removed
    banned_tokens   one sequence of token ids for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a token is outside
    the vocabulary, or an invalid row, before or after. Source: vLLM.

    >>> banned_tokens([1.0, 2.0, 3.0], [0])
    array([-inf,   2.,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(banned_tokens, len(rows), rows.shape[1], name="banned_tokens")
    return masked_by(reading, lambda r, words: ban(words, lists[r]))


@kernel
def ban(words: Words, tokens: Longs) -> None:
    """Clear the bits of the listed tokens."""
    for i in range(tokens.size):
        words[tokens[i] // LANES] &= ~(_ONE << np.uint64(tokens[i] % LANES))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    ban(request.words, request.tokens)


CONTROL = Control(
    name="banned_tokens",
    fields=("banned_tokens",),
    kind="mask",
    kernel=_apply,
    tokens="banned_tokens",
)
