"""p_less: its laws, since the function has no parameter, and cases."""

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
import strategies
from effort import effort

INF = float("inf")


def kept(logits):
    return np.flatnonzero(lc.p_less(logits) > -INF).tolist()


@given(strategies.rows(max_vocab=200))
def test_it_is_the_definition(row):
    ours = np.isfinite(lc.p_less(row))
    q = reference.probs(row.astype(np.float64))
    ratio = q / (q * q).sum()
    assert ours[ratio > 1 - 2.0**-21].all()
    assert not ours[(ratio < 1 - 2.0**-19) & (q < q.max())].any()
    assert ours[row.argmax()]


@given(strategies.matrices())
def test_rows_are_independent(matrix):
    assert_array_equal(lc.p_less(matrix), [lc.p_less(row) for row in matrix])


@pytest.mark.parametrize("vocab", [1, 2, 65, effort(300, 50_000)])
def test_all_of_a_uniform_row_stay(vocab):
    assert kept(np.zeros(vocab)) == list(range(vocab))


def test_a_higher_temperature_keeps_as_many_or_more():
    """The case of mlx-vlm's tests."""
    row = np.array([4.0, 2.0, 1.0, 0.5, 0.0, -1.0])
    counts = [len(kept(row / temperature)) for temperature in (0.5, 1.0, 2.0, 5.0)]
    assert counts == sorted(counts)
    assert counts[0] == 1


def test_in_a_chain_it_is_on_where_the_request_says_so():
    rows = np.tile(np.log([0.5, 0.3, 0.2]).astype(np.float32), (2, 1))
    batch = lc.Batch(3)
    batch.add(lc.Params(p_less=True))
    batch.add(lc.Params())
    assert np.isfinite(lc.Chain()(rows, batch)).sum(axis=1).tolist() == [1, 3]
    assert batch["p_less"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("row", [[np.nan, 1.0], [INF, 0.0], [-INF, -INF]])
def test_an_invalid_row_is_an_error(row):
    with pytest.raises(ValueError, match="logits: "):
        lc.p_less(row)
