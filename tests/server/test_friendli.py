"""The official client of Friendli, unchanged: its models are strict about what they are told."""

import json
from functools import partial

import pytest
from asking import ANSWER, FRANCE, MODEL, RATE, user

friendli = pytest.importorskip("friendli")  # it needs Python 3.11


GREEDY = {"temperature": 0, "max_tokens": 16}


@pytest.fixture(scope="module")
def chat(server):
    """`chat.complete` of a container, without the name of a model."""
    with friendli.SyncFriendli(token="none", x_friendli_team="us") as client:
        yield partial(client.container.chat.complete, server_url=server.url)


def test_chat(chat):
    answer = chat(messages=user(FRANCE), **GREEDY, min_p=0.1, seed=[7], logprobs=True)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert answer.usage.completion_tokens == len(choice.logprobs.content) + 1


def test_chat_in_a_stream(chat):
    options = {"include_usage": True}
    with chat(messages=user(FRANCE), stream=True, stream_options=options, **GREEDY) as events:
        chunks = [event.data for event in events]
    said = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == ANSWER
    assert chunks[-1].usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(chat, stream):
    asked = {
        "messages": user("Rate it."),
        "tools": [RATE],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 40,
    }
    if stream:
        with chat(**asked, stream=True) as events:
            deltas = [x.delta for event in events for x in event.data.choices]
        parts = [call for delta in deltas for call in delta.tool_calls or ()]
        assert parts[0].id
        arguments = "".join(part.function.arguments for part in parts)
    else:
        (choice,) = chat(**asked).choices
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        arguments = call.function.arguments
    assert json.loads(arguments)["stars"] in range(1, 6)


def test_a_response_format(chat):
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    answer = chat(messages=user("?"), response_format=form, max_tokens=60)
    if answer.choices[0].finish_reason == "stop":
        assert json.loads(answer.choices[0].message.content)["n"] in (1, 2)


def test_completions(server, tokenizer):
    body = {"model": MODEL, "prompt": "The capital of France is", **GREEDY, "max_tokens": 4}
    with friendli.SyncFriendli(token="none", x_friendli_team="us") as client:
        complete = partial(client.container.completions.complete, server_url=server.url)
        (choice,) = complete(request=body).choices
        assert tokenizer.decode(choice.tokens) == choice.text
        body = {"tokens": tokenizer.encode(body.pop("prompt")), **body}
        (same,) = complete(request=body).choices
        assert (same.text, same.tokens) == (choice.text, choice.tokens)
        with complete(request=body | {"stream": True}) as events:
            assert "".join(x.text for event in events for x in event.data.choices) == choice.text


def test_what_friendlis_completions_have_beyond_the_others(server, tokenizer):
    """Its fields and its form of sequences; texts, tokens, limits that count the prompt."""
    prompt = "The capital of France is"
    size, (paris, stop) = len(tokenizer.encode(prompt)), tokenizer.encode(" Paris,")
    body = {"model": MODEL, "prompt": prompt, "temperature": 0}
    with friendli.SyncFriendli(token="none", x_friendli_team="us") as client:

        def complete(**fields):
            whole = client.container.completions.complete
            return whole(request=body | fields, server_url=server.url).choices[0]

        off = {"encoder_no_repeat_ngram": 1, "encoder_repetition_penalty": 1.0}
        plain = complete(**off, embedding_to_replace=None, token_index_to_replace=None)
        assert plain.tokens[0] == paris
        assert paris not in complete(bad_words=["Paris"]).tokens
        assert paris not in complete(bad_word_tokens=[{"tokens": [paris]}]).tokens
        limits = {"min_total_tokens": size + 3, "max_total_tokens": size + 20}
        assert 3 <= len(complete(**limits).tokens) <= 20
        forced = tokenizer.encode(" Lyon and")
        assert complete(forced_output_tokens=forced).text.startswith(" Lyon and")
        ended = complete(
            forced_output_tokens=[paris, stop], stop_tokens=[{"tokens": [paris, stop]}]
        )
        assert (ended.tokens, ended.finish_reason) == ([paris, stop], "stop")


def test_a_budget_of_reasoning(chat):
    fields = {"reasoning_budget": 4, "reasoning_effort": "low", "parse_reasoning": True}
    answer = chat(messages=user(FRANCE), include_reasoning=True, **fields, **GREEDY)
    assert answer.choices[0].message.content == ANSWER
