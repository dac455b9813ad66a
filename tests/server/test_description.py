"""What schemathesis makes of the app's own description: no answer may break what that says."""

from pathlib import Path

import jsonschema
import pytest
import schemathesis
from asking import MODEL, get
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from server.errors import ApiError
from server.openapi import DESCRIPTION
from server.schema import CHAT, COMPLETION, SAMPLING, VOCABULARY, Body

import logitchain as lc

#: Two fields may not go together, each of them right: a schema has no word for that.
NOT_SAID = [positive_data_acceptance]

schema = schemathesis.openapi.from_dict(DESCRIPTION)


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_its_description(case, server):
    if isinstance(case.body, dict):
        case.body.pop("max_completion_tokens", None)
        case.body["max_tokens"] = 1
        if isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL
    case.call_and_validate(base_url=server.url, timeout=60, excluded_checks=NOT_SAID)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.integers(-(2**66), 2**66),
    st.floats(-3, 3),
    st.text(max_size=2),
    st.lists(st.integers(-1, 3), max_size=3),
    st.lists(st.lists(st.integers(-1, 60_000), max_size=2), max_size=2),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.sampled_from(["1", "x", "49151", "49152", "-1"]), st.integers(-9, 9)),
)


@pytest.mark.parametrize("name", sorted(SAMPLING))
@given(value=values)
@settings(max_examples=20, deadline=None)
def test_the_schema_and_the_library_take_the_same_values(name, value):
    """Only that 8.0 is an integer and that token 49152 is none, a schema of keys cannot say."""
    if isinstance(value, float) and value.is_integer():
        return
    said = jsonschema.Draft202012Validator(lc.json_schema(vocab_size=VOCABULARY)).is_valid
    try:
        n = len(value) if name == "seed" and isinstance(value, list) else 1
        needed = {"n": max(n, 1), "reasoning_end": [7] * 9}  # bounds of reasoning need its end
        params = lc.Params.from_request(needed | {name: value})
        params.check_vocabulary(VOCABULARY)
        is_good = True
    except (TypeError, ValueError):
        is_good = False
    is_key = name == "logit_bias" and isinstance(value, dict) and "49152" in value
    assert said({name: value}) == is_good or is_key


@pytest.mark.parametrize("name", sorted(SAMPLING))
def test_an_integer_with_a_fraction_is_none(name):
    if "integer" not in SAMPLING[name]["type"]:
        return
    assert SAMPLING[name]["description"].endswith("; without a fraction: 8, not 8.0")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    Body(CHAT).check(body | {name: 1})
    for value in (1.0, 8.0, True):
        with pytest.raises(ApiError, match=name):
            Body(CHAT).check(body | {name: value})


def test_no_error_repeats_a_name_without_end():
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    for more in ({"x" * 10**6: 1}, {"chat_template_kwargs": {"x" * 10**6: 1}}):
        with pytest.raises(ApiError) as error:
            Body(CHAT).check(body | more)
        assert len(str(error.value)) < 600


def test_the_description_is_served(server):
    assert get(server.url, "/openapi.json") == (200, DESCRIPTION)


def test_the_page_tells_of_every_field():
    page = (Path(__file__).parents[2] / "docs/server.md").read_text()
    names = {*CHAT["properties"], *COMPLETION["properties"]}
    assert not [name for name in names if f"`{name}`" not in page]
