"""Tokens that are banned by name, or by what was said before them.

Sources: vLLM (allowed tokens, bad words), transformers (minimum length, no repeated n-grams). Each
kernel clears bits of a mask; `token_bitmask` has what a mask does to a row.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blocks import block_count
from ..jit import kernel
from ..lanes import LANES
from ..numerics import I64
from ..params import column
from ..rng import keys
from ..rows import Reading, phrase_lists, token_lists
from .token_bitmask import ALL, Words, masked

Ids = NDArray[np.int64]

_ONE = np.uint64(1)


def allowed_tokens(
    logits: Any, allowed_tokens: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token that is not in a list.

    logits           (vocab,) or (rows, vocab); -inf is removed
    allowed_tokens   one sequence of token ids for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a token is outside
    the vocabulary, or a row not fit to use, before or after, as with an empty list.

    >>> allowed_tokens([1.0, 2.0, 3.0], [0, 2])
    array([  1., -inf,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(allowed_tokens, len(rows), rows.shape[1], name="allowed_tokens")
    return _masked(reading, lambda r, words: allow(words, lists[r]))


def banned_tokens(
    logits: Any, banned_tokens: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token in a list.

    logits          (vocab,) or (rows, vocab); -inf is removed
    banned_tokens   one sequence of token ids for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a token is outside
    the vocabulary, or a row not fit to use, before or after.

    >>> banned_tokens([1.0, 2.0, 3.0], [0])
    array([-inf,   2.,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(banned_tokens, len(rows), rows.shape[1], name="banned_tokens")
    return _masked(reading, lambda r, words: ban(words, lists[r]))


def min_tokens(
    logits: Any,
    min_tokens: Any,
    eos_token: Any,
    *,
    position: Any,
    dtype: str | None = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Remove the tokens that end a text while it has fewer than `min_tokens` tokens.

    logits       (vocab,) or (rows, vocab); -inf is removed
    min_tokens   scalar or (rows,), in [0, inf); 0 is off
    eos_token    one sequence of token ids for all rows, or one per row
    position     scalar or (rows,), the number of tokens generated so far

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a number is out of
    range, a token outside the vocabulary, or a row not fit to use, before or after.

    >>> min_tokens([1.0, 2.0, 3.0], 5, [2], position=4)
    array([  1.,   2., -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    lists = token_lists(eos_token, len(rows), rows.shape[1], name="eos_token")
    wanted = column("min_tokens", min_tokens, len(rows))
    _, generated = keys(0, position, len(rows))
    early = [int(n) < k for n, k in zip(generated, wanted, strict=True)]
    return _masked(reading, lambda r, words: ban(words, lists[r][: lists[r].size * early[r]]))


def no_repeat_ngram(
    logits: Any, no_repeat_ngram: Any, tokens: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token that would end an n-gram which was said before.

    logits            (vocab,) or (rows, vocab); -inf is removed
    no_repeat_ngram   scalar or (rows,), the n, in [0, inf); 0 is off, 1 removes all that was said
    tokens            one sequence of token ids for all rows, or one per row

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if n is out of range,
    a token outside the vocabulary, or a row not fit to use, before or after.

    >>> no_repeat_ngram([1.0, 2.0, 3.0], 2, [0, 1, 2, 0])
    array([  1., -inf,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    sizes = column("no_repeat_ngram", no_repeat_ngram, len(rows))
    lists = token_lists(tokens, *rows.shape)
    return _masked(reading, lambda r, words: ban_repeats(words, lists[r], sizes[r]))


def bad_words(
    logits: Any, bad_words: Any, tokens: Any, *, dtype: str | None = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove the last token of each bad word whose other tokens were just said.

    logits      (vocab,) or (rows, vocab); -inf is removed
    bad_words   sequences of token ids for all rows, or one list of such sequences per row
    tokens      one sequence of token ids for all rows, or one per row: what was said

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a bad word is
    empty, a token outside the vocabulary, or a row not fit to use, before or after.

    >>> bad_words([1.0, 2.0, 3.0], [[0, 1], [2]], [1, 0])
    array([  1., -inf, -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    words_of = [flat(phrases) for phrases in phrase_lists(bad_words, *rows.shape)]
    lists = token_lists(tokens, *rows.shape)
    return _masked(reading, lambda r, words: ban_phrases(words, *words_of[r], lists[r]))


def _masked(reading: Reading, clear: Callable[[int, Words], None]) -> NDArray[np.float32]:
    """Mask each row by the bits that are left when `clear` has cleared some."""

    def words_of(r: int) -> Words:
        words = np.full(block_count(reading.shape[-1]), ALL)
        clear(r, words)
        return words

    return masked(reading, words_of)


def flat(phrases: list[Ids]) -> tuple[Ids, Ids]:
    """Token sequences in one array, and for each token how long its sequence is."""
    sizes = np.array([phrase.size for phrase in phrases], np.int64)
    return np.concatenate([np.empty(0, np.int64), *phrases]), np.repeat(sizes, sizes)


@kernel
def ban(words: Words, tokens: Ids) -> None:
    """Clear the bits of these tokens."""
    for i in range(tokens.size):
        words[tokens[i] // LANES] &= ~(_ONE << np.uint64(tokens[i] % LANES))


@kernel
def allow(words: Words, tokens: Ids) -> None:
    """Clear the bits of all other tokens."""
    kept = np.zeros_like(words)
    for i in range(tokens.size):
        kept[tokens[i] // LANES] |= _ONE << np.uint64(tokens[i] % LANES)
    words &= kept


@kernel
def ban_repeats(words: Words, said: Ids, n: I64) -> None:
    """Clear the bits of the tokens that followed earlier on what the last n - 1 tokens are."""
    if n > 0:
        for end in range(n - 1, said.size):
            if follows(said, end, said, n - 1):
                ban(words, said[end : end + 1])


@kernel
def ban_phrases(words: Words, phrases: Ids, sizes: Ids, said: Ids) -> None:
    """Clear the bit of each phrase's last token, if the others were just said."""
    last = -1
    while last + 1 < phrases.size:
        size = sizes[last + 1]
        last += size
        if size <= said.size + 1 and follows(phrases, last, said, size - 1):
            ban(words, phrases[last : last + 1])


@kernel
def follows(tokens: Ids, end: I64, said: Ids, n: I64) -> bool:
    """Whether the n tokens before a place are the last n that were said."""
    same = 0
    while same < n and tokens[end - 1 - same] == said[said.size - 1 - same]:
        same += 1
    return bool(same == n)
