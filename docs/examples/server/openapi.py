"""The API's description, and the check of what a body says of things other than sampling."""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from logitchain.arrays import show
from logitchain.params import FIELDS, Interval

from .errors import invalid
from .tools import BUILT_IN

MODEL = "SmolLM2-135M-Instruct"
VOCABULARY = 49_152
CONTEXT = 2_048  # positions that a prompt and its answer share
MOST_ROWS = 16  # that are answered at a time

Schema = dict[str, Any]


def _object(properties: Mapping[str, Any], *required: str, **more: Any) -> Schema:
    closed = {"additionalProperties": False, "required": list(required)}
    return {"type": "object", "properties": properties, **closed, **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _or_null(schema: Schema) -> Schema:
    kinds = schema["type"]
    return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}


def _number(name: str) -> Schema:
    """The range of a field, from the library's own table."""
    field = FIELDS[name]
    low, high = Interval(field.interval).bounds
    high = {"top_k": VOCABULARY, "n": MOST_ROWS}.get(name, high)
    whole = field.integer or field.off is None
    least = "exclusiveMinimum" if field.interval[0] == "(" else "minimum"
    limits = {least: low} | ({} if high == float("inf") else {"maximum": high})
    return _or_null({"type": "integer" if whole else "number", "default": field.off, **limits})


STRING, BOOLEAN, TEXT = {"type": "string"}, {"type": "boolean"}, {"type": "string", "minLength": 1}
TOKEN = {"type": "integer", "minimum": 0, "maximum": VOCABULARY - 1}
TOKENS = {**TOKEN, "type": ["integer", "array", "null"], "items": TOKEN}
SEED = {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1}
ANYTHING = {"type": "object"}

#: Keywords speak of one type each, so that a schema of two types needs no alternatives.
SAMPLING = {
    **{name: _number(name) for name, field in FIELDS.items() if type(field.off) in (int, float)},
    "max_tokens": _number("max_tokens"),
    "max_completion_tokens": _number("max_tokens"),
    "logprobs": _or_null(BOOLEAN),
    "seed": {**SEED, "type": ["integer", "array", "null"], "items": SEED, "minItems": 1},
    "stop": {**TEXT, "type": ["string", "array", "null"], "items": TEXT},
    **dict.fromkeys(("eos_token", "allowed_tokens", "banned_tokens"), TOKENS),
    "bad_words": _or_null(_list(_list(TOKEN, minItems=1))),
    "logit_bias": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[0-9]{1,5}$"},
        "additionalProperties": {"type": "number"},
    },
}

CALL = _object(
    {
        "id": STRING,
        "type": {"const": "function"},
        "function": _object({"name": STRING, "arguments": STRING}, "name", "arguments"),
    },
    "type",
    "function",
)
PART = _object({"type": {"const": "text"}, "text": STRING}, "type", "text")
MESSAGE = _object(
    {
        "role": {"enum": ["system", "user", "assistant", "tool"]},
        "content": {"type": ["string", "array", "null"], "items": PART},
        "name": STRING,
        "tool_call_id": STRING,
        "tool_calls": _or_null(_list(CALL)),
        "refusal": {"type": "null"},
    },
    "role",
    **{
        "if": {"properties": {"role": {"const": "assistant"}}, "required": ["role"]},
        "else": {
            "properties": {"content": {"type": ["string", "array"]}},
            "required": ["content"],
        },
    },
)
FUNCTION = _object(
    {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": STRING,
        "parameters": ANYTHING,
        "strict": _or_null(BOOLEAN),
    },
    "name",
)
TOOL = _object(
    {"type": {"enum": ["function", *BUILT_IN]}, "function": FUNCTION},
    "type",
    **{
        "if": {"properties": {"type": {"const": "function"}}, "required": ["type"]},
        "then": {"required": ["function"]},
    },
)
NAMED = _object(
    {"type": {"const": "function"}, "function": _object({"name": STRING}, "name")},
    "type",
    "function",
)
BODY = _object(
    {
        "model": {"type": "string", "default": MODEL},
        "messages": _list(MESSAGE, minItems=1),
        **SAMPLING,
        "stream": _or_null(BOOLEAN),
        "stream_options": _or_null(_object({"include_usage": BOOLEAN})),
        "tools": _or_null(_list(TOOL)),
        "tool_choice": {
            **NAMED,
            "type": ["string", "object", "null"],
            "pattern": "^(none|auto|required)$",
        },
        "parallel_tool_calls": _or_null(BOOLEAN),
        "resume_generation": _or_null(BOOLEAN),
        "chat_template_kwargs": _or_null(
            _object(
                {
                    "system_prompt": STRING,
                    "add_generation_prompt": BOOLEAN,
                    "continue_final_message": BOOLEAN,
                }
            )
        ),
    },
    "model",
    "messages",
)
ERROR = _object(
    {
        "error": _object(
            {
                "message": STRING,
                "type": STRING,
                "param": _or_null(STRING),
                "code": STRING,
            },
            "message",
            "type",
            "param",
            "code",
        )
    },
    "error",
)

_VALIDATOR = Draft202012Validator(BODY)


#: What a value must be, by the keyword of the schema that it fails.
RANGES: dict[str, Callable[[Any], str]] = {
    "type": lambda kinds: kinds if isinstance(kinds, str) else " or ".join(kinds),
    "enum": lambda values: f"one of {', '.join(values)}",
    "const": repr,
    "pattern": lambda pattern: f"text of the form {pattern}",
    "minItems": lambda least: f"a list of {least} or more",
    "minLength": lambda least: f"text of {least} characters or more",
    "minimum": lambda least: f"{least} or more",
    "maximum": lambda most: f"{most} or less",
}


def check(body: Mapping[str, Any]) -> None:
    """Raise an ApiError that names the field of the body that is at fault."""
    error = best_match(_VALIDATOR.iter_errors(body))
    if error is None:
        return
    where = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in error.absolute_path)
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        raise invalid(f"{where}.{name} is missing".lstrip("."), f"{where}.{name}".lstrip("."))
    where = where.lstrip(".")
    if error.validator == "additionalProperties":
        name = next(iter(error.instance.keys() - error.schema["properties"].keys()))
        raise invalid(f"{where or 'the body'} has no field {name!r}", f"{where}.{name}".lstrip("."))
    legal = RANGES[error.validator](error.validator_value)
    raise invalid(f"{where} must be {legal}, not {show(error.instance)}", where)


def _path(summary: str, answers: Mapping[str, Any], **more: Any) -> Schema:
    refused = {"description": "an error", "content": {"application/json": {"schema": ERROR}}}
    return {"summary": summary, "responses": {**answers, "default": refused}, **more}


def _answer(description: str, *kinds: str) -> Schema:
    content = {kind: {"schema": {} if kind == "text/event-stream" else ANYTHING} for kind in kinds}
    return {"200": {"description": description, "content": content}}


DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "logitchain's example of a server", "version": "1"},
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/v1/chat/completions": {
            "post": _path(
                "Answer a chat",
                _answer("the answer, or a stream of it", "application/json", "text/event-stream"),
                security=[{"token": []}, {}],
                parameters=[{"name": "X-Friendli-Team", "in": "header", "schema": STRING}],
                requestBody={"required": True, "content": {"application/json": {"schema": BODY}}},
            )
        },
        "/v1/models": {"get": _path("The models", _answer("their list", "application/json"))},
        "/health": {"get": _path("How busy it is", _answer("the rows", "application/json"))},
    },
}
