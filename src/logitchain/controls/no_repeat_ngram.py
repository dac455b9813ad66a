"""No repeated n-grams: no n tokens occur twice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import I64, Row
from ..numeric.simd import LANES
from ..params import column
from .record import Control, Request
from .token_bitmask import Words, masked_by

Longs = NDArray[np.int64]


_ONE = np.uint64(1)


@in_standard_mode
def no_repeat_ngram(
    logits: Any, no_repeat_ngram: Any, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token that would complete an n-gram which `tokens` has already.

    logits            (vocab,) or (rows, vocab); -inf is removed
    no_repeat_ngram   scalar or (rows,), the n, in [0, inf); 0 is off, 1 removes all of `tokens`
    tokens            the history, any 64-bit integers: one sequence for all rows, or one per row;
                      an id outside the vocabulary equals only itself, and is not removed

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if n is out of range,
    or an invalid row, before or after. Source: transformers.

    >>> no_repeat_ngram([1.0, 2.0, 3.0], 2, [0, 1, 2, 0])
    array([  1., -inf,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    sizes = column("no_repeat_ngram", no_repeat_ngram, len(rows))
    lists = token_lists(tokens, len(rows))
    return masked_by(reading, lambda r, words: ban_repeats(words, lists[r], sizes[r]))


@kernel
def ban_repeats(words: Words, history: Longs, n: I64) -> None:
    """Clear the bits of the tokens that followed earlier on what the last n - 1 tokens are.

    Knuth, Morris and Pratt's search for these tokens: linear in `history`, whatever n is.
    """
    if n < 1 or n > history.size:
        return
    pattern = history[history.size - (n - 1) :]
    fallback = fallbacks(pattern)
    size = 0  # how many tokens of the pattern end before `place`
    for start in range(0, history.size, LANES):
        end = min(start + LANES, history.size)
        if size == 0 and pattern.size > 0 and not _holds(history[start:end], pattern[0]):
            continue
        for place in range(start, end):
            token = history[place]
            if size == pattern.size:
                if 0 <= token < words.size * LANES:
                    words[token // LANES] &= ~(_ONE << np.uint64(token % LANES))
                size = fallback[size]
            while size >= 0 and pattern[size] != token:
                size = fallback[size]
            size += 1


@kernel
def _holds(tokens: Longs, token: I64) -> bool:
    """Whether a token is among some; without an early end it is found in vectors."""
    found = 0
    for other in tokens:
        found += other == token
    return found > 0


@kernel
def fallbacks(pattern: Longs) -> Longs:
    """For each prefix of a pattern the longest shorter one that it ends with; -1 for none."""
    fallback = np.empty(pattern.size + 1, np.int64)
    size = fallback[0] = -1
    for i in range(pattern.size):
        while size >= 0 and pattern[size] != pattern[i]:
            size = fallback[size]
        size += 1
        fallback[i + 1] = size
    return fallback


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    ban_repeats(request.words, request.history, np.int64(request.values[0]))


CONTROL = Control(
    name="no_repeat_ngram",
    fields=("no_repeat_ngram", "ngram_window"),
    kind="mask",
    kernel=_apply,
    window="ngram_window",
    exempt="ngram_exempt",
    options={"scope": "all"},
)
