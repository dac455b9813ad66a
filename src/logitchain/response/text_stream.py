"""Text out of the bytes of tokens: what is certain so far, up to the stop phrase that ends it."""

import codecs
from collections.abc import Iterable, Sequence

from ..inputs.values import show
from ..params import FIELDS


class TextStream:
    """Bytes of tokens in, text that is certain out.

    stop   a phrase or a list of phrases that end the text

    The whole text is all bytes decoded as UTF-8, U+FFFD for what is not. The phrase that is
    complete first ends it, of several at once the longest, and it is cut where that one starts.
    The pieces that come out, joined, are the text so cut, however its bytes were split. Held back
    is only what may yet be cut, and a character's bytes until they are complete. The time it takes
    is linear in the text, whatever the phrases.

    Raises ValueError or TypeError for a phrase that is empty or no string.

    >>> stream = TextStream(["\\n\\n", "END"])
    >>> [stream.feed(piece) for piece in (b"caf\\xc3", b"\\xa9 EN", b"TER", b" EN", b"D.")]
    ['caf', 'é ', 'ENTER', ' ', '']
    >>> stream.text, stream.stopped
    ('café ENTER ', 'END')
    """

    def __init__(self, stop: str | Sequence[str] = ()) -> None:
        """A stream that has read nothing."""
        phrases = FIELDS["stop"].check("stop", stop)
        every = Automaton(phrases)
        # A phrase with another one inside it is never complete first: nothing waits for it.
        self._automaton = Automaton(p for p in phrases if not every.found[every.read(0, p[:-1])[0]])
        self._state = 0  # of the automaton, which says what is held back
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._over = False
        #: How many characters came out so far.
        self.length = 0
        #: The phrase that ended the text.
        self.stopped: str | None = None

    @property
    def text(self) -> str:
        """All that came out so far."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def feed(self, piece: bytes) -> str:
        """Read more bytes; the text that is certain now and was not before.

        After a stop phrase that is "", whatever comes. After `end` it is a ValueError.
        """
        if not isinstance(piece, bytes):
            raise TypeError(f"piece must be bytes, not {show(piece)}")
        if self._over:
            raise ValueError(f"piece {show(piece)} comes after the end of the text")
        return self._match(self._decoder.decode(piece))

    def end(self) -> str:
        """There are no more bytes; the text that was held back."""
        self._over = True
        return self._match(self._decoder.decode(b"", True)) + self._emit("", 0, 0)

    def start(self, piece: bytes) -> int:
        """Which character of the text the first byte of `piece` would be part of, if fed next."""
        pending = self._decoder.getstate()[0] + piece[:1]
        complete = len(pending.decode("utf-8", "replace")) - 1
        return self.length + self._automaton.depth[self._state] + max(0, complete)

    def _match(self, text: str) -> str:
        """Read more characters, up to the end of a phrase."""
        if self.stopped:
            return ""
        state, count = self._automaton.read(self._state, text)
        self.stopped = self._automaton.found[state]
        if self.stopped:
            return self._emit(text, count - len(self.stopped), 0)
        return self._emit(text, count - self._automaton.depth[state], state)

    def _emit(self, text: str, end: int, state: int) -> str:
        """What was held back, then text[:end]; an end below 0 lies in what was held back."""
        held, depth = self._automaton.phrase[self._state], self._automaton.depth[self._state]
        piece = held[:depth] + text[:end] if end >= 0 else held[: depth + end]
        if piece:
            self._pieces.append(piece)
        self.length += len(piece)
        self._state = state
        return piece


class Automaton:
    """Many phrases read at once, after Aho and Corasick (CACM 18, 1975).

    A state is the longest end of the text that some phrase starts with; state 0 is the empty one.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        """The states of all phrases; in time linear in them."""
        self.after: list[dict[str, int]] = [{}]  # the state after one more character of a phrase
        self.shorter = [0]  # the state of the next shorter such end
        self.phrase = [""]  # a phrase that starts so
        self.depth = [0]  # how many of its characters that is
        self.found: list[str | None] = [None]  # the longest phrase that ends here
        for phrase in phrases:
            self._add(phrase)
        states = list(self.after[0].values())
        for state in states:  # it grows meanwhile, shorter states first
            for character, longer in self.after[state].items():
                self.shorter[longer], _ = self.read(self.shorter[state], character)
                self.found[longer] = self.found[longer] or self.found[self.shorter[longer]]
                states.append(longer)

    def _add(self, phrase: str) -> None:
        state = 0
        for depth, character in enumerate(phrase, 1):
            if character not in self.after[state]:
                self.after[state][character] = len(self.after)
                self.after.append({})
                self.shorter.append(0)
                self.phrase.append(phrase)
                self.depth.append(depth)
                self.found.append(None)
            state = self.after[state][character]
        self.found[state] = phrase

    def read(self, state: int, text: str) -> tuple[int, int]:
        """(the state after text up to the end of a phrase, how many characters that is)."""
        for count, character in enumerate(text, 1):
            while state and character not in self.after[state]:
                state = self.shorter[state]
            state = self.after[state].get(character, 0)
            if self.found[state]:
                return state, count
        return state, len(text)
