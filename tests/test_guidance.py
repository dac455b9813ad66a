"""guide and contrast: against their definitions, and at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import strategies

INF = float("inf")
FLT_MAX = float(np.finfo(np.float32).max)


def log_softmax(row):
    shifted = row.astype(np.float64) - row.max()
    return shifted - np.log(np.exp(shifted).sum())


@st.composite
def pairs(draw):
    one = draw(strategies.rows(min_vocab=2))
    other = draw(strategies.rows(min_vocab=one.size, max_vocab=one.size))
    one[one == -INF] = other[other == -INF] = -30.0
    if draw(st.booleans()):
        one[0] = -INF
    return one, other


@given(pairs(), st.floats(0, 10))
def test_guide_is_its_definition(pair, scale):
    c, u = map(log_softmax, pair)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.clip(u + scale * (c - u), -FLT_MAX, FLT_MAX)
    expected[pair[0] == -INF] = -INF
    ours = lc.guide(*pair, scale)
    assert_allclose(ours, expected, rtol=1e-6, atol=1e-5)


@given(pairs(), st.floats(0, 5), st.floats(0, 1))
def test_contrast_is_its_definition(pair, beta, alpha):
    expert, amateur = (row.astype(np.float64) for row in pair)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mixed = np.clip((1 + beta) * expert - beta * amateur, -FLT_MAX, FLT_MAX)
        ratio = np.exp(expert - expert.max())
    ours = lc.contrast(*pair, beta, alpha)
    surely = (expert > -INF) & (ratio >= alpha)
    assert_allclose(ours[surely], mixed[surely].astype(np.float32), rtol=1e-6, atol=1e-30)
    assert (ours[(expert == -INF) | (ratio < alpha * (1 - 2.0**-19))] == -INF).all()


def test_the_case_of_transformers():
    ours = lc.guide([1.0, 1.0, 1.0], [1.0, 0.0, 1.5], 1.5)
    assert_allclose(ours, [-1.09585313, -0.59585313, -1.34585313], rtol=1e-6)


FUNCTIONS = [lambda a, b: lc.guide(a, b, 2), lambda a, b: lc.contrast(a, b, 1, 0)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_token_that_either_row_removes_is_removed(function):
    ours = function([1.0, -INF, 0.0, 2.0], [1.0, 3.0, -INF, 0.5])
    assert np.isfinite(ours).tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match="no finite logit is left"):
        function([1.0, -INF], [-INF, 1.0])


def test_ends_of_the_ranges():
    c, u = np.float32([3.0, 1.0, 0.0]), np.float32([0.0, 1.0, 2.0])
    assert_array_equal(lc.guide(c, u, 0), lc.logprobs(u))
    assert_array_equal(lc.guide(c, u, 1), lc.logprobs(c))
    assert_array_equal(lc.contrast(c, u, 0, 0), c)
    assert np.isfinite(lc.contrast(c, u, 3, 1)).tolist() == [True, False, False]
    assert lc.guide(c, u, 1e308).tolist() == [FLT_MAX, -FLT_MAX, -FLT_MAX]
    for bad in (-0.1, INF, float("nan")):
        with pytest.raises(ValueError, match=r"guidance_scale must be in \[0, inf\)"):
            lc.guide(c, u, bad)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], not 1.5"):
        lc.contrast(c, u, 1, 1.5)
    with pytest.raises(ValueError, match=r"unconditional must have the shape \(3,\), not \(2,\)"):
        lc.guide(c, u[:2], 1)


def test_rows_and_out():
    rows = np.random.default_rng(0).normal(0, 2, (2, 4, 70)).astype(np.float32)
    kept = rows.copy()
    both = lc.guide(rows[0], rows[1], 1.5)
    assert_array_equal(rows, kept)
    assert_array_equal(both, [lc.guide(a, b, 1.5) for a, b in zip(*rows, strict=True)])
    for place in rows:  # the result may be where either input is
        again = kept.copy()
        out = again[0] if place is rows[0] else again[1]
        assert_array_equal(lc.guide(again[0], again[1], 1.5, out=out), both)
