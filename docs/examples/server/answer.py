"""One choice of a response, from its tokens to its deltas, over as many turns as its tools take."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smollm2 import ChatTokenizer

import logitchain as lc

from .calls import Call, CallReader
from .errors import ApiError
from .grammar import Grammar
from .prompt import render_results
from .protocol import Request, new_id
from .schema import CONTEXT
from .tools import BUILT_IN

FAILURES = 8  # an answer may go on after a tool's error so many times


class Answer:
    """What one row says. A built-in tool that it calls is run, and the answer has another turn."""

    def __init__(self, request: Request, tokenizer: ChatTokenizer, index: int) -> None:
        """An answer that has said nothing; `index` is its place in the response."""
        self.request, self.tokenizer, self.index = request, tokenizer, index
        self.prompt = list(request.prompt)  # what was read, the results of tools too
        self.tokens: list[int] = []  # what was generated
        self.unread: list[int] = []  # such a result, which the model has yet to read
        self.finish_reason: str | None = None
        self._places: dict[Call, int] = {}  # of the calls that the client is told
        self._failures = 0
        self._begin(request.tools.first)

    @property
    def params(self) -> lc.Params:
        """What the row asks for from here on: one sample, with its own seed."""
        seed = self.request.seeds[self.index]
        return replace(self.request.params, n=1, seed=seed, max_tokens=self._left)

    def opening(self) -> dict[str, Any]:
        """What a chunk's `choices` says before the first token."""
        entry = self._choice.delta()
        return entry | {"delta": {"role": "assistant", **entry["delta"]}}

    def mask(self) -> NDArray[np.int32] | None:
        """The tokens that may come next, as packed bits; None for all."""
        return self._grammar.mask(self.tokenizer.vocab_size) if self._grammar else None

    def append(self, token: int, logprob: float, top: Any) -> dict[str, Any]:
        """Take the next token; what a chunk's `choices` says of it.

        Raises an ApiError if it ends the call of a tool that fails, and the answer may not go on.
        """
        self.tokens.append(token)
        if self._grammar:
            self._grammar.append(token)
        self._choice.append(token, logprob, top)
        entry = self._choice.delta()
        if self._grammar:
            entry["delta"] = self._delta(entry["delta"]["content"])
        if self._choice.finish_reason:
            self.finish_reason = entry["finish_reason"] = self._end(self._choice.finish_reason)
        return entry

    @property
    def _left(self) -> int:
        """How many tokens it may yet generate."""
        most = self.request.params.max_tokens or CONTEXT
        return min(most, CONTEXT - len(self.prompt)) - len(self.tokens)

    def _begin(self, grammar: Grammar | None) -> None:
        """The next turn."""
        seed = self.request.seeds[self.index]
        self._choice = lc.Choice(
            self.params, self.tokenizer.token_bytes, seed=seed, index=self.index
        )
        self._grammar = grammar.copy() if grammar else None
        self._reader = CallReader()

    def _delta(self, text: str) -> dict[str, Any]:
        """The text as a delta tells it; of the calls of built-in tools it tells nothing."""
        delta: dict[str, Any] = {"content": ""}
        for call, piece in self._reader.feed(text, last=bool(self._choice.finish_reason)):
            if call is None:
                delta["content"] += piece
            elif call.name not in BUILT_IN:
                delta.setdefault("tool_calls", []).append(self._told(call, piece))
        return delta

    def _told(self, call: Call, piece: str) -> dict[str, Any]:
        if call in self._places:
            return {"index": self._places[call], "function": {"arguments": piece}}
        place = self._places[call] = len(self._places)
        function = {"name": call.name, "arguments": piece}
        return {"index": place, "id": new_id("call"), "type": "function", "function": function}

    def _end(self, reason: str) -> str | None:
        """Why the answer ends where its turn does; None if it has another."""
        calls = self._reader.calls
        if reason == "length" or not all(call.complete for call in calls):
            return reason
        if run := [call for call in calls if call.name in BUILT_IN]:
            return self._resume(render_results(map(self._result, run)))
        return "tool_calls" if self._places else reason

    def _resume(self, results: str) -> str | None:
        read = self.tokenizer.encode(results)
        self.prompt += read
        if self._left < 1:
            return "length"
        self.unread = read
        self._begin(self.request.tools.later)
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
