"""One row's answer as it grows: its text, its end, its log-probabilities, its seed."""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Literal, get_args

from ..inputs.values import items, listed, one_of, show
from ..params import BIAS_INTERVAL, SEED_INTERVAL, Params, real_number, whole_number
from .text_stream import TextStream

Entry = dict[str, Any]  # what the response says of one token
Api = Literal["chat", "completions"]
APIS: tuple[Api, ...] = get_args(Api)

#: What stands for -inf, which JSON has not; the OpenAI API has the same.
LEAST_LOGPROB = -9999.0


class Choice:
    """One of the answers to a request, made of its tokens one by one.

    params          the request: `stop`, `eos_token`, `min_tokens`, `max_tokens`, `logprobs` and
                    `top_logprobs` are acted on here
    top_logprobs    how many of the best tokens an entry lists at most; the request's number by
                    default, which is at most 20
    token_bytes     token id -> the bytes it adds to the text; b"" for a special token
    seed            the row's own, `batch.seed(row)`
    index           which of the request's answers this is
    output_tokens   what the row had generated before it was preempted; `append` goes on after them
    stream          what makes text of the bytes, `TextStream(params.stop)` by default. A subclass
                    can keep a part of them out of the text, such as the calls of tools
    prefix          what the text begins with, such as a prompt that is to be echoed

    `tokens` has all tokens that were generated, the one that ended the text too; `finish_reason` is
    None while the choice goes on, then "stop", "length" or what `finish` was given.

    It ends with "stop" at a token of `eos_token`, which is no text, once `min_tokens` tokens came
    before; and as soon as a stop phrase is complete, cut where the phrase starts. It ends with
    "length" after `max_tokens` tokens. An error names its argument and leaves the choice as it was.
    `finish` ends it before, as when a request is aborted.

    >>> vocabulary = [b"<eos>", b"Hello", b" wor", b"ld", b"!"]
    >>> choice = Choice(Params(stop="world.", eos_token=0), vocabulary.__getitem__, seed=7)
    >>> [choice.append(token) for token in (1, 2, 3, 4)]
    ['Hello', ' ', '', 'world!']
    >>> choice.append(0), choice.finish_reason, choice.text
    ('', 'stop', 'Hello world!')
    """

    def __init__(
        self,
        params: Params,
        token_bytes: Callable[[int], bytes],
        *,
        seed: int,
        index: int = 0,
        output_tokens: Sequence[int] = (),
        top_logprobs: int | None = None,
        stream: TextStream | None = None,
        prefix: str = "",
    ) -> None:
        """A choice that continues after `output_tokens`, whose log-probabilities are unknown."""
        if not isinstance(params, Params):
            raise TypeError(f"params must be a Params, not {show(params)}")
        if not callable(token_bytes):
            raise TypeError(f"token_bytes must be callable, not {show(token_bytes)}")
        self.params, self.token_bytes = params, token_bytes
        self.seed = whole_number("seed", seed, SEED_INTERVAL)
        self.index = whole_number("index", index, "[0, inf)")
        listed_tokens = params.top_logprobs if top_logprobs is None else top_logprobs
        self._top_logprobs = whole_number("top_logprobs", listed_tokens, "[0, inf)")
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self._stream = stream or TextStream(params.stop)
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a string, not {show(prefix)}")
        self._ended_by_token = False
        self._earlier = prefix  # and the text of earlier turns
        self._entries: list[Entry] = []
        self._starts: list[int] = []  # of each entry, which character of the text it begins at
        self._waiting: deque[tuple[int, Entry]] = deque()  # (where its text starts, entry)
        self._new: list[str] = []  # pieces that `delta` has not returned yet
        self._reported = 0  # entries that it has
        for token in listed("output_tokens", output_tokens, "token ids"):
            self._add(*self._read(token))
        self._new = [] if self.tokens else [prefix]

    def __repr__(self) -> str:
        """How far it is."""
        size, text = len(self.tokens), show(self.text, 60)
        return f"<Choice {self.index} of {size} tokens, finish_reason {self.finish_reason}: {text}>"

    @property
    def text(self) -> str:
        """The text that is certain so far; nothing of a stop phrase is in it."""
        return self._earlier + self._stream.text

    @property
    def logprobs(self) -> dict[str, Any] | None:
        """The log-probabilities of the tokens of this text, in the response's form.

        None if neither `logprobs` nor `top_logprobs` is asked for.
        """
        return self._logprobs_form(self._entries)

    def append(self, token: int, logprob: Any = None, top: Any = ((), ())) -> str:
        """Take the next token; the text that is certain now and was not before, which may be "".

        token     the token id; after the end of the choice it is a ValueError
        logprob   its log-probability, without which it is a TypeError if the request asks for
                  them; ignored if it does not
        top       (ids, logprobs) of the best tokens, as `top_logprobs` gives them; removed ones
                  (-1 or -inf) are left out, and so are those beyond the number to list
        """
        token, data, ends = self._read(token)
        if self._wants_logprobs and not ends:
            entry = self._entry(data, logprob) | {"top_logprobs": self._best(top)}
            self._waiting.append((self._stream.start(data), entry))
        return self._add(token, data, ends)

    def finish(self, reason: str = "length") -> str:
        """End it where it is, as where the context is full or a request is aborted.

        What was held back, since a stop phrase might have begun in it, comes out; it is returned.

        >>> choice = Choice(Params(stop="END"), [b"The E"].__getitem__, seed=7)
        >>> choice.append(0), choice.finish("abort"), choice.finish_reason
        ('The ', 'E', 'abort')
        """
        if not isinstance(reason, str) or not reason:
            raise ValueError(f"reason must be a non-empty string, not {show(reason)}")
        if self.finish_reason:
            raise ValueError(f"the choice has ended with {show(self.finish_reason)}")
        return self._come_out(self._stream.end(), reason)

    def resume(self, stream: TextStream | None = None) -> None:
        """Go on after an end token with another turn, whose text follows that of the ones before.

        `tokens`, `max_tokens` and `min_tokens` count over all turns. Raises ValueError if it has
        not ended, or in another way.

        >>> choice = Choice(Params(eos_token=0), [b"", b"Hm. ", b"Yes."].__getitem__, seed=7)
        >>> [choice.append(token) for token in (1, 0)]
        ['Hm. ', '']
        >>> choice.resume()
        >>> choice.append(2), choice.text, choice.tokens
        ('Yes.', 'Hm. Yes.', [1, 0, 2])
        """
        if not self._ended_by_token or self._is_full():
            reason = show(self.finish_reason)
            raise ValueError(f"only a choice that an end token has ended goes on, not {reason}")
        self._earlier, self.finish_reason, self._ended_by_token = self.text, None, False
        self._stream = stream or TextStream(self.params.stop)

    def response(self, *, api: Api = "chat") -> dict[str, Any]:
        """The choice as a response lists it, as far as it is certain.

        api   "chat" for a chat completion, "completions" for the older API, whose choices have
              `text` instead of a `message`, and log-probabilities in a form of their own

        >>> choice = Choice(Params(logprobs=True), [b"Hi"].__getitem__, seed=7)
        >>> choice.append(0, -0.5)
        'Hi'
        >>> choice.response(api="completions")["logprobs"]
        {'tokens': ['Hi'], 'token_logprobs': [-0.5], 'top_logprobs': [{}], 'text_offset': [0]}
        """
        if one_of("api", api, APIS) == "completions":
            return self._response_form("text", self.text, self._text_logprobs(0))
        body = {"role": "assistant", "content": self.text, "refusal": None}
        return self._response_form("message", body, self.logprobs)

    def delta(self, *, api: Api = "chat") -> dict[str, Any]:
        """What became final since the last call, as a chunk of a stream; `api` as in `response`.

        `content` is always there, and is "" if no text became final. `response` is all deltas
        joined.

        >>> choice = Choice(Params(stop="END"), [b"the ", b"END"].__getitem__, seed=7)
        >>> choice.delta()["delta"], choice.append(0), choice.delta()["delta"]
        ({'content': ''}, 'the ', {'content': 'the '})
        """
        one_of("api", api, APIS)
        text, first = "".join(self._new), self._reported
        self._new, self._reported = [], len(self._entries)
        if api == "completions":
            return self._response_form("text", text, self._text_logprobs(first))
        logprobs = self._logprobs_form(self._entries[first:])
        return self._response_form("delta", {"content": text}, logprobs)

    # ---- a token

    def _read(self, token: Any) -> tuple[int, bytes, bool]:
        """(the token, its bytes, whether it ends the text)."""
        token = whole_number("token", token, "[0, inf)")
        if self.finish_reason:
            raise ValueError(f"token {show(token)} comes after the end of the choice")
        if token in self.params.eos_token and len(self.tokens) >= self.params.min_tokens:
            return token, b"", True
        return token, self._bytes(token), False

    def _bytes(self, token: int) -> bytes:
        data = self.token_bytes(token)
        if not isinstance(data, bytes):
            raise TypeError(f"token_bytes({show(token)}) must be bytes, not {show(data)}")
        return data

    def _add(self, token: int, data: bytes, ends: bool) -> str:
        self.tokens.append(token)
        piece, full = self._stream.feed(data), self._is_full()
        if ends or full:
            piece += self._stream.end()
        self._ended_by_token = ends and not self._stream.stopped
        is_stop = ends or self._stream.stopped
        return self._come_out(piece, "stop" if is_stop else "length" if full else None)

    def _is_full(self) -> bool:
        return len(self.tokens) == self.params.max_tokens

    def _come_out(self, piece: str, reason: str | None) -> str:
        """A piece that is certain now, and whether the text ends with it."""
        self.finish_reason = reason
        self._new.append(piece)
        self._release()
        return piece

    # ---- log-probabilities

    @property
    def _wants_logprobs(self) -> bool:
        return self.params.logprobs or self._top_logprobs > 0

    def _release(self) -> None:
        """Let entries go whose text has begun to come out, or that end with the text."""
        uncut = self.finish_reason and not self._stream.stopped
        while self._waiting and (uncut or self._waiting[0][0] < self._stream.length):
            start, entry = self._waiting.popleft()
            self._starts.append(len(self._earlier) + start)
            self._entries.append(entry)

    def _best(self, top: Any) -> list[Entry]:
        parts = [items("top", part)[1] for part in listed("top", top, "(ids, logprobs)")]
        if len(parts) != 2 or len(parts[0]) != len(parts[1]):
            raise ValueError(f"top must be (ids, logprobs) of one length, not {show(top)}")
        best: list[Entry] = []
        for token, logprob in zip(*parts, strict=True):
            if len(best) == self._top_logprobs:
                break
            token = whole_number("a token id in top", token, "(-inf, inf)")
            if token >= 0 and logprob != -inf:
                best.append(self._entry(self._bytes(token), logprob))
        return best

    def _entry(self, data: bytes, logprob: Any) -> Entry:
        if type(logprob) is not float or not logprob < inf:  # the check costs more than the rest
            logprob = real_number("logprob", logprob, BIAS_INTERVAL)
        shown = max(logprob, LEAST_LOGPROB)
        return {"token": data.decode("utf-8", "replace"), "logprob": shown, "bytes": list(data)}

    # ---- the response

    def _logprobs_form(self, entries: list[Entry]) -> dict[str, Any] | None:
        return {"content": list(entries), "refusal": None} if self._wants_logprobs else None

    def _text_logprobs(self, first: int) -> dict[str, Any] | None:
        """Those of the entries from the `first` on, as the older API lists them."""
        if not self._wants_logprobs:
            return None
        entries = self._entries[first:]
        # Tokens may read alike, as parts of a character do; the best of them counts.
        tops = [
            {x["token"]: x["logprob"] for x in reversed(entry["top_logprobs"])} for entry in entries
        ]
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": tops,
            "text_offset": self._starts[first:],
        }

    def _response_form(
        self, name: str, body: Any, logprobs: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {
            "index": self.index,
            name: body,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
            "seed": self.seed,
        }
