"""epsilon_cutoff: cases of other engines' tests, and of rows that the laws do not reach."""

import numpy as np
import pytest

import logitchain as lc

INF = float("inf")


def kept(logits, value):
    return np.flatnonzero(lc.epsilon_cutoff(logits, value) > -INF).tolist()


@pytest.mark.parametrize(
    ("row", "epsilon", "expected"),
    [
        (np.log([0.87, 0.099, 0.001, 0.03]), 0.1, [0]),  # transformers
        (np.log([0.4, 0.299, 0.101, 0.2]), 0.1, [0, 1, 2, 3]),  # transformers
        (np.log([0.5, 0.3, 0.2]), 0.3, [0, 1]),  # exactly at the threshold
        (np.log([0.5, 0.3, 0.2]), 0.6, [0]),  # no token is so probable
        (np.log([0.4, 0.4, 0.2]), 0.6, [0, 1]),  # the equals of the best stay
        ([0.0] * 9, 0.99, list(range(9))),
        ([3.0, -INF], 0.999, [0]),
        ([2.0, 1.0, 0.0], 5e-324, [0, 1, 2]),
    ],
)
def test_cases_of_other_engines(row, epsilon, expected):
    assert kept(row, epsilon) == expected
