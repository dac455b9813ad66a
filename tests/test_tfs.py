"""tfs: cases of other engines' tests, and what the laws for all controls do not reach."""

import numpy as np
import pytest

import logitchain as lc
from effort import effort

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.tfs(logits, value) > -INF).tolist()


FIVE, TIES = np.log([0.5, 0.3, 0.1, 0.06, 0.04]), np.log([0.4, 0.2, 0.2, 0.1, 0.1])


@pytest.mark.parametrize(
    ("row", "z", "expected"),
    [
        (FIVE, 0.7, [0, 1]),  # bends of 0, 0.16 and 0.02
        (FIVE, 0.9, [0, 1, 2]),
        (FIVE[::-1], 0.7, [3, 4]),
        (np.log([0.7, 0.1, 0.1, 0.1]), 0.5, [0]),  # the one bend is at the best
        ([1.0] * 9, 0.01, list(range(9))),  # no bend at all
        ([3.0, 1.0], 0.01, [0, 1]),  # too few
        ([3.0], 0.01, [0]),
        ([3.0, -INF, 1.0], 0.01, [0, 2]),
        ([9.0, -90.0, -91.0, -92.0], 0.9, [0]),  # the others have no mass
        (TIES, 0.3, [0]),  # bends of 0.2, 0.1 and 0.1
        (TIES, 0.6, [0, 1]),  # of equals the lower id
    ],
)
def test_small_rows(row, z, expected):
    assert kept(row, z) == expected


def test_a_large_row_is_the_definition():
    row = np.random.default_rng(3).normal(0, 2, effort(700, 30_000)).astype(np.float32)
    q = np.sort(np.exp(row.astype(np.float64)))[::-1]
    bends = np.abs(np.diff(q, 2))
    above = np.cumsum(bends) / bends.sum()
    for z in (0.5, 0.9, 0.99):
        assert abs(len(kept(row, z)) - (np.argmax(above > z) + 1)) <= 1
