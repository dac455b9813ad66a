"""The JSON Schema of a request has every field, with the range that the library checks."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

import logitchain as lc

SCHEMA = lc.json_schema(vocab_size=1000)["properties"]


def test_every_field_is_there_and_may_be_null():
    assert SCHEMA.keys() == lc.FIELDS.keys()
    assert all("null" in schema["type"] for schema in SCHEMA.values())


@pytest.mark.parametrize("name", [name for name, x in lc.FIELDS.items() if x.range])
def test_the_ends_of_a_range_are_those_that_a_request_may_have(name):
    """A value at an inclusive end is good; one at an exclusive end or beyond either is not."""
    schema = SCHEMA[name]
    if schema["type"][0] not in ("number", "integer"):
        return
    step = 1 if schema["type"][0] == "integer" else 1e-9
    for word, sign in (("inimum", -1), ("aximum", 1)):
        ends = {"m" + word: True, "exclusiveM" + word: False}
        for key, inclusive in ends.items():
            if key in schema:
                end = schema[key]
                assert accepted(name, end) is inclusive
                assert not accepted(name, end + sign * step * max(1, abs(end)))


def accepted(name, value):
    try:
        beside = {"reasoning_end": [1]} if name in ("reasoning_budget", "min_reasoning") else {}
        lc.Params(**{name: value}, **beside).check_vocabulary(1000)
    except ValueError:
        return False
    return True


def test_lists_have_one_item_or_several_and_lists_of_lists_do_not():
    token = {"minimum": 0, "maximum": 999}
    assert token.items() <= SCHEMA["banned_tokens"]["items"].items()
    assert SCHEMA["banned_tokens"]["type"] == ["integer", "array", "null"]
    assert SCHEMA["bad_words"]["type"] == ["array", "null"]
    assert token.items() <= SCHEMA["bad_words"]["items"]["items"].items()
    assert SCHEMA["bad_words"]["items"]["minItems"] == SCHEMA["seed"]["minItems"] == 1
    detection = SCHEMA["repetition_detection"]["properties"]
    assert detection.keys() == {x.name for x in dataclasses.fields(lc.RepetitionDetection)}
    assert detection["action"]["enum"] == ["stop", "end_reasoning"]
    assert (detection["min_count"]["type"], detection["min_count"]["minimum"]) == ("integer", 0)
    assert SCHEMA["stop"]["items"] == {"type": "string", "minLength": 1}
    assert SCHEMA["logit_bias"]["propertyNames"] == {"pattern": "^[0-9]{1,19}$"}
    assert "maximum" not in lc.json_schema()["properties"]["top_k"]
    assert SCHEMA["top_logprobs"]["maximum"] == 1000
    assert SCHEMA["logprob_token_ids"]["type"] == ["integer", "array", "null"]
    name = {"type": ["string", "null"], "minLength": 1, "default": "raw"}
    assert name.items() <= SCHEMA["logprobs_of"].items()


def test_a_subclass_has_its_own_fields_too():
    @dataclass(frozen=True, kw_only=True)
    class Own(lc.Params):
        top_cube: float = lc.field(0.5, "[0, 1)")
        note: object = None

    properties = lc.json_schema(Own)["properties"]
    assert properties["top_cube"] == {
        "type": ["number", "null"],
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.5,
    }
    assert properties["note"] == {}


@pytest.mark.parametrize("vocab_size", [0, -1, 1.5, True])
def test_a_vocabulary_has_tokens(vocab_size):
    with pytest.raises((TypeError, ValueError), match=r"^vocab_size must be"):
        lc.json_schema(vocab_size=vocab_size)


@dataclass(frozen=True, kw_only=True)
class Odd(lc.Params):
    needed: float
    choice: Literal["a", "b"] = "a"
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    either: int | str = 0
    listed: list[int] = dataclasses.field(default_factory=list)
    nested: tuple[list[int], ...] = ()
    gap: float = lc.field(np.inf, "[0, inf]")


def test_types_without_a_counterpart_take_any_value():
    schema = lc.json_schema(Odd)
    assert schema["required"] == ["needed"]
    assert schema["properties"]["needed"] == {"type": "number"}
    for name in ("choice", "table", "either", "listed", "nested"):
        assert schema["properties"][name] == {}
    assert "default" not in schema["properties"]["gap"]
    json.dumps(schema, allow_nan=False)


def test_a_type_that_cannot_be_looked_up_takes_any_value():
    @dataclass(frozen=True, kw_only=True)
    class Local(lc.Params):
        mine: "NotHere" = None  # noqa: F821

    properties = lc.json_schema(Local)["properties"]
    assert properties["mine"] == {}
    assert properties["min_p"]["maximum"] == 1


def test_options_of_a_watermark_have_their_ranges():
    schema = SCHEMA["watermark"]
    assert schema["required"] == ["key"]
    for option, low, high in (("key", 0, 2**64 - 1), ("context_width", 1, 64), ("alpha", 0, 1)):
        bounds = schema["properties"][option]
        assert (bounds["minimum"], bounds["maximum"]) == (low, high)
        for value in (low, high):
            lc.Watermark("dual_key_gumbel", **{"key": 1, option: value})
        with pytest.raises(ValueError, match=f"watermark.{option} must be in"):
            lc.Watermark("dual_key_gumbel", **{"key": 1, option: high + 1})


def test_a_list_of_lists_or_of_their_items():
    schema = SCHEMA["stop_tokens"]
    assert schema["type"] == ["integer", "array", "null"]
    assert schema["items"]["type"] == ["integer", "array"]
    assert (schema["items"]["minItems"], "minItems" in schema) == (1, False)
