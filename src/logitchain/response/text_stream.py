"""Text out of the bytes of tokens: what is certain so far, up to the stop phrase that ends it."""

import codecs
from collections.abc import Sequence

from ..inputs.values import show
from ..params import StopPhrases


class TextStream:
    """Bytes of tokens in, text that is certain out.

    stop   a phrase or a list of phrases that end the text; what finds them is made once for all
           streams of one `Params.stop`

    `text` is the text that came out so far and `length` its length in characters; `stopped` is the
    phrase that ended it, or None, and `rest` what followed that phrase so far, in UTF-8: it can be
    fed to another stream.

    The whole text is all bytes decoded as UTF-8, U+FFFD for what is not. The phrase that is
    complete first ends it, of several at once the longest, and it is cut where that one starts.
    The pieces that come out, joined, are the text so cut, however its bytes were split. Held back
    is only what may yet be cut, and a character's bytes until they are complete. The time it takes
    is linear in the text, whatever the phrases.

    Raises ValueError or TypeError for a phrase that is empty or no string.

    >>> stream = TextStream(["\\n\\n", "END"])
    >>> [stream.feed(piece) for piece in (b"caf\\xc3", b"\\xa9 EN", b"TER", b" EN", b"D.")]
    ['caf', 'é ', 'ENTER', ' ', '']
    >>> stream.text, stream.stopped, stream.rest
    ('café ENTER ', 'END', b'.')
    """

    def __init__(self, stop: str | Sequence[str] = ()) -> None:
        """A stream that has read nothing."""
        self._automaton = StopPhrases.checked("stop", stop).automaton
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
        return self.length + self._automaton.depth[self._state] + max(0, complete)

    def _match(self, text: str) -> str:
        """Read more characters, up to the end of a phrase."""
        state, count = self._automaton.read(self._state, text)
        self.stopped = self._automaton.found[state]
        if self.stopped:
            self.rest = text[count:].encode() + self._decoder.getstate()[0]
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
