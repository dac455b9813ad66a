"""Tools: what of them the model is told, the grammar that holds it to them, how calls are read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask
from numpy.typing import NDArray
from smollm2 import ChatTokenizer

import logitchain as lc

from .calculator import calculate
from .errors import invalid
from .prompt import CLOSE, MIDDLE, OPEN

Function = Mapping[str, Any]

EXPRESSION = r"^[(-]{0,3}[0-9][0-9+*/%(). -]{0,60}$"

#: Tools that the server runs itself: what the model is told, and what runs.
BUILT_IN: dict[str, tuple[Function, Callable[..., str]]] = {
    "math:calculator": (
        {
            "name": "math:calculator",
            "description": "Computes the value of an arithmetic expression such as (3 + 4) * 5.",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string", "pattern": EXPRESSION}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        },
        calculate,
    )
}

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Tools:
    """What a request says of tools."""

    functions: Sequence[Function] = ()  # what the model is told
    first: LLMatcher | None = None  # what it may answer at first
    later: LLMatcher | None = None  # and after a built-in tool's result: what "auto" allows


class Grammars:
    """Grammars over one tokenizer's tokens."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        """Takes a while: all tokens are put into a trie."""
        self._tokenizer = LLTokenizer(tokenizer.to_json(), eos_token=list(tokenizer.eos))

    def tools(self, body: Mapping[str, Any]) -> Tools:
        """The tools of a request body; an ApiError if they do not go with `tool_choice`."""
        functions = {f["name"]: f for f in map(_function, body.get("tools") or ())}
        if len(functions) < len(body.get("tools") or ()):
            raise invalid("tools must have distinct names", "tools")
        choice = body.get("tool_choice") or ("auto" if functions else "none")
        parallel = body.get("parallel_tool_calls") is not False
        if choice == "none":
            return Tools()
        if not functions:
            raise invalid('tool_choice must be "none" where there are no tools', "tool_choice")
        wanted = list(functions.values())
        if isinstance(choice, Mapping):
            name = choice["function"]["name"]
            if name not in functions:
                names = ", ".join(functions)
                raise invalid(f"tool_choice must name one of {names}, not {name!r}", "tool_choice")
            wanted = [functions[name]]
        later = self._matcher(_grammar(functions.values(), False, parallel))
        first = later
        if choice != "auto":
            first = self._matcher(_grammar(wanted, True, parallel))
        return Tools(list(functions.values()), first, later)

    def _matcher(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise invalid(f"tools: {matcher.get_error()}", "tools")
        return matcher


def _function(tool: Mapping[str, Any]) -> Function:
    if tool["type"] in BUILT_IN:
        return BUILT_IN[tool["type"]][0]
    return {"parameters": NO_PARAMETERS, **tool["function"]}


def _grammar(functions: Any, required: bool, parallel: bool) -> str:
    """Text or calls; or calls alone. Their form is that of the prompt, to the character."""
    tag, rest = OPEN.split("\n")
    calls = [
        json.dumps("\n" + rest + function["name"] + MIDDLE)
        + " %json "
        + json.dumps({**function["parameters"], "x-guidance": _JSON})
        + " "
        + json.dumps(CLOSE)
        for function in functions
    ]
    more = f"({json.dumps(chr(10) + tag)} call)*" if parallel else ""
    head = json.dumps(tag) if required else "head"
    return f"""
start: {head} call {more} {"" if required else "| TEXT"}
call: {" | ".join(calls)}
head[lazy]: TEXT {json.dumps(tag)}
TEXT: /(.|\\n)*/
"""


def allowed(matcher: LLMatcher, vocab_size: int) -> NDArray[np.int32]:
    """The tokens that the grammar allows next, as packed bits."""
    words = np.empty((1, (vocab_size + 31) // 32), np.int32)
    fill_next_token_bitmask(matcher, words)
    return words[0]


@dataclass(eq=False)
class Call:
    """A call that the model wrote."""

    name: str = ""
    arguments: str = ""
    complete: bool = False


#: A piece of an answer: of what it says (None), or of the arguments of a call.
Piece = tuple[Call | None, str]


class CallReader:
    """Splits the text of one answer into what it says and what it calls, as it streams."""

    def __init__(self) -> None:
        """A reader that has read nothing."""
        self.calls: list[Call] = []
        self._expect(OPEN)

    def feed(self, text: str, *, last: bool) -> list[Piece]:
        """The pieces that are certain now; the first of a call is empty, and its name is known."""
        pieces: list[Piece] = []
        for character in text:
            self._take(self._stream.feed(character.encode()), pieces)
            if self._stream.stopped:
                self._cross(pieces)
        if last:
            self._take(self._stream.end(), pieces)
        return pieces

    def _expect(self, border: str) -> None:
        self._border, self._stream = border, lc.TextStream(border)

    def _take(self, text: str, pieces: list[Piece]) -> None:
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
