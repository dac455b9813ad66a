"""Bad words: token sequences that may not be completed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, phrase_lists, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import I64, Row
from ..params import Phrases
from .banned_tokens import ban
from .record import Control, Request
from .token_bitmask import Words, masked_by

Longs = NDArray[np.int64]


@in_standard_mode
def bad_words(
    logits: Any, bad_words: Any, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove the last token of each bad word whose other tokens are the last of `tokens`.

    logits      (vocab,) or (rows, vocab); -inf is removed
    bad_words   sequences of token ids for all rows, or one list of such sequences per row
    tokens      the history, any 64-bit integers: one sequence for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a bad word is
    empty, one of its tokens outside the vocabulary, or an invalid row, before or after. Source:
    vLLM.

    >>> bad_words([1.0, 2.0, 3.0], [[0, 1], [2]], [1, 0])
    array([  1., -inf, -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    words_of = [flat(phrases) for phrases in phrase_lists(bad_words, *rows.shape)]
    lists = token_lists(tokens, len(rows))
    return masked_by(reading, lambda r, words: ban_phrases(words, *words_of[r], lists[r]))


def flat(phrases: Phrases) -> tuple[Longs, Longs]:
    """Token sequences in one array, and for each token how long its sequence is."""
    sizes = np.array([*map(len, phrases)], np.int64)
    return phrases.all_tokens.array, np.repeat(sizes, sizes)


@kernel
def ban_phrases(words: Words, phrases: Longs, sizes: Longs, history: Longs) -> None:
    """Clear the bit of each phrase's last token, if the history ends with the others."""
    last = -1
    while last + 1 < phrases.size:
        size = sizes[last + 1]
        last += size
        if size <= history.size + 1 and follows(phrases, last, history, size - 1):
            ban(words, phrases[last : last + 1])


@kernel
def follows(tokens: Longs, end: I64, history: Longs, n: I64) -> bool:
    """Whether the n tokens before a place are the last n of a history."""
    same = 0
    while same < n and tokens[end - 1 - same] == history[history.size - 1 - same]:
        same += 1
    return bool(same == n)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    ban_phrases(request.words, request.tokens, request.numbers, request.history)


CONTROL = Control(
    name="bad_words",
    fields=("bad_words",),
    kind="mask",
    kernel=_apply,
    tokens="bad_words",
    options={"scope": "output"},
)
