"""What schemathesis makes of the app's own description: no answer may break what that says."""

from pathlib import Path

import schemathesis
from asking import MODEL, get
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from server.openapi import DESCRIPTION
from server.schema import BODY

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


def test_the_description_is_served(server):
    assert get(server.url, "/openapi.json") == (200, DESCRIPTION)


def test_the_page_tells_of_every_field():
    page = (Path(__file__).parents[2] / "docs/server.md").read_text()
    assert not [name for name in BODY["properties"] if f"`{name}`" not in page]
