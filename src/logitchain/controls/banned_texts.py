"""Banned texts: no tokens spell them, however they are split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.banned_texts import EDGES, HEAD, LONGEST, STATES, BannedTexts
from ..inputs.logits import DType, Reading, token_lists
from ..inputs.values import show
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import Row
from .banned_tokens import ban
from .record import Control, Request
from .token_bitmask import Words, masked_by

Longs = NDArray[np.int64]


@in_standard_mode
def banned_texts(
    logits: Any, banned_texts: BannedTexts, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove the tokens with which the text of `tokens` would have a banned text in it.

    logits         (vocab,) or (rows, vocab); -inf is removed
    banned_texts   the texts, as `BannedTexts` has found their tokens
    tokens         the history, any 64-bit integers: one sequence for all rows, or one per row

    A token is removed if and only if it completes a text. Returns a new float32 array of the same
    shape, or `out`. Raises ValueError if the vocabulary of the texts is larger than the rows, or a
    row is invalid, before or after. Source: none; engines ban some of the splits of a text.

    >>> texts = BannedTexts(["so"], [b"s", b"o", b"so", b"x", b"os"])
    >>> banned_texts([1.0, 2.0, 3.0, 4.0, 5.0], texts, tokens=[4])
    array([  1., -inf, -inf,   4., -inf], dtype=float32)
    """
    if not isinstance(banned_texts, BannedTexts):
        kind = show(banned_texts)
        raise TypeError(f"banned_texts must be logitchain.BannedTexts, not {kind}")
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    if banned_texts.vocab_size > rows.shape[1]:
        size = banned_texts.vocab_size
        raise ValueError(f"banned_texts must be of at most {rows.shape[1]} tokens, not {size}")
    lists = token_lists(tokens, len(rows))
    return masked_by(reading, lambda r, words: ban_texts(words, *banned_texts.tables, lists[r]))


@kernel
def ban_texts(words: Words, tokens: Longs, numbers: Longs, history: Longs) -> None:
    """Clear the bits of the tokens that complete a text; the tables are those of `BannedTexts`."""
    if tokens.size == 0:
        return
    states, count = tokens[STATES], tokens[EDGES]
    edges, codes = tokens[HEAD : HEAD + count], numbers[HEAD : HEAD + count]
    starts, last = tokens[HEAD + count :][: states + 1], tokens[HEAD + count + states + 1 :]
    is_in, comes_in = np.zeros(states, np.bool_), np.zeros(states, np.bool_)
    for place in range(_reach(edges, codes, states, tokens[LONGEST], history), history.size):
        is_in[0] = True
        e = np.searchsorted(edges, history[place])
        while e < count and edges[e] == history[place]:
            if is_in[codes[e] // states]:
                comes_in[codes[e] % states] = True
            e += 1
        is_in[:], comes_in[:] = comes_in, False
    is_in[0] = True
    for state in range(states):
        if is_in[state]:
            ban(words, last[starts[state] : starts[state + 1]])


@kernel
def _reach(edges: Longs, codes: Longs, states: int, longest: int, history: Longs) -> int:
    """Where in the history the tokens begin on which the states at its end depend.

    They begin at a token that continues no state, or where as many tokens with bytes follow as the
    longest state has bytes.
    """
    place, left, continues = history.size, longest, True
    while continues and left > 0 and place > 0:
        place -= 1
        e, is_empty, continues = np.searchsorted(edges, history[place]), False, False
        while e < edges.size and edges[e] == history[place]:
            source, target = codes[e] // states, codes[e] % states
            continues |= source > 0
            is_empty |= source == target
            e += 1
        left -= not is_empty
    return place


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    ban_texts(request.words, request.tokens, request.numbers, request.history)


CONTROL = Control(
    name="banned_texts",
    fields=("banned_texts",),
    kind="mask",
    kernel=_apply,
    tokens="banned_texts",
    options={"scope": "output"},
)
