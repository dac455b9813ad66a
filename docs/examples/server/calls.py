"""An answer's text, split into what it says and what it calls, as it streams."""

from dataclasses import dataclass

import logitchain as lc

from .prompt import CLOSE, MIDDLE, OPEN


@dataclass(eq=False)
class Call:
    """A call that the model wrote."""

    name: str = ""
    arguments: str = ""
    complete: bool = False


#: What an answer says (of None), or a part of the arguments of a call.
Piece = tuple[Call | None, str]


class CallReader:
    """Reads one turn of the assistant, from each border to the next."""

    def __init__(self) -> None:
        """A reader that has read nothing."""
        self.calls: list[Call] = []
        self._expect(OPEN)

    def feed(self, text: str, *, last: bool) -> list[Piece]:
        """The pieces that are certain now; a call's first comes when its name is known."""
        pieces: list[Piece] = []
        for character in text:
            self._take(self._stream.feed(character.encode()), pieces)
            if self._stream.stopped:
                self._cross(pieces)
        if last and self._border == OPEN:
            self._take(self._stream.end(), pieces)
        return pieces

    def _expect(self, border: str) -> None:
        self._border, self._stream = border, lc.TextStream(border)

    def _take(self, text: str, pieces: list[Piece]) -> None:
        if not text:
            return
        if self._border == MIDDLE:
            self.calls[-1].name += text
        elif self._border == CLOSE:
            self.calls[-1].arguments += text
            _add(pieces, self.calls[-1], text)
        elif not self.calls:  # between two calls there is a line break, which says nothing
            _add(pieces, None, text)

    def _cross(self, pieces: list[Piece]) -> None:
        if self._border == OPEN:
            self.calls.append(Call())
            self._expect(MIDDLE)
        elif self._border == MIDDLE:
            _add(pieces, self.calls[-1], "")
            self._expect(CLOSE)
        else:
            self.calls[-1].complete = True
            self._expect(OPEN)


def _add(pieces: list[Piece], of: Call | None, text: str) -> None:
    if pieces and pieces[-1][0] is of:
        text = pieces.pop()[1] + text
    pieces.append((of, text))
