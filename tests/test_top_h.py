"""top_h: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest

import logitchain as lc

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.top_h(logits, value) > -INF).tolist()


@pytest.mark.parametrize(
    ("probs", "h", "expected"),
    [
        ([0.97, 0.01, 0.01, 0.01], 0.3, [0]),  # transformers
        ([0.4, 0.3, 0.2, 0.1], 0.7, [0, 1]),  # transformers
        ([0.75, 0.25, 0.0, 0.0], 0.4, [0]),  # transformers
        ([0.25] * 4, 0.5, [0, 1]),  # of equals the lower ids
        ([1.0], 0.01, [0]),
        ([1.0, 0.0], 0.99, [0]),
    ],
)
def test_cases_of_other_engines(probs, h, expected):
    with np.errstate(divide="ignore"):
        assert kept(np.log(probs), h) == expected


@pytest.mark.parametrize("vocab", [99, 100, 101, 5000])
def test_at_most_the_first_hundred_count(vocab):
    count = min(vocab, 100)
    assert kept(np.zeros(vocab), 1 - 2.0**-22) == list(range(count))
    assert kept(np.zeros(vocab), 0.5) == list(range(count // 2))


def test_tokens_without_mass_go():
    assert kept([0.0, -90.0, -1e9], 0.9) == [0]
    assert kept([0.0, -40.0, -1e9], 0.9) == [0]


def test_without_the_field_the_control_is_off():
    batch = lc.Batch(3)
    batch.add(lc.Params(top_h=0.1))
    batch.add(lc.Params())
    rows = np.zeros((2, 3), np.float32)
    assert np.isfinite(lc.Chain()(rows, batch)).sum(axis=1).tolist() == [1, 3]
    assert np.isnan(batch["top_h"][1])
    assert lc.Chain().explain(rows, batch, batch.rows[1]).stages[-2].setting == "off"
