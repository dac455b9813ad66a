"""Dynamic temperature: against its definition, and cases of other engines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
import strategies

INF = float("inf")
PROBS = np.log([0.1, 0.2, 0.3, 0.4])


@given(strategies.rows(max_vocab=200), st.floats(0.2, 3), st.floats(0.01, 2), st.floats(0, 4))
def test_it_is_the_definition(row, t, reach, exponent):
    ours = lc.dynamic_temperature(row, t, reach, exponent)
    expected = reference.dynamic_temperature(row.astype(np.float64), t, reach, exponent)
    spread = row.max() - row[np.isfinite(row)].min()
    if np.isfinite(row).sum() == 1 or expected.max() - row.max() == 0 or spread < 1e30:
        assert_array_equal(np.isfinite(ours), np.isfinite(expected))
        with np.errstate(over="ignore"):
            assert_allclose(ours, expected.astype(np.float32), rtol=2e-4, atol=1e-37)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [  # llama.cpp
        ((1.0, 0.5, 1.0), [-1.61787009, -1.13084269, -0.84594989, -0.6438152]),
        ((1.0, 0.5, 2.0), [-1.70267367, -1.19011784, -0.89029187, -0.67756194]),
        ((0.8, 1.0, 1.0), [-1.38560116, -0.96849364, -0.72450137, -0.55138612]),
    ],
)
def test_cases_of_llama_cpp(parameters, expected):
    assert_allclose(lc.dynamic_temperature(PROBS, *parameters), expected, rtol=1e-4)


def test_removed_tokens_do_not_count():
    """text-generation-webui's temperature; llama.cpp counts them, and gets 1.0172."""
    ours = lc.dynamic_temperature([2.0, 1.0, -INF, -INF, 0.0], 1.0, 0.5)
    assert_allclose(ours, np.array([2.0, 1.0, -INF, -INF, 0.0]) / 1.2577, rtol=1e-4)


def test_ends():
    row = np.float32([3.0, 1.0, 0.0])
    assert_array_equal(lc.dynamic_temperature(row, 0.7, 0), lc.temperature(row, 0.7))
    assert_array_equal(lc.dynamic_temperature(PROBS, 0, 0), lc.temperature(PROBS, 0))
    assert_array_equal(lc.dynamic_temperature(row, 0.7, 0.3, 0), lc.temperature(row, 1.0))
    uniform = np.zeros(9, np.float32) + 2
    assert_allclose(lc.dynamic_temperature(uniform, 1.0, 0.25, 3.0), 2 / 1.25, rtol=1e-6)
    certain = np.float32([0.0, -80.0])  # the temperature is 0
    assert lc.dynamic_temperature(certain, 0.5, 0.5).tolist() == [0.0, -INF]
    assert lc.dynamic_temperature([3.0, -INF], 0.5, 0.5).tolist() == [3.0, -INF]
    both = lc.dynamic_temperature([row, row], [0.5, 1.5], 0.25)
    expected = [lc.dynamic_temperature(row, t, 0.25) for t in (0.5, 1.5)]
    assert_array_equal(both, expected)


def test_a_range_beyond_float64():
    ours = lc.dynamic_temperature([100.0, 0.0, 0.0], 1e308, 1e308)
    assert ours.tolist() == [100.0, -INF, -INF]  # the row is certain, so the temperature is 0
    flat = lc.dynamic_temperature([1.0, 1.0, 1.0], 1e308, 1e308)
    assert np.isfinite(flat).all()


def test_out_of_range():
    for bad in (-0.1, INF):
        with pytest.raises(ValueError, match=r"dynatemp_range must be in \[0, inf\)"):
            lc.dynamic_temperature(PROBS, 1, bad)
        with pytest.raises(ValueError, match=r"dynatemp_exponent must be in \[0, inf\)"):
            lc.dynamic_temperature(PROBS, 1, 0.5, bad)
        with pytest.raises(ValueError, match=r"temperature must be in \[0, inf\)"):
            lc.dynamic_temperature(PROBS, bad, 0.5)
