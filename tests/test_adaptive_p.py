"""adaptive_p: against its definition, cases of llama.cpp, and its state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
import strategies
from effort import effort

INF = float("inf")
PROBS = np.log([0.1, 0.2, 0.3, 0.4])


@given(strategies.rows(max_vocab=200), st.floats(0, 1))
def test_it_is_the_definition(row, target):
    ours = lc.adaptive_p(row, target)
    expected = reference.adaptive_p(row.astype(np.float64), target)
    assert_array_equal(ours == -INF, row == -INF)
    assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "target", "expected"),
    [  # llama.cpp
        (PROBS, 0.5, [-2.619048, 0.0, 2.333333, 4.166667]),
        (PROBS, 0.2, [4.166667, 5.0, 4.166667, 2.333333]),
        ([2.0, 1.0, -INF, 0.0], 0.3, [-1.684341, 4.71337, -INF, 2.118314]),
    ],
)
def test_cases(row, target, expected):
    assert_allclose(lc.adaptive_p(row, target), expected, rtol=1e-4, atol=1e-4)


def test_the_state():
    state = None
    assert lc.adaptive_p_target(state, 0.3) == 0.3
    total, weight = 0.3 / (1 - 0.9), 1 / (1 - 0.9)
    for prob in (0.9, 0.8, 1.0, 0.0):
        state = lc.adaptive_p_update(state, prob, 0.3, 0.9)
        total, weight = prob + 0.9 * total, 1 + 0.9 * weight
        assert_allclose(state, (total, weight))
        expected = min(max(2 * 0.3 - total / weight, 0), 1)
        assert lc.adaptive_p_target(state, 0.3) == pytest.approx(expected)
    for _ in range(100):
        state = lc.adaptive_p_update(state, 1.0, 0.3, 0.9)
    assert lc.adaptive_p_target(state, 0.3) == 0.0
    assert lc.adaptive_p_update(None, 0.25, 0.5, 0.0) == (0.25, 1.0)


def test_out_of_range():
    for bad in (-0.1, 1.1, np.nan):
        for call in (
            lambda x: lc.adaptive_p(PROBS, x),
            lambda x: lc.adaptive_p_target(None, x),
            lambda x: lc.adaptive_p_update(None, 0.5, x, 0.9),
        ):
            with pytest.raises(ValueError, match=r"target must be in \[0, 1\]"):
                call(bad)
        with pytest.raises(ValueError, match=r"prob must be in \[0, 1\]"):
            lc.adaptive_p_update(None, bad, 0.5, 0.9)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 0.99\]"):
        lc.adaptive_p_update(None, 0.5, 0.5, 0.995)


@pytest.mark.parametrize(
    "state",
    [(np.nan, 3.0), (1.0, 0.0), (-1.0, 2.0), (1.0,), (1.0, 2.0, 3.0), (INF, 2.0), ("a", 1), 3],
)
def test_a_bad_state(state):
    for call in (
        lambda: lc.adaptive_p_target(state, 0.5),
        lambda: lc.adaptive_p_update(state, 0.3, 0.5, 0.9),
    ):
        with pytest.raises((TypeError, ValueError), match="state must be"):
            call()


def test_rows_may_differ():
    ours = lc.adaptive_p(np.stack([PROBS, PROBS]), [0.2, 0.5])
    assert_array_equal(ours, [lc.adaptive_p(PROBS, 0.2), lc.adaptive_p(PROBS, 0.5)])


def mean_probability(target):
    """Of the tokens drawn, before adaptive_p."""
    generator, batch = np.random.default_rng(3), lc.Batch(effort(50, 500))
    batch.add(lc.Params(min_p=0.01, adaptive_target=target, seed=5))
    probs = []
    for _ in range(effort(40, 200)):
        row = generator.normal(0, 3, (1, batch.vocab_size)).astype(np.float32)
        tokens = lc.Chain().sample(row, batch)
        probs.append(np.exp(lc.token_logprobs(lc.min_p(row, 0.01), tokens)[0]))
        batch.append(tokens)
    return np.mean(probs)


def test_a_higher_target_draws_more_probable_tokens():
    low, middle, high = map(mean_probability, (0.1, 0.25, 0.4))
    assert low < middle - effort(0.0, 0.03) < high - effort(0.0, 0.06)
