"""Text out of the bytes of tokens: what is certain so far, up to the stop phrase that ends it."""

import codecs
from collections.abc import Iterable, Sequence

from .arrays import show
from .params import FIELDS


class TextStream:
    """Bytes of tokens in, text that is certain out.

    stop   phrases that end the text: a string or a list of strings

    The whole text is all bytes decoded as UTF-8, with U+FFFD for what is none. The phrase that is
    complete first ends it, of several the longest, and it is cut where that phrase starts. The
    pieces that come out are the text so cut, however its bytes were split. Held back is only what
    may yet be cut, and a character that is not complete. Takes time linear in the text.

    >>> stream = TextStream(["\\n\\n", "END"])
    >>> [stream.feed(piece) for piece in (b"caf\\xc3", b"\\xa9 EN", b"TER", b"END.")]
    ['caf', 'é ', 'ENTER', '']
    >>> stream.text, stream.stopped
    ('café ENTER', 'END')
    """

    def __init__(self, stop: str | Sequence[str] = ()) -> None:
        """A stream that has read nothing; raises ValueError or TypeError for an empty phrase."""
        phrases = FIELDS["stop"].check("stop", stop)
        every = _Automaton(phrases)
        self._automaton = _Automaton(p for p in phrases if not every.finds_one(p[:-1]))
        self._state = 0  # what is held back: the start of a phrase
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._length = 0
        self._over = False
        #: The phrase that ended the text.
        self.stopped: str | None = None

    @property
    def text(self) -> str:
        """All that came out so far."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def feed(self, piece: bytes) -> str:
        """Read more bytes; the text that is certain now, and was not before.

        After a stop phrase that is always "". Raises ValueError after `end`.
        """
        if not isinstance(piece, bytes):
            raise TypeError(f"piece must be bytes, not {show(piece)}")
        if self._over:
            raise ValueError("piece comes after the end of the text")
        return "" if self.stopped else self._match(self._decoder.decode(piece))

    def end(self) -> str:
        """There are no more bytes; the text that was held back."""
        if self._over or self.stopped:
            self._over = True
            return ""
        self._over = True
        piece = self._match(self._decoder.decode(b"", True))
        rest = self._emit("", 0)
        self._state = 0
        return piece + rest

    def start(self, piece: bytes) -> int:
        """Which character of the text the first byte of `piece` is part of, if it is fed next."""
        begun = self._decoder.getstate()[0] + piece[:1]
        ahead = len(begun.decode("utf-8", "replace")) - 1
        return self._length + self._automaton.depth[self._state] + max(0, ahead)

    def _match(self, text: str) -> str:
        """Read more characters up to the end of a phrase; those that are certain now."""
        automaton, state = self._automaton, self._state
        for i, character in enumerate(text, 1):
            state = automaton.step(state, character)
            if automaton.found[state]:
                self.stopped = automaton.found[state]
                piece = self._emit(text, i - len(self.stopped))
                self._state = 0
                return piece
        piece = self._emit(text, len(text) - automaton.depth[state])
        self._state = state
        return piece

    def _emit(self, text: str, end: int) -> str:
        """What was held back and then text[:end]; an end below 0 lies in what was held back."""
        phrase, depth = self._automaton.phrase[self._state], self._automaton.depth[self._state]
        piece = phrase[:depth] + text[:end] if end >= 0 else phrase[: depth + end]
        if piece:
            self._pieces.append(piece)
            self._length += len(piece)
        return piece


class _Automaton:
    """Many phrases at once, as Aho and Corasick match them (CACM 18, 1975).

    A state is the longest end of the text that some phrase starts with; state 0 is none of it.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self.after: list[dict[str, int]] = [{}]  # the next state, by character
        self.phrase = [""]  # one that starts so
        self.depth = [0]  # how many of its characters that are
        self.found = [""]  # the longest phrase that ends here
        self.fallback = [0]  # the next shorter such end of the text
        for phrase in phrases:
            self._add(phrase)
        states = list(self.after[0].values())
        for state in states:  # which grows, shorter ones first
            for character, longer in self.after[state].items():
                self.fallback[longer] = self.step(self.fallback[state], character)
                self.found[longer] = self.found[longer] or self.found[self.fallback[longer]]
                states.append(longer)

    def _add(self, phrase: str) -> None:
        state = 0
        for depth, character in enumerate(phrase, 1):
            if character not in self.after[state]:
                self.after[state][character] = len(self.after)
                self.after.append({})
                self.phrase.append(phrase)
                self.depth.append(depth)
                self.found.append("")
                self.fallback.append(0)
            state = self.after[state][character]
        self.found[state] = phrase

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self.after[state]:
            state = self.fallback[state]
        return self.after[state].get(character, 0)

    def finds_one(self, text: str) -> bool:
        """Whether a phrase occurs in the text."""
        state = 0
        for character in text:
            state = self.step(state, character)
            if self.found[state]:
                return True
        return False
