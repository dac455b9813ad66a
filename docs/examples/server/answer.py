"""One choice of a response, from its tokens to its deltas, over as many turns as its tools take."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smollm2 import ChatTokenizer

import logitchain as lc
from logitchain.sampled import Sampled

from .calls import Call, CallStream
from .errors import ApiError
from .grammar import Grammar
from .prompt import END, render_results
from .protocol import Request
from .schema import CONTEXT
from .tools import BUILT_IN

Entry = dict[str, Any]  # of the response
FAILURES = 8  # an answer may go on after a tool's error so many times


def kept_set(drawn: Sampled, r: int, most: int) -> Entry:
    """What a response says of the draw of row `r`: which tokens could come, the best of many."""
    ids, logprobs = drawn.kept_set(r)
    best = np.sort(np.argsort(-logprobs, kind="stable")[:most])
    return {
        "token_id": int(drawn.tokens[r]),
        "token_ids": ids[best].tolist(),
        "logprobs": logprobs[best].tolist(),
        "truncated": bool(drawn.kept_truncated[r]) or ids.size > most,
        "rank": int(drawn.ranks[r]),
        "entropy": float(drawn.entropy[r]),
        "kept_mass": float(drawn.kept_mass[r]),
    }


class Answer:
    """What one row says. A built-in tool that it calls is run, and the answer has another turn."""

    def __init__(self, request: Request, tokenizer: ChatTokenizer, index: int) -> None:
        """An answer without a token yet; `index` is its place in the response."""
        self.request, self.tokenizer, self.index = request, tokenizer, index
        prompt, sample = divmod(index, len(request.samples))
        self.params = request.samples[sample]
        self.read = list(request.prompts[prompt])  # and what was generated
        self.unread: list[int] = []  # a tool's result, which the model has yet to read
        self.state: dict[str, float] = {}  # of the row, while it reads
        self.finish_reason: str | None = None
        self.error: ApiError | None = None
        self._calls: list[Call] = []  # those that the response lists
        self._kept: list[Entry] = []  # of each token, the set that it was drawn from
        self._failures = 0
        self._turn(request.tools.first, is_call=request.tools.required)
        self._choice = lc.Choice(
            self.params,
            tokenizer.token_bytes,
            seed=self.params.seed,
            index=index,
            stream=self._stream,
            prefix=request.echo[prompt],
            prompt_tokens=self.read,
            special_tokens=tokenizer.special_tokens,
        )
        self.tokens = self._choice.tokens  # what was generated

    def opening(self) -> Entry:
        """What a chunk's `choices` says before the first token."""
        entry = self._choice.delta(api=self.request.api)
        if self.request.api == "completions":
            return entry | {"tokens": []}
        return entry | {"delta": {"role": "assistant", **entry["delta"]}}

    def mask(self) -> NDArray[np.int32] | None:
        """The tokens that may come next, as packed bits; None for all."""
        return self._grammar.mask(self.tokenizer.vocab_size) if self._grammar else None

    def append(self, token: int, logprob: float, top: Any, kept: Any = None) -> Entry | None:
        """Take the next token; what a chunk's `choices` says of it, None for nothing.

        Raises an ApiError if it ends the call of a tool that fails, and the answer may not go on.
        """
        self.read.append(token)
        if self._grammar:
            self._grammar.append(token)
        self._choice.append(token, logprob, top)
        if self._left < 1 and not self._choice.finish_reason:
            if self._stream:
                self._stream.is_cut = True
            self._choice.finish("length")
        entry = self._choice.delta(api=self.request.api)
        if kept is not None:
            self._kept.append(kept)
            entry["kept"] = [kept]
        if self._stream:
            self._add_calls(self._stream, entry["delta"])
        if self._choice.finish_reason:
            self.finish_reason = entry["finish_reason"] = self._end(self._choice.finish_reason)
            entry["stop_reason"] = self._choice.stop_reason
        if self.request.api == "completions":
            return entry | {"tokens": [token]}
        says = any(entry["delta"].values()) or (entry["logprobs"] or {}).get("content")
        return entry if says or kept or self.finish_reason else None

    def fail(self, error: ApiError) -> Entry:
        """End it with an error; what a chunk's `choices` says of that."""
        self.error, self.finish_reason = error, "error"
        entry = self._choice.delta(api=self.request.api)
        return entry | {"finish_reason": "error", **error.body()}

    def response(self) -> Entry:
        """The choice of a whole answer: the same as all chunks of a stream together."""
        choice = self._choice.response(api=self.request.api)
        choice |= {"finish_reason": self.finish_reason, **(self.error.body() if self.error else {})}
        if self.request.kept:
            choice["kept"] = self._kept
        if self.request.api == "completions":
            return choice | {"tokens": self.tokens}
        if self._calls:
            choice["message"]["tool_calls"] = [call.entry() for call in self._calls]
        if self.finish_reason == "tool_calls":
            choice["message"]["content"] = choice["message"]["content"] or None
        return choice

    @property
    def _left(self) -> int:
        """How many tokens it may yet generate."""
        most = min(CONTEXT, self.params.max_total_tokens or CONTEXT)
        return min(self.request.max_tokens - len(self.tokens), most - len(self.read))

    def _turn(self, grammar: Grammar | None, *, is_call: bool = False) -> None:
        """What reads the next turn."""
        self._grammar = grammar.copy() if grammar else None
        has_calls = bool(self.request.tools.functions)
        self._stream = CallStream(self.params, is_call=is_call) if has_calls else None

    def _add_calls(self, stream: CallStream, delta: dict[str, Any]) -> None:
        """Add the new parts of calls to a delta, without calls of built-in tools."""
        parts: dict[int, dict[str, Any]] = {}
        for call, piece in stream.news:
            if call.name in BUILT_IN:
                continue
            if call not in self._calls:
                self._calls.append(call)
            index = self._calls.index(call)
            if not piece:  # the first of a call
                parts[index] = {"index": index, **call.entry()}
                parts[index]["function"]["arguments"] = ""
            part = {"index": index, "type": "function", "function": {"arguments": ""}}
            parts.setdefault(index, part)["function"]["arguments"] += piece
        stream.news.clear()
        if parts:
            delta["tool_calls"] = list(parts.values())

    def _end(self, reason: str) -> str | None:
        """Why the answer ends where its turn does; None if it has another."""
        calls = self._stream.calls if self._stream else []
        if reason in ("length", "repetition") or not all(call.complete for call in calls):
            return reason
        if run := [call for call in calls if call.name in BUILT_IN]:
            return self._resume(render_results(map(self._result, run)))
        return "tool_calls" if self._calls else reason

    def _resume(self, results: str) -> str | None:
        last = self.read[-1]  # which the model has yet to read, and which ends the turn
        if last == self.tokenizer.eos[0]:
            results = results.removeprefix(END.rstrip())
        tokens = self.tokenizer.encode(results)
        self.read += tokens
        if self._left < 1:
            return "length"
        self.unread = [last, *tokens]
        self._turn(self.request.tools.later)
        self._choice.resume(self._stream, prompt_tokens=self.read)
        return None

    def _result(self, call: Call) -> str:
        """What a built-in tool says, or its error where the request has `resume_generation`."""
        try:
            return BUILT_IN[call.name][1](**json.loads(call.arguments))
        except (ArithmeticError, ValueError) as error:
            self._failures += 1
            if not self.request.resume_generation or self._failures > FAILURES:
                message = f"{call.name} failed with {call.arguments}: {error}"
                raise ApiError(422, message, code="tool_failed", param="tools") from None
            return f"error: {error}"
