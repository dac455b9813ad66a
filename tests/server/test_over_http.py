"""The recipe of docs/engines.md for an engine without a hook, against this server as the engine."""

import io
import json
import urllib.request

import pytest
from over_http import MOST, answer, best_tokens

import logitchain as lc

MESSAGES = [{"role": "user", "content": "Tell me about whales."}]
MODEL = "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def token_id(tokenizer):
    ids = {tokenizer.token_bytes(i): i for i in reversed(range(tokenizer.vocab_size))}
    return {**ids, b"": tokenizer.eos[0]}.__getitem__


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.8, "seed": 7},
        {"temperature": 1.2, "min_p": 0.05, "seed": 8},
        {"xtc_probability": 0.7, "xtc_threshold": 0.05, "frequency_penalty": 1.0, "seed": 9},
        {"temperature": 0},
    ],
)
def test_it_says_what_the_engine_says_of_its_best_tokens(
    server, client, tokenizer, token_id, fields
):
    """Where all that can be drawn is among the tokens that the engine tells."""
    fields = {**fields, "top_k": MOST if "frequency_penalty" not in fields else 10}
    standard = {name: fields[name] for name in fields.keys() - {"seed", "top_k", "min_p"}}
    there = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=12, extra_body={**standard, **fields}
    )
    params = lc.Params(**fields, max_tokens=12)
    url = f"{server.url}/v1"
    here = answer(url, MODEL, MESSAGES, params, token_id, tokenizer.vocab_size)
    assert here == there.choices[0].message.content
    assert len(here) > 10


def test_without_the_ids_the_same_seed_says_the_same(server):
    params = lc.Params(temperature=0.9, seed=7, max_tokens=6)
    first, second = (answer(f"{server.url}/v1", MODEL, MESSAGES, params) for _ in range(2))
    assert first == second


def test_the_engine_tells_as_many_as_the_recipe_says(server):
    best = best_tokens(
        f"{server.url}/v1", MODEL, [*MESSAGES, {"role": "assistant", "content": "A"}]
    )
    assert len(best) == MOST


def test_a_token_without_bytes_is_its_text(monkeypatch):
    entries = [
        {"token": "A", "bytes": None, "logprob": -0.5},
        {"token": "<end>", "bytes": [], "logprob": -1.0},
    ]
    told = {"choices": [{"logprobs": {"content": [{"top_logprobs": entries}]}}]}
    reply = io.BytesIO(json.dumps(told).encode())
    monkeypatch.setattr(urllib.request, "urlopen", lambda request: reply)
    assert best_tokens("http://engine", MODEL, MESSAGES) == {b"A": -0.5, b"": -1.0}
