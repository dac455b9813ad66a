"""The records of the controls as data: the page builds its inputs from these, and has no names."""

import re
from collections.abc import Iterable, Mapping, Sized
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import logitchain as lc
from logitchain.controls.record import CHOICES
from logitchain.params import Interval, fields_of
from logitchain.presets import NAMED, Step

DOCS = Path(__file__).parents[2] / "controls.md"

#: They shape the response, not the token.
NOT_SHOWN = {"n", "logprobs", "top_logprobs", "logprob_token_ids", "logprobs_of"}

#: Controls read them, and more than these: the end of a text, the draw.
SHOWN_AGAIN = {"stop_tokens", "watermark"}

#: A list field takes one of these, the first that it does says what it holds.
LISTS = {"phrases": [[0]], "tokens": [0], "texts": ["a"], "biases": {0: 1.0}}

#: Fields whose value has several values by name: what the JSON Schema of a request says of these.
RECORDS: dict[str, dict[str, Any]] = {
    name: schema["properties"]
    for name, schema in lc.json_schema()["properties"].items()
    if "properties" in schema
}


def catalogue(steps: Iterable[Step], params: type[lc.Params], vocab_size: int) -> dict[str, Any]:
    """What the page has to know of the controls, the fields and the orders.

    steps    the order that the page begins with; its controls are offered beside the built-in ones
    params   the class of the requests, whose fields are offered
    """
    steps = tuple(steps)
    fields = fields_of(params)
    controls: dict[str, lc.Control | None] = {**NAMED, **{x.name: x.control for x in steps}}
    own = [step.name for step in steps if step.control is not NAMED.get(step.name)]
    described = {
        name: {
            "fields": [x for x in _fields(control) if x in fields and x not in NOT_SHOWN],
            "switches": [x.name for x in control.switched_by if x.name in fields],
            "options": {x: [default, CHOICES.get(x)] for x, default in control.options.items()},
            "replaces": control.instead_of,
            "description": _description(name, control),
            "own": name in own,
        }
        if control
        else {"fields": [], "switches": [], "options": {}, "description": "", "own": True}
        for name, control in controls.items()
    }
    of_controls = {field for about in described.values() for field in about["fields"]}
    return {
        "controls": described,
        "fields": {
            name: _field(field, vocab_size)
            for name, field in fields.items()
            if name not in NOT_SHOWN and (field.range or name in of_controls or name in lc.FIELDS)
        },
        "others": [
            name for name in fields if name not in {*of_controls, *NOT_SHOWN} or name in SHOWN_AGAIN
        ],
        "presets": {
            "default": order_as_data(steps),
            **{name: order_as_data(lc.Chain.preset(name).steps) for name in lc.PRESETS},
        },
    }


def order_as_data(steps: Iterable[Step]) -> list[tuple[str, dict[str, Any]]]:
    """An order as names and the options that are not the defaults."""
    return [
        (
            step.name,
            {
                x: list(value) if isinstance(value, (tuple, frozenset)) else value
                for x, value in step.options.items()
                if step.control is None or value != step.control.options[x]
            },
        )
        for step in steps
    ]


@cache
def section(name: str) -> str:
    """What docs/controls.md says of a control, as Markdown; "" if it has no such section."""
    page = DOCS.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(name)}\n+(.*?)(?=^## |\Z)", page, re.M | re.S)
    return found[1].strip() if found else ""


def _fields(control: lc.Control) -> list[str]:
    """The fields of a request that a control reads, its lists included, each once."""
    lists = [name for name in (control.tokens, control.exempt) if name]
    return list(dict.fromkeys([*(field.name for field in control.fields), *lists]))


def _description(name: str, control: lc.Control) -> str:
    """The first line of the docstring of the control's function, or of its kernel."""
    is_builtin = control is NAMED.get(name)
    source = getattr(lc, name, None) if is_builtin else control.kernel
    return (getattr(source, "__doc__", None) or "").strip().split("\n")[0]


def _field(field: lc.Field, vocab_size: int) -> dict[str, Any]:
    """A field's kind, its bounds and what it means; a bound that is infinite is None."""
    about: dict[str, Any] = {
        "kind": _kind(field),
        "range": field.range.replace("vocab_size", str(vocab_size)),
        "off": _off(field.off),
        "meaning": field.doc,
    }
    if about["kind"] == "record":
        about["properties"] = RECORDS[field.name]
    if about["kind"] in ("number", "integer") and field.range:
        low, high = Interval(about["range"]).bounds
        about["low"], about["high"] = (x if isfinite(x) else None for x in (low, high))
        about["open"] = [about["range"][0] == "(", about["range"][-1] == ")"]
    return about


def _off(off: Any) -> Any:
    if isinstance(off, Sized):
        return {} if isinstance(off, Mapping) else []
    return off if off is None or isfinite(off) else None


def _kind(field: lc.Field) -> str:
    """What kind of input fits: found by trying what the field accepts."""
    if field.name in RECORDS:
        return "record"
    if isinstance(field.off, bool):
        return "switch"
    if isinstance(field.off, lc.BannedTexts):
        return "texts"  # of which the explainer makes the field's value
    if isinstance(field.off, Sized):
        return next(kind for kind, value in LISTS.items() if _takes(field, value))
    return "integer" if field.integer or not _takes(field, 0.5, error=ValueError) else "number"


def _takes(field: lc.Field, value: Any, error: type[Exception] | None = None) -> bool:
    """Whether the field accepts a value, or refuses it only for the reason `error`."""
    try:
        field.check(field.name, value)
    except (TypeError, ValueError) as fault:
        return error is not None and isinstance(fault, error)
    return True
