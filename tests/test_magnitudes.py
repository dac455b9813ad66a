"""A distribution depends on the differences between logits, however large the logits are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import strategies
from effort import effort

DRAWS = effort(300, 4000)
LOWEST = -np.finfo(np.float32).max


def batch(vocab, n=1, **fields):
    made = lc.Batch(vocab)
    made.add(lc.Params(seed=1, n=n, **fields))
    return made


def share(row, token, **fields):
    """How often a token is drawn."""
    rows = np.tile(np.asarray(row), (DRAWS, 1))
    tokens = lc.Chain().sample(rows, batch(rows.shape[1], DRAWS, **fields))
    return (tokens == token).mean()


@pytest.mark.parametrize("temperature", [1e-15, 1e-30, 1e-300, 5e-324, 1e-7])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equal_tokens_are_as_likely_at_any_temperature(temperature, dtype):
    row = np.array([20, 20, 1], dtype)
    assert abs(share(row, 0, temperature=temperature) - 0.5) < 4 * 0.5 / np.sqrt(DRAWS)
    assert share(row, 2, temperature=temperature) == 0
    cold = lc.temperature(row, temperature)
    assert_allclose(lc.logprobs(cold)[:2], np.log([0.5, 0.5]), rtol=1e-6)
    assert_allclose(lc.top_logprobs(cold, 2)[1], np.log([0.5, 0.5]), rtol=1e-6)
    assert lc.token_logprobs(cold, 1) == pytest.approx(np.log(0.5), rel=1e-6)
    sampled = lc.Chain().sample_with_logprobs(
        row, batch(3, temperature=temperature, top_logprobs=2), of="processed"
    )
    assert_allclose(sampled.top_logprobs[0], np.log([0.5, 0.5]), rtol=1e-6)


FLT_MAX = float(np.finfo(np.float32).max)
#: Temperature, logits and results on both sides of each bound at which a row is moved as a whole.
EXTREMES = {
    "ordinary": (2.0**-20, [1 + 2.0**-15, 1.0], [2.0**20 + 32, 2.0**20]),
    "coarse": (np.nextafter(2.0**-20, 0), [1 + 2.0**-15, 1.0, -np.inf], [0.0, -32.0, -np.inf]),
    "nearly far": (2.0**-21, [1 + 2.0**-15 - 2.0**-23, 1.0], [0.0, -63.75]),
    "far": (2.0**-21, [1 + 2.0**-15, 1.0, -np.inf], [2.0**21 + 64, 2.0**21, -np.inf]),
    "the coldest": (5e-324, [2.0**-60, 0.0, -(2.0**60)], [2.0**64, 0.0, -FLT_MAX]),
    "as cold as fits": (5e-324, [2.0, 1.0, -np.inf], [0.0, -FLT_MAX, -np.inf]),
    "the largest result": (0.5, [FLT_MAX / 2, 0.0], [FLT_MAX, 0.0]),
    "the largest at an extreme": (2.0**-21, [FLT_MAX * 2.0**-21, 0.0], [FLT_MAX, 0.0]),
    "too large": (0.75, [FLT_MAX, FLT_MAX / 2], [0.0, -FLT_MAX / 1.5]),
}


@pytest.mark.parametrize(("temperature", "row", "expected"), EXTREMES.values(), ids=EXTREMES)
def test_a_row_is_moved_where_it_has_to_be(temperature, row, expected):
    assert_array_equal(lc.temperature(row, temperature), np.array(expected, np.float32))


@pytest.mark.parametrize("best", [2e16, 3e38, 1e12, -2e16, 1e-40])
def test_xtc_keeps_what_is_below_the_threshold_beside_large_logits(best):
    row = np.full(5, best, np.float32)
    row[3:] = -np.inf
    for threshold, kept in ((0.5, 3), (0.34, 3), (0.33, 1)):
        ours = lc.xtc(row, threshold, 1.0, seed=0, position=0)
        assert np.isfinite(ours).sum() == kept


@pytest.mark.parametrize("row", [[3e38, -3e38], [3.4e38, -3.4e38, 0.0], [0.0, -3.4e38]])
def test_the_log_probability_of_a_finite_logit_is_finite(row):
    x = np.array([*row, -np.inf], np.float32)
    expected = np.maximum(x.astype(np.float64) - x.max(), LOWEST).astype(np.float32)
    assert_array_equal(lc.logprobs(x), np.where(x > -np.inf, expected, -np.inf))
    assert lc.token_logprobs(x, 1) == float(expected[1])
    ids, best = lc.top_logprobs(x, x.size)
    assert_array_equal(best, lc.logprobs(x)[ids])
    for of in ("raw", "processed"):
        sampled = lc.Chain().sample_with_logprobs(x, batch(x.size, top_logprobs=x.size), of=of)
        assert_array_equal(sampled.top_logprobs[0][: len(row)], best[: len(row)])


def test_adjacent_logits_do_not_become_equal_at_a_low_temperature():
    for best in (20.0, 1000.0, -3.0):
        row = np.array([np.nextafter(np.float32(best), np.float32(-1e9)), best], np.float32)
        gap = float(row[1]) - float(row[0])
        for nats in (0.5, 2.0, 30.0):
            t = gap / nats
            if t > 2.0**-20:
                continue  # there l / t itself is rounded to float32
            exact = -np.log1p(np.exp(-nats))
            assert lc.logprobs(lc.temperature(row, t))[1] == pytest.approx(exact, rel=1e-4)


# ---- laws

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "top_k": st.integers(1, 9),
        "top_p": strategies.unit,
        "min_p": strategies.unit,
        "xtc_threshold": strategies.unit,
        "xtc_probability": st.just(1.0),
        "temperature": st.sampled_from((0.0, 0.25, 0.5, 2.0, 4.0, 2.0**-30)),
    },
)
POWERS = st.integers(-30, 60)
COUNTS = st.integers(-(2**23), 2**23)


def whole_numbers(data):
    """A row of small whole numbers, tied here and there, a few tokens removed."""
    numbers = data.draw(st.lists(st.integers(-40, 40), min_size=9, max_size=150))
    row = np.array(numbers, np.float32)
    row[np.random.default_rng(len(numbers)).random(row.size) < 0.1] = -np.inf
    row[0] = numbers[0]
    return row


def judged(row, fields):
    """What is left, the tokens drawn, the log-probabilities of what is left."""
    made = batch(row.size, 8, top_logprobs=min(5, row.size), **fields)
    rows = np.tile(row, (8, 1))
    chain = lc.Chain()
    processed = chain(rows, made)
    sampled = chain.sample_with_logprobs(rows, made)
    left = np.isfinite(processed)
    return left, chain.sample(rows, made), lc.logprobs(processed), sampled.logprobs


def assert_equal_parts(ours, theirs):
    for part, other in zip(ours, theirs, strict=True):
        assert_array_equal(part, other)


@given(
    data=st.data(), fields=FIELDS, power=st.integers(-30, 60), count=st.integers(-(2**23), 2**23)
)
def test_a_constant_that_float32_adds_exactly_changes_no_distribution(data, fields, power, count):
    """The unit may be anything from far below to far above an ordinary logit's."""
    row = whole_numbers(data) * np.float32(2.0**power)
    constant = np.float32(count * 2.0**power)
    if fields.get("temperature", 1.0) == 2.0**-30:
        fields["temperature"] = 0.25  # x / t is rounded relative to x there
    assert_equal_parts(judged(row + constant, fields), judged(row, fields))


@given(data=st.data(), fields=FIELDS, power=st.integers(-110, 110))
def test_a_power_of_two_changes_no_distribution_if_the_temperature_has_it_too(data, fields, power):
    row = whole_numbers(data)
    heat = fields.pop("temperature", 1.0)
    ours = judged(row * np.float32(2.0**power), fields | {"temperature": heat * 2.0**power})
    theirs = judged(row, fields | {"temperature": heat})
    assert_equal_parts(ours[:3], theirs[:3])


@given(data=st.data(), power=POWERS, count=COUNTS)
def test_the_pure_functions_work_on_differences(data, power, count):
    row = whole_numbers(data)
    moved = row * np.float32(2.0**power) + np.float32(count * 2.0**power)
    row *= np.float32(2.0**power)
    for call in (
        lambda x: lc.top_p(x, 0.7),
        lambda x: lc.min_p(x, 0.1),
        lambda x: lc.xtc(x, 0.2, 1.0, seed=0, position=0),
    ):
        assert_array_equal(np.isfinite(call(moved)), np.isfinite(call(row)))
    assert_array_equal(lc.logprobs(moved), lc.logprobs(row))
    for seed in range(5):
        assert lc.sample(moved, seed=seed, position=0) == lc.sample(row, seed=seed, position=0)
        best = int(np.argmax(row))
        ours, theirs = (lc.verify([x, x], [best], [x], seed=seed, position=0) for x in (moved, row))
        assert_array_equal(ours, theirs)
