"""Kept sets of a real model's answers: the ratio is exactly 1; torch agrees, with a gradient."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))

import rollout
import trainer
from smollm2 import Model

import logitchain as lc

pytestmark = pytest.mark.filterwarnings("default")  # what the peers warn of is theirs
TOKENS = 6


@pytest.fixture(scope="module")
def model():
    return Model.load()


@pytest.fixture(scope="module")
def recorded(model, tmp_path_factory):
    """(prompt, records) as they come out of a file."""
    prompt = model.tokenizer.chat([{"role": "user", "content": rollout.QUESTION}])
    records = rollout.sample(model, rollout.PARAMS, prompt, TOKENS)
    path = tmp_path_factory.mktemp("rollout") / "records.npz"
    rollout.save(path, prompt, records)
    assert rollout.load(path)[0] == prompt
    for ours, read in zip(records, rollout.load(path)[1], strict=True):
        assert ours.keys() == read.keys()
        assert all(np.array_equal(ours[name], read[name]) for name in ours)
    return prompt, records


def test_the_ratio_of_a_second_pass_is_exactly_1(model, recorded):
    prompt, records = recorded
    assert len(records) == rollout.PARAMS.n
    for record in records:
        logits = rollout.second_pass(model, prompt, record)
        again = rollout.trained(logits, record, rollout.PARAMS.temperature)
        assert_array_equal(again, record["logprobs"])
        assert (rollout.trained(logits, record, 1.0) != record["logprobs"]).any()


def test_torch_agrees_over_the_same_ids_and_has_a_gradient(model, recorded):
    prompt, records = recorded
    for record in records:
        logits = rollout.second_pass(model, prompt, record)
        scaled = lc.temperature(logits, rollout.PARAMS.temperature)
        tokens, offsets = (torch.from_numpy(record[x]) for x in ("tokens", "kept_offsets"))
        ids = torch.from_numpy(record["kept_ids"].astype(np.int64))
        given = torch.from_numpy(scaled).requires_grad_()
        theirs = trainer.kept_logprobs(given, offsets, ids, tokens)
        assert_allclose(theirs.detach().numpy(), record["logprobs"], rtol=1e-5, atol=2e-5)
        theirs.sum().backward()
        expected = np.zeros_like(scaled)
        for r, token in enumerate(record["tokens"]):
            row = slice(record["kept_offsets"][r], record["kept_offsets"][r + 1])
            expected[r, record["kept_ids"][row]] = -np.exp(record["kept_logprobs"][row])
            expected[r, token] += 1
        assert_allclose(given.grad.numpy(), expected, atol=1e-5)


def test_the_example_says_what_it_found(tmp_path):
    command = [sys.executable, str(EXAMPLES / "rollout.py"), "--tokens", "3"]
    done = subprocess.run(
        [*command, "--file", str(tmp_path / "r.npz")], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("  ratio                  1.0 to 1.0\n") == rollout.PARAMS.n
