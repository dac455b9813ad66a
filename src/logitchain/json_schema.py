"""The fields of a request as JSON Schema has them."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .inputs.banned_texts import BannedTexts
from .params import Field, Interval, Params, Watermark, fields_of, required_of, whole_number
from .params.watermark import SCHEMES

Schema = dict[str, Any]

#: JSON Schema takes 8.0 for an integer, a request does not; only words can say so in a schema.
_INTEGER: Schema = {"type": "integer", "description": "without a fraction: 8, not 8.0"}


def json_schema(kind: type[Params] = Params, vocab_size: int | None = None) -> Schema:
    """The sampling fields of a request body, as a JSON Schema (draft 2020-12) of an object.

    kind         `Params`, or a subclass, whose own fields are in it
    vocab_size   the size of the vocabulary, which bounds token ids

    Every field may be null, its off value, unless it is a required field of the subclass. What a
    schema cannot say, `Params.from_request` checks: that there are as many seeds as samples, that
    an integer has no fraction, that a bias names no token twice, the length of a sequence breaker.
    A field of the subclass whose type has no counterpart here takes any value. Raises ValueError
    for a `vocab_size` below 1.

    >>> properties = json_schema(vocab_size=100)["properties"]
    >>> for keyword, value in properties["min_p"].items():
    ...     print(keyword, value)
    type ['number', 'null']
    minimum 0
    maximum 1
    default 0.0
    description keep tokens at least this probable, relative to the best one
    >>> properties["allowed_tokens"]["items"]["maximum"]
    99
    """
    if vocab_size is not None:
        whole_number("vocab_size", vocab_size, "[1, inf)")
    hints = _hints(kind)
    required = required_of(kind)
    properties = {}
    for name, field in fields_of(kind).items():
        schema = _schema(hints.get(name), field, vocab_size)
        schema = schema if name in required else _nullable(schema)
        properties[name] = _described(schema, field.doc)
    schema = {"type": "object", "properties": properties}
    return schema | {"required": required} if required else schema


def _hints(kind: type[Any]) -> dict[str, Any]:
    """The types of the fields; of a subclass whose names cannot be looked up those of `Params`."""
    try:
        return get_type_hints(kind)
    except NameError:
        return get_type_hints(Params)


def _schema(hint: Any, field: Field, vocab_size: int | None) -> Schema:
    """The schema of a value that is not null; {} for a type that has none."""
    is_union = get_origin(hint) in (Union, UnionType)
    kinds = {x for x in (get_args(hint) if is_union else (hint,)) if x is not NoneType}
    if kinds == {int, tuple[int, ...]}:
        return _one_or_list(_number(int, field, vocab_size)) | {"minItems": 1}
    if len(kinds) > 1:
        return {}
    (kind,) = kinds or {None}
    if kind is Watermark:  # whose options have no types that say all of their ranges
        return _WATERMARK
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, vocab_size)
    if kind in _ITEMS:
        return _one_or_list(_ITEMS[kind](field, vocab_size))
    if kind == Mapping[int, float]:
        names = {"pattern": "^[0-9]{1,19}$"}
        number = {"type": "number"}
        return {"type": "object", "propertyNames": names, "additionalProperties": number}
    if kind is BannedTexts:  # none: JSON has no form of what a vocabulary makes of them
        return {"type": "array", "maxItems": 0}
    if kind is bool:
        one: Schema = {"type": "boolean"}
    elif kind is str:
        one = {"type": "string", "minLength": 1}
    elif kind in (int, float):
        one = _number(kind, field, vocab_size)
    else:
        return {}
    is_number = isinstance(field.off, (int, float)) and isfinite(field.off)
    has_default = is_number or isinstance(field.off, str)
    return {**one, "default": field.off} if has_default else one


def _record(kind: type[Any], vocab_size: int | None) -> Schema:
    """The schema of a mapping with the fields of a dataclass, each of which has a check."""
    properties = {}
    for name, field in fields_of(kind).items():
        hint = _hints(kind)[name]
        if get_origin(hint) is Literal:
            schema: Schema = {"type": "string", "enum": [*get_args(hint)], "default": field.off}
        else:
            schema = _schema(hint, field, vocab_size)
        properties[name] = _described(schema, field.doc)
    return {"type": "object", "properties": properties, "additionalProperties": False}


#: The types of lists, and the schema of an item.
_ITEMS: dict[Any, Callable[[Field, int | None], Schema]] = {
    tuple[str, ...]: lambda field, vocab_size: {"type": "string", "minLength": 1},
    tuple[int, ...]: lambda field, vocab_size: _number(int, field, vocab_size),
    tuple[int | tuple[int, ...], ...]: lambda field, vocab_size: (
        _one_or_list(_number(int, field, vocab_size)) | {"minItems": 1}
    ),
    tuple[tuple[int, ...], ...]: lambda field, vocab_size: {
        "type": "array",
        "items": _number(int, field, vocab_size),
        "minItems": 1,
    },
}


_UNIT: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_KEY: Schema = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_WATERMARK: Schema = {
    "type": "object",
    "properties": {
        "scheme": {"enum": list(SCHEMES), "default": SCHEMES[0]},
        "key": _KEY,
        "context_width": {"type": "integer", "minimum": 1, "maximum": 64, "default": 4},
        "deduplicate": {"type": "boolean", "default": True},
        "key_b": {**_KEY, "type": ["integer", "null"]},
        "alpha": _UNIT,
        "gamma": {"type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "delta": {"type": ["number", "null"], "minimum": 0},
    },
    "required": ["key"],
    "additionalProperties": False,
}


def _number(kind: Any, field: Field, vocab_size: int | None) -> Schema:
    """The schema of a number in the field's range."""
    schema: Schema = dict(_INTEGER) if kind is int else {"type": "number"}
    if not field.range:
        return schema
    text, size = field.range, vocab_size
    if size is not None:
        text = text.replace("vocab_size)", f"{size - 1}]").replace("vocab_size", str(size))
    low, high = Interval(text).bounds
    if low > -inf:
        schema["exclusiveMinimum" if text[0] == "(" else "minimum"] = low
    if high < inf:
        schema["exclusiveMaximum" if text[-1] == ")" else "maximum"] = high
    return schema


def _one_or_list(item: Schema) -> Schema:
    """One item or a list of them; a list of lists has no short form."""
    if item["type"] == "array":
        return {"type": "array", "items": item}
    kinds = item["type"] if isinstance(item["type"], list) else [item["type"]]
    one = {keyword: value for keyword, value in item.items() if keyword != "minItems"}
    return {**one, "type": list(dict.fromkeys([*kinds, "array"])), "items": item}


def _described(schema: Schema, doc: str) -> Schema:
    """The schema with what the field does."""
    texts = [text for text in (doc, schema.get("description")) if text]
    return {**schema, "description": "; ".join(texts)} if texts else schema


def _nullable(schema: Schema) -> Schema:
    """The value, or null. A keyword speaks of one type, so that null is free of the others."""
    if not schema:
        return {}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"]}
