"""eta_cutoff: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest

import logitchain as lc
from effort import effort

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.eta_cutoff(logits, value) > -INF).tolist()


def threshold(row, eta):
    q = np.exp(row)
    return min(eta, np.sqrt(eta) * np.exp((q * np.log(q)).sum()))


@pytest.mark.parametrize(
    ("probs", "eta", "expected"),
    [
        ([0.5, 0.3, 0.2], 0.5, [0, 1]),  # the entropy's part is less: 0.252
        ([0.5, 0.3, 0.2], 0.04, [0, 1, 2]),
        ([0.9, 0.06, 0.04], 0.05, [0, 1]),  # eta itself is less
        ([0.25] * 4, 0.99, [0, 1, 2, 3]),
        ([0.96, 0.02, 0.02], 0.9, [0]),
        ([1.0], 0.5, [0]),
    ],
)
def test_the_lesser_of_both_thresholds(probs, eta, expected):
    row = np.log(probs)
    assert kept(row, eta) == expected
    assert kept([*row, -INF], eta) == expected
    q = np.array(probs)
    assert np.flatnonzero(q >= min(threshold(row, eta) * (1 - 1e-6), q.max())).tolist() == expected


def test_the_entropy_of_a_row_with_a_long_tail():
    row = np.concatenate([[9.0, 8.0], np.zeros(effort(4000, 40_000))]).astype(np.float32)
    q = np.exp(row.astype(np.float64) - 9)
    q /= q.sum()
    eta = 1e-4
    cut = min(eta, np.sqrt(eta) * np.exp((q * np.log(q)).sum()))
    assert kept(row, eta) == np.flatnonzero(q >= cut).tolist()
