"""One row's answer as it grows: its text, its end, its log-probabilities, its seed."""

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Literal, get_args

from ..controls.reasoning import is_reasoning
from ..controls.repetition import find_repetition
from ..inputs.logits import history_ids
from ..inputs.values import items, listed, of_field, one_of, show
from ..params import (
    BIAS_INTERVAL,
    SEED_INTERVAL,
    Params,
    StopTokens,
    real_number,
    whole_number,
)
from .text_stream import TextStream

Entry = dict[str, Any]  # what the response says of one token
Api = Literal["chat", "completions"]
APIS: tuple[Api, ...] = get_args(Api)

#: What stands for -inf, which JSON has not; the OpenAI API has the same.
LEAST_LOGPROB = -9999.0

#: What ended a choice: a stop phrase, an end token, a sequence of `stop_tokens`, or a message.
StopReason = str | int | tuple[int, ...] | None


#: A token that is read, and not yet acted on: the token; what it adds to the text; the state of the
#: automaton of `stop_tokens` after it; what it completes, if that ends the text; whether a stop
#: phrase that it completes ends the text. A NamedTuple takes 0.4 us more.
_Token = tuple[int, bytes, int, StopReason, bool]


class Choice:
    """One of the answers to a request, made of its tokens one by one.

    params          the request: the fields that say when it ends, `logprobs`, `top_logprobs`
                    and `logprob_token_ids` are acted on here
    top_logprobs    how many of the best tokens an entry lists at most; the request's number by
                    default
    token_bytes     token id -> the bytes it adds to the text; b"" for a special token
    seed            the row's own, `batch.seed(row)`
    index           which of the request's answers this is
    output_tokens   what the row had generated before it was preempted; `append` goes on after them
    stream          what makes text of the bytes, `TextStream(params.stop)` by default. A subclass
                    can keep a part of them out of the text, such as the calls of tools
    prefix          what the text begins with, such as a prompt that is to be echoed
    prompt_tokens   the prompt: `max_total_tokens` and `min_total_tokens` count it, and it may have
                    begun the reasoning that `repetition_detection` is to end
    special_tokens  token id -> name, of tokens such as `<|im_end|>` that add no bytes to the text.
                    A stop phrase that is such a name ends the text at the token, and the entries
                    of the log-probabilities have the names

    `tokens` has all tokens that were generated, those that ended the text too; `finish_reason` is
    None while the choice goes on, then "stop", "length", "repetition" or what `finish` was given.
    `stop_reason` says what ended it: the stop phrase; the token id, or of a longer sequence in
    `stop_tokens` a tuple of them; the message that `finish` was given; or None.

    It ends with "stop" at a token of `eos_token`, and where a sequence of `stop_tokens` is
    complete, once `min_tokens` tokens came before that token, and `min_total_tokens` with the
    prompt; and as soon as a stop phrase is complete. None of these is in the text, unless
    `include_stop` says so. It ends with "length" after `max_tokens` tokens, or `max_total_tokens`
    with the prompt, and with "repetition" after the token that completes a loop of
    `repetition_detection`, unless that is to end the reasoning and this token belongs to it. An
    error names its argument and leaves the choice as it was. `finish` ends it
    before, as when a request is aborted. `docs/choices.md` has the details.

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
        prompt_tokens: Sequence[int] = (),
        special_tokens: Mapping[int, str] | None = None,
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
        self.special_tokens = {} if special_tokens is None else special_tokens
        if not isinstance(self.special_tokens, Mapping):
            raise TypeError(f"special_tokens must be a mapping, not {show(special_tokens)}")
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self.stop_reason: StopReason = None
        self._begin_turn(prompt_tokens)
        self._is_plain = stream is None and not params.stop
        self._stream = self._new_stream() if stream is None else stream
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a string, not {show(prefix)}")
        self._ended_by_token = False
        ends = StopTokens.checked("stop_tokens", params.stop_tokens)
        self._ends = ends.automaton if ends else None
        self._end_state = 0
        # Tokens that may become part of a sequence of `stop_tokens`, and the text with them.
        self._held: deque[tuple[bytes, Entry | None, bool]] = deque()
        self._ahead: TextStream | None = None
        self._earlier = prefix  # and the text of earlier turns
        self._entries: list[Entry] = []
        self._starts: list[int] = []  # of each entry, which character of the text it begins at
        self._waiting: deque[tuple[int, Entry]] = deque()  # (where its text starts, entry)
        self._new: list[str] = []  # pieces that `delta` has not returned yet
        self._reported = 0  # entries that it has
        for token in listed("output_tokens", output_tokens, "token ids"):
            self._add(self._read(token), None)
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

        None if neither `logprobs`, `top_logprobs` nor `logprob_token_ids` asks for them. The last
        adds to each entry `named_logprobs`, an entry for each of these tokens, in their order.
        """
        return self._logprobs_form(self._entries)

    def append(self, token: int, logprob: Any = None, top: Any = ((), ())) -> str:
        """Take the next token; the text that is certain now and was not before, which may be "".

        token     the token id; after the end of the choice it is a ValueError
        logprob   its log-probability, without which it is a TypeError if the request asks for
                  them; ignored if it does not
        top       (ids, logprobs) of the best tokens, as `top_logprobs` gives them; removed ones
                  (-1 or -inf) are left out, and so are those beyond the number to list. Then the
                  log-probabilities of the request's `logprob_token_ids`, if it has any
        """
        read, entry = self._read(token), None
        token, data, _, end, _ = read
        if self._wants_logprobs and (end is None or self.params.include_stop):
            best, named = self._listed(top)
            entry = self._entry(token, data, logprob) | {"top_logprobs": best}
            if self.params.logprob_token_ids:
                entry["named_logprobs"] = named
        return self._add(read, entry)

    def finish(self, reason: str = "length", message: str | None = None) -> str:
        """End it where it is, as where the context is full or a request is aborted.

        reason    the `finish_reason`: "length", "abort", "error", or any other word
        message   the `stop_reason`: what there is to say about it, such as `batch.status` of a row
                  that a chain has marked

        What was held back, since a stop phrase might have begun in it, comes out; it is returned.

        >>> choice = Choice(Params(stop="END"), [b"The E"].__getitem__, seed=7)
        >>> choice.append(0), choice.finish("error", "token 1 is nan")
        ('The ', 'E')
        >>> choice.finish_reason, choice.response()["stop_reason"]
        ('error', 'token 1 is nan')
        """
        if not isinstance(reason, str) or not reason:
            raise ValueError(f"reason must be a non-empty string, not {show(reason)}")
        if message is not None and not isinstance(message, str):
            raise TypeError(f"message must be a string or None, not {show(message)}")
        if self.finish_reason:
            raise ValueError(f"the choice has ended with {show(self.finish_reason)}")
        self.stop_reason = message
        return self._come_out(self._let_go(0) + self._stream.end(), reason)

    def resume(
        self, stream: TextStream | None = None, *, prompt_tokens: Sequence[int] | None = None
    ) -> None:
        """Go on after an end token with another turn, whose text follows that of the ones before.

        stream          as at first
        prompt_tokens   the tokens that this turn begins with, the result of a tool among them; by
                        default those so far. A loop is looked for within this turn

        `tokens`, `max_tokens` and `min_tokens` count over all turns. Raises ValueError if it has
        not ended, or in another way than by a token of `eos_token` or a sequence of `stop_tokens`.

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
        if prompt_tokens is None:
            prompt_tokens = [*self._prompt.tolist(), *self.tokens[self._turn :]]
        self._begin_turn(prompt_tokens)
        self._earlier, self.finish_reason, self._ended_by_token = self.text, None, False
        self._is_plain = stream is None and not self.params.stop
        self._stream = self._new_stream() if stream is None else stream
        self._end_state, self.stop_reason = 0, None

    def response(self, *, api: Api = "chat") -> dict[str, Any]:
        """The choice as a response lists it, as far as it is certain.

        api   "chat" for a chat completion, "completions" for the older API, whose choices have
              `text` instead of a `message`, and log-probabilities in a form of their own

        >>> choice = Choice(Params(logprobs=True), [b"Hi"].__getitem__, seed=7)
        >>> choice.append(0, -0.5)
        'Hi'
        >>> choice.response(api="completions")["logprobs"]  # doctest: +NORMALIZE_WHITESPACE
        {'tokens': ['Hi'], 'token_ids': [0], 'token_logprobs': [-0.5], 'top_logprobs': [{}],
         'text_offset': [0]}
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

    def _read(self, token: Any) -> _Token:
        token = whole_number("token", token, "[0, inf)")
        if self.finish_reason:
            raise ValueError(f"token {show(token)} comes after the end of the choice")
        params, state, end = self.params, 0, None
        is_late = len(self.tokens) >= self._least
        may_stop = is_late or not params.stop_after_min_tokens
        if self._ends is not None:
            state, _ = self._ends.read(self._end_state, (token,))
            if is_late and self._ends.found[state]:
                sequence = self._ends.found[state]
                end = token if len(sequence) == 1 else tuple(sequence)
            else:
                state = self._ends.past(state)
        if end is None and is_late and token in params.eos_token:
            end = token
        if end is None and params.stop and may_stop and self.special_tokens:
            name = self.special_tokens.get(token)
            end = name if name in params.stop else None
        data = self._bytes(token) if end is None or params.include_stop else b""
        return token, data, state, end, may_stop

    def _bytes(self, token: int) -> bytes:
        data = self.token_bytes(token)
        if not isinstance(data, bytes):
            raise TypeError(f"token_bytes({show(token)}) must be bytes, not {show(data)}")
        return data

    def _add(self, token: _Token, entry: Entry | None) -> str:
        token_id, data, state, end, may_stop = token
        self.tokens.append(token_id)
        self._end_state = state
        ends, full, includes = end is not None, self._is_full(), self.params.include_stop
        loops, kept = not ends and not full and self._is_loop(), 0
        if state and self._ends is not None and not (ends or full or loops or includes):
            kept = self._ends.depth[state]
        if ends and not includes:
            for _ in end[1:] if isinstance(end, tuple) else ():
                self._held.pop()
            piece = self._let_go(0)
        elif kept or self._held:
            self._held.append((data, entry, may_stop))
            piece = self._let_go(kept)
        else:
            piece = self._feed(data, entry, may_stop)
        if ends or full or loops:
            piece += self._stream.end()
        phrase = self._stream.stopped
        self._ended_by_token = ends and not isinstance(end, str) and not phrase
        self.stop_reason = phrase or end
        is_stop = ends or phrase
        reason = "length" if full else "repetition" if loops else None
        return self._come_out(piece, "stop" if is_stop else reason)

    def _feed(self, data: bytes, entry: Entry | None, may_stop: bool) -> str:
        """Let a token be text."""
        if entry is not None:
            self._waiting.append((self._stream.start(data), entry))
        self._stream.may_stop = may_stop
        return self._stream.feed(data)

    def _let_go(self, kept: int) -> str:
        """Let all tokens but the last `kept` be text; all of them where a stop phrase ends it."""
        if kept and not self._is_plain:
            self._look_ahead()
            kept = 0 if self._ahead and self._ahead.stopped else kept
        piece = ""
        while len(self._held) > kept:
            piece += self._feed(*self._held.popleft())
        self._ahead = self._ahead if kept else None
        return piece

    def _look_ahead(self) -> None:
        """Read the tokens that are held back with a copy of the stream, which may be stopped."""
        new = list(self._held)[-1:]
        if self._ahead is None:
            self._stream.text  # noqa: B018  # in one piece, it is copied at once
            self._ahead, new = copy.deepcopy(self._stream), list(self._held)
        for data, _, may_stop in new:
            self._ahead.may_stop = may_stop
            self._ahead.feed(data)

    def _new_stream(self) -> TextStream:
        params = self.params
        waits = params.stop_after_min_tokens
        return TextStream(params.stop, include_stop=params.include_stop, waits=waits)

    def _begin_turn(self, prompt_tokens: Sequence[int]) -> None:
        """Set how many of `tokens` there are at least and at most, after this prompt."""
        prompt, params = history_ids("prompt_tokens", prompt_tokens), self.params
        most, before = params.max_total_tokens, prompt.size - len(self.tokens)
        if most is not None and prompt.size >= most:
            text = (
                f"max_total_tokens must be more than the prompt's {prompt.size} tokens, not {most}"
            )
            raise of_field("max_total_tokens", ValueError(text))
        self._prompt, self._turn = prompt, len(self.tokens)
        ends = params.max_tokens, None if most is None else most - before
        self._most = min((end for end in ends if end is not None), default=inf)
        self._least = max(params.min_tokens, params.min_total_tokens - before)

    def _is_full(self) -> bool:
        return len(self.tokens) >= self._most

    def _is_loop(self) -> bool:
        """Whether the last tokens of the turn are a loop that ends the choice."""
        params, detection = self.params, self.params.repetition_detection
        size = len(self.tokens)
        if detection is None or size < self._least:
            return False
        longest, most = detection.max_pattern_size, detection.max_pattern_size * detection.min_count
        recent = self.tokens[max(self._turn, size - most) :]
        if recent[-1] not in recent[-1 - longest : -1]:  # most tokens: they end no pattern again
            return False
        if not find_repetition(recent, detection):
            return False
        if detection.action == "stop":
            return True
        return not is_reasoning(params, self._prompt, self.tokens[self._turn :])

    def _come_out(self, piece: str, reason: str | None) -> str:
        """A piece that is certain now, and whether the text ends with it."""
        self.finish_reason = reason
        self._new.append(piece)
        self._release()
        return piece

    # ---- log-probabilities

    @property
    def _wants_logprobs(self) -> bool:
        named = self.params.logprob_token_ids
        return self.params.logprobs or self._top_logprobs > 0 or len(named) > 0

    def _release(self) -> None:
        """Let entries go whose text has begun to come out, or that end with the text."""
        uncut = self.finish_reason and not self._stream.stopped
        while self._waiting and (uncut or self._waiting[0][0] < self._stream.length):
            start, entry = self._waiting.popleft()
            self._starts.append(len(self._earlier) + start)
            self._entries.append(entry)

    def _listed(self, top: Any) -> tuple[list[Entry], list[Entry]]:
        """The entries of the best tokens and of those that the request names."""
        parts = [items("top", part)[1] for part in listed("top", top, "(ids, logprobs)")]
        ids = self.params.logprob_token_ids
        named = parts.pop() if ids and len(parts) == 3 else []
        if len(parts) != 2 or len(parts[0]) != len(parts[1]):
            raise ValueError(f"top must be (ids, logprobs) of one length, not {show(top)}")
        if len(named) != len(ids):
            what = f"(ids, logprobs, logprobs of the {len(ids)} named tokens)"
            raise ValueError(f"top must be {what}, not {show(top)}")
        pairs = zip(ids, named, strict=True)
        entries = [self._entry(token, self._bytes(token), x) for token, x in pairs]
        return self._best(*parts), entries

    def _best(self, ids: Sequence[Any], logprobs: Sequence[Any]) -> list[Entry]:
        best: list[Entry] = []
        for token, logprob in zip(ids, logprobs, strict=True):
            if len(best) == self._top_logprobs:
                break
            token = whole_number("a token id in top", token, "(-inf, inf)")
            if token >= 0 and logprob != -inf:
                best.append(self._entry(token, self._bytes(token), logprob))
        return best

    def _entry(self, token: int, data: bytes, logprob: Any) -> Entry:
        if type(logprob) is not float or not logprob < inf:  # the check costs more than the rest
            logprob = real_number("logprob", logprob, BIAS_INTERVAL)
        shown = max(logprob, LEAST_LOGPROB)
        name = self.special_tokens.get(token)
        text = data.decode("utf-8", "replace") if name is None else name
        return {"token": text, "token_id": token, "logprob": shown, "bytes": list(data)}

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
        form = {
            "tokens": [entry["token"] for entry in entries],
            "token_ids": [entry["token_id"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": tops,
            "text_offset": self._starts[first:],
        }
        if self.params.logprob_token_ids:
            named = [[x["logprob"] for x in entry["named_logprobs"]] for entry in entries]
            form["named_logprobs"] = named
        return form

    def _response_form(
        self, name: str, body: Any, logprobs: dict[str, Any] | None
    ) -> dict[str, Any]:
        reason = self.stop_reason
        return {
            "index": self.index,
            name: body,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
            "stop_reason": list(reason) if isinstance(reason, tuple) else reason,
            "seed": self.seed,
        }
