"""Every short chain against the pure functions one after the other, on rows whose tail matters."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
from effort import effort

VOCAB = 150
HISTORY = [3, 3, 70, 149, 5]
FIELDS = {
    "logit_bias": {7: 2.0, 100: -1.0},
    "repetition_penalty": 1.5,
    "temperature": 2.0,
    "top_n_sigma": 1.2,
    "top_k": 30,
    "top_p": 0.8,
    "min_p": 0.05,
    "typical_p": 0.7,
    "top_a": 0.2,
    "eta_cutoff": 0.02,
    "tfs": 0.95,
    "p_less": True,
    "top_h": 0.8,
}
PURE = {
    **{name: getattr(lc, name) for name in FIELDS},
    "repetition_penalty": lambda rows, penalty: lc.repetition_penalty(rows, penalty, HISTORY),
    "p_less": lambda rows, on: lc.p_less(rows),
}


def heavy_and_light(rng):
    """A few tokens with most of the mass, and many that together have a sixth of it."""
    row = rng.normal(-4.5, 0.3, VOCAB)
    row[rng.permutation(VOCAB)[:9]] = rng.normal(0, 0.7, 9)
    return row


ROWS = {
    "heavy and light": heavy_and_light,
    "flat": lambda rng: rng.normal(0, 0.2, VOCAB),
    "ties": lambda rng: rng.integers(-3, 2, VOCAB) * 1.0,
    "removed": lambda rng: np.where(rng.random(VOCAB) < 0.5, -np.inf, rng.normal(0, 2, VOCAB)),
}
LENGTHS, EACH = effort(((1, 2), 3), ((1, 2, 3), 3))
ORDERS = [order for length in LENGTHS for order in product(FIELDS, repeat=length)][::EACH]


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_a_chain_is_its_functions(shape, temperature):
    row = ROWS[shape](np.random.default_rng(11)).astype(np.float32)
    fields = FIELDS | {"temperature": temperature}
    for order in ORDERS:
        batch = lc.Batch(VOCAB)
        asked = {name: fields[name] for name in order}
        batch.add(lc.Params(seed=9, **asked), HISTORY)
        expected = row
        for name in order:
            expected = PURE[name](expected, fields[name])
        chain = lc.Chain(order)
        assert_array_equal(chain(row, batch), expected, str(order))
        token = lc.sample(expected, seed=9, position=0)
        assert chain.sample(row, batch).tolist() == [token], order


@pytest.mark.parametrize("p", np.linspace(0.05, 0.99, 12).tolist())
def test_the_share_of_a_nucleus_is_of_all_tokens_that_are_left(p):
    """Also of tokens that another control's floor has left out of the candidates."""
    for seed in range(effort(3, 20)):
        row = heavy_and_light(np.random.default_rng(seed)).astype(np.float32)
        batch = lc.Batch(VOCAB)
        batch.add(lc.Params(seed=seed, top_p=p, min_p=0.1, temperature=1.5))
        warm = lc.temperature(row, 1.5)
        expected = lc.min_p(lc.top_p(warm, p), 0.1)
        assert_array_equal(lc.Chain()(row, batch), expected)
