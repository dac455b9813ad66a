"""The draw against a race over all tokens, and the bounds on a row's mass at their worst.

Equality of the fused and the composed path says nothing of a fault that both share. Here every
token is scored, so that a bound which passes over a winner shows.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
from effort import effort
from in_blocks import blocks_of
from logitchain.fused.nucleus import NEVER, weigh
from logitchain.numeric import compile as jit
from logitchain.numeric import functions as numerics
from logitchain.numeric.functions import MASS_BITS, log
from logitchain.numeric.simd import LANES
from logitchain.sample import delay, earliest

INTERPRETED = jit.INTERPRETED


@jit.kernel
def race_of_all(row, seeds, positions, winners):
    """Fill in the token of the best score for each seed and position; of equal ones the lowest."""
    best = np.float64(row.max())
    for n in range(seeds.size):
        highest = -np.inf
        for start in range(0, row.size, LANES):
            first, leader = earliest(seeds[n], positions[n], start // LANES)
            for token in range(start, min(start + LANES, row.size)):
                arrival = first
                if token % LANES != leader:
                    arrival += delay(seeds[n], positions[n], token)
                score = np.float64(row[token]) - best - log(arrival)
                if score > highest:
                    winners[n], highest = token, score


def hot(rng, vocab):
    """One probable token in each block, which seldom arrives first of its block."""
    row = rng.normal(0, 1, vocab)
    row[rng.integers(0, LANES) :: LANES] += 4
    return row


def masked(rng, vocab):
    return np.where(rng.random(vocab) < 0.9, -np.inf, rng.normal(0, 2, vocab))


SHAPES = {
    "flat": lambda rng, vocab: rng.normal(0, 1, vocab),
    "peaked": lambda rng, vocab: rng.normal(0, 1, vocab) + 5 * (rng.random(vocab) < 0.05),
    "ties": lambda rng, vocab: rng.integers(-3, 4, vocab) * 0.5,
    "one hot token per block": hot,
    "most removed": masked,
    "steep": lambda rng, vocab: -np.arange(vocab) / 16,
    "far from zero": lambda rng, vocab: 1e4 + rng.integers(-8, 9, vocab) * 0.25,
}
REQUESTS = {
    "nothing": {},
    "temperature": {"temperature": 0.75},
    "temperature and top_p": {"temperature": 1.25, "top_p": 0.9},
    "top_p": {"top_p": 0.5},
    "top_k": {"temperature": 1.5, "top_k": 50},
    "min_p and top_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.01},
}


EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES)
EVERY_REQUEST = pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
#: Several whole blocks and a part of one.
VOCAB = 4 * LANES + 30


def drawn_from(shape):
    return SHAPES[shape](np.random.default_rng(17), VOCAB).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 3])
@pytest.mark.parametrize("position", [0, 2**33 + 5])
def test_arrivals_are_those_of_the_definition(seed, position):
    expected = reference.arrivals(seed, position, VOCAB)
    keys = np.uint64(seed), np.uint64(position)
    for token in range(0, VOCAB, effort(7, 1)):
        first, leader = earliest(*keys, token // LANES)
        wait = 0.0 if token % LANES == leader else delay(*keys, token)
        assert_allclose(first + wait, expected[token], rtol=1e-12)


@EVERY_SHAPE
@EVERY_REQUEST
def test_a_draw_is_the_best_score_of_the_definition(shape, fields):
    row = drawn_from(shape)
    for seed in range(effort(1, 20)):
        batch = lc.Batch(VOCAB)
        batch.add(lc.Params(seed=seed, **fields), [1], [2, 3])
        left = lc.Chain()(row, batch)
        expected = reference.sample(left, seed, 2)
        assert lc.Chain().sample(row, batch) == expected
        assert lc.sample(left, seed=seed, position=2) == expected


#: Of 64 tokens each, so that the second block is whole, or a part, or the blocks are far apart.
PLACES = {"whole": (0, 64, 128), "part": (0, 64, 100), "apart": (64, 640, 700)}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("fields", [{}, {"top_k": 3}, {"top_p": 0.999}, {"min_p": 1e-6}])
def test_a_race_that_is_won_by_a_hair(fields, place):
    """The second block's leader wins or loses by 1e-12, and the first block promised much more."""
    near, far, vocab = place
    for seed in range(effort(2, 60)):
        arrivals = reference.arrivals(seed, 0, vocab)
        leader = far + np.argmin(arrivals[far:])
        others = near + np.argsort(arrivals[near : near + LANES])[1:]
        token = others[seed % 5]
        row = np.full(vocab, -np.inf, np.float32)
        row[token] = np.log(arrivals[token] / arrivals[leader])
        even = np.float64(row[token]) - np.log(arrivals[token]) + np.log(arrivals[leader])
        for hair, winner in ((1e-12, leader), (-1e-12, token)):
            row[leader] = even + hair
            batch = lc.Batch(vocab)
            batch.add(lc.Params(seed=seed, **fields))
            assert lc.Chain().sample(row, batch) == winner
            assert lc.sample(row, seed=seed, position=0) == winner


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 129, 191])
def test_the_last_token_of_a_row_may_win(size):
    row = np.full(size, -100, np.float32)
    row[-1] = 0
    assert lc.sample(row, seed=0, position=0) == size - 1
    assert lc.Chain().sample(row, batch_of(size)) == size - 1


#: Logits at which two tokens have the same score to the last bit.
TIES = {
    "in one block": (11481, {46: -0x1C56B3E * 2.0**-52, 59: 0.0}),
    "in one block, the second has the lower logit": (6039, {171: -0x18D2D0A * 2.0**-49, 159: 0.0}),
    "the first one's block promises more": (2829, {355: -0x1F08662 * 2.0**-52, 78: 0.0}),
    "the second one's block promises more": (2119, {711: -0x1C189E2 * 2.0**-52, 47: 0.0}),
}


@pytest.mark.parametrize(("seed", "logits"), TIES.values(), ids=TIES)
@pytest.mark.parametrize("fields", [{}, {"top_k": 2}], ids=["all", "few"])
def test_of_equal_scores_the_lowest_id_wins(fields, seed, logits):
    for vocab in (1024, max(logits) + 1):  # the last block is whole, or a part
        row = np.full(vocab, -100, np.float32)
        row[list(logits)] = list(logits.values())
        scores = row - np.log(reference.arrivals(seed, 0, vocab))
        assert_allclose(*scores[list(logits)], rtol=1e-14)
        batch = batch_of(vocab, seed=seed, **fields)
        assert lc.Chain().sample(row, batch) == min(logits)
        assert lc.sample(row, seed=seed, position=0) == min(logits)


@pytest.mark.skipif(INTERPRETED, reason="a quarter of a million draws")
@EVERY_SHAPE
@pytest.mark.parametrize("name", ["nothing", "temperature and top_p", "top_k"])
def test_no_draw_passes_over_the_winner(shape, name):
    """A bound that is wrong by a thousandth is wrong in one draw of a thousand, or of ten."""
    logits = np.tile(drawn_from(shape), (400, 1))
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=3, n=400, **REQUESTS[name]))
    left = lc.Chain()(logits, batch)
    expected = np.empty(400, np.int64)
    for _ in range(effort(interpreted=0, quick=10, long=30)):
        race_of_all(left[0], batch.seeds, batch.positions, expected)
        fused = lc.Chain().sample(logits, batch)
        assert_array_equal(fused, expected)
        composed = lc.sample(left, seed=batch.seeds, position=batch.positions)
        assert_array_equal(composed, expected)
        batch.append(fused)


# ---- masses that lose nearly a unit each to rounding

TAIL, DRAWS = effort((640, 6), (2**17, 20))
#: The exact mass of a logit, in units that each mass is a whole number of, below the best one's.
FRACTIONS = (0.98, 1.9, 7.75)


def with_a_tail(fraction, tail=TAIL):
    """Two equal best tokens, and a tail whose masses lose their fractions; its exact mass."""
    row = np.full(LANES + tail, -np.inf, np.float32)
    row[:2] = 0.0
    row[LANES:] = np.log(fraction) - MASS_BITS * np.log(2.0)
    return row, 2 * 2**MASS_BITS + tail * int(fraction)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_bounds_of_a_mass_allow_for_what_rounding_takes(fraction):
    """The tokens before a place are weighed exactly, the tail is estimated."""
    row, mass = with_a_tail(fraction)
    assert numerics.total_mass(row, np.float32(0.0)) == mass
    blocks = blocks_of(row)
    low, high, before = weigh(blocks, 1.0, blocks.peaks, np.float32(0.0), 1, NEVER, False)
    assert before == 2**MASS_BITS
    assert low <= mass <= high
    exact = weigh(blocks, 1.0, blocks.peaks, np.float32(0.0), 1, NEVER, True)
    assert exact == (mass, mass, 2**MASS_BITS)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_nucleus_that_ends_within_the_rounding_of_a_tail(fraction):
    """top_p asks for the first token's mass and one unit more or less of a part of the tail's."""
    row, mass = with_a_tail(fraction)
    loss = row[LANES:].size * (fraction - int(fraction))
    for part, kept in ((-0.5, [0]), (0.5, [0, 1])):
        p = (2**MASS_BITS + part * loss / 2) / mass + numerics.SLACK
        expected = lc.top_p(row, p)
        assert np.flatnonzero(np.isfinite(expected)).tolist() == kept
        batch = lc.Batch(row.size)
        batch.add(lc.Params(top_p=p, n=DRAWS, seed=0))
        tokens = lc.Chain().sample(np.tile(row, (DRAWS, 1)), batch)
        assert np.unique(tokens).tolist() == kept
        assert_array_equal(lc.Chain()(row, batch_of(row.size, top_p=p)), expected)


def batch_of(vocab, seed=0, **fields):
    batch = lc.Batch(vocab)
    batch.add(lc.Params(seed=seed, **fields))
    return batch
