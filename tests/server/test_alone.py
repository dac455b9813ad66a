"""An answer is the request's and the seed's: whoever asks at the same time, over HTTP or not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asking import CALCULATOR, FRANCE, MODEL, RATE, ask, told, user

#: Eight requests that have little in common.
REQUESTS = [
    (FRANCE, {"seed": 0, "temperature": 0, "max_tokens": 10}),
    ("Tell me about whales.", {"seed": 1, "temperature": 1.5, "max_tokens": 20}),
    ("Name a colour.", {"seed": 2, "n": 2, "top_p": 0.9, "max_tokens": 8}),
    ("Count to ten.", {"seed": 3, "repetition_penalty": 1.3, "min_p": 0.05, "max_tokens": 16}),
    ("Rate it.", {"seed": 4, "tools": [RATE], "tool_choice": "required", "max_tokens": 30}),
    ("Write a poem.", {"seed": 5, "xtc_probability": 0.5, "xtc_threshold": 0.1, "max_tokens": 16}),
    ("Who are you? " * 40, {"seed": 6, "logit_bias": {"42": 5}, "stop": [" I"], "max_tokens": 12}),
    (
        "What is 12 * 12?",
        {"seed": 7, "tools": [CALCULATOR], "tool_choice": "required", "max_tokens": 50},
    ),
]
LOGPROBS = {"logprobs": True, "top_logprobs": 3}


def test_eight_clients_at_once_get_what_each_gets_alone(client):
    """Text, tokens, seeds and each log-probability, bit for bit."""
    alone = [told(ask(client, question, **fields, **LOGPROBS)) for question, fields in REQUESTS]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            at_once = [
                pool.submit(ask, client, question, **fields, **LOGPROBS)
                for question, fields in REQUESTS
            ]
            assert [told(answer.result()) for answer in at_once] == alone


@pytest.fixture(scope="module")
def scheduler(model):
    from server.scheduler import Scheduler

    return Scheduler(model)


@pytest.mark.parametrize(("question", "fields"), REQUESTS)
def test_the_same_without_http(client, scheduler, grammars, question, fields):
    from openai.types.chat import ChatCompletion

    from server import protocol

    body = {"model": MODEL, "messages": user(question), **fields, **LOGPROBS}
    request = protocol.read_chat(body, scheduler.model.tokenizer, grammars)
    here = scheduler.answer(request).response()
    there = ask(client, question, **fields, **LOGPROBS)
    assert told(ChatCompletion.model_validate(here)) == told(there)
    assert here["usage"] == there.usage.model_dump(include=here["usage"].keys())


def test_the_loop_of_the_demo_says_the_same(client, model):
    from engine import answer

    body = {"messages": user("Tell me about whales."), "n": 3, "seed": 9, "max_tokens": 10}
    here = [choice.text for choice in answer(model, body).choices]
    there = ask(client, "Tell me about whales.", n=3, seed=9, max_tokens=10)
    assert here == [choice.message.content for choice in there.choices]


def test_logits_do_not_depend_on_who_is_beside(model):
    prompts = [model.tokenizer.chat(user(question)) for question, _ in REQUESTS]
    caches = [model.prefill(prompt)[1] for prompt in prompts]
    alone = [model.step([cache.fork()], [100])[0] for cache in caches]
    for size in (2, 3, 8):
        together = model.step([cache.fork() for cache in caches[:size]], [100] * size)
        np.testing.assert_array_equal(together, alone[:size])
