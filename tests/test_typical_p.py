"""typical_p: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest

import logitchain as lc
from effort import effort
from logitchain.controls.typical_p import _deviate

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.typical_p(logits, value) > -INF).tolist()


PEAKED, FLAT = np.log([0.97, 0.01, 0.01, 0.01]), np.log([0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("row", "p", "expected"),
    [
        (PEAKED, 0.5, [0]),  # llama.cpp, tests/test-sampling.cpp; transformers
        (FLAT, 0.5, [1, 2, 3]),  # llama.cpp, transformers
        (FLAT, 0.2, [1]),  # equals by id
        (FLAT, 0.61, [0, 1, 2, 3]),
        ([0.2] * 5, 0.5, [0, 1, 2]),  # transformers keeps all of them
        ([2.0, 1.0, -INF, -INF, 0.0], 0.9, [0, 1]),  # removed tokens have no part in the entropy
        ([3.0], 0.1, [0]),
        ([3.0, -INF], 0.1, [0]),
    ],
)
def test_cases_of_other_engines(row, p, expected):
    assert kept(row, p) == expected


def test_of_distances_that_round_alike_the_larger_logit_comes_first():
    """Token 1 is nearer to the entropy than token 0, by less than a unit of 2**-20."""
    row = np.array([0.0, -1e-7, *[-1.0] * 100], np.float32)
    assert row[1] < row[0]
    hundred = 100 * np.exp(-1)
    p = (hundred + 0.5) / (hundred + 2)
    assert kept(row, p) == [0, *range(2, 102)]


def test_deviations_are_rounded_to_the_nearest_unit():
    units = np.array([0.0, 0.4, 0.6, 3.4, 3.6, 2.0**27])
    deviations = np.empty(units.size, np.int32)
    _deviate((-units * 2.0**-20).astype(np.float32), np.float32(0.0), 0.0, deviations)
    assert deviations.tolist() == [0, 0, 1, 3, 4, 2**26]


@pytest.mark.parametrize("gap", np.linspace(1e-6, 1.8e-6, 9).tolist())
def test_distances_that_differ_by_a_unit_are_told_apart(gap):
    row = np.array([0.0, -gap, *[-1.0] * 100], np.float32)
    hundred = 100 * np.exp(-1)
    assert kept(row, (hundred + 0.5) / (hundred + 2)) == [*range(1, 102)]


@pytest.mark.parametrize("scale", [1e-44, 1e-20, 1.0, 1e20, 1e38])
@pytest.mark.parametrize("p", [1e-9, 0.3, 0.9, 1 - 2.0**-19])
def test_any_magnitude(scale, p):
    row = (np.random.default_rng(5).normal(0, 0.3, 3000) * scale).astype(np.float32)
    ours = kept(row, p)
    q = np.exp(row.astype(np.float64) - row.max())
    q /= q.sum()
    assert q[ours].sum() >= p - 2.0**-19
    assert q[ours].sum() - q[ours].max() < p


@pytest.mark.parametrize("vocab", [1, 63, 64, 65, effort(300, 40_000)])
def test_equal_logits_stay_by_id(vocab):
    assert kept(np.zeros(vocab), 0.5) == list(range(-(-vocab // 2)))
