"""Against transformers' processors, on random rows.

Its nucleus is a float32 cumulative sum: tokens with |mass above - p| < 2e-6 may be on either side.
Elsewhere sets are equal, and float32 arithmetic may differ by two units in the last place.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rows import assert_same_kept, mass_above, random_rows
from transformers.generation import logits_process as peer

import logitchain as lc

ROWS = list(random_rows(160))
ULPS = 2.0**-22


def values(*choices):
    """A parameter for each row."""
    return [choices[i // 7 % len(choices)] for i in range(len(ROWS))]


def apply(row, *processors, tokens=(0,)):
    """The row after the processors."""
    ids = torch.tensor([list(tokens)])
    scores = torch.from_numpy(row.copy())[None]
    for processor in processors:
        scores = processor(ids, scores)
    return scores[0].numpy()


def test_temperature():
    for row, t in zip(ROWS, values(0.3, 0.8, 1.7), strict=True):
        theirs = apply(row, peer.TemperatureLogitsWarper(t))
        assert_same_kept(lc.temperature(row, t), theirs, rtol=ULPS)


def test_top_k():
    for row, k in zip(ROWS, values(1, 5, 40, 1000), strict=True):
        assert_same_kept(lc.top_k(row, k), apply(row, peer.TopKLogitsWarper(k)))


def test_top_k_ties():
    row = np.array([1, 3, 2, 2, 2, 0], np.float32)
    assert_same_kept(lc.top_k(row, 2, ties="all"), apply(row, peer.TopKLogitsWarper(2)))


def test_top_p():
    for row, p in zip(ROWS, values(0.1, 0.5, 0.9, 0.99), strict=True):
        boundary = np.abs(mass_above(row) - p) < 2e-6
        assert_same_kept(lc.top_p(row, p), apply(row, peer.TopPLogitsWarper(p)), boundary=boundary)


def test_min_p():
    for row, p in zip(ROWS, values(0.01, 0.05, 0.3), strict=True):
        assert_same_kept(lc.min_p(row, p), apply(row, peer.MinPLogitsWarper(p)))


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_repetition_penalty(penalty):
    rng = np.random.default_rng(1)
    for row in ROWS:
        tokens = rng.integers(row.size, size=30).tolist()
        processor = peer.RepetitionPenaltyLogitsProcessor(penalty)
        theirs = apply(row, processor, tokens=tokens)
        assert_same_kept(lc.repetition_penalty(row, penalty, tokens), theirs, rtol=ULPS)


def test_logit_bias():
    for number, row in enumerate(ROWS):
        bias = {number % row.size: 3.5, row.size - 1: -7.25, 3: -20.0}
        processor = peer.SequenceBiasLogitsProcessor([[[token], b] for token, b in bias.items()])
        assert_same_kept(lc.logit_bias(row, bias), apply(row, processor), rtol=ULPS)


def test_logprobs():
    for row in ROWS:
        theirs = torch.log_softmax(torch.from_numpy(row).double(), -1).numpy()
        np.testing.assert_allclose(lc.logprobs(row), theirs, rtol=3e-7, atol=1e-6)


def test_the_whole_list_in_its_order():
    chain = lc.Chain.preset("transformers")
    rng = np.random.default_rng(3)
    compared = 0
    for row in ROWS:
        tokens = rng.integers(row.size, size=40).tolist()
        k = min(60, row.size)
        params = lc.Params(
            repetition_penalty=1.2, temperature=0.8, top_k=k, top_p=0.9, min_p=0.03, seed=0
        )
        batch = lc.Batch(row.size)
        batch.add(params, tokens[:25], tokens[25:])
        head = (peer.RepetitionPenaltyLogitsProcessor(1.2), peer.TemperatureLogitsWarper(0.8))
        before = apply(row, *head, peer.TopKLogitsWarper(k), tokens=tokens)
        if (np.abs(mass_above(before) - 0.9) < 2e-6).any():
            continue  # what follows a nucleus depends on its last token
        theirs = apply(before, peer.TopPLogitsWarper(0.9), peer.MinPLogitsWarper(0.03))
        assert_same_kept(chain(row, batch), theirs, rtol=2 * ULPS, atol=1e-6)
        compared += 1
    assert compared > 150


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_tensors_are_read_without_conversion(dtype):
    tensor = torch.randn(3, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = lc.top_p(tensor.float().numpy(), 0.8)
    np.testing.assert_array_equal(lc.top_p(tensor, 0.8), expected)
    strided = lc.top_p(tensor.float().numpy()[:, ::2], 0.8)
    np.testing.assert_array_equal(lc.top_p(tensor[:, ::2], 0.8), strided)
    needs_gradient = tensor.clone().requires_grad_(True)
    np.testing.assert_array_equal(lc.top_p(needs_gradient, 0.8), expected)


def test_a_torch_tensor_as_out():
    logits = torch.randn(2, 50)
    expected = lc.min_p(logits.numpy(), 0.1)
    assert lc.min_p(logits, 0.1, out=logits) is logits
    np.testing.assert_array_equal(logits.numpy(), expected)


def test_a_tensor_that_is_not_on_the_cpu_is_refused():
    with pytest.raises(TypeError, match="logits of type Tensor cannot be read as an array"):
        lc.top_p(torch.empty(10, device="meta"), 0.5)
