"""The fields of a request as JSON Schema has them."""

from collections.abc import Mapping
from math import inf
from typing import Any, get_args, get_origin, get_type_hints

from .params import Field, Interval, Params, fields_of, whole_number

Schema = dict[str, Any]

#: JSON Schema takes 8.0 for an integer, a request does not; only words can say so in a schema.
_INTEGER: Schema = {"type": "integer", "description": "without a fraction: 8, not 8.0"}


def json_schema(kind: type[Params] = Params, vocab_size: int | None = None) -> Schema:
    """The sampling fields of a request body, as a JSON Schema (draft 2020-12) of an object.

    kind         `Params`, or a subclass, whose own fields are in it
    vocab_size   the size of the vocabulary, which bounds token ids

    Every field may be null, its off value. What a schema cannot say, `Params.from_request` checks:
    that there are as many seeds as samples, that an integer has no fraction. Raises ValueError for
    a `vocab_size` below 1.

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
    hints = get_type_hints(kind)
    properties = {
        name: _described(_nullable(_schema(hints[name], field, vocab_size)), field.doc)
        for name, field in fields_of(kind).items()
    }
    return {"type": "object", "properties": properties}


def _schema(hint: Any, field: Field, vocab_size: int | None) -> Schema:
    """The schema of a value that is not null."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if get_origin(hint) is tuple:
        return _one_or_list(_item(get_args(hint)[0], field, vocab_size))
    if hint == Mapping[int, float]:
        digits = 19 if vocab_size is None else len(str(vocab_size - 1))
        names = {"pattern": f"^[0-9]{{1,{digits}}}$"}
        number = {"type": "number"}
        return {"type": "object", "propertyNames": names, "additionalProperties": number}
    if bool in kinds:
        return {"type": "boolean", "default": field.off}
    one = _number(kinds[0], field, vocab_size) if kinds[0] in (int, float) else {}
    if len(kinds) > 1:
        return _one_or_list(one) | {"minItems": 1}
    return one if field.off is None or not one else {**one, "default": field.off}


def _item(hint: Any, field: Field, vocab_size: int | None) -> Schema:
    """The schema of an item of a list."""
    if hint is str:
        return {"type": "string", "minLength": 1}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _number(int, field, vocab_size), "minItems": 1}
    return _number(hint, field, vocab_size)


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
    return {**item, "type": [item["type"], "array"], "items": item}


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
