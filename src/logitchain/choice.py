"""One row's answer as it grows: its text, why it ended, its log-probabilities, its seed."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .arrays import listed, show
from .params import BIAS_INTERVAL, SEED_INTERVAL, Params, real_number, whole_number
from .text import TextStream

Entry = dict[str, Any]

#: What stands for -inf, which JSON has not; the OpenAI API does the same.
LEAST_LOGPROB = -9999.0


class Choice:
    """One of the answers to a request, from its tokens one by one.

    params          the request; of it count `stop`, `eos_token`, `min_tokens`, `max_tokens`,
                    `logprobs` and `top_logprobs`
    token_bytes     token id -> the bytes that it adds to the text; b"" for a special token
    seed            the row's own, `batch.seed(row)`
    index           which of the answers it is
    output_tokens   tokens that the row had generated before it was preempted

    >>> words = [b"<eos>", b"Hello", b" wor", b"ld", b"."]
    >>> choice = Choice(Params(stop="world.", eos_token=0), words.__getitem__, seed=7)
    >>> [choice.append(token) for token in (1, 2, 3)]
    ['Hello', ' ', '']
    >>> choice.append(0), choice.finish_reason, choice.text
    ('world', 'stop', 'Hello world')
    """

    def __init__(
        self,
        params: Params,
        token_bytes: Callable[[int], bytes],
        *,
        seed: int,
        index: int = 0,
        output_tokens: Sequence[int] = (),
    ) -> None:
        """A choice that has said `output_tokens`; their log-probabilities are not known to it."""
        if not isinstance(params, Params):
            raise TypeError(f"params must be a Params, not {show(params)}")
        if not callable(token_bytes):
            raise TypeError(f"token_bytes must be callable, not {show(token_bytes)}")
        self.params, self.token_bytes = params, token_bytes
        self.seed = whole_number("seed", seed, SEED_INTERVAL)
        self.index = whole_number("index", index, "[0, inf)")
        self.tokens: list[int] = []
        #: None while it goes on, then "stop" or "length".
        self.finish_reason: str | None = None
        self._stream = TextStream(params.stop)
        self._length = 0
        self._entries: list[Entry] = []
        self._waiting: deque[tuple[int, Entry]] = deque()  # (where its text starts, entry)
        self._new: list[str] = []  # what `delta` has not told yet
        self._told = 0  # how many entries it has
        for token in listed("output_tokens", output_tokens, "token ids"):
            self._add(*self._read(token))
        self._new.clear()

    @property
    def text(self) -> str:
        """The text that is certain so far; nothing of a stop phrase is in it."""
        return self._stream.text

    @property
    def logprobs(self) -> dict[str, Any] | None:
        """The log-probabilities of the tokens of that text, in the response's form."""
        return {"content": self._entries, "refusal": None} if self._asks() else None

    def append(
        self, token: int, logprob: float | None = None, top: Iterable[tuple[int, float]] = ()
    ) -> str:
        """Take the next token; the piece of text that is certain now, "" if there is none.

        logprob   its log-probability, if the request asks for it
        top       the best tokens and theirs, best first; ids below 0 are left out

        Raises ValueError for a token below 0 and after the end; the choice is then as it was.
        """
        token, data, ends = self._read(token)
        if self._asks() and not ends:
            self._waiting.append((self._stream.start(data), self._entry(token, logprob, top)))
        return self._add(token, data, ends)

    def response(self) -> dict[str, Any]:
        """The entry of `choices` in a chat completion, as far as it is certain."""
        said = {"role": "assistant", "content": self.text}
        return self._form("message", said, self._entries)

    def delta(self) -> dict[str, Any]:
        """The same in a chunk of a stream: what became certain since the last call."""
        said, entries = {"content": "".join(self._new)}, self._entries[self._told :]
        self._new.clear()
        self._told = len(self._entries)
        return self._form("delta", said, entries)

    def _asks(self) -> bool:
        return self.params.logprobs or self.params.top_logprobs > 0

    def _read(self, token: int) -> tuple[int, bytes, bool]:
        """(the token, its bytes, whether it ends the text)."""
        token = whole_number("token", token, "[0, inf)")
        if self.finish_reason:
            raise ValueError(f"token {token} comes after the end of the choice")
        if token in self.params.eos_token and len(self.tokens) >= self.params.min_tokens:
            return token, b"", True
        return token, self._bytes(token), False

    def _bytes(self, token: int) -> bytes:
        data = self.token_bytes(token)
        if not isinstance(data, bytes):
            raise TypeError(f"token_bytes({token}) must be bytes, not {show(data)}")
        return data

    def _add(self, token: int, data: bytes, ends: bool) -> str:
        self.tokens.append(token)
        piece = self._stream.feed(data)
        full = len(self.tokens) == self.params.max_tokens
        if ends or full:
            piece += self._stream.end()
        if ends or self._stream.stopped:
            self.finish_reason = "stop"
        elif full:
            self.finish_reason = "length"
        if piece:
            self._new.append(piece)
        self._length += len(piece)
        self._release()
        return piece

    def _release(self) -> None:
        """Let go of the log-probabilities whose text is certain."""
        whole = self.finish_reason and not self._stream.stopped
        while self._waiting and (whole or self._waiting[0][0] < self._length):
            self._entries.append(self._waiting.popleft()[1])

    def _entry(self, token: int, logprob: float | None, top: Iterable[tuple[int, float]]) -> Entry:
        best = [self._named(*pair) for pair in top if pair[0] >= 0]
        return {**self._named(token, logprob), "top_logprobs": best[: self.params.top_logprobs]}

    def _named(self, token: int, logprob: float | None) -> Entry:
        data = self._bytes(token)
        value = max(real_number("logprob", logprob, BIAS_INTERVAL), LEAST_LOGPROB)
        return {"token": data.decode("utf-8", "replace"), "logprob": value, "bytes": list(data)}

    def _form(self, name: str, said: dict[str, str], entries: list[Entry]) -> dict[str, Any]:
        return {
            "index": self.index,
            name: said,
            "logprobs": {"content": entries, "refusal": None} if self._asks() else None,
            "finish_reason": self.finish_reason,
            "seed": self.seed,
        }
