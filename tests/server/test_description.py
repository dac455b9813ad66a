"""What schemathesis makes of the app's own description: no answer may break what that says."""

from pathlib import Path

import pytest
import schemathesis
from asking import MODEL, get
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from server.errors import ApiError
from server.openapi import DESCRIPTION
from server.schema import BODY, SAMPLING, check

import logitchain as lc

#: Two fields may not go together, each of them right: a schema has no word for that.
NOT_SAID = [positive_data_acceptance]

schema = schemathesis.openapi.from_dict(DESCRIPTION)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_its_description(case, server):
    if isinstance(case.body, dict):
        case.body.pop("max_completion_tokens", None)
        case.body["max_tokens"] = 1
        if isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL
    case.call_and_validate(base_url=server.url, timeout=60, excluded_checks=NOT_SAID)


@pytest.mark.parametrize("name", sorted(SAMPLING))
def test_an_integer_with_a_fraction_is_one_neither_to_the_library_nor_to_the_schema(name):
    kinds = SAMPLING[name]["type"]
    if "integer" not in kinds:
        return
    assert SAMPLING[name]["description"] == "Without a fraction: 8, not 8.0."
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    check(body | {name: 1})
    lc.Params.from_request({name: 1})
    for value in (1.0, 8.0, True):
        with pytest.raises(TypeError, match=name.replace("completion_", "")):
            lc.Params.from_request({name: value})
        with pytest.raises(ApiError, match=name):
            check(body | {name: value})


def test_no_error_repeats_a_name_without_end():
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    for more in ({"x" * 10**6: 1}, {"chat_template_kwargs": {"x" * 10**6: 1}}):
        with pytest.raises(ApiError) as error:
            check(body | more)
        assert len(str(error.value)) < 600


def test_the_description_is_served(server):
    assert get(server.url, "/openapi.json") == (200, DESCRIPTION)


def test_the_page_tells_of_every_field():
    page = (Path(__file__).parents[2] / "docs/server.md").read_text()
    assert not [name for name in BODY["properties"] if f"`{name}`" not in page]
