"""Top-n-sigma: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitchain as lc
import reference
import strategies

INF = float("inf")
PROBS = np.log([0.1, 0.2, 0.3, 0.4])
RAMP = [0.0, 1.0, 2.0, 3.0, 4.0]


def kept(row, n):
    return np.flatnonzero(lc.top_n_sigma(row, n) > -INF).tolist()


@pytest.mark.parametrize(
    ("row", "n", "expected"),
    [
        (PROBS, 1.0, [2, 3]),  # llama.cpp, tests/test-sampling.cpp
        (PROBS, 3.0, [0, 1, 2, 3]),  # llama.cpp, and LogitSamplers.jl
        (PROBS, 2.0, [1, 2, 3]),  # LogitSamplers.jl
        (PROBS, 0.0, [0, 1, 2, 3]),  # off in llama.cpp
        (RAMP, 1.0, [3, 4]),  # mlx-vlm: the deviation of a population, 1.4142
        (RAMP, 100.0, [0, 1, 2, 3, 4]),  # mlx-vlm
        ([10.0, 9.0, 0.0, -1.0], 0.1, [0]),  # Aphrodite
        ([2.0, 1.0, -INF, -INF, 0.0], 1.0, [0]),  # llama.cpp: removed tokens do not count
        ([2.0, 1.0, -INF, -INF, 0.0], 1.5, [0, 1]),
    ],
)
def test_cases_of_other_engines(row, n, expected):
    assert kept(row, n) == expected


@pytest.mark.parametrize("row", [[3.0], [3.0, -INF], [2.0] * 70, [2.0] * 70 + [-INF]])
@pytest.mark.parametrize("n", [5e-324, 1.0, 1e308])
def test_without_a_deviation_nothing_happens(row, n):
    assert lc.top_n_sigma(row, n).tolist() == row


@given(st.data())
def test_it_commutes_with_temperature(data):
    row = data.draw(strategies.rows(max_vocab=200))
    n, power = data.draw(strategies.VALUES["top_n_sigma"]), data.draw(st.integers(-3, 3))
    assert kept(lc.temperature(row, 2.0**power), n) == kept(row, n)


@given(st.integers(0, 2**32), st.sampled_from([1, 64, 1000, 5000]))
def test_the_order_of_the_vocabulary_does_not_matter(seed, vocab):
    generator = np.random.default_rng(seed)
    row = generator.normal(0, 3, vocab).astype(np.float32)
    order = generator.permutation(vocab)
    one, other = lc.top_n_sigma(row, 1.5)[order], lc.top_n_sigma(row[order], 1.5)
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("scale", [1e-44, 1e-20, 1.0, 1e20, 1e38])
@pytest.mark.parametrize("shape", ["normal", "one far below", "one far above"])
def test_any_magnitude(scale, shape):
    row = np.random.default_rng(5).normal(0, 0.3, 3000)
    row[7] += {"normal": 0.0, "one far below": -3.0, "one far above": 3.0}[shape]
    row = (row * scale).astype(np.float32)
    for n in (0.01, 0.5, 1.0, 2.0, 4.0, 1000.0):
        bar = row.max() - n * np.std(row.astype(np.float64)) * (1 + reference.SLACK)
        assert kept(row, n) == np.flatnonzero(row >= bar).tolist()


@pytest.mark.parametrize(("slacks", "left"), [(0.5, 8), (1.5, 4)])
def test_the_threshold_gives_way_by_the_slack(slacks, left):
    row = np.repeat([1.0, -1.0], 4)  # with a deviation of 1
    assert len(kept(row, 2 * (1 - slacks * reference.SLACK))) == left


@pytest.mark.parametrize("spread", [3.4e38, 6.8e38])
def test_the_widest_rows(spread):
    row = np.array([spread / 2, -spread / 2, 0.0], np.float32)
    assert kept(row, 0.5) == [0]
    assert kept(row, 5.0) == [0, 1, 2]


def test_in_a_chain_it_looks_at_what_reaches_it():
    batch = lc.Batch(5)
    batch.add(lc.Params(top_n_sigma=1.0, top_k=2, seed=0))
    first, last = lc.Chain(["top_n_sigma", "top_k"]), lc.Chain(["top_k", "top_n_sigma"])
    row = np.float32([0.0, 1.0, 2.0, 3.0, 3.5])
    assert np.flatnonzero(first(row, batch) > -INF).tolist() == [3, 4]
    assert np.flatnonzero(last(row, batch) > -INF).tolist() == [4]


def test_the_default_order_and_llama_cpps_have_it_before_top_k():
    for order in (lc.DEFAULT_ORDER, [step.name for step in lc.Chain.preset("llama_cpp").steps]):
        assert order.index("top_n_sigma") + 1 == order.index("top_k")
