"""Whatever is wrong with a request, the answer is an error in the API's form that names it."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from asking import MODEL, RATE, TOKEN, ask, function, get, health, post, user
from server.answer import Answer
from server.errors import ApiError
from server.schema import CHAT, Body

from server import protocol

TOOL = RATE
ENDLESS = function("f", x={"$ref": "#"})["function"]["parameters"]
FUNCTION = RATE["function"]


def tools(**changes):
    return [{**RATE, "function": {**FUNCTION, **changes}}]


def json_format(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


#: (field at fault, what the body says): each replaces or adds to a good body.
BAD_FIELDS = [
    *[("temperature", value) for value in (-0.1, "hot", True, [1], {}, "1")],
    *[("top_k", value) for value in (-1, 49_153, 1.5, "5", True, [])],
    *[("top_p", value) for value in (0, -0.5, 1.01, "0.9", False)],
    *[("min_p", value) for value in (-0.1, 1.5, "x", True)],
    *[("xtc_probability", value) for value in (-1, 2, "x")],
    *[("xtc_threshold", value) for value in (-1, 2, [])],
    *[("repetition_penalty", value) for value in (0, -1, "x", True)],
    *[("frequency_penalty", value) for value in (-2.1, 2.1, "x")],
    *[("presence_penalty", value) for value in (-3, 3, {})],
    *[("dynatemp_range", value) for value in (-0.1, "x")],
    *[("mirostat_tau", value) for value in (0, "x")],
    *[("mirostat_eta", value) for value in (0, 1.1)],
    *[("adaptive_target", value) for value in (-0.1, 1.1)],
    *[("adaptive_decay", value) for value in (-0.1, 1)],
    *[("dry_multiplier", value) for value in (-1, "x")],
    *[("dry_base", value) for value in (0.9, True)],
    *[("dry_allowed_length", value) for value in (-1, 1.5)],
    *[("dry_sequence_breakers", value) for value in (["x"], [[]])],
    *[("reasoning_budget", value) for value in (-1, 1.5, "x")],
    *[("min_reasoning", value) for value in (-1, True)],
    *[("reasoning_grace", value) for value in (-1, "x")],
    *[("reasoning_per_block", value) for value in (1, "true")],
    *[("reasoning_end", value) for value in ([-1], [49_152], "x" * 257)],
    *[("forced_output_tokens", value) for value in ([[1]], [49_152])],
    *[("repetition_detection", value) for value in (5, True, {"max_pattern_size": 4})],
    *[("logit_bias", value) for value in ([], 5, "x", {"-1": 0}, {"49152": 0}, {"x": 1})],
    *[("logit_bias", value) for value in ({"1": "x"}, {"1": None}, {"1": 1, "01": 2})],
    *[("seed", value) for value in (1.5, "7", 2**64, -(2**63) - 1, [], [1, 2], [[1]], True)],
    *[("n", value) for value in (0, -1, 17, 1.0, "2", True, 10**30)],
    *[("max_tokens", value) for value in (0, -5, 1.5, "9", True)],
    *[("max_completion_tokens", value) for value in (0, "9")],
    *[("min_tokens", value) for value in (-1, 0.5)],
    *[("stop", value) for value in ("", 5, {}, "x" * 257, ["x"] * 65)],
    *[("stop[0]", value) for value in ([""], [1], ["x" * 257])],
    ("stop[1]", ["a", ""]),
    *[("eos_token", value) for value in (-1, "x", [[1]], 1.5)],
    ("eos_token", [49_152]),
    *[("allowed_tokens", value) for value in ([-1], [0, 49_152], [0] * 49_153)],
    *[("banned_tokens", value) for value in ("x", [True])],
    *[("bad_words", value) for value in ([1], [[]])],
    *[("bad_words", value) for value in ([[49_152]], [[1]] * 1025, {})],
    *[("no_repeat_ngram", value) for value in (-1, "2")],
    *[("logprobs", value) for value in (1, "yes", [])],
    *[("top_logprobs", value) for value in (-1, 1025, "3", 5)],
    *[("logprob_token_ids", value) for value in ([-1], [49_152], "x", [1] * 1025)],
    *[("return_kept", value) for value in (0, 513, "all")],
    *[("stop_tokens", value) for value in (["x"], [{"tokens": []}], [{"token": [1]}], "x")],
    *[("watermark", value) for value in ({}, {"key": -1}, {"key": 1, "scheme": "x"}, 5)],
    *[("banned_texts[0]", value) for value in ([""], [1], ["x" * 257])],
    *[("bad_words[0]", value) for value in ([""], ["x" * 257])],
    *[("logprobs_of", value) for value in ("", "top_z", 5)],
    *[("stream", value) for value in (1, "yes", [])],
    *[("stream_options", value) for value in (5, [])],
    ("stream_options.include_usage", {"include_usage": 1}),
    ("stream_options.include", {"include": True}),
    *[("messages", value) for value in (None, [], {}, "Hi", 5)],
    *[("messages[0]", [value]) for value in ("Hi", None, 5, [])],
    ("messages[0].role", [{"content": "x"}]),
    ("messages[0].role", [{"role": "wizard", "content": "x"}]),
    ("messages[0].content", [{"role": "user"}]),
    ("messages[0].content", [{"role": "user", "content": None}]),
    ("messages[0].content", [{"role": "user", "content": 5}]),
    ("messages[0].content[0].text", [{"role": "user", "content": [{"type": "text"}]}]),
    ("messages[0].content[0].type", [{"role": "user", "content": [{"type": "image", "text": ""}]}]),
    ("messages[0].mood", [{"role": "user", "content": "x", "mood": "good"}]),
    ("messages[1].tool_calls", [*user("x"), {"role": "assistant", "tool_calls": 5}]),
    ("messages", user("word " * 2100)),
    *[("model", value) for value in (5, [])],
    *[("tools", value) for value in (5, {}, "x", [TOOL, TOOL])],
    *[("tools[0]", [value]) for value in (5, "x")],
    ("tools[0].type", [{}]),
    ("tools[0].type", [{"type": "web:search"}]),
    ("tools[0].function", [{"type": "function"}]),
    ("tools[0].function.name", tools(name="a b")),
    ("tools[0].function.name", tools(name="")),
    ("tools[0].function.name", tools(name="f\n")),
    ("tools[0].function.parameters", tools(parameters=[])),
    ("tools[0].function.parameters.type", tools(parameters={"type": "nonsense"})),
    ("tools[0].function.parameters", tools(parameters={"$ref": "#/nowhere"})),
    ("tools[0].function.parameters", tools(parameters={"$ref": "http://127.0.0.1:1/x"})),
    ("tools[0].function.parameters.pattern", tools(parameters={"pattern": "("})),
    ("tools[0].function.parameters", tools(parameters={"not": {}}, strict=True)),
    ("tools", [RATE] * 129),
    *[("tool_choice", value) for value in ("maybe", 5, "required", [], "none\n")],
    ("tool_choice.function", {"type": "function"}),
    ("parallel_tool_calls", 1),
    ("resume_generation", "yes"),
    ("chat_template_kwargs", 5),
    ("chat_template_kwargs.mood", {"mood": "good"}),
    ("chat_template_kwargs.system_prompt", {"system_prompt": 5}),
    ("chat_template_kwargs.add_generation_prompt", {"add_generation_prompt": "no"}),
    ("chat_template_kwargs.continue_final_message", {"continue_final_message": True}),
    *[("response_format", value) for value in (5, "json_object", [])],
    *[("response_format.type", {"type": value}) for value in ("xml", None)],
    ("response_format.json_schema", {"type": "json_schema"}),
    ("response_format.json_schema.schema", {"type": "json_schema", "json_schema": {"name": "x"}}),
    ("response_format.json_schema.schema.type", json_format({"type": "x"})),
    ("response_format.json_schema.schema", json_format({"not": {}}, strict=True)),
    ("user", 5),
    *[("metadata", value) for value in (5, {str(i): "" for i in range(17)})],
    ("metadata.a", {"a": 5}),
    ("store", "yes"),
    ("service_tier", "gold"),
    ("stream_options.include_obfuscation", {"include_obfuscation": 1}),
    ("chat_template_kwargs.enable_thinking", {"enable_thinking": "x"}),
    ("logit_bias", {"12\n": 1.0}),
    ("functions", []),
    ("top-p", 0.5),
    ("tempertaure", 0.5),
]
BAD_BODIES = [
    *(b"", b"{", b"\xff\xfe", b'{"messages": NaN}', b"[" * 100_000, b"null", b"[]", b'"x"', b"5"),
    b'{"model": "\\ud800"}',
    b'{"temperature": 1e999}',
    b'{"n": ' + b"9" * 5000 + b"}",
    b"\x00",
    b"{}" * 2,
]


def is_error(body):
    error = body["error"]
    return body.keys() == {"error"} and error.keys() == {"message", "type", "param", "code"}


def test_a_hundred_malformed_fields(server):
    assert len(BAD_FIELDS) > 100
    for field, value in BAD_FIELDS:
        body = {"model": MODEL, "messages": user("Hi")}
        status, answer = post(server.url, body | {field.split(".")[0].split("[")[0]: value})
        assert status == 400, (field, value, answer)
        assert is_error(answer)
        assert answer["error"]["param"] == field, (value, answer)
        assert field.split(".")[-1] in answer["error"]["message"], answer
        assert answer["error"]["type"] == "invalid_request_error"
        assert len(answer["error"]["message"]) < 700


#: The same of the older API.
BAD_COMPLETIONS = [
    *[("prompt", value) for value in (5, None, [], [[]], ["x", 5], [1.5], [49_152], ["x"] * 17)],
    ("prompt", "word " * 2100),
    *[("logprobs", value) for value in (True, 6, -1)],
    *[("best_of", value) for value in (2, 0, "1")],
    ("suffix", "x"),
    ("encoder_no_repeat_ngram", 2),
    ("encoder_repetition_penalty", 1.5),
    ("bad_word_tokens[0].tokens[0]", [{"tokens": [49_152]}]),
    ("echo", 1),
    ("n", 17),
    ("messages", user("Hi")),
    ("min_p", 2),
]


def test_malformed_fields_of_a_completion(server):
    for field, value in BAD_COMPLETIONS:
        body = {"prompt": "Hi", "max_tokens": 1, field.split("[")[0]: value}
        status, answer = post(server.url, body, path="/v1/completions")
        assert (status, answer["error"]["param"]) == (400, field), (value, answer)
    assert post(server.url, {}, path="/v1/completions")[1]["error"]["param"] == "prompt"


def test_of_several_faults_the_first_is_named():
    faults = {
        "temperature": -1,
        "tool_choice": "maybe",
        "banned_tokens": [49_152],
        "messages": [*user("Hi"), {"role": "user"}, {"role": "wizard"}],
        "tempertaure": 1,
        "stop": [1] * 100,
    }
    param = {"messages": "messages[1].content"}
    body = Body(CHAT)
    for first in faults:
        order = {first: faults[first], **faults}
        with pytest.raises(ApiError) as error:
            body.check(order)
        assert error.value.param == param.get(first, first)
    with pytest.raises(ApiError) as error:
        body.check({})
    assert error.value.param == "messages"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"messages": [{}] * 170_000}, 400),
        ({"messages": [{"role": "user", "content": ""}] * 25_000}, 400),
        ({"messages": user([{"type": "text", "text": ""}] * 27_000)}, 400),
        ({"messages": user("x" * 1_000_000)}, 400),
        ({"n": 8, "stop": "ab" * 250_000}, 400),
        ({"n": 16, "stop": [f"s{i}" for i in range(60_000)]}, 400),
        ({"banned_tokens": [i % 49_152 for i in range(150_000)]}, 400),
        ({"n": 16, "bad_words": [[i % 49_152] for i in range(100_000)]}, 400),
        ({"stream_options": {f"x{i}": 1 for i in range(80_000)}}, 400),
        ({"n": 16, "logit_bias": {str(i): 0.1 for i in range(49_152)}}, 200),
        ({"n": 16, "bad_words": [list(range(100, 49_000))] * 3}, 200),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_no_body_makes_the_server_work_for_long(tokenizer, grammars, fields, status):
    """The work is counted in CPU time of the thread that reads, once for all samples."""
    body = {"messages": user("Hi"), **fields}
    began = time.thread_time()
    if status == 200:
        request = protocol.read_chat(body, tokenizer, grammars)
        for index in range(16):
            Answer(request, tokenizer, index)
    else:
        with pytest.raises(ApiError) as error:
            protocol.read_chat(body, tokenizer, grammars)
        assert error.value.status == status
    assert time.thread_time() - began < 1.5


def test_malformed_bodies(server):
    for body in BAD_BODIES:
        status, answer = post(server.url, body)
        assert status == 400, (body[:50], answer)
        assert is_error(answer)
        assert answer["error"]["message"]
    assert health(server.url) == {"status": "ok", "running": 0, "waiting": 0}


def test_an_error_names_field_range_and_value(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, min_p=1.5)
    assert caught.value.param == "min_p"
    assert "min_p must be in [0, 1], not 1.5" in caught.value.message


def test_what_does_not_go_together(client):
    for field, fields in {
        "tool_choice": {"tool_choice": "required"},
        "min_tokens": {"tools": [RATE], "min_tokens": 3},
        "top_logprobs": {"top_logprobs": 3},
        "stream_options": {"stream_options": {"include_usage": True}},
        "seed": {"seed": [1, 2, 3], "n": 2},
    }.items():
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **fields)
        assert caught.value.param == field
    with pytest.raises(openai.BadRequestError, match="rate, not 'fly'"):
        ask(client, tools=[RATE], tool_choice={"type": "function", "function": {"name": "fly"}})


def test_a_body_too_large(server):
    status, answer = post(server.url, b" " * (2 << 20))
    assert (status, is_error(answer)) == (413, True)


def test_a_wrong_path_or_method(server):
    for path, status in (("/v1/nothing", 404), ("/v1/chat/completions", 405)):
        assert get(server.url, path)[0] == status
        assert is_error(get(server.url, path)[1])


def test_a_bearer_token_is_checked_where_there_is_one(guarded, server):
    assert ask(guarded.client(TOKEN), max_tokens=1).choices
    with pytest.raises(openai.AuthenticationError, match="bearer token"):
        ask(guarded.client("another"), max_tokens=1)
    with pytest.raises(openai.AuthenticationError):
        guarded.client("another").models.list()
    assert post(guarded.url, {})[0] == get(guarded.url, "/v1/models")[0] == 401
    for given, status in {
        f"bearer {TOKEN}": 200,
        f"BEARER {TOKEN}": 200,
        f"Basic {TOKEN}": 401,
        TOKEN: 401,
        "Bearer": 401,
        f"Bearer {TOKEN}x": 401,
        "Bearer \u00fc": 401,
    }.items():
        assert get(guarded.url, "/v1/models", {"Authorization": given})[0] == status, given
    assert ask(server.client("any"), max_tokens=1).choices


def test_the_team_header_is_accepted(server):
    body = {"model": MODEL, "messages": user("Hi"), "max_tokens": 1}
    assert post(server.url, body, {"X-Friendli-Team": "us"})[0] == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": [RATE], "allowed_tokens": [100]}, "no token can be drawn"),
        ({"tools": tools(parameters=ENDLESS)}, "the grammar gave up"),
    ],
)
def test_a_row_that_cannot_go_on_ends_its_request_alone(client, fields, message):
    """A call is required, whose first token is banned; or whose arguments have no end."""
    question = {"content": "Tell me about whales.", "seed": 3, "max_tokens": 12}
    expected = ask(client, **question).choices
    with ThreadPoolExecutor(2) as pool:
        beside = pool.submit(ask, client, **question)
        with pytest.raises(openai.UnprocessableEntityError, match=message):
            ask(client, tool_choice="required", **fields)
        assert beside.result().choices == expected
