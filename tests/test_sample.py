"""The draw: as a distribution, and for what it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
from effort import effort
from fitting import assert_fits, softmax
from logitchain.numeric import compile as jit
from logitchain.rng import keys
from logitchain.sample import delay, draw, earliest, exponential
from strategies import rows

INTERPRETED = jit.INTERPRETED
DRAWS = effort(100, 60_000)


def draws(row, count, *, seed=None, position=None):
    """One draw of the row for each of `count` seeds, positions, or the pairs given."""
    matrix = np.broadcast_to(np.asarray(row, np.float32), (count, len(row)))
    seed = np.arange(count) if seed is None else seed
    return lc.sample(matrix, seed=seed, position=0 if position is None else position)


RNG = np.random.default_rng(5)
ROWS = {
    "five tokens": np.log([0.4, 0.3, 0.15, 0.1, 0.05]),
    "two far apart": np.array([5.0, *[-np.inf] * 200, 5.0]),
    "one block, all equal": np.zeros(64),
    "three blocks, all equal": np.zeros(130),
    "spread over blocks": RNG.normal(0, 2, 300),
    "peaked": np.array([9.0, *np.zeros(150)]),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("over", ["seeds", "positions", "large seeds"])
def test_draws_follow_softmax(row, over):
    keys = {
        "seeds": {"seed": np.arange(DRAWS)},
        "positions": {"seed": 42, "position": np.arange(DRAWS)},
        "large seeds": {"seed": np.arange(DRAWS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)},
    }
    assert_fits(draws(row, DRAWS, **keys[over]), softmax(row))


def test_tokens_rarer_than_one_in_a_million_by_conditioning():
    """Twenty rare tokens in a block of their own, each as likely as it should be.

    One of them can win only if its block's first arrival is very early, and that is one cheap
    number: so millions of seeds are searched and only the few hundred thousand candidates drawn.
    """
    seeds, share = effort((1000, 0.05), (10_000_000, 1e-4), (50_000_000, 2e-5))
    weights = np.arange(1, 21) / 210 * share  # from one in ten million to two in a million
    row = np.full(128, -np.inf)
    row[3] = np.log(1 - share)
    row[70:90] = np.log(weights)
    candidates = early_seeds(seeds, 1, 20 * share)  # later than that none wins: e**-20
    tokens = lc.sample(
        np.broadcast_to(row, (candidates.size, row.size)), seed=candidates, position=0
    )
    wins = np.bincount(tokens, minlength=row.size)[70:90]
    expected = weights * seeds
    assert ((wins - expected) ** 2 / expected).sum() < 20 + 5 * np.sqrt(40)


@jit.kernel
def early(count, block, limit, out):
    found = 0
    for seed in range(count):
        if earliest(np.uint64(seed), np.uint64(0), block)[0] < limit:
            out[found] = seed
            found += 1
    return found


def early_seeds(count, block, limit):
    out = np.empty(count, np.uint64)
    return out[: early(count, block, limit, out)].copy()


@pytest.mark.parametrize("token", [70, 64, 127])
def test_arrivals_are_exponential(token):
    count = effort(1_000, 300_000)
    arrivals = np.empty(count)
    arrive(np.arange(count, dtype=np.uint64), token, arrivals)
    for t in (1e-3, 1e-2, 0.1, 1.0, 4.0):
        expected = -np.expm1(-t)
        spread = np.sqrt(expected * (1 - expected) / count)
        assert abs((arrivals < t).mean() - expected) < 5 * spread + 1 / count


@jit.kernel
def arrive(seeds, token, out):
    for i in range(seeds.size):
        first, leader = earliest(seeds[i], np.uint64(0), token // 64)
        wait = 0.0 if token % 64 == leader else delay(seeds[i], np.uint64(0), token)
        out[i] = first + wait


@given(rows(max_vocab=200), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_removed_token_is_never_drawn(row, seed, position):
    assert np.isfinite(row[lc.sample(row, seed=seed, position=position)])


@given(rows(max_vocab=300), st.integers(0, 2**64 - 1), st.data())
def test_removing_losers_changes_nothing(row, seed, data):
    """The draw over the survivors is the draw over the whole row, if the winner survives."""
    token = lc.sample(row, seed=seed, position=3)
    removed = np.random.default_rng(data.draw(st.integers(0, 999))).random(row.size) < 0.7
    removed[token] = False
    assert lc.sample(np.where(removed, -np.inf, row), seed=seed, position=3) == token


@given(rows(max_vocab=300), st.integers(0, 2**64 - 1))
def test_the_next_best_is_drawn_where_the_winner_is_removed(row, seed):
    """A shard only has to say its best: over parts of the vocabulary the winners race again."""
    token = lc.sample(row, seed=seed, position=1)
    half = row.size // 2
    parts = [
        np.where(np.arange(row.size) < half, row, -np.inf),
        np.where(np.arange(row.size) >= half, row, -np.inf),
    ]
    winners = [lc.sample(p, seed=seed, position=1) for p in parts if np.isfinite(p).any()]
    assert token in winners


def test_positions_seeds_and_tokens_are_independent():
    row = np.zeros(128)
    by_position = draws(row, DRAWS, seed=9, position=np.arange(DRAWS))
    by_seed = draws(row, DRAWS)
    for tokens in (by_position, by_seed):
        pairs = tokens[:-1] // 16 * 8 + tokens[1:] // 16
        assert_fits(pairs, np.full(64, 1 / 64))
    matched = draws(row, DRAWS, position=1)
    assert_fits(by_seed // 16 * 8 + matched // 16, np.full(64, 1 / 64))


def scores(row, seed):
    """What each token has in the race at position 0."""
    keys = np.uint64(seed), np.uint64(0)
    blocks = [earliest(*keys, block) for block in range(-(-row.size // 64))]
    waits = np.array([delay(*keys, token) for token in range(row.size)])
    for block, (first, leader) in enumerate(blocks):
        waits[64 * block : 64 * (block + 1)] += first
        waits[64 * block + leader : 64 * block + leader + 1] = first
    return row.astype(np.float64) - row.max() - np.log(waits)


def test_the_race_is_won_by_the_best_score_of_all():
    """No bound of a block or token may pass over the winner."""
    rng = np.random.default_rng(1)
    for seed in range(effort(20, 4000)):
        row = rng.normal(0, 1.5, 150).astype(np.float32)
        assert lc.sample(row, seed=seed, position=0) == scores(row, seed).argmax()


def test_a_row_without_a_finite_logit_has_no_draw():
    rows = np.array([[-np.inf, -np.inf], [-np.inf, 0.0]], np.float32)
    assert_array_equal(draw(rows, *keys(0, 0, 2)), [-1, 1])


def test_logits_so_large_that_they_swallow_the_noise_are_drawn_as_others():
    rng = np.random.default_rng(2)
    for seed in range(effort(5, 100)):
        row = np.where(rng.random(960) < 0.3, 1e17, 0.0).astype(np.float32)
        batch = lc.Batch(960)
        batch.add(lc.Params(seed=seed))
        winner = scores(row, seed).argmax()
        assert lc.sample(row, seed=seed, position=0) == winner
        assert lc.Chain().sample(row, batch) == winner


def test_greedy_is_a_chain_with_temperature_zero():
    row = np.array([1.0, 3.0, 3.0, 2.0])
    assert {lc.sample(lc.temperature(row, 0), seed=s, position=0) for s in range(50)} == {1}


@given(rows(max_vocab=200), st.integers(0, 2**64 - 1))
def test_a_row_of_a_batch_draws_as_it_does_alone(row, seed):
    alone = lc.sample(row, seed=seed, position=7)
    others = np.zeros_like(row)
    batch = np.stack([others, row, others, row])
    tokens = lc.sample(batch, seed=[1, seed, 2, seed], position=[0, 7, 1, 7])
    assert tokens.dtype == np.int64
    assert_array_equal(tokens[[1, 3]], alone)


def test_exponential_matches_log1p_where_it_changes_formula():
    u = np.concatenate([np.geomspace(1e-17, 0.5, 300), [2.0**-10, np.nextafter(2.0**-10, 0)]])
    ours = np.array([exponential(x) for x in u])
    np.testing.assert_allclose(ours, -np.log1p(-u), rtol=3e-13)


def test_the_largest_logits_are_as_likely_as_each_other():
    row = np.array([1.0, 3e38, 3e38, 3e38], np.float32)
    assert_fits(draws(row, DRAWS), np.array([0.0, 1 / 3, 1 / 3, 1 / 3]))
