"""An answer's text, split into what it says and what it calls, as it streams."""

from dataclasses import dataclass
from typing import Any

import logitchain as lc

from .prompt import CLOSE, MIDDLE, OPEN
from .protocol import new_id


@dataclass(eq=False)
class Call:
    """A call that the model wrote."""

    id: str
    name: str = ""
    arguments: str = ""
    complete: bool = False

    def entry(self) -> dict[str, Any]:
        """The call as a message lists it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


class CallStream(lc.TextStream):
    """The text of a turn without the calls in it, which are read from each mark to the next.

    Stop phrases are looked for in the text before the calls, not in the calls. For the
    log-probabilities, `start` and `length` count the characters of the calls too.
    """

    def __init__(self, params: lc.Params, *, is_call: bool) -> None:
        """A stream that has read nothing; `is_call` if it has to begin with a call."""
        waits = params.stop_after_min_tokens
        super().__init__(params.stop, include_stop=params.include_stop, waits=waits)
        self.calls: list[Call] = []
        #: What has become certain since it was last cleared: calls, and parts of their arguments.
        self.news: list[tuple[Call, str]] = []
        #: Whether what may be the beginning of a call is no text, as where tokens run out in it.
        self.is_cut = is_call
        self._passed = 0  # characters before those that `_marks` reads
        self._expect(OPEN)

    def feed(self, piece: bytes) -> str:
        """Read more bytes; the text that became certain, without calls."""
        text = self._take(self._marks.feed(piece))
        while self._marks.stopped and not self.stopped:
            rest = self._marks.rest
            text += self._cross() + self._take(self._marks.feed(rest))
        return text

    def end(self) -> str:
        """There are no more bytes; the text that was held back, without calls."""
        is_text = self._mark == OPEN and not self.is_cut and not self.stopped
        return (self._take(self._marks.end()) if is_text else "") + super().end()

    def start(self, piece: bytes) -> int:
        """Which character of the whole the first byte of `piece` would be part of."""
        return self._passed + self._marks.start(piece)

    def _expect(self, mark: str) -> None:
        self._mark, self._marks = mark, lc.TextStream(mark)

    def _take(self, text: str) -> str:
        """Read text up to a mark; the part that is no call. Between two calls it is dropped."""
        if not self.calls:
            return super().feed(text.encode())
        call, self.length = self.calls[-1], self._passed + self._marks.length
        if self._mark == MIDDLE:
            call.name += text
        elif self._mark == CLOSE and text:
            call.arguments += text
            self.news.append((call, text))
        return ""

    def _cross(self) -> str:
        """Go on behind a mark; the text that was held back before the first of them."""
        text = "" if self.calls else super().end()
        self._passed += self._marks.length + len(self._mark)
        if self._mark == OPEN:
            self.calls.append(Call(new_id("call")))
            self._expect(MIDDLE)
        elif self._mark == MIDDLE:
            self.news.append((self.calls[-1], ""))
            self._expect(CLOSE)
        else:
            self.calls[-1].complete = True
            self._expect(OPEN)
        return text
