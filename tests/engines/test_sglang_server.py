"""The SGLang adapter in SGLang's own server, over HTTP, with two layers of SmolLM2 on the CPU."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sglang_server
from smollm2_folder import write_folder

import logitchain as lc
from logitchain.engines.sglang import LogitProcessor

DOCUMENT = Path(__file__).parents[2] / "docs/engines/sglang.md"
PROMPT = [504, 15682, 314]
EVERY: dict[str, Any] = {
    **{"temperature": 1.5, "top_k": 200, "top_p": 0.98, "min_p": 0.001},
    **{"xtc_probability": 0.5, "xtc_threshold": 0.02, "repetition_penalty": 1.2},
    **{"frequency_penalty": 0.5, "presence_penalty": 0.5, "no_repeat_ngram": 2},
    **{"bad_words": [[7], [8, 9]], "banned_tokens": [11], "logit_bias": {5: 3.0}},
}
XTC = {"xtc_probability": 1.0, "xtc_threshold": 0.01, "repetition_penalty": 1.5}
FEW = {"temperature": 3.0, "allowed_tokens": [20, 21, 314, 504], "repetition_penalty": 1.5}


class Server(NamedTuple):
    """A server that runs, and where the logits lie that it computed."""

    url: str
    folder: Path

    def ask(self, path: str, body: Any) -> tuple[int, Any]:
        """The status and what was answered."""
        sent = json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, sent, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def ask_all(self, bodies: dict[str, Any]) -> dict[str, tuple[int, Any]]:
        """All at once."""
        with ThreadPoolExecutor(len(bodies)) as pool:
            answers = pool.map(lambda body: self.ask("/generate", body), bodies.values())
            return dict(zip(bodies, answers, strict=True))

    def by_chain(self, answer: Any, ours: dict[str, Any], seed: int, *, drawn: bool) -> list[int]:
        """What the chain says to the logits that SGLang computed for an answer."""
        chain, batch, tokens = lc.Chain(), lc.Batch(49_152), []
        batch.add(lc.Params(**ours, seed=seed), PROMPT)
        said = answer["output_ids"]
        for row in sglang_server.recorded(self.folder, answer["meta_info"]["id"], len(said)):
            tokens.append(int(chain.sample(row, batch)[0] if drawn else chain(row, batch).argmax()))
            batch.append([said[len(tokens) - 1]])
        return tokens


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that every few steps takes requests out, and reads their tokens again later."""
    model = write_folder(tmp_path_factory.mktemp("model"), layers=2)
    folder = tmp_path_factory.mktemp("logits")
    often = {"SGLANG_TEST_RETRACT": "1", "SGLANG_TEST_RETRACT_INTERVAL": "5"}
    with sglang_server.serving(model, folder, often) as url:
        yield Server(url, folder)


def body(ours: Any = None, tokens: int = 12, **fields: Any) -> dict[str, Any]:
    """A request; one without ours has no processor."""
    asked = {"max_new_tokens": tokens, "ignore_eos": True, "temperature": 0, **fields}
    if ours is None:
        return {"input_ids": PROMPT, "sampling_params": asked}
    asked["custom_params"] = {"logitchain": ours}
    name = sglang_server.Recording.to_str()
    return {"input_ids": PROMPT, "sampling_params": asked, "custom_logit_processor": name}


def draws(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "draw": True}


@pytest.fixture(scope="module")
def mixed(server: Server) -> dict[str, tuple[int, Any]]:
    """Answers to requests that were in the server together."""
    return server.ask_all(
        {
            "every": body(json.dumps(draws(EVERY)), sampling_seed=1),
            "xtc": body(XTC, sampling_seed=2),
            "few": body(draws({**FEW, "seed": 3})),
            "sglang's": body(),
            "twins": body(draws({"temperature": 2.0}), n=2),
            "out of range": body({"min_p": 1.5}),
            "no such token": body({"allowed_tokens": [49_152]}),
            "nothing left": body({"allowed_tokens": [4], "banned_tokens": [4]}),
        }
    )


@pytest.mark.parametrize(
    ("name", "ours", "seed", "drawn"),
    [("every", EVERY, 1, True), ("xtc", XTC, 2, False), ("few", FEW, 3, True)],
)
def test_its_tokens_are_those_of_the_chain(
    server: Server, mixed: Any, name: str, ours: Any, seed: int, drawn: bool
) -> None:
    status, answer = mixed[name]
    assert status == 200, answer
    assert len(answer["output_ids"]) == 12
    assert answer["output_ids"] == server.by_chain(answer, ours, seed, drawn=drawn)


def test_a_request_without_ours_is_left_alone(server: Server, mixed: Any) -> None:
    assert mixed["sglang's"][1]["output_ids"] == server.ask("/generate", body())[1]["output_ids"]


def test_samples_without_a_seed_differ(mixed: Any) -> None:
    status, answers = mixed["twins"]
    assert status == 200
    assert answers[0]["output_ids"] != answers[1]["output_ids"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "out of range",
            "logitchain: request body, field 'min_p': min_p must be in [0, 1], not 1.5",
        ),
        ("no such token", "logitchain: allowed_tokens must be in [0, 49152), not 49152"),
        ("nothing left", "no finite logit is left"),
    ],
)
def test_an_error_is_its_request_s_answer(mixed: Any, name: str, message: str) -> None:
    status, answer = mixed[name]
    assert status == 400
    assert message in answer["error"]["message"]


def test_a_request_that_is_taken_out_goes_on_as_it_began(server: Server) -> None:
    asked = {seed: body(draws({**FEW, "seed": seed}), tokens=40) for seed in range(4)}
    answers = server.ask_all(asked)
    taken_out = [answer["meta_info"]["num_retractions"] for _, answer in answers.values()]
    assert max(taken_out) > 1
    for seed, (_, answer) in answers.items():
        assert answer["output_ids"] == server.by_chain(answer, FEW, seed, drawn=True)


def test_the_documentations_request_runs(server: Server) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    answers = [server.ask("/generate", json.loads(told.stdout)) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1]["output_ids"] == answers[1][1]["output_ids"]


def test_a_chat_takes_it_too(server: Server) -> None:
    """With `allowed_tokens` of one token there is one answer."""
    asked = {
        **{"model": "any", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3},
        "custom_logit_processor": LogitProcessor.to_str(),
        "custom_params": {"logitchain": {"allowed_tokens": [504], "draw": True}},
    }
    status, answer = server.ask("/v1/chat/completions", asked)
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"] == "The" * 3
    asked["custom_params"]["logitchain"]["min_p"] = 2
    status, answer = server.ask("/v1/chat/completions", asked)
    assert status == 400
    assert "min_p must be in [0, 1], not 2" in json.dumps(answer)
