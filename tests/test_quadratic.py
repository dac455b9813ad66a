"""quadratic: cases, and what the laws for all controls do not reach."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc

INF = float("inf")
FLT_MAX = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("row", "factor", "curve", "expected"),
    [
        ([3.0, 2.5, 1.0], 0.5, 1.0, [3.0, 2.875, 1.0]),
        ([3.0, 2.0, 1.0], 1.0, 1.0, [3.0, 2.0, -1.0]),
        ([3.0, 2.0, 1.0], 1.0, 2.0, [3.0, 2.0, -3.0]),  # -1/2 - 1/2, and -2 - 4
        ([3.0, 2.0, 1.0], 1.0, 3.0, [3.0, 2.0, -5.0]),  # the cubic part alone
        ([1.0, 0.5], 1.0, 5.0, [1.0, 1.0]),  # above a curve of 3 the square is added
        ([2.0, -INF, 2.0], 0.3, 1.5, [2.0, -INF, 2.0]),
        ([0.0, -FLT_MAX], 1.0, 1.0, [0.0, -FLT_MAX]),
        ([FLT_MAX, -FLT_MAX], 1e300, 4.0, [FLT_MAX, -FLT_MAX]),
        ([0.0, -1e30], 1.7e308, 1.7e308, [0.0, -FLT_MAX]),
    ],
)
def test_values(row, factor, curve, expected):
    assert_allclose(lc.quadratic(row, factor, curve), np.float32(expected), rtol=1e-6)


@pytest.mark.parametrize("curve", [1.0, 2.0, 3.0])
def test_the_order_stays(curve):
    row = np.random.default_rng(2).normal(0, 4, 500).astype(np.float32)
    order = np.argsort(-row, kind="stable")
    for factor in (0.01, 0.3, 4.0):
        bent = lc.quadratic(row, factor, curve)
        assert (np.diff(bent[order]) <= 0).all()


def test_one_value_for_each_row():
    rows = np.array([[1.0, 0.0], [1.0, 0.0]])
    both = lc.quadratic(rows, [0.5, 0.0], [1.0, 2.0])
    assert_array_equal(both, [lc.quadratic(rows[0], 0.5), rows[1]])


def test_out_of_range():
    with pytest.raises(ValueError, match=r"smoothing_curve must be in \[1, inf\), not 0.5"):
        lc.quadratic([1.0, 0.0], 0.5, 0.5)
    with pytest.raises(ValueError, match=r"smoothing_factor must be in \[0, inf\), not -1"):
        lc.quadratic([1.0, 0.0], -1)
