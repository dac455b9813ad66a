"""What follows from the bytes of a vocabulary's tokens: masks of a prefix, sequence breakers."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs.banned_texts import vocabulary
from .inputs.logits import token_ids
from .inputs.values import listed, show


def prefix_mask(vocabulary_bytes: Any, prefix: bytes) -> NDArray[np.int32]:
    """Which tokens can continue a prefix of bytes, as a mask for `Batch.set_mask`.

    vocabulary_bytes   the bytes of each token, in the order of their ids; empty for a token that
                       stands for no text, such as the end of a text
    prefix             the bytes that the answer has to begin with

    A prompt that ends within a token makes a model continue badly. Token healing drops the last
    token of the prompt, and asks for an answer that begins with its bytes: a token may come next if
    its bytes begin with the prefix, or if they are the beginning of the prefix. After such a token,
    ask again for the rest of the prefix, until none is left. All tokens can continue an empty
    prefix.

    Returns int32 (words,) in which bit i % 32 of word i // 32 is 1 if token i may come next; it is
    all zeros if no token may. Raises TypeError if the vocabulary or the prefix are not bytes.

    >>> words = prefix_mask([b"h", b"http", b"https", b"://", b""], b"http")
    >>> [token for token in range(5) if words[0] >> token & 1]
    [0, 1, 2]
    """
    tokens = vocabulary(vocabulary_bytes)
    if not isinstance(prefix, bytes):
        raise TypeError(f"prefix must be bytes, not {show(prefix)}")
    allowed = [
        token.startswith(prefix) or (token != b"" and prefix.startswith(token)) for token in tokens
    ]
    bits = np.zeros(-(-len(tokens) // 32) * 32, np.bool_)
    bits[: len(tokens)] = allowed
    return np.packbits(bits, bitorder="little").view("<i4").astype(np.int32)


def line_ends(vocabulary_bytes: Any, ends: Sequence[bytes] = (b"\n",)) -> list[int]:
    """The tokens that end a line, for `Params.reasoning_line_ends`.

    vocabulary_bytes   the bytes of each token, in the order of their ids
    ends               what a token's bytes must end with: any of these

    Raises TypeError if the vocabulary or the ends are not bytes.

    >>> line_ends([b"a", b".\\n", b"\\n", b"b. "]), line_ends([b"a", b"b. "], ends=[b". "])
    ([1, 2], [1])
    """
    suffixes = tuple(listed("ends", ends, "a sequence of bytes", ordered=False))
    if isinstance(ends, bytes) or not all(isinstance(end, bytes) for end in suffixes):
        raise TypeError(f"ends must be a sequence of bytes, not {show(ends)}")
    return [i for i, token in enumerate(vocabulary(vocabulary_bytes)) if token.endswith(suffixes)]


#: llama.cpp looks at so many bytes of a sequence breaker, and at so many tokens after its first.
_MOST_BYTES, _MOST_TOKENS = 40, 20


def sequence_breakers(
    strings: Iterable[str],
    vocabulary_bytes: Any,
    tokenize: Callable[[str], Sequence[int] | None] | None = None,
) -> list[tuple[int, ...]]:
    """The token sequences in which some strings can occur, for `Params.dry_sequence_breakers`.

    strings            as in `dry_sequence_breakers` of llama.cpp's request bodies, whose default is
                       a newline, ":", a double quote and "*"
    vocabulary_bytes   the bytes of each token, in the order of their ids
    tokenize           text -> token ids, for the rest of a string that a token begins; None if no
                       tokens stand for it. By default the longest token that fits comes next

    As llama.cpp does it: a token that contains a string breaks by itself. A token that ends with
    the beginning of a string breaks if the rest of the string follows, in the tokens into which the
    tokenizer splits it. Raises TypeError if an argument is of another kind.

    >>> sequence_breakers([":", "ab"], [b"a", b"b", b"x:", b"xa", b"bc"])
    [(2,), (0, 1), (3, 1)]
    """
    tokens = vocabulary(vocabulary_bytes)
    texts = listed("strings", strings, "strings", ordered=False)
    if isinstance(strings, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"strings must be a list of strings, not {show(strings)}")
    split = _Splitter(tokens, tokenize)
    found: dict[tuple[int, ...], None] = {}
    for text in texts:
        target = text.encode(errors="surrogatepass")[:_MOST_BYTES]
        for token, word in enumerate(tokens):
            if not target:
                continue
            if target in word:
                found[(token,)] = None
                continue
            for size in range(min(len(word), len(target) - 1), 0, -1):
                if word.endswith(target[:size]):
                    rest = split(target[size:])
                    if rest is not None:
                        found[(token, *rest[:_MOST_TOKENS])] = None
    return list(found)


class _Splitter:
    """Splits text into tokens: as a tokenizer does, or the longest token first."""

    def __init__(self, tokens: Sequence[bytes], tokenize: Any) -> None:
        self._tokenize, self._vocab = tokenize, len(tokens)
        self._ids = {word: i for i, word in reversed(list(enumerate(tokens))) if word}
        self._longest = max(map(len, self._ids), default=0)
        self._known: dict[bytes, list[int] | None] = {}

    def __call__(self, text: bytes) -> list[int] | None:
        """The tokens of a text, or None if no tokens stand for it."""
        if text not in self._known:
            self._known[text] = self._split(text)
        return self._known[text]

    def _split(self, text: bytes) -> list[int] | None:
        if self._tokenize is not None:
            with suppress(UnicodeDecodeError):  # a token may end within a character
                given = self._tokenize(text.decode())
                if given is None:
                    return None
                return [int(i) for i in token_ids("tokenize", given, self._vocab)]
        ids: list[int] = []
        while text:
            sizes = range(min(self._longest, len(text)), 0, -1)
            word = next((text[:size] for size in sizes if text[:size] in self._ids), None)
            if word is None:
                return None
            ids.append(self._ids[word])
            text = text[len(word) :]
        return ids
