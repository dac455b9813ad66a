"""Minimum length: no token ends the text before it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row
from ..params import column
from ..rng import keys
from .banned_tokens import ban
from .record import Control, Request
from .token_bitmask import masked_by


@in_standard_mode
def min_tokens(
    logits: Any,
    min_tokens: Any,
    eos_token: Any,
    *,
    position: Any,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Remove the tokens that end a text while it has fewer than `min_tokens` tokens.

    logits       (vocab,) or (rows, vocab); -inf is removed
    min_tokens   scalar or (rows,), in [0, inf); 0 is off
    eos_token    one sequence of token ids for all rows, or one per row
    position     scalar or (rows,), the number of tokens generated so far

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a number is out of
    range, a token outside the vocabulary, or an invalid row, before or after. Source: transformers.

    >>> min_tokens([1.0, 2.0, 3.0], 5, [2], position=4)
    array([  1.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(eos_token, len(rows), rows.shape[1], name="eos_token")
    wanted = column("min_tokens", min_tokens, len(rows))
    _, generated = keys(0, position, len(rows))
    early = [int(n) < k for n, k in zip(generated, wanted, strict=True)]
    return masked_by(reading, lambda r, words: ban(words, lists[r][: lists[r].size * early[r]]))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    if request.position < request.values[0]:
        ban(request.words, request.tokens)


CONTROL = Control(
    name="min_tokens",
    fields=("min_tokens",),
    kind="mask",
    kernel=_apply,
    tokens="eos_token",
)
