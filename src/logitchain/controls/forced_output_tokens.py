"""Forced output tokens: an answer begins with the tokens of a list."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import I64, Row
from ..rng import keys
from .record import Control, Request
from .token_bitmask import Words, keep_bit, masked_by

Longs = NDArray[np.int64]


@in_standard_mode
def forced_output_tokens(
    logits: Any,
    forced_output_tokens: Any,
    *,
    position: Any,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Keep only the token that a list has at this position, until the list is at its end.

    logits                 (vocab,) or (rows, vocab); -inf is removed
    forced_output_tokens   one sequence of token ids for all rows, or one per row
    position               scalar or (rows,), how many tokens the answer has so far

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a token is outside
    the vocabulary, or an invalid row, before or after: a token that was removed stays removed.
    Source: the field of that name in FriendliAI's API.

    >>> forced_output_tokens([1.0, 2.0, 3.0], [1, 0], position=1)
    array([  1., -inf, -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(forced_output_tokens, len(rows), rows.shape[1], name="forced_output_tokens")
    _, generated = keys(0, position, len(rows))
    sizes = [min(int(n), 2**62) for n in generated]
    return masked_by(reading, lambda r, words: keep_forced(words, lists[r], sizes[r]))


@kernel
def keep_forced(words: Words, forced: Longs, position: I64) -> None:
    """Clear all bits but the forced token's."""
    if position < forced.size:
        keep_bit(words, forced[position])


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    keep_forced(request.words, request.tokens, request.history.size - request.prompt_size)


CONTROL = Control(
    name="forced_output_tokens",
    fields=("forced_output_tokens",),
    kind="mask",
    kernel=_apply,
    tokens="forced_output_tokens",
)
