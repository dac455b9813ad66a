"""The mass of a row that is kept in blocks, and of the tokens before one, to the unit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
from effort import effort
from in_blocks import blocks_of
from logitchain.controls import temperature, top_p
from logitchain.fused import nucleus
from logitchain.numeric import functions as numerics
from logitchain.numeric.compile import kernel

INF = np.float32(np.inf)
SHAPES = {
    "normal": lambda rng: rng.normal(0, 2, 330),
    "ties": lambda rng: rng.integers(-3, 4, 330) * 0.5,
    "neighbours": lambda rng: 3.0 + rng.integers(0, 6, 330) * 2.0**-22,
    "steep": lambda rng: rng.normal(0, 20, 330),
    "removed": lambda rng: np.where(rng.random(330) < 0.6, -np.inf, rng.normal(0, 2, 330)),
    "beyond estimates": lambda rng: rng.normal(500, 3, 330),
    "an empty block": lambda rng: np.where(
        np.arange(330) // 64 == 2, -np.inf, rng.normal(0, 1, 330)
    ),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_divisor = pytest.mark.parametrize("divisor", [1.0, 0.7, 3.0])


@kernel
def mass_of(x):
    return numerics.mass(x)


def scaled(row, divisor):
    row = row.copy()
    temperature.scale_ordinary(row, divisor)
    return row


def masses_of(row):
    best = row.max()
    return np.array([mass_of(np.float32(x - best)) for x in row], np.int64)


@every_shape
@every_divisor
def test_the_mass_of_a_row_and_of_the_tokens_before_each(shape, divisor):
    row = SHAPES[shape](np.random.default_rng(3)).astype(np.float32)
    blocks = blocks_of(row, copied=(1, 4))
    tops, after = scaled(blocks.peaks, divisor), scaled(row, divisor)
    masses = masses_of(after)
    total = int(masses.sum())
    assert nucleus.total(blocks, divisor, tops) == total
    order = np.lexsort((np.arange(row.size), -after))
    order = order[after[order] > -np.inf]
    before = np.cumsum(masses[order]) - masses[order]
    for place in range(0, order.size, effort(29, 7)):
        token, value = int(order[place]), after[order[place]]
        found = nucleus.weigh(blocks, divisor, tops, value, token, nucleus.NEVER, True)
        assert found == (total, total, before[place])
        low, high, exact = nucleus.weigh(blocks, divisor, tops, value, token, nucleus.NEVER, False)
        assert exact == before[place]
        assert low <= total <= high
        assert high - low <= total * 2.0**-10 + 2.0**14


@every_shape
@pytest.mark.parametrize("exactly", [True, False])
def test_to_weigh_stops_beyond_what_is_enough(shape, exactly):
    row = SHAPES[shape](np.random.default_rng(4)).astype(np.float32)
    blocks = blocks_of(row)
    total = nucleus.total(blocks, 1.0, blocks.peaks)
    for enough in (1, total // 3, total - 1):
        low, _, _ = nucleus.weigh(blocks, 1.0, blocks.peaks, INF, 0, enough, exactly)
        assert low > enough or (not exactly and low > enough * (1 - 2.0**-10) - 2.0**14)
    low, high, _ = nucleus.weigh(blocks, 1.0, blocks.peaks, INF, 0, total, True)
    assert low == high == total


@pytest.mark.parametrize("p", [2.0**-19, 0.001, 0.3, 0.99])
@pytest.mark.parametrize("tokens", [1, 2, 1000])
def test_beyond_enough_the_nucleus_has_more_than_the_tokens_at_hand(p, tokens):
    own = tokens << numerics.MASS_BITS
    enough = int(top_p.enough(own, p))
    assert enough > 2**62 or top_p.target(enough + 1, p) > own


@pytest.mark.parametrize("p", np.linspace(0.3, 0.6, 7).tolist())
def test_a_nucleus_of_which_another_control_cut_off_the_tail(p):
    """The tail has more mass than the survivors, and is estimated only."""
    row = np.where(np.arange(500) < 70, 0.0, -1.5).astype(np.float32)
    batch = lc.Batch(row.size)
    batch.add(lc.Params(top_p=p, min_p=0.5))
    assert_array_equal(lc.Chain()(row, batch), lc.min_p(lc.top_p(row, p), 0.5))


@pytest.mark.parametrize("shape", ["normal", "ties", "neighbours"])
@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize("p", [0.41, 0.6])
def test_a_draw_after_any_number_of_races(shape, ties, p):
    """A winner behind the end of the nucleus is left out, and the tokens before it race again."""
    row = SHAPES[shape](np.random.default_rng(6)).astype(np.float32)
    seeds = list(range(effort(5, 60)))
    batch = lc.Batch(row.size)
    for seed in seeds:
        batch.add(lc.Params(seed=seed, top_p=p, temperature=1.5))
    rows = np.tile(row, (len(seeds), 1))
    for order in (["top_p", "temperature"], ["temperature", "top_p"]):
        left = row
        for name in order:
            left = (
                lc.temperature(left, 1.5) if name == "temperature" else lc.top_p(left, p, ties=ties)
            )
        chain = lc.Chain([(name, {"ties": ties} if name == "top_p" else {}) for name in order])
        expected = lc.sample(np.tile(left, (len(seeds), 1)), seed=seeds, position=[0] * len(seeds))
        assert_array_equal(chain.sample(rows, batch), expected)


@pytest.mark.parametrize("ties", ["first", "all"])
def test_the_mass_before_a_token_is_not_that_of_its_equals(ties):
    """The best token has less than the target, and with the first of four equals more than it."""
    row = np.array([0.0, 0.0, 1.0, 0.0, 0.0], np.float32)
    seeds, p = list(range(12)), 0.45
    left = lc.top_p(row, p, ties=ties)
    assert np.isfinite(left).sum() == (5 if ties == "all" else 2)
    batch = lc.Batch(row.size)
    for seed in seeds:
        batch.add(lc.Params(seed=seed, top_p=p))
    drawn = lc.Chain([("top_p", {"ties": ties})]).sample(np.tile(row, (12, 1)), batch)
    assert_array_equal(drawn, lc.sample(np.tile(left, (12, 1)), seed=seeds, position=[0] * 12))
