"""Text out of the bytes of tokens: what is certain so far, up to the stop phrase that ends it."""

import codecs
from collections.abc import Sequence

from ..inputs.values import show
from ..params import StopPhrases


class TextStream:
    """Bytes of tokens in, text that is certain out.

    stop           a phrase or a list of phrases that end the text; what finds them is made once for
                   all streams of one `Params.stop`
    include_stop   whether the text ends behind the phrase; by default it is cut where that starts
    waits          whether `may_stop` is False at times

    `text` is the text that came out so far and `length` its length in characters; `stopped` is the
    phrase that ended it, or None, and `rest` what followed that phrase so far, in UTF-8: it can be
    fed to another stream. A phrase that becomes complete while `may_stop` is False, which it is
    only where the caller sets it, is text as any other.

    The whole text is all bytes decoded as UTF-8, U+FFFD for what is not. The phrase that is
    complete first ends it, of several at once the longest. The pieces that come out, joined, are
    the text up to there, however its bytes were split. Held back is only what may yet be cut, and a
    character's bytes until they are complete. The time it takes is linear in the text, whatever the
    phrases.

    Raises ValueError or TypeError for a phrase that is empty or no string.

    >>> stream = TextStream(["\\n\\n", "END"])
    >>> [stream.feed(piece) for piece in (b"caf\\xc3", b"\\xa9 EN", b"TER", b" EN", b"D.")]
    ['caf', 'é ', 'ENTER', ' ', '']
    >>> stream.text, stream.stopped, stream.rest
    ('café ENTER ', 'END', b'.')
    """

    def __init__(
        self, stop: str | Sequence[str] = (), *, include_stop: bool = False, waits: bool = False
    ) -> None:
        """A stream that has read nothing."""
        phrases = StopPhrases.checked("stop", stop)
        self._automaton = phrases.full_automaton if waits else phrases.automaton
        self._includes_stop = include_stop
        self.may_stop = True
        self._state = 0  # of the automaton, which says what is held back
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._over = False
        self.length = 0
        self.stopped: str | None = None
        self.rest = b""

    def __repr__(self) -> str:
        """How far it is."""
        return f"<TextStream of {self.length} characters, stopped by {show(self.stopped, 60)}>"

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
        if self.stopped:
            self.rest += piece
            return ""
        return self._match(self._decoder.decode(piece))

    def end(self) -> str:
        """There are no more bytes; the text that was held back."""
        self._over = True
        if self.stopped:
            return ""
        return self._match(self._decoder.decode(b"", True)) + self._emit("", 0, 0)

    def start(self, piece: bytes) -> int:
        """Which character of the text the first byte of `piece` would be part of, if fed next."""
        pending = self._decoder.getstate()[0] + piece[:1]
        complete = len(pending.decode("utf-8", "replace")) - 1
        held = 0 if self._includes_stop else self._automaton.depth[self._state]
        return self.length + held + max(0, complete)

    def _match(self, text: str) -> str:
        """Read more characters, up to the end of a phrase."""
        state, count = self._automaton.read(self._state, text, stops=self.may_stop)
        includes = self._includes_stop  # then nothing need be held back
        phrase = self._automaton.found[state] if text and self.may_stop else None
        if phrase is not None:
            self.stopped = phrase
            self.rest = text[count:].encode() + self._decoder.getstate()[0]
            return self._emit(text, count - (0 if includes else len(phrase)), 0)
        return self._emit(text, count - (0 if includes else self._automaton.depth[state]), state)

    def _emit(self, text: str, end: int, state: int) -> str:
        """What was held back, then text[:end]; an end below 0 lies in what was held back."""
        depth = 0 if self._includes_stop else self._automaton.depth[self._state]
        held = self._automaton.phrase[self._state][:depth]
        piece: str = held + text[:end] if end >= 0 else held[: depth + end]
        if piece:
            self._pieces.append(piece)
        self.length += len(piece)
        self._state = state
        return piece
