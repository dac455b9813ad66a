"""Log-probabilities against the float64 definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
from strategies import matrices, rows


@given(rows())
def test_logprobs_equal_the_reference(row):
    expected = reference.logprobs(row.astype(np.float64))
    assert_allclose(lc.logprobs(row), expected, rtol=2e-7, atol=5e-7)


@given(rows())
def test_probabilities_sum_to_one(row):
    assert abs(np.exp(lc.logprobs(row).astype(np.float64)).sum() - 1) < 1e-6


@given(matrices(), st.data())
def test_token_logprobs_pick_from_logprobs(matrix, data):
    tokens = [data.draw(st.integers(0, matrix.shape[1] - 1)) for _ in matrix]
    expected = lc.logprobs(matrix)[np.arange(len(matrix)), tokens]
    assert_array_equal(lc.token_logprobs(matrix, tokens), expected)
    assert lc.token_logprobs(matrix[0], tokens[0]) == expected[0]


@given(matrices(), st.data())
def test_top_logprobs_are_the_first_of_the_order(matrix, data):
    n = data.draw(st.integers(0, matrix.shape[1]))
    ids, values = lc.top_logprobs(matrix, n)
    assert (ids.dtype, values.dtype) == (np.int64, np.float32)
    for row, row_ids, row_values in zip(matrix, ids, values, strict=True):
        assert_array_equal(row_ids, np.lexsort((np.arange(row.size), -row))[:n])
        assert_array_equal(row_values, lc.logprobs(row)[row_ids])
    alone = lc.top_logprobs(matrix[0], n)
    assert_array_equal(alone[0], ids[0])
    assert_array_equal(alone[1], values[0])


def test_out_and_dtype():
    row = np.array([0.0, 1.0], np.float32)
    assert lc.logprobs(row, out=row) is row
    assert_allclose(np.exp(row).sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("n", [-1, 4])
def test_n_out_of_range(n):
    with pytest.raises(ValueError, match=rf"n must be in \[0, 3\], not {n}"):
        lc.top_logprobs([1.0, 2.0, 3.0], n)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(3, r"tokens must be in \[0, 3\), not 3"), (-1, r"tokens must be in \[0, 3\), not -1")],
)
def test_token_outside_the_vocabulary(tokens, message):
    with pytest.raises(ValueError, match=message):
        lc.token_logprobs([1.0, 2.0, 3.0], tokens)


def test_one_token_per_row():
    with pytest.raises(ValueError, match=r"tokens must be one per row \(2\), not 3"):
        lc.token_logprobs(np.zeros((2, 4)), [1, 2, 3])
