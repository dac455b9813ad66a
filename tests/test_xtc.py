"""XTC: cases by hand, and tokens exactly at the threshold."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc

KEYS = {"seed": 0, "position": 0}
INF = math.inf
PROBS = np.log([0.05, 0.4, 0.3, 0.25])


def left(row, threshold, **protection):
    return np.flatnonzero(lc.xtc(row, threshold, 1.0, **KEYS, **protection) > -INF).tolist()


@pytest.mark.parametrize(
    ("row", "threshold", "expected"),
    [
        (PROBS, 0.2, [0, 3]),  # three reach it: the last of them in the order stays
        (PROBS, 0.29, [0, 2, 3]),
        (PROBS, 0.35, [0, 1, 2, 3]),  # one alone stays
        (PROBS, 0.5, [0, 1, 2, 3]),  # nobody reaches it
        (PROBS, 0.001, [0]),
        ([1.0, 2.0, -INF], 0.1, [0]),  # the first token of the vocabulary is the last of the order
        ([2.0, 2.0, 2.0], 0.1, [2]),  # of equals the highest id is the last
    ],
)
def test_by_hand(row, threshold, expected):
    assert left(row, threshold) == expected


@pytest.mark.parametrize(
    ("protected", "ids", "expected"),
    [
        ("skip", [0], [0, 3]),  # token 0 does not reach the threshold
        ("skip", [1], [0, 1, 2, 3]),  # it would be removed: nothing is
        ("skip", [3], [0, 3]),  # it stays anyway
        ("exempt", [1], [0, 1, 3]),
        ("exempt", [3], [0, 3]),
        ("exclude", [1], [0, 1, 3]),
        ("exclude", [3], [0, 2, 3]),  # the last of the others stays, too
        ("exclude", [1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_protected_tokens_by_hand(protected, ids, expected):
    assert left(PROBS, 0.2, protected=protected, protected_ids=ids) == expected


def last_threshold(row, token):
    """The largest threshold that a token reaches."""
    low, high = 0.0, 0.5
    while (middle := (low + high) / 2) not in (low, high):
        if token in left(row, middle):  # it is not removed, so it is not among those that reach
            high = middle
        else:
            low = middle
    return low


@pytest.mark.parametrize(("token", "behind"), [(1, 50), (70, 75)])
def test_a_token_exactly_at_the_threshold_reaches_it(token, behind):
    """Whether or not tokens that do not reach it are protected."""
    row = np.full(80, -20.0, np.float32)
    row[[5, 30]] = 1.5, 1.25
    row[[token, behind]] = 1.0  # the last of the order stays
    threshold = last_threshold(row, token)
    expected = lc.xtc(row, threshold, 1.0, **KEYS)
    assert expected[token] == -INF
    assert lc.xtc(row, np.nextafter(threshold, 1.0), 1.0, **KEYS)[token] == 1.0
    for protected in ("skip", "exempt", "exclude"):
        kept = lc.xtc(row, threshold, 1.0, **KEYS, protected=protected, protected_ids=[0, 79])
        assert_array_equal(kept, expected)


@pytest.mark.parametrize(
    ("protected", "expected"), [("exempt", [1, 3]), ("exclude", [1, 2, 3]), ("skip", [0, 1, 2, 3])]
)
def test_protected_equals_of_the_last_token(protected, expected):
    """Two of three equal tokens are protected, one of them behind the third."""
    row = [3.0, 1.0, 1.0, 1.0, -INF]
    assert left(row, 0.01, protected=protected, protected_ids=[1, 3]) == expected
