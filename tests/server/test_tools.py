"""Tools: what is called is valid, who calls it, and how an answer goes on after an error."""

import json

import jsonschema
import openai
import pytest
from asking import ANSWER, CALCULATOR, RATE, TOKEN, ask, function, say, stream
from numpy import exp

GREEDY = {"temperature": 0, "parallel_tool_calls": False}


def named(name):
    return {"type": "function", "function": {"name": name}}


WEATHER = function("weather", city={"type": "string", "maxLength": 12}, days={"enum": [1, 2, 3]})
QUESTION = "What is the weather in Paris?"


def calls(answer):
    return [call.function for call in answer.choices[0].message.tool_calls or ()]


SCHEMAS = {
    "flat": WEATHER,
    "numbers": function(
        "f", a={"type": "integer", "minimum": -5, "maximum": 5}, b={"type": "boolean"}
    ),
    "nested": function(
        "f",
        at={
            "type": "object",
            "properties": {"x": {"enum": [1, 2]}, "y": {"type": "null"}},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    ),
    "list": function("f", tags={"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}),
    "pattern": function("f", code={"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"}),
    "choice": function("f", value={"anyOf": [{"type": "boolean"}, {"const": "both"}]}),
    "nothing": {"type": "function", "function": {"name": "now"}},
}


@pytest.mark.parametrize("tool", SCHEMAS.values(), ids=SCHEMAS)
def test_arguments_are_valid_however_wild_the_sampling(client, tool):
    answer = ask(
        client,
        "Hello!",
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=2,
        n=3,
        seed=1,
        max_tokens=60,
    )
    schema = tool["function"].get("parameters", {"maxProperties": 0})
    for choice in answer.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        assert call.function.name == tool["function"]["name"]
        jsonschema.validate(json.loads(call.function.arguments), schema)


def test_tools(client):
    """The model is told of them, and the client of what it called."""
    bare = ask(client, QUESTION, max_tokens=1).usage.prompt_tokens
    assert ask(client, QUESTION, tools=[WEATHER], max_tokens=1).usage.prompt_tokens > bare + 50
    answer = ask(client, QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=60, **GREEDY)
    (call,) = calls(answer)
    assert json.loads(call.arguments)["city"] == "Paris"

    history = [
        {"role": "user", "content": QUESTION},
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": answer.choices[0].message.tool_calls[0].id},
    ]
    said = set()
    for weather in ("Snow, and a storm.", "31 degrees and sun."):
        history[-1]["content"] = weather
        said.add(say(client, history, max_tokens=12, temperature=0))
    assert len(said) == 2


def test_tool_choice(client):
    fields = {"tools": [WEATHER, RATE], "max_tokens": 50, **GREEDY}
    for name in ("weather", "rate"):
        answer = ask(client, QUESTION, tool_choice=named(name), **fields)
        assert [call.name for call in calls(answer)] == [name]
        assert answer.choices[0].finish_reason == "tool_calls"
    required = ask(client, QUESTION, tool_choice="required", **fields)
    assert [call.name for call in calls(required)] in (["weather"], ["rate"])
    without = ask(client, QUESTION, max_tokens=12, temperature=0)
    none = ask(client, QUESTION, tool_choice="none", **{**fields, "max_tokens": 12})
    assert none.choices[0].message == without.choices[0].message
    auto = ask(client, QUESTION, tool_choice="auto", **{**fields, "max_tokens": 12})
    assert auto.usage.prompt_tokens > none.usage.prompt_tokens
    assert auto.choices[0].message.content
    assert not calls(auto)


def test_parallel_tool_calls(client, tokenizer):
    """With a bias against the end it calls again where it may, and ends where it may not."""
    end = tokenizer.encode("<|im_end|>")
    fields = {"tools": [RATE], "tool_choice": "required", "banned_tokens": end, "temperature": 0}
    several = ask(client, "Rate it.", parallel_tool_calls=True, max_tokens=80, **fields)
    assert len(calls(several)) > 1
    one = ask(client, "Rate it.", parallel_tool_calls=False, max_tokens=80, **fields)
    assert len(calls(one)) == 1
    assert one.choices[0].finish_reason == "tool_calls"


def test_the_calculator_is_run_by_the_server(client):
    fields = {"tools": [CALCULATOR], "tool_choice": "required", "max_tokens": 60, **GREEDY}
    answer = ask(client, "What is 12 * 12?", **fields)
    assert "144" in answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    chunks = stream(client, "What is 12 * 12?", **fields)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content
    again = ask(client, "What is 12 * 12?", **fields, logprobs=True).choices[0]
    assert again.message.content == text


def test_resume_generation(client):
    """1 / 0 ends the answer with an error, or is told to the model, which goes on."""
    fields = {"tools": [CALCULATOR], "tool_choice": "required", "max_tokens": 50, **GREEDY}
    with pytest.raises(openai.UnprocessableEntityError, match="division by zero"):
        ask(client, "What is 1 / 0?", **fields)
    with pytest.raises(openai.APIError, match="division by zero"):
        stream(client, "What is 1 / 0?", **fields)
    resumed = ask(client, "What is 1 / 0?", resume_generation=True, **fields)
    assert "divide by zero" in resumed.choices[0].message.content
    assert ask(client, max_tokens=12, temperature=0).choices[0].message.content == ANSWER


def test_two_tokens_that_a_grammar_leaves_share_all_of_the_probability(guarded):
    fields = {"tools": [function("f", n={"enum": [3, 7]})], "tool_choice": named("f")}
    logprobs = {"logprobs": True, "top_logprobs": 5, "seed": 1, "max_tokens": 40}
    answer = ask(guarded.client(TOKEN), "Three or seven?", **fields, **logprobs)
    entries = answer.choices[0].logprobs.content
    (entry,) = [entry for entry in entries if entry.token in "37"]
    assert {top.token for top in entry.top_logprobs} == {"3", "7"}
    assert abs(exp([top.logprob for top in entry.top_logprobs]).sum() - 1) < 1e-6
