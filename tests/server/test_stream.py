"""A stream says what the whole answer says."""

import json
import time
import urllib.request

import pytest
from asking import MODEL, RATE, ask, stream, told, user

CALL = {
    "tools": [RATE],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_tokens": 40,
}
CASES = {
    "plain": {"seed": 1},
    "several": {"n": 3, "seed": 2, "temperature": 1.5},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "seed": 3, "n": 2},
    "held back": {"stop": ["zzz", " the", "capital is"], "seed": 4, "n": 2, "logprobs": True},
    "other scripts": {"seed": 5, "temperature": 3.0, "max_tokens": 24},
    "a call": {**CALL, "seed": 6},
    "a call and logprobs": {**CALL, "seed": 7, "logprobs": True, "top_logprobs": 1},
}


def put_together(chunks):
    """The choices that chunks add up to, in the form of `told`."""
    choices = {}
    for chunk in chunks:
        for choice in chunk.choices:
            one = choices.setdefault(
                choice.index, {"content": "", "calls": [], "logprobs": [], "seed": choice.seed}
            )
            one["content"] += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                if call.id:
                    one["calls"].append([call.function.name, ""])
                one["calls"][call.index][1] += call.function.arguments
            one["logprobs"] += choice.logprobs.content if choice.logprobs else []
            one["finish_reason"] = choice.finish_reason
    return [choices[index] for index in sorted(choices)]


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_streaming_and_whole_answers_are_equal(client, fields):
    question = "What do you think of the capital of France?"
    whole = told(ask(client, question, **fields))
    assert put_together(stream(client, question, **fields)) == whole
    assert all(choice["finish_reason"] for choice in whole)


def test_the_first_chunk_says_who_speaks_and_all_have_one_name(client):
    chunks = stream(client, n=2, max_tokens=3)
    first = [chunk.choices[0] for chunk in chunks[:2]]
    assert [(choice.index, choice.delta.role, choice.delta.content) for choice in first] == [
        (0, "assistant", ""),
        (1, "assistant", ""),
    ]
    assert not any(chunk.choices[0].delta.role for chunk in chunks[2:])
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert abs(chunks[0].created - time.time()) < 60
    whole = ask(client, max_tokens=1)
    assert whole.object == "chat.completion"
    assert whole.id.startswith("chatcmpl-")
    assert whole.id != chunks[0].id


def test_the_stream_is_server_sent_events_that_end_in_done(server):
    body = {"model": MODEL, "messages": user("Hi"), "max_tokens": 2, "stream": True}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = response.read().decode().split("\n\n")
    assert events[-1] == ""
    assert events[-2] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: ")) for event in events[:-2])
