"""What an answer may look like where there are tools: a grammar, and the mask that it makes."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask
from numpy.typing import NDArray
from smollm2 import ChatTokenizer

from .errors import ApiError, invalid
from .prompt import CLOSE, MIDDLE, OPEN

TAG, REST = OPEN.split("\n")
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammars:
    """Makes grammars over the tokens of one tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        """Puts all tokens into a trie."""
        self._tokenizer = LLTokenizer(tokenizer.to_json(), eos_token=list(tokenizer.eos))

    def compile(self, grammar: str) -> "Grammar":
        """A grammar at its start; ApiError if a schema in it is none that can be held to."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise invalid(f"tools: {_first_line(matcher.get_error())}", "tools")
        return Grammar(matcher)


class Grammar:
    """How far an answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        """`matcher` is llguidance's."""
        self._matcher = matcher

    def copy(self) -> "Grammar":
        """Another that goes its own way."""
        return Grammar(self._matcher.deep_copy())

    def append(self, token: int) -> None:
        """Take the next token."""
        self._matcher.consume_token(token)
        self._check()

    def mask(self, vocab_size: int) -> NDArray[np.int32]:
        """The tokens that may come next, as packed bits."""
        words = np.empty((1, (vocab_size + 31) // 32), np.int32)
        with suppress(ValueError):
            fill_next_token_bitmask(self._matcher, words)
        self._check()
        return words[0]

    def _check(self) -> None:
        """Raise an ApiError if it is too hard to say what may come next."""
        if self._matcher.is_error():
            message = f"tools: the grammar gave up: {_first_line(self._matcher.get_error())}"
            raise ApiError(422, message, code="grammar_failed", param="tools")


def calls(functions: Sequence[Mapping[str, Any]], *, text: bool, parallel: bool) -> str:
    """A grammar of calls: of several if they are `parallel`; or of any `text`, and calls after it.

    The form of a call is that of the prompt, to the character.
    """
    tag, again = json.dumps(TAG), json.dumps(f"\n{TAG}")
    more = f"({again} call)*" if parallel else ""
    start = f"head call {more} | TEXT" if text else f"{tag} call {more}"
    return f"""
start: {start}
call: {" | ".join(map(_call, functions))}
head[lazy]: TEXT {tag}
TEXT: /(.|\\n)*/
"""


def _call(function: Mapping[str, Any]) -> str:
    name, end = map(json.dumps, (f"\n{REST}{function['name']}{MIDDLE}", CLOSE))
    return f"{name} %json {json.dumps({**function['parameters'], 'x-guidance': SPACING})} {end}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
