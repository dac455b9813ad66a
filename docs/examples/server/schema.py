"""What a body may hold, as JSON Schema, and the check of what in it is not sampling."""

import re
from collections.abc import Iterator, Mapping, Sized
from math import inf
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from logitchain.inputs.values import show
from logitchain.params import FIELDS, Interval, TokenIds

from .errors import invalid
from .tools import BUILT_IN

MODEL = "SmolLM2-135M-Instruct"
VOCABULARY = 49_152
CONTEXT = 2_048  # positions that a prompt and its answer share
MOST_ROWS = 16  # that run at a time: one for each choice of each request

Schema = dict[str, Any]

#: JSON Schema takes 8.0 for an integer, this API does not; only words can say so in a schema.
INTEGER: Schema = {"type": "integer", "description": "Without a fraction: 8, not 8.0."}


def fields(required: str = "", /, **properties: Schema) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def array(items: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": items, "minItems": least}


def also(schema: Schema, *kinds: str) -> Schema:
    """A value of other types too. A keyword speaks of one type, so the others are free of it."""
    return {**schema, "type": [schema["type"], *kinds]}


def number(name: str) -> Schema:
    """A field of the library, from its own table."""
    field = FIELDS[name]
    low, high = Interval(field.range).bounds
    high = min(high, {"top_k": VOCABULARY, "n": MOST_ROWS}.get(name, inf))
    kind = INTEGER if field.integer or name == "max_tokens" else {"type": "number"}
    least = "exclusiveMinimum" if field.range[0] == "(" else "minimum"
    most = "exclusiveMaximum" if field.range[-1] == ")" else "maximum"
    limits = {least: low} | ({} if high == inf else {most: high})
    return also({**kind, "default": field.off, **limits}, "null")


STRING, BOOLEAN, SOME = {"type": "string"}, {"type": "boolean"}, {"type": "string", "minLength": 1}
TOKEN = {**INTEGER, "minimum": 0, "maximum": VOCABULARY - 1}
TOKENS = also({**TOKEN, "items": TOKEN}, "array", "null")
SEED = {**INTEGER, "minimum": -(2**63), "maximum": 2**64 - 1}
BIAS = {
    "type": "object",
    "propertyNames": {"pattern": "^[0-9]{1,5}$"},
    "additionalProperties": {"type": "number"},
}

SAMPLING = {
    **{
        name: number(name)
        for name, field in FIELDS.items()
        if field.range and not isinstance(field.off, Sized) and name != "seed"
    },
    **{name: TOKENS for name, field in FIELDS.items() if isinstance(field.off, TokenIds)},
    "max_completion_tokens": number("max_tokens"),
    "logprobs": also(BOOLEAN, "null"),
    "p_less": also(BOOLEAN, "null"),
    "seed": also({**SEED, "items": SEED, "minItems": 1}, "array", "null"),
    "stop": also({**SOME, "items": SOME}, "array", "null"),
    "bad_words": also(array(array(TOKEN, least=1)), "null"),
    "dry_sequence_breakers": also(array(array(TOKEN, least=1)), "null"),
    "logit_bias": also(BIAS, "null"),
}

CALLED = fields("name arguments", name=STRING, arguments=STRING)
CALL = fields("type function", id=STRING, type={"const": "function"}, function=CALLED)
PART = fields("type text", type={"const": "text"}, text=STRING)
MESSAGE = {
    **fields(
        "role",
        role={"enum": ["system", "user", "assistant", "tool"]},
        content=also({**STRING, "items": PART}, "array", "null"),
        name=STRING,
        tool_call_id=STRING,
        tool_calls=also(array(CALL), "null"),
        refusal={"type": "null"},
    ),
    "if": {"properties": {"role": {"const": "assistant"}}, "required": ["role"]},
    "else": {"properties": {"content": also(STRING, "array")}, "required": ["content"]},
}

NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
FUNCTION = fields(
    "name",
    name=NAME,
    description=STRING,
    parameters={"type": "object"},
    strict=also(BOOLEAN, "null"),
)
TOOL = {
    **fields("type", type={"enum": ["function", *BUILT_IN]}, function=FUNCTION),
    "if": {"properties": {"type": {"const": "function"}}, "required": ["type"]},
    "then": {"required": ["function"]},
}
NAMED = fields("type function", type={"const": "function"}, function=fields("name", name=STRING))
TEMPLATE = fields(
    system_prompt=STRING, add_generation_prompt=BOOLEAN, continue_final_message=BOOLEAN
)

BODY = fields(
    "model messages",
    model={"type": "string", "default": MODEL},
    messages=array(MESSAGE, least=1),
    **SAMPLING,
    stream=also(BOOLEAN, "null"),
    stream_options=also(fields(include_usage=BOOLEAN), "null"),
    tools=also(array(TOOL), "null"),
    tool_choice=also({**NAMED, "pattern": "^(none|auto|required)$"}, "string", "null"),
    parallel_tool_calls=also(BOOLEAN, "null"),
    resume_generation=also(BOOLEAN, "null"),
    chat_template_kwargs=also(TEMPLATE, "null"),
)


def _pattern(validator: Any, pattern: str, value: Any, schema: Schema) -> Iterator[ValidationError]:
    """As JSON Schema has it, `$` is the end; Python's would also be before a last line break."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_VALIDATOR = extend(Draft202012Validator, {"pattern": _pattern}, type_checker=_TYPES)(BODY)


def check(body: Mapping[str, Any]) -> None:
    """Raise an ApiError that names the field of the body that is at fault."""
    if error := best_match(_VALIDATOR.iter_errors(body)):
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.path]
        where, wrong = _complaint(error, "".join(steps).lstrip("."))
        raise invalid(f"{where} {wrong}", where)


def _complaint(error: ValidationError, where: str) -> tuple[str, str]:
    """(the field at fault, what is wrong with it)."""
    rule, limit, value = error.validator, error.validator_value, error.instance
    if rule == "required":
        name = next(name for name in limit if name not in value)
        return f"{where}.{name}".lstrip("."), "is missing"
    if rule == "additionalProperties":
        name = next(name for name in value if name not in error.schema["properties"])
        return f"{where}.{name[:100]}".lstrip("."), "is not a field of this API"
    legal = {
        "type": lambda: limit if isinstance(limit, str) else " or ".join(limit),
        "enum": lambda: f"one of {', '.join(limit)}",
        "minItems": lambda: f"a list of {limit} or more",
        "minimum": lambda: f"{limit} or more",
        "maximum": lambda: f"{limit} or less",
        "pattern": lambda: f"of the form {limit}",
        "const": lambda: f"{limit!r}",
    }[rule]()
    return where, f"must be {legal}, not {show(value)}"
