"""top_a: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest

import logitchain as lc
from effort import effort

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.top_a(logits, value) > -INF).tolist()


PROBS = np.log([2.0, 1.0, 0.5, 0.25, 0.1])


@pytest.mark.parametrize(
    ("row", "a", "expected"),
    [
        ([2.0, 1.0, 0.0, -2.0], 0.5, [0, 1]),  # Aphrodite
        (PROBS, 0.45, [0, 1, 2]),  # llm-samplers
        (PROBS, 0.0001, [0, 1, 2, 3, 4]),  # llm-samplers
        (np.log([0.5, 0.25, 0.25]), 1.0, [0, 1, 2]),  # exactly at the threshold
        (np.log([0.5, 0.25, 0.25]), 0.9, [0, 1, 2]),
        (np.log([0.8, 0.1, 0.1]), 1.0, [0]),
        ([3.0, -INF], 1.0, [0]),
        ([1.0] * 5, 1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_cases_of_other_engines(row, a, expected):
    assert kept(row, a) == expected


@pytest.mark.parametrize("vocab", [2, 65, effort(300, 40_000)])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_the_best_token_stays_and_the_candidates_are_those_of_the_whole_row(vocab, temperature):
    row = np.random.default_rng(vocab).normal(0, 3, vocab).astype(np.float32)
    for a in (5e-324, 1e-9, 0.01, 1.0):
        batch = lc.Batch(vocab)
        batch.add(lc.Params(temperature=temperature, top_a=a))
        expected = lc.top_a(lc.temperature(row, temperature), a)
        assert lc.Chain()(row, batch).tobytes() == expected.tobytes()
        assert expected.max() > -INF
