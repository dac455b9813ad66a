"""Texts that may not be generated, and what a vocabulary makes of them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .values import listed, show

Longs = NDArray[np.int64]

#: The entries of the tables: 64 MB. Hundreds of ordinary words have fewer.
_MOST = 2**22


def vocabulary(vocabulary_bytes: Any) -> list[bytes]:
    """The bytes of each token, checked."""
    if isinstance(vocabulary_bytes, Mapping):
        raise TypeError("vocabulary_bytes must be a sequence of bytes, not a mapping")
    tokens: list[bytes] = listed("vocabulary_bytes", vocabulary_bytes, "a sequence of bytes")
    for i, token in enumerate(tokens):
        if not isinstance(token, bytes):
            raise TypeError(f"token {i} must be bytes, not {show(token)}")
    return tokens


class BannedTexts:
    """Texts that are never generated, however they are split into tokens.

    texts              a text or a list of texts
    vocabulary_bytes   the bytes of each token, in the order of their ids; empty for a token that
                       stands for no text, such as the end of a text

    Made once for a list of texts, it is the value of `Params.banned_texts` for any number of
    requests. A text is its bytes in UTF-8, compared as they are. Raises ValueError or TypeError for
    a text that is empty or no string, a vocabulary that is not bytes, or texts that all together
    have millions of tokens which begin or end with a part of them.

    >>> from logitchain import banned_texts
    >>> banned = BannedTexts("ab", [b"a", b"b", b"ab", b"ca", b"bc"])
    >>> banned_texts([0.0, 0.0, 0.0, 0.0, 0.0], banned, tokens=[0])
    array([  0., -inf, -inf,   0., -inf], dtype=float32)
    """

    def __init__(self, texts: str | Iterable[str] = (), vocabulary_bytes: Any = ()) -> None:
        """Find the tokens of which the texts can be made."""
        given = [texts] if isinstance(texts, str) else listed("texts", texts, "strings")
        if not all(isinstance(text, str) for text in given):
            raise TypeError(f"texts must be strings, not {show(texts)}")
        if "" in given:
            raise ValueError(f"texts must be non-empty strings, not {show(texts)}")
        tokens = vocabulary(vocabulary_bytes)
        self.texts: tuple[str, ...] = tuple(dict.fromkeys(given))
        self.vocab_size = len(tokens)
        targets = [text.encode(errors="surrogatepass") for text in self.texts]
        self._tables = _tables(targets, tokens) if targets else (_NONE, _NONE)

    @classmethod
    def checked(cls, name: str, value: Any) -> "BannedTexts":
        """The value of the field `name`."""
        if isinstance(value, cls):
            return value
        if value is None or (isinstance(value, (list, tuple)) and not value):
            return cls()
        raise TypeError(f"{name} must be logitchain.BannedTexts, not {show(value)}")

    @property
    def tables(self) -> tuple[Longs, Longs]:
        """The automaton as the kernel of `banned_texts` reads it; not to be written to."""
        return self._tables

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.texts)

    def __eq__(self, other: object) -> bool:
        """Whether the texts and what the vocabulary makes of them are the same."""
        return (
            isinstance(other, BannedTexts)
            and (self.texts, self.vocab_size) == (other.texts, other.vocab_size)
            and all(map(np.array_equal, self._tables, other._tables))
        )

    def __hash__(self) -> int:
        """Of the texts."""
        return hash(self.texts)

    def __repr__(self) -> str:
        """The texts; many are cut."""
        shown = f"{show(list(self.texts), 60)}, vocab_size {self.vocab_size}"
        return f"BannedTexts({shown if self.texts else ''})"


_NONE = np.empty(0, np.int64)

#: The places of the numbers at the beginning of the first table.
STATES, EDGES, LONGEST, HEAD = range(4)


def _tables(texts: list[bytes], tokens: list[bytes]) -> tuple[Longs, Longs]:
    """(tokens, numbers), two arrays of the same size.

    A state is a beginning of a text with which the output ends; state 0 is the empty one, which it
    always ends with. The tables have how many states and edges there are, and how many bytes the
    longest state has; the edges, ascending by token: in `tokens` the token, in `numbers`
    from * states + to; where the tokens of each state begin that complete a text from there, one
    end more; and these tokens.
    """
    index = _Index(tokens)
    beginnings = dict.fromkeys(text[:i] for text in texts for i in range(len(text)))
    states = {b"": 0} | {part: i for i, part in enumerate(filter(None, beginnings), 1)}
    edges: set[tuple[int, int, int]] = set()
    completing: list[set[int]] = [set() for _ in states]
    size = 0
    for text in texts:
        completing[0].update(index.containing(text))
        for i in range(1, len(text)):
            state = states[text[:i]]
            edges.update((token, 0, state) for token in index.ending(text[:i]))
            edges.update((token, state, state) for token in index.of(b""))
            for j in range(i + 1, len(text)):
                edges.update((x, state, states[text[:j]]) for x in index.of(text[i:j]))
            size -= len(completing[state])
            completing[state].update(index.starting(text[i:]))
            size += len(completing[state])
        if size + len(completing[0]) + len(edges) > _MOST:
            raise ValueError(
                f"texts must have at most {_MOST} tokens that begin or end with a part of them; "
                f"{show(text.decode(errors='surrogatepass'), 60)} is one too many: ban fewer texts"
            )
    ordered = np.array(sorted(edges), np.int64).reshape(-1, 3)
    ends = list(accumulate(map(len, completing), initial=0))
    head = np.array([len(states), len(ordered), max(map(len, states))], np.int64)
    last = np.array([x for some in completing for x in sorted(some)], np.int64)
    first = np.concatenate([head, ordered[:, 0], np.array(ends, np.int64), last])
    second = np.zeros_like(first)
    second[HEAD : HEAD + len(ordered)] = ordered[:, 1] * len(states) + ordered[:, 2]
    return first, second


class _Index:
    """Finds the tokens of a vocabulary by their bytes."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._starts = sorted((word, i) for i, word in enumerate(tokens) if word)
        self._ends = sorted((word[::-1], i) for i, word in enumerate(tokens) if word)
        self._whole: dict[bytes, list[int]] = {}
        for i, word in enumerate(tokens):
            self._whole.setdefault(word, []).append(i)
        self._tokens = tokens
        self._all, sizes = b"".join(tokens), map(len, tokens)
        self._offsets = list(accumulate(sizes, initial=0))

    def of(self, text: bytes) -> list[int]:
        """The tokens with just these bytes."""
        return self._whole.get(text, [])

    def starting(self, text: bytes) -> Iterator[int]:
        """The tokens that begin with a text."""
        return _beginning(self._starts, text)

    def ending(self, text: bytes) -> Iterator[int]:
        """The tokens that end with a text."""
        return _beginning(self._ends, text[::-1])

    def containing(self, text: bytes) -> Iterator[int]:
        """The tokens in which a text occurs."""
        place = self._all.find(text)
        while place >= 0:
            token = bisect_left(self._offsets, place + 1) - 1  # the one that has this byte
            end = self._offsets[token + 1]
            if place + len(text) <= end:
                yield token
                place = self._all.find(text, end)
            else:
                place = self._all.find(text, place + 1)


def _beginning(words: list[tuple[bytes, int]], text: bytes) -> Iterator[int]:
    place = bisect_left(words, (text, -1))
    while place < len(words) and words[place][0].startswith(text):
        yield words[place][1]
        place += 1
