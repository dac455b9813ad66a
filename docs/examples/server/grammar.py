"""What an answer may look like: a grammar of calls or of JSON, and the mask that it makes."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from jsonschema_rs import Draft202012Validator, ValidationError
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask
from numpy.typing import NDArray
from smollm2 import ChatTokenizer

from .errors import ApiError, invalid
from .prompt import CLOSE, MIDDLE, OPEN

TAG, REST = OPEN.split("\n")
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
RELAXED = {"lenient": True, "coerce_one_of": True}  # leave out what the grammar cannot hold
ANY_OBJECT = {"type": "object"}


class Grammars:
    """Makes grammars over the tokens of one tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        """Puts all tokens into a trie."""
        self._tokenizer = LLTokenizer(tokenizer.to_json(), eos_token=list(tokenizer.eos))

    def compile(self, grammar: str, where: str) -> "Grammar":
        """A grammar at its start, for the field `where`; ApiError if it is too large."""
        matcher = self._matcher(grammar)
        if matcher.is_error():
            raise invalid(
                f"{where} must be smaller: the grammar that holds to it is too large", where
            )
        return Grammar(matcher, where)

    def value(self, schema: Mapping[str, Any], strict: bool, where: str) -> str:
        """What in a grammar stands for a JSON value of a schema.

        Where a grammar cannot hold to a part of the schema, that is left out, unless it is to be
        `strict`: then an ApiError says so, as it does for what is no JSON Schema.
        """
        _check_schema(schema, where)
        for options in (SPACING,) if strict else (SPACING, SPACING | RELAXED):
            text = _json(schema, options)
            matcher = self._matcher(f"start: {text}")
            if not matcher.is_error():
                return text
        if strict:
            unknown = re.match(r".*Unimplemented keys: \[(.*?)\]", matcher.get_error())
            what = unknown[1].replace('"', "") if unknown else "a part of it"
            raise invalid(
                f"{where} must be without {what} to be strict: no grammar holds it", where
            )
        return _json(ANY_OBJECT, SPACING)

    def _matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, grammar, log_level=0)


class Grammar:
    """How far an answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, where: str) -> None:
        """`matcher` is llguidance's; `where` is the field of the body that it comes from."""
        self._matcher, self._where = matcher, where

    def copy(self) -> "Grammar":
        """Another that goes its own way."""
        return Grammar(self._matcher.deep_copy(), self._where)

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
            message = f"{self._where}: the grammar gave up, its schema is too hard to follow"
            raise ApiError(422, message, code="grammar_failed", param=self._where)


def _json(schema: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"


def calls(functions: Mapping[str, str], *, text: str | None, parallel: bool) -> str:
    """A grammar of calls: of several if they are `parallel`; or of a `text`, or calls after it.

    functions   name -> the rule of its arguments
    text        the rule of an answer without a call, "" for any text; None if there must be a call

    The form of a call is that of the prompt, to the character.
    """
    tag, again = json.dumps(TAG), json.dumps(f"\n{TAG}")
    more = f"({again} call)*" if parallel else ""
    head = "head" if text == "" else tag
    start = f"{head} call {more}" + ("" if text is None else f" | {text or 'TEXT'}")
    rules = [f"start: {start}", f"call: {' | '.join(_call(*each) for each in functions.items())}"]
    if text == "":
        rules += [f"head[lazy]: TEXT {tag}", "TEXT: /(.|\\n)*/"]
    return "\n".join(rules)


def _call(name: str, arguments: str) -> str:
    return f"{json.dumps(f'{chr(10)}{REST}{name}{MIDDLE}')} {arguments} {json.dumps(CLOSE)}"


def _check_schema(schema: Mapping[str, Any], where: str) -> None:
    try:
        Draft202012Validator(schema, retriever=_refuse)
    except ValidationError as error:
        path = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in error.instance_path)
        message = f"{where}{path} must be a JSON Schema: {error.message[:200]}"
        raise invalid(message, where + path) from None


def _refuse(address: str) -> None:
    raise ValueError("only references within the schema are followed")
