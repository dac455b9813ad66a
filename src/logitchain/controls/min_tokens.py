"""Minimum length: no token ends the text before it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists, token_sequences
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row
from ..params import Phrases, StopTokens, column
from ..rng import keys
from .bad_words import ban_phrases, flat
from .record import Control, Request
from .token_bitmask import masked_by

Longs = NDArray[np.int64]


@in_standard_mode
def min_tokens(
    logits: Any,
    min_tokens: Any,
    eos_token: Any,
    stop_tokens: Any = (),
    tokens: Any = (),
    *,
    position: Any,
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Remove the tokens that end a text while it has fewer than `min_tokens` tokens.

    logits        (vocab,) or (rows, vocab); -inf is removed
    min_tokens    scalar or (rows,), in [0, inf); 0 is off
    eos_token     one sequence of token ids for all rows, or one per row
    stop_tokens   further token ids, or sequences of them, that end a text: of each sequence the
                  last token is removed where the others are the last of `tokens`
    tokens        the tokens generated so far: one sequence for all rows, or one per row
    position      scalar or (rows,), the number of tokens generated so far

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a number is out of
    range, a token outside the vocabulary, or an invalid row, before or after. Source: transformers.

    >>> min_tokens([1.0, 2.0, 3.0], 5, [2], position=4)
    array([  1.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    outputs = token_lists(tokens, len(rows))
    ends = ends_of(eos_token, stop_tokens, *rows.shape)
    wanted = column("min_tokens", min_tokens, len(rows))
    _, generated = keys(0, position, len(rows))
    early = [int(n) < k for n, k in zip(generated, wanted, strict=True)]

    def clear(r: int, words: Any) -> None:
        if early[r]:
            ban_phrases(words, *ends[r], outputs[r])

    return masked_by(reading, clear)


def ends_of(eos_token: Any, stop_tokens: Any, rows: int, vocab: int) -> list[tuple[Longs, Longs]]:
    """Of each row what ends its text, checked, as `endings` has it."""
    singles = token_lists(eos_token, rows, vocab, name="eos_token")
    checked = StopTokens.checked("stop_tokens", stop_tokens)
    token_sequences("stop_tokens", checked, vocab)
    return [endings(tokens, checked) for tokens in singles]


def endings(eos_token: Longs, stop_tokens: Phrases) -> tuple[Longs, Longs]:
    """All sequences of tokens that end a text, as `flat` has them; an end token is one of them."""
    tokens, sizes = flat(stop_tokens)
    singles = np.ones(eos_token.size, np.int64)
    return np.concatenate([eos_token, tokens]), np.concatenate([singles, sizes])


@kernel
def ban_ends(request: Request) -> None:
    """Clear the bits of the tokens that would end the text: `request.tokens` has its `endings`."""
    output = request.history[request.prompt_size :]
    ban_phrases(request.words, request.tokens, request.numbers, output)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    if request.position < request.values[0]:
        ban_ends(request)


CONTROL = Control(
    name="min_tokens",
    fields=("min_tokens",),
    kind="mask",
    kernel=_apply,
    tokens="stop_tokens",
)
