"""Minimum length of prompt and output together: no token ends the text before it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row
from ..params import column, whole_number
from .bad_words import ban_phrases
from .min_tokens import ban_ends, ends_of
from .record import Control, Request
from .token_bitmask import masked_by


@in_standard_mode
def min_total_tokens(
    logits: Any,
    min_total_tokens: Any,
    eos_token: Any,
    tokens: Any,
    stop_tokens: Any = (),
    *,
    prompt_size: int = 0,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Remove the tokens that end a text while there are fewer than `min_total_tokens` in all.

    logits             (vocab,) or (rows, vocab); -inf is removed
    min_total_tokens   scalar or (rows,), in [0, inf); 0 is off
    eos_token          one sequence of token ids for all rows, or one per row
    tokens             prompt and output, any 64-bit integers: one sequence for all rows, or one per
                       row
    stop_tokens        further token ids, or sequences of them, that end a text: of each sequence
                       the last token is removed where the others are the last of the output
    prompt_size        how many of the tokens are the prompt's

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a number is out of
    range, a token outside the vocabulary, or an invalid row, before or after. Source: `min_length`
    of transformers.

    >>> min_total_tokens([1.0, 2.0, 3.0], 5, [2], tokens=[0, 1, 0, 1])
    array([  1.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    histories = token_lists(tokens, len(rows))
    ends = ends_of(eos_token, stop_tokens, *rows.shape)
    wanted = column("min_total_tokens", min_total_tokens, len(rows))
    start = whole_number("prompt_size", prompt_size, "[0, inf)")

    def clear(r: int, words: Any) -> None:
        if histories[r].size < wanted[r]:
            ban_phrases(words, *ends[r], histories[r][start:])

    return masked_by(reading, clear)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    if request.history.size < request.values[0]:
        ban_ends(request)


CONTROL = Control(
    name="min_total_tokens",
    fields=("min_total_tokens",),
    kind="mask",
    kernel=_apply,
    tokens="stop_tokens",
)
