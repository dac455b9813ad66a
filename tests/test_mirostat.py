"""mirostat: against its definition, cases of llama.cpp, and its update."""

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


def kept(row, mu):
    return np.flatnonzero(lc.mirostat(row, mu) > -INF).tolist()


@given(strategies.rows(max_vocab=200), st.floats(-3, 30))
def test_it_is_the_definition(row, mu):
    ours = lc.mirostat(row, mu)
    bounds = [reference.mirostat(row.astype(np.float64), mu + d) > -INF for d in (-1e-6, 1e-6)]
    assert ((ours > -INF) | ~bounds[0]).all()
    assert (bounds[1] | (ours == -INF)).all()
    assert_array_equal(ours[ours > -INF], row[ours > -INF])


@pytest.mark.parametrize(
    ("mu", "expected"),
    [  # llama.cpp keeps at least one token
        *((2.0, [2, 3]), (2.4, [1, 2, 3]), (4.0, [0, 1, 2, 3])),
        *((0.1, [3]), (-50.0, [3]), (-1e300, [3]), (1e300, [0, 1, 2, 3])),
    ],
)
def test_cases(mu, expected):
    assert kept(PROBS, mu) == expected


def test_a_surprise_of_exactly_mu_stays():
    assert kept(np.log([0.5, 0.25, 0.125, 0.125]), 3.0) == [0, 1, 2, 3]
    assert kept(np.log([0.5, 0.25, 0.125, 0.125]), 2.0) == [0, 1]
    assert kept(np.zeros(1024), 10.0) == list(range(1024))
    assert kept(np.zeros(1024), 9.9) == list(range(1024))  # ties of the best
    assert kept([5.0], 1.0) == [0]
    assert kept([0.0, -INF, -1.0], 100.0) == [0, 2]


def test_the_update():
    assert lc.mirostat_update(10.0, np.log(2.0**-10), 5.0, 0.1) == pytest.approx(9.5)
    mu = np.array([4.0, 6.0])
    ours = lc.mirostat_update(mu, np.log([0.5, 0.25]), tau=3.0, eta=[0.5, 1.0])
    assert_allclose(ours, [4 - 0.5 * (1 - 3), 6 - (2 - 3)])
    assert_allclose(
        lc.mirostat_update([4.0, 6.0], -1.0, 3.0, 0.5)[1], 6 - 0.5 * (1 / np.log(2) - 3)
    )
    assert isinstance(lc.mirostat_update(4.0, -1.0, 3.0, 0.1), float)


def test_the_update_stays_finite():
    assert np.isfinite(lc.mirostat_update(-1.7e308, -1.7e308, 1.0, 1.0))
    assert np.isfinite(lc.mirostat(PROBS, lc.mirostat_update(-1.7e308, -1.7e308, 1.0, 1.0))).any()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("mu", x) for x in (INF, -INF, np.nan)),
        *(("logprob", x) for x in (0.1, -INF, np.nan)),
        *(("tau", x) for x in (0.0, -1.0, INF)),
        *(("eta", x) for x in (0.0, 1.5)),
    ],
)
def test_out_of_range(name, bad):
    given = {"mu": 4.0, "logprob": -1.0, "tau": 3.0, "eta": 0.1} | {name: bad}
    with pytest.raises(ValueError, match=f"{name} must be in"):
        lc.mirostat_update(**given)
    if name == "mu":
        with pytest.raises(ValueError, match="mu must be in"):
            lc.mirostat(PROBS, bad)


def test_a_floor_leaves_the_tokens_at_the_limit():
    """The best has nearly all of the mass, so that the floor is close to the limit."""
    row = np.full(300, -40.0, np.float32)
    row[[3, 70, 130, 200]] = 0, -6.91, -6.7, -6.95
    batch = lc.Batch(300)
    batch.add(lc.Params(mirostat_tau=5.0, seed=1))
    ours = lc.Chain(["mirostat"])(row, batch)
    assert_array_equal(ours, lc.mirostat(row, 10.0))
    assert np.flatnonzero(ours > -INF).tolist() == [3, 70, 130]


def test_rows_may_differ():
    ours = lc.mirostat(np.stack([PROBS, PROBS]), [2.0, 0.1])
    assert_array_equal(ours[0], lc.mirostat(PROBS, 2.0))
    assert_array_equal(ours[1], lc.mirostat(PROBS, 0.1))
    with pytest.raises(ValueError, match=r"mu must be one value or one per row \(2\)"):
        lc.mirostat(np.stack([PROBS, PROBS]), [1.0, 2.0, 3.0])


def test_the_surprise_comes_to_the_target():
    """Over a long run on flat rows the mean surprise of the tokens is near tau."""
    count, vocab = effort((60, 200), (300, 2000))
    generator, batch = np.random.default_rng(3), lc.Batch(vocab)
    batch.add(lc.Params(mirostat_tau=4.0, mirostat_eta=0.1, seed=5))
    chain, surprises = lc.Chain(["mirostat"]), []
    for _ in range(count):
        row = generator.normal(0, 1.5, (1, vocab)).astype(np.float32)
        drawn = chain.sample_with_logprobs(row, batch, of="processed")
        batch.append(drawn.tokens)
        surprises.append(-drawn.logprobs[0] / np.log(2))
    assert np.mean(surprises[count // 6 :]) == pytest.approx(4.0, abs=0.5)
