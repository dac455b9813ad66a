"""The laws that every control obeys, each parametrised over all controls."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
import strategies
from logitchain.chain import DEFAULT_ORDER
from logitchain.presets import MASKS

#: Half a unit of the slack either way: what float32 logits and exact masses may differ by.
NEAR = 2.0**-22


@dataclass
class Control:
    """How the laws call a control, and its definition: each takes (logits, value, extra)."""

    name: str
    apply: Callable[..., Any]
    reference: Callable[..., Any]
    off: Any
    bad: Any
    extra: Callable[[int], Any] = lambda vocab: st.none()
    filters: bool = False  # keeps a token's logit or removes it
    value: Any = None

    def __post_init__(self):
        self.value = strategies.VALUES[self.name] if self.name != "logit_bias" else None


def plain(name):
    function = getattr(lc, name)
    return lambda logits, value, extra, **kwargs: function(logits, value, **kwargs)


def with_tokens(name):
    function = getattr(lc, name)
    return lambda logits, value, extra, **kwargs: function(logits, value, extra, **kwargs)


def xtc(logits, threshold, extra, **kwargs):
    return lc.xtc(logits, threshold, 1.0, seed=extra, position=3, **kwargs)


CONTROLS = [
    Control(
        "temperature",
        plain("temperature"),
        lambda row, t, _: reference.temperature(row, t),
        1.0,
        -0.5,
    ),
    Control(
        "top_k", plain("top_k"), lambda row, k, _: reference.top_k(row, k), 0, -1, filters=True
    ),
    Control(
        "top_p", plain("top_p"), lambda row, p, _: reference.top_p(row, p), 1.0, 1.5, filters=True
    ),
    Control(
        "min_p", plain("min_p"), lambda row, p, _: reference.min_p(row, p), 0.0, 1.5, filters=True
    ),
    Control(
        "top_n_sigma",
        plain("top_n_sigma"),
        lambda row, n, _: reference.top_n_sigma(row, n),
        0.0,
        -0.1,
        filters=True,
    ),
    Control(
        "typical_p",
        plain("typical_p"),
        lambda row, p, _: reference.typical_p(row, p),
        1.0,
        0.0,
        filters=True,
    ),
    Control(
        "top_a", plain("top_a"), lambda row, a, _: reference.top_a(row, a), 0.0, 1.5, filters=True
    ),
    Control(
        "epsilon_cutoff",
        plain("epsilon_cutoff"),
        lambda row, epsilon, _: reference.epsilon_cutoff(row, epsilon),
        0.0,
        1.0,
        filters=True,
    ),
    Control(
        "eta_cutoff",
        plain("eta_cutoff"),
        lambda row, eta, _: reference.eta_cutoff(row, eta),
        0.0,
        1.0,
        filters=True,
    ),
    Control("tfs", plain("tfs"), lambda row, z, _: reference.tfs(row, z), 1.0, 0.0, filters=True),
    Control(
        "top_h", plain("top_h"), lambda row, h, _: reference.top_h(row, h), None, 1.0, filters=True
    ),
    Control(
        "smoothing_factor",
        lambda logits, value, curve, **kwargs: lc.quadratic(logits, value, curve, **kwargs),
        reference.quadratic,
        0.0,
        -0.1,
        extra=lambda vocab: strategies.VALUES["smoothing_curve"],
    ),
    Control(
        "xtc_threshold",
        xtc,
        lambda row, t, _: reference.xtc(row, t, True),
        1.0,
        -0.1,
        extra=lambda vocab: st.integers(0, 99),
        filters=True,
    ),
    Control(
        "repetition_penalty",
        with_tokens("repetition_penalty"),
        reference.repetition_penalty,
        1.0,
        0.0,
        extra=strategies.tokens,
    ),
    Control(
        "presence_penalty",
        with_tokens("presence_penalty"),
        reference.presence_penalty,
        0.0,
        np.inf,
        extra=strategies.tokens,
    ),
    Control(
        "frequency_penalty",
        with_tokens("frequency_penalty"),
        reference.frequency_penalty,
        0.0,
        np.nan,
        extra=strategies.tokens,
    ),
]
FILTERS = [control for control in CONTROLS if control.filters]
SELECTS = [one for one in FILTERS if one.name not in ("typical_p", "xtc_threshold")]

every_control = pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.name)
every_filter = pytest.mark.parametrize("control", FILTERS, ids=lambda c: c.name)
every_selection = pytest.mark.parametrize("control", SELECTS, ids=lambda c: c.name)


def drawn(data, control, row):
    return data.draw(control.value), data.draw(control.extra(row.size))


def finite(row):
    return np.isfinite(row)


def test_every_control_is_here():
    renamed = {"xtc_threshold": "xtc", "smoothing_factor": "quadratic"}
    here = {renamed.get(control.name, control.name) for control in CONTROLS}
    # Laws of their own below, in test_masks.py and in the files of these controls.
    own = {
        "green_list",
        "logit_bias",
        "p_less",
        "dry",
        "dynamic_temperature",
        "mirostat",
        "adaptive_p",
    }
    assert here | {*own, *MASKS} == set(DEFAULT_ORDER)


@every_control
@given(data=st.data())
def test_equals_the_reference(control, data):
    row = data.draw(strategies.rows())
    value, extra = drawn(data, control, row)
    ours = control.apply(row, value, extra)
    if not control.filters:
        with np.errstate(over="ignore"):
            theirs = control.reference(row.astype(np.float64), value, extra).astype(np.float32)
        assert_allclose(ours, theirs, rtol=2**-23, atol=1e-37)
        return
    assert_array_equal(ours[finite(ours)], row[finite(ours)])
    bounds = []
    for slack in (reference.SLACK - NEAR, reference.SLACK + NEAR):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "SLACK", slack)
            bounds.append(finite(control.reference(row.astype(np.float64), value, extra)))
    always, sometimes = bounds[0] & bounds[1], bounds[0] | bounds[1]
    assert_array_equal(finite(ours) & always, always)
    assert_array_equal(finite(ours) & ~sometimes, np.zeros(row.size, bool))


@every_control
@given(data=st.data())
def test_input_is_untouched_and_the_result_is_new_float32_of_the_same_shape(control, data):
    row = data.draw(strategies.rows())
    before = row.copy()
    ours = control.apply(row, *drawn(data, control, row))
    assert_array_equal(row.view(np.int32), before.view(np.int32))
    assert ours.dtype == np.float32
    assert ours.shape == row.shape
    assert not np.shares_memory(ours, row)


@every_control
@given(data=st.data())
def test_off_is_the_identity_bit_for_bit(control, data):
    row = data.draw(strategies.rows())
    _, extra = drawn(data, control, row)
    if control.off is None:  # the request's field is not given
        return
    if control.name == "xtc_threshold":  # its switch is the probability
        ours = lc.xtc(row, data.draw(control.value), 0.0, seed=1, position=2)
    else:
        ours = control.apply(row, control.off, extra)
    assert_array_equal(ours.view(np.int32), row.view(np.int32))


@every_control
@given(data=st.data())
def test_rows_are_independent_and_a_scalar_is_a_constant_column(control, data):
    matrix = data.draw(strategies.matrices())
    value, extra = drawn(data, control, matrix[0])
    each = [control.apply(row, value, extra) for row in matrix]
    assert_array_equal(control.apply(matrix, value, extra), each)
    assert_array_equal(control.apply(matrix, np.full(len(matrix), value), extra), each)
    assert_array_equal(control.apply(matrix[::-1], value, extra), each[::-1])


@every_control
@given(data=st.data())
def test_each_row_may_have_its_own_value(control, data):
    matrix = data.draw(strategies.matrices())
    values = [data.draw(control.value) for _ in matrix]
    _, extra = drawn(data, control, matrix[0])
    each = [control.apply(row, value, extra) for row, value in zip(matrix, values, strict=True)]
    assert_array_equal(control.apply(matrix, np.array(values), extra), each)


@every_control
@given(data=st.data())
def test_removed_stays_removed_and_something_is_left(control, data):
    row = data.draw(strategies.rows())
    ours = control.apply(row, *drawn(data, control, row))
    assert not np.isnan(ours).any()
    assert not (ours == np.inf).any()
    assert finite(ours).any()
    assert (ours[~finite(row)] == -np.inf).all()


@every_control
@given(data=st.data())
def test_out_may_be_the_input(control, data):
    row = data.draw(strategies.rows())
    value, extra = drawn(data, control, row)
    expected = control.apply(row, value, extra)
    other, target = np.empty_like(row), np.repeat(row, 2)[::2]
    assert control.apply(row, value, extra, out=other) is other
    assert_array_equal(other, expected)
    assert control.apply(target, value, extra, out=target) is target
    assert_array_equal(target, expected)
    assert control.apply(row, value, extra, out=row) is row
    assert_array_equal(row, expected)


@every_control
def test_out_of_range_names_field_range_and_value(control):
    row = np.zeros(4, np.float32)
    field = lc.FIELDS[control.name]
    with pytest.raises(ValueError, match=r"must be in") as error:
        control.apply(row, control.bad, [] if control.name.endswith("penalty") else 0)
    assert str(error.value) == f"{control.name} must be in {field.domain}, not {control.bad!r}"


@every_selection
@given(data=st.data())
def test_the_first_of_the_order_stays(control, data):
    row = data.draw(strategies.rows())
    ours = control.apply(row, *drawn(data, control, row))
    assert ours[np.argmax(row)] == row.max()


@every_selection
@given(data=st.data())
def test_what_stays_is_a_prefix_of_the_order(control, data):
    row = data.draw(strategies.rows())
    ours = control.apply(row, *drawn(data, control, row))
    order = reference.order(row)
    assert_array_equal(np.sort(order[: finite(ours).sum()]), np.flatnonzero(finite(ours)))


@every_filter
@given(data=st.data())
def test_permuting_the_vocabulary_permutes_the_result_up_to_ties(control, data):
    row = data.draw(strategies.rows())
    value, extra = drawn(data, control, row)
    permutation = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(row.size)
    ours = control.apply(row, value, extra)
    permuted = control.apply(row[permutation], value, extra)
    assert_array_equal(np.sort(permuted), np.sort(ours))
    if np.unique(row[finite(row)]).size == finite(row).sum():
        assert_array_equal(permuted, ours[permutation])


@every_filter
@given(data=st.data(), shift=st.integers(-64, 64))
def test_a_constant_added_to_the_row_changes_nothing(control, data, shift):
    halves = data.draw(st.lists(st.integers(-40, 40), min_size=1))  # so that sums are exact
    row = np.array(halves, np.float32) / 2
    value, extra = drawn(data, control, row)
    ours = control.apply(row, value, extra)
    shifted = control.apply(row + np.float32(shift), value, extra)
    assert_array_equal(finite(shifted), finite(ours))


@pytest.mark.parametrize("name", ["top_k", "min_p"])
@given(data=st.data())
def test_twice_is_once(name, data):
    row = data.draw(strategies.rows())
    control = partial(getattr(lc, name), **{name: data.draw(strategies.VALUES[name])})
    assert_array_equal(control(control(row)), control(row))


@pytest.mark.parametrize("name", ["top_k", "top_p", "min_p"])
@given(data=st.data())
def test_a_stricter_value_keeps_a_subset(name, data):
    row = data.draw(strategies.rows())
    a, b = sorted(data.draw(st.tuples(*[strategies.VALUES[name]] * 2)))
    if name == "min_p":
        a, b = b, a
    if a == 0:
        return  # for top_k 0 is off
    control = getattr(lc, name)
    strict, loose = finite(control(row, a)), finite(control(row, b))
    assert not (strict & ~loose).any()


@given(data=st.data())
def test_logit_bias_equals_the_reference(data):
    matrix = data.draw(strategies.matrices())
    bias = [data.draw(strategies.biases(matrix.shape[1])) for _ in matrix]
    expected = [
        reference.logit_bias(row.astype(np.float64), b) for row, b in zip(matrix, bias, strict=True)
    ]
    if not np.isfinite(expected).any(axis=1).all():
        with pytest.raises(ValueError, match="no finite logit is left"):
            lc.logit_bias(matrix, bias)
        return
    assert_allclose(lc.logit_bias(matrix, bias), expected, rtol=2**-23, atol=1e-37)
    for row, b in zip(matrix, bias, strict=True):
        assert_array_equal(lc.logit_bias(row, {}).view(np.int32), row.view(np.int32))
        assert_array_equal(lc.logit_bias(row, b), lc.logit_bias(row[None], b)[0])


@given(data=st.data())
def test_xtc_coin_is_the_rows_own(data):
    matrix = data.draw(strategies.matrices())
    seeds = np.array([data.draw(st.integers(0, 2**64 - 1)) for _ in matrix], np.uint64)
    ours = lc.xtc(matrix, 0.1, 0.5, seed=seeds, position=5)
    for r, row in enumerate(matrix):
        alone = lc.xtc(row, 0.1, 0.5, seed=int(seeds[r]), position=5)
        assert_array_equal(ours[r], alone)
        always, never = (lc.xtc(row, 0.1, p, seed=0, position=0) for p in (1.0, 0.0))
        assert any(np.array_equal(alone, either) for either in (always, never))


def test_xtc_is_applied_as_often_as_its_probability_says():
    row = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    rows = np.tile(row, (4000, 1))
    changed = lc.xtc(rows, 0.25, 0.3, seed=11, position=np.arange(4000))[:, 0] == -np.inf
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.parametrize("position", [0, 5])
def test_xtc_is_applied_if_the_coin_is_below_the_probability(position):
    coin = lc.uniform(7, position, 2, 0)
    for probability, kept in ((coin, 2), (np.nextafter(coin, 1), 1)):
        ours = lc.xtc(np.zeros(2), 0.1, probability, seed=7, position=position)
        assert finite(ours).sum() == kept


@pytest.mark.parametrize(
    ("protected", "ids", "left"),
    [
        ("skip", [], [2, 3]),
        ("skip", [1], [0, 1, 2, 3]),
        ("skip", [2, 3], [2, 3]),  # these would not go
        ("exempt", [1], [1, 2, 3]),
        ("exempt", [2], [2, 3]),
        ("exclude", [0], [0, 2, 3]),
        ("exclude", [2], [1, 2, 3]),
    ],
)
def test_what_becomes_of_protected_tokens(protected, ids, left):
    row = np.log([0.4, 0.3, 0.2, 0.1])
    given = {"protected": protected, "protected_ids": ids}
    ours = lc.xtc(row, 0.15, 1.0, seed=0, position=0, **given)
    assert_array_equal(np.flatnonzero(finite(ours)), left)


def test_at_a_threshold_of_0_every_finite_token_is_a_top_choice():
    lowest = -np.finfo(np.float32).max
    row = np.array([lowest, -np.inf, lowest, -lowest, 0.0], np.float32)
    ours = lc.xtc(row, 0.0, 1.0, seed=0, position=0)
    assert_array_equal(np.flatnonzero(finite(ours)), [2])
    skipped = lc.xtc(row, 0.0, 1.0, seed=0, position=0, protected_ids=[0])
    assert_array_equal(skipped, row)


@pytest.mark.parametrize("t", [0.7, 1.3, 3.0, 2.0**-19.5])
def test_a_temperature_divides_as_float64_does_nearly_always(t):
    row = np.random.default_rng(4).normal(0, 10, 2000).astype(np.float32)
    assert (lc.temperature(row, t) != (row / np.float64(t)).astype(np.float32)).sum() <= 2


@pytest.mark.parametrize("name", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_a_penalty_skips_what_is_outside_the_vocabulary_and_nothing_else(name):
    ours = getattr(lc, name)(np.full(4, 3.0), 1.5, [-1, 0, 3, 4, 2**63 - 1, -(2**63)])
    assert_array_equal(np.flatnonzero(ours != 3), [0, 3])


@pytest.mark.parametrize(("parts", "is_reached"), [(0.5, True), (1.5, False)])
def test_a_probability_is_reached_within_a_slack(parts, is_reached):
    """The slack is 2**-20 of a threshold, or of all the mass."""
    row = np.log(np.array([0.6, 0.4], np.float32))
    q, slack = reference.probs(row.astype(np.float64)), parts * 2.0**-20
    assert finite(lc.min_p(row, q[1] / q[0] * (1 + slack)))[1] == is_reached
    excluded = lc.xtc(row, q[1] * (1 + slack), 1.0, seed=0, position=0)
    assert finite(excluded)[0] == (not is_reached)
    assert finite(lc.top_p(row, q[0] + slack))[1] == (not is_reached)


@given(data=st.data())
def test_ties_all_keeps_the_whole_tie(data):
    row = np.round(data.draw(strategies.rows()).clip(-50, 50))
    for name in ("top_k", "top_p"):
        value = data.draw(strategies.VALUES[name])
        first, whole = (getattr(lc, name)(row, value, ties=ties) for ties in ("first", "all"))
        lowest = first[finite(first)].min()
        assert_array_equal(finite(whole), row >= lowest)


def test_a_tiny_temperature_neither_overflows_nor_ties():
    row = np.array([1.0, 3.0, 2.0, -np.inf, -5.0], np.float32)
    for t in (1e-3, 1e-10, 1e-30, 1e-45, 5e-324):
        cold = lc.temperature(row, t)
        assert_array_equal(reference.order(cold), reference.order(row))
        assert np.isfinite(cold[[0, 1, 2, 4]]).all()
    huge = np.array([3e38, 2e38, -3.4e38, 1.0], np.float32)
    assert_array_equal(reference.order(lc.temperature(huge, 0.5))[:2], [0, 1])
    low = np.array([-1e30, -2e30], np.float32)
    assert_array_equal(reference.order(lc.temperature(low, 1e-15)), [0, 1])


@given(st.floats(-308, 300).map(lambda exponent: 10.0**exponent))
def test_a_huge_negative_logit_stays_finite_and_last(t):
    row = np.array([0.0, 1.0, -np.finfo(np.float32).max], np.float32)
    ours = lc.temperature(row, t)
    assert np.isfinite(ours).all()
    assert ours[2] == ours.min()
    if 1e-9 < t < 1e9:
        assert_allclose(ours[:2], row[:2] / t, rtol=2**-23)
