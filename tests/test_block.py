"""Block verification: exact by enumeration, and the kernels decide as the definition does."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
from effort import effort
from fitting import assert_fits, softmax
from logitchain import rng
from logitchain.sample import EVERY, race
from logitchain.speculative.block import judge, weigh_by
from logitchain.speculative.rejection import remainder, weigh
from observed import state
from strategies import rows

INF = np.inf


# ---- the definition, in float64


def ratios(p, q, drafts):
    """min(1, r p / q) from draft to draft; p and q have a row of probabilities for each."""
    r = [1.0]
    for i, x in enumerate(drafts):
        r.append(min(1.0, r[-1] * p[i][x] / q[i][x]))
    return r


def chances(p, q, drafts):
    """Of each beginning of the drafts, the chance that its coin keeps it."""
    r, count = ratios(p, q, drafts), len(drafts)
    h = [1.0]
    for i in range(1, count):
        left = np.maximum(r[i] * p[i] - q[i], 0).sum()
        h.append(1.0 if r[i] == 1 else left / (left + 1 - r[i]))
    return [*h, r[count]] if count else h


def rest(p, q, r):
    """What the token after the kept drafts is drawn from."""
    left = np.maximum(r * p - q, 0)
    return left / left.sum() if left.any() else p  # left is nothing with probability 0


def how_many(p, q, drafts):
    """The probability of each number of kept drafts."""
    h = chances(p, q, drafts)
    return [h[n] * np.prod([1 - x for x in h[n + 1 :]]) for n in range(len(h))]


def how_many_by_token(p, q, drafts):
    """The same for one draft after the other."""
    keep = [min(1.0, p[i][x] / q[i][x]) for i, x in enumerate(drafts)]
    ends = [*[1 - x for x in keep], 1.0]
    return [np.prod(keep[:n]) * ends[n] for n in range(len(ends))]


class Tree:
    """Two models whose probabilities are a function of the tokens so far."""

    def __init__(self, vocab, seed, kind):
        self.vocab, self.seed, self.kind = vocab, seed, kind

    def __call__(self, which, tokens):
        row = np.random.default_rng([self.seed, which, *tokens]).dirichlet(np.ones(self.vocab))
        if which == 1 and self.kind == "near":
            row = 0.9 * self(0, tokens) + 0.1 * row
        if self.kind == "equal" or (self.kind == "often equal" and sum(tokens) % 2):
            row = self(0, tokens) if which == 1 else row
        if self.kind == "removed" or (which == 0 and self.kind == "target removed"):
            row[np.random.default_rng([which, *tokens]).integers(self.vocab)] = 0
        return row / row.sum()

    def rows(self, which, drafts, count):
        return [self(which, drafts[:n]) for n in range(count)]


KINDS = ["far", "near", "equal", "often equal", "removed", "target removed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("vocab", "count"), [(2, 1), (2, 2), (2, 4), (3, 3), (5, 2)])
def test_by_enumeration_the_tokens_have_the_targets_distribution(kind, vocab, count):
    """Over all drafts and all coins; tokens after those of the call are drawn as always."""
    for seed in range(3):
        tree = Tree(vocab, seed, kind)
        ours, law = np.zeros((2, *(vocab,) * (count + 1)))
        for tokens in product(range(vocab), repeat=count + 1):
            law[tokens] = np.prod([tree(0, tokens[:n])[x] for n, x in enumerate(tokens)])
        for drafts in product(range(vocab), repeat=count):
            p, q = tree.rows(0, drafts, count + 1), tree.rows(1, drafts, count)
            chance = np.prod([row[x] for row, x in zip(q, drafts, strict=True)])
            if chance == 0:
                continue
            r = ratios(p, q, drafts)
            for n, share in enumerate(how_many(p, q, drafts)):
                after = p[count] if n == count else rest(p[n], q[n], r[n])
                for token in range(vocab):
                    begin = (*drafts[:n], token)
                    future = law[begin]
                    if future.sum():
                        ours[begin] += chance * share * after[token] * future / future.sum()
        assert_allclose(ours, law, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_by_enumeration_no_fewer_are_kept_than_one_after_the_other(kind):
    gains = []
    for vocab, count, seed in product((2, 4), (1, 2, 3), range(3)):
        tree, means = Tree(vocab, seed, kind), np.zeros(2)
        for drafts in product(range(vocab), repeat=count):
            p, q = tree.rows(0, drafts, count + 1), tree.rows(1, drafts, count)
            chance = np.prod([row[x] for row, x in zip(q, drafts, strict=True)])
            if chance:
                for way, law in enumerate((how_many, how_many_by_token)):
                    means[way] += chance * np.dot(law(p, q, drafts), range(count + 1))
        gains.append(means[0] - means[1])
    assert min(gains) > -1e-12
    assert (max(gains) > 0.001) == (kind != "equal")


# ---- the kernels' decisions are those of the definition, given the same coins


def decide(p, q, drafts, coins):
    """How many drafts are kept, and how near a coin came to its chance."""
    h = chances(p, q, drafts)
    near = min((abs(u - x) for u, x in zip(coins, h[1:], strict=True)), default=1.0)
    return max(n for n in range(len(h)) if n == 0 or coins[n - 1] < h[n]), near


@st.composite
def blocks(draw):
    """Rows of both models, drafts that the second may draw, seed and position."""
    vocab, count = draw(st.sampled_from([2, 5, 70, 200])), draw(st.integers(0, 4))
    shape = {"min_vocab": vocab, "max_vocab": vocab}
    target = np.stack([draw(rows(**shape)) for _ in range(count + 1)])
    noise = [draw(rows(**shape)) for _ in range(count)]
    near = np.float32(draw(st.sampled_from([0, 0.1, 1])))
    drafter = np.array(noise, np.float32).reshape(count, vocab)
    if draw(st.booleans()):
        with np.errstate(all="ignore"):
            mixed = target[:-1] + near * np.where(np.isfinite(drafter), drafter, 0)
        drafter = np.where(np.isnan(mixed) | (mixed == INF), 0, mixed).astype(np.float32)
    seed, position = draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 2**40))
    drafts = lc.sample(drafter, seed=lc.draft_seed(seed, position), position=position)
    return target, drafter, drafts, {"seed": seed, "position": position}


@given(blocks())
def test_drafts_are_kept_as_the_definition_says(block):
    target, drafter, drafts, key = block
    p, q = [softmax(row) for row in target], [softmax(row) for row in drafter]
    coins = [lc.uniform(**key, stream=rng.VERIFY, index=i) for i in range(len(drafts))]
    if any(row[x] < 1e-30 for row, x in zip(q, drafts, strict=True)):
        return
    count, near = decide(p, q, drafts.tolist(), coins)
    tokens = lc.verify(target, drafts, drafter, **key, method="block")
    if near > 1e-5:
        assert tokens[:-1].tolist() == drafts[:count].tolist()
        assert len(tokens) == count + 1
    count = len(tokens) - 1
    if count == len(drafts):
        last = lc.sample(target[-1], seed=key["seed"], position=key["position"] + count)
    else:
        last = redrawn(target[count], drafter[count], ratios(p, q, drafts)[count], key, count)
    assert last is None or tokens[-1] == last


def redrawn(row, proposed, ratio, key, count):
    """The token in place of a dropped draft; None if the ratio must be known to more digits."""
    seed, position = np.uint64(key["seed"]), np.uint64(key["position"])
    _, _, high, low = rng.words(seed, position, rng.VERIFY, count)
    own, at = high << np.uint64(32) | low, position + np.uint64(count)
    found = set()
    for scale in (1 - 1e-5, 1, 1 + 1e-5) if ratio < 1 else (1,):
        left = remainder(row, weigh_by(row, ratio * scale), proposed, weigh(proposed))
        found.add(int(race(left, EVERY, own, at)))
    return found.pop() if len(found) == 1 and found != {-1} else None


@given(rows(min_vocab=2, max_vocab=200), st.data())
def test_a_chance_and_a_ratio_are_those_of_the_definition(target, data):
    drafter = data.draw(rows(min_vocab=target.size, max_vocab=target.size))
    draft = data.draw(st.sampled_from(np.flatnonzero(np.isfinite(drafter)).tolist()))
    ratio = data.draw(st.one_of(st.just(1.0), st.floats(1e-100, 1)))
    p, q = softmax(target), softmax(drafter)
    chance, following = judge(target, draft, drafter, ratio)
    left = np.maximum(ratio * p - q, 0).sum()
    assert 0 <= chance <= 1
    if ratio < 0.999:
        assert chance == pytest.approx(left / (left + 1 - ratio), abs=1e-4)
    elif ratio == 1:
        assert chance == 1
    if q[draft] > 1e-30:
        assert following == pytest.approx(min(1, ratio * p[draft] / q[draft]), rel=1e-5, abs=1e-30)
    rest_of = remainder(target, weigh_by(target, ratio), drafter, weigh(drafter))
    if ratio > 1e-3:
        expected = np.maximum(ratio * p - q, 0) / ratio
        assert_allclose(np.exp(rest_of) * p.max(), expected, atol=2e-3)


@given(blocks())
def test_of_one_draft_it_is_what_it_is_one_after_the_other(block):
    target, drafter, drafts, key = block
    ours = lc.verify(target[:2], drafts[:1], drafter[:1], **key, method="block")
    assert_array_equal(ours, lc.verify(target[:2], drafts[:1], drafter[:1], **key))


def test_coins_are_those_of_the_first_position():
    """So when the position of a dropped draft comes up again, its coin is another."""
    target, drafter = np.log([[0.5, 0.5]] * 3), np.log([[0.9, 0.1]] * 2)
    for seed in range(30):
        tokens = lc.verify(target, [0, 0], drafter, seed=seed, position=4, method="block")
        p, q = [softmax(row) for row in target], [softmax(row) for row in drafter]
        coins = [lc.uniform(seed, 4, rng.VERIFY, i) for i in range(2)]
        assert len(tokens) == decide(p, q, [0, 0], coins)[0] + 1


# ---- as a distribution, over seeds

COUNT = effort(interpreted=50, quick=4_000, long=40_000)


def some_rows(vocab, seed, width=3.0, top_k=0):
    generator = np.random.default_rng(seed)
    target = generator.normal(0, width, (3, vocab)).astype(np.float32)
    drafter = target[:2] + generator.normal(0, 0.7, (2, vocab)).astype(np.float32)
    return (lc.top_k(target, top_k), lc.top_k(drafter, top_k)) if top_k else (target, drafter)


@pytest.mark.parametrize(
    "given_rows", [some_rows(6, 0, 1.0), some_rows(300, 1), some_rows(5000, 2, top_k=20)]
)
def test_tokens_have_the_targets_distribution(given_rows):
    target, drafter = given_rows
    vocab = target.shape[1]
    seen = np.zeros((COUNT, 3), np.int64)
    lengths = np.zeros((2, COUNT))
    for seed in range(COUNT):
        drafts = lc.sample(drafter, seed=lc.draft_seed(seed, 0), position=[0, 1])
        key = {"seed": seed, "position": 0}
        tokens = lc.verify(target, drafts, drafter, **key, method="block").tolist()
        lengths[:, seed] = len(tokens), len(lc.verify(target, drafts, drafter, **key))
        while len(tokens) < 3:  # no draft for the next position
            at = len(tokens)
            tokens += lc.verify(target[at : at + 1], [], seed=seed, position=at).tolist()
        seen[seed] = tokens
    p = [softmax(row) for row in target]
    for place in range(3):
        assert_fits(seen[:, place], p[place])
    pairs = np.outer(p[0], p[1]).ravel()
    assert_fits(seen[:, 0] * vocab + seen[:, 1], pairs)
    assert_fits(seen[:, 1] * vocab + seen[:, 2], np.outer(p[1], p[2]).ravel())
    more = lengths[0] - lengths[1]
    assert more.mean() > -4 * more.std() / np.sqrt(COUNT)


# ---- rows that are invalid, states and what a call says


def kept_block():
    """Drafts that are all kept with certainty, as both models agree; the last row is free."""
    target = np.log(np.full((4, 4), 0.25)).astype(np.float32)
    return target, [0, 1, 2], target[:3].copy()


def test_an_invalid_row_ends_the_block():
    for seed in range(40):
        target, drafts, drafter = kept_block()
        drafter[0] = np.log([0.7, 0.1, 0.1, 0.1])  # the first draft is kept with 0.25 / 0.7
        coins = [lc.uniform(seed, 3, rng.VERIFY, i) for i in range(3)]
        key = {"seed": seed, "position": 3, "method": "block"}
        batch = lc.Batch(4)
        batch.add(lc.Params(seed=seed), [], [0] * 3)
        for bad in (1, 2, 3):
            target[1:] = -1.4
            target[bad:] = np.nan
            is_kept = coins[bad - 1] < 0.25 / 0.7
            before = [coins[i] < 0 for i in range(bad - 1)]  # 0 chance where the rest is no excess
            assert not any(before)
            chain = lc.Chain()
            if is_kept:
                with pytest.raises(ValueError, match=rf"^logits: row {bad}, token 0 is nan$"):
                    lc.verify(target, drafts, drafter, **key)
                with pytest.raises(ValueError, match=rf"^logits: row {bad}, token 0 is nan$"):
                    chain.verify(target, batch, [drafts], [drafter], method="block")
                (tokens,) = chain.verify(
                    target, batch, [drafts], [drafter], method="block", on_invalid="mark"
                )
                assert tokens.tolist() == [*drafts[:bad], -1]
                assert batch.status == ["token 0 is nan"]
                continue
            tokens = lc.verify(target, drafts, drafter, **key)
            assert len(tokens) == 1
            assert tokens[0] != 0
            (ours,) = chain.verify(target, batch, [drafts], [drafter], method="block")
            assert_array_equal(ours, tokens)
            assert batch.status == ["ok"]


def test_rows_after_a_draft_that_the_target_removed_are_not_judged():
    target, drafts, drafter = kept_block()
    target[1, 1], target[2:] = -INF, np.nan
    batch = lc.Batch(4)
    batch.add(lc.Params(seed=5))
    tokens = lc.verify(target, drafts, drafter, seed=5, position=0, method="block")
    assert (len(tokens), tokens[0]) == (2, 0)
    assert tokens[1] != 1
    (ours,) = lc.Chain().verify(target, batch, [drafts], [drafter], method="block")
    assert_array_equal(ours, tokens)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "fields", [{"mirostat_tau": 2.0}, {"adaptive_target": 0.4}], ids=["mirostat", "adaptive_p"]
)
def test_states_follow_the_tokens(seed, fields):
    generator, chain = np.random.default_rng(seed), lc.Chain()
    logits = generator.normal(0, 2, (2, 5, 30)).astype(np.float32)
    batch = lc.Batch(30)
    batch.add(lc.Params(seed=seed, **fields), [1])
    batch.add(lc.Params(seed=seed + 100, temperature=0.7), [2])
    for step in range(3):
        batch.append(chain.sample(logits[:, step], batch))
    proposed = logits[:, :4] + generator.normal(0, 1, (2, 4, 30)).astype(np.float32)
    keys = zip(proposed, batch.seeds, batch.positions, strict=True)
    drafts = [
        lc.sample(
            rows,
            seed=lc.draft_seed(one, at),
            position=np.uint64(at) + np.arange(4, dtype=np.uint64),
        )
        for rows, one, at in keys
    ]
    before = state(batch)
    tokens = chain.verify(logits.reshape(10, 30), batch, drafts, proposed, method="block")
    assert state(batch) == before
    again = lc.Batch(30)
    for row in batch.rows:
        known = {"state": batch.state(row)} if row == 0 else {}
        again.add(batch.params(row), batch.prompt(row), batch.output(row), **known)
    for depth, token in enumerate(tokens[0].tolist()):
        chain.carry(logits[:, depth], again, [token, -1])
        again.append([token], [again.rows[0]])
    row = batch.rows[0]
    batch.append(tokens[0], [row] * len(tokens[0]))
    assert batch.state(row) == again.state(again.rows[0])


def test_log_probabilities_are_those_of_the_rows_that_tokens_come_from():
    generator, lengths = np.random.default_rng(0), set()
    target = generator.normal(0, 2, (4, 9)).astype(np.float32)
    drafter = (target[:3] + generator.normal(0, 2, (3, 9))).astype(np.float32)
    for seed in range(12):
        batch = lc.Batch(9)
        batch.add(lc.Params(seed=seed))
        drafts = lc.sample(drafter, seed=lc.draft_seed(seed, 0), position=range_of(3))
        call = target, batch, [drafts], [drafter]
        (tokens,) = lc.Chain().verify(*call, method="block")
        (told,) = lc.Chain().verify_with_logprobs(*call, method="block")
        assert_array_equal(told.tokens, tokens)
        assert_array_equal(told.logprobs, lc.token_logprobs(target[: tokens.size], tokens))
        lengths.add(tokens.size)
    assert len(lengths) > 2


def range_of(count):
    return np.arange(count, dtype=np.uint64)


# ---- synthetic acceptance


def kept_of(coins, rates):
    lost = [not coin < rate for coin, rate in zip(coins, rates, strict=True)]
    return lost.index(True) if True in lost else len(lost)


@pytest.mark.parametrize("acceptance", [0, 1, 0.6, 1.0, [0.9, 0.5, 0.1], [1, 1, 0], (0.2,) * 7])
def test_drafts_are_kept_at_the_given_rate(acceptance):
    generator, chain, depth = np.random.default_rng(0), lc.Chain(), 3
    rates = [acceptance] * depth if np.ndim(acceptance) == 0 else acceptance[:depth]
    logits = generator.normal(0, 2, (depth + 1, 9)).astype(np.float32)
    for seed in range(60):
        drafts = generator.integers(0, 9, depth)
        coins = [lc.uniform(seed, 2 + i, rng.VERIFY) for i in range(depth)]
        count = kept_of(coins, rates)
        last = lc.sample(logits[count], seed=seed, position=2 + count)
        how = {"method": "synthetic", "acceptance": acceptance}
        tokens = lc.verify(logits, drafts, seed=seed, position=2, **how)
        assert tokens.tolist() == [*drafts[:count], last]
        batch = lc.Batch(9)
        batch.add(lc.Params(seed=seed), [], [0, 0])
        (ours,) = chain.verify(logits, batch, [drafts], [logits[1:]], **how)
        assert_array_equal(ours, tokens)
        assert_array_equal(lc.accepted_drafts(tokens, drafts), np.arange(count))


def test_of_a_tree_the_first_drafts_are_kept():
    drafts, parents = lc.draft_tree([[5, 6, 7], [5, 8], [1]])
    logits = np.zeros((6, 9), np.float32)
    how = {"seed": 1, "position": 0, "method": "synthetic", "parents": parents}
    assert lc.verify(logits, drafts, **how, acceptance=1)[:-1].tolist() == [5, 6, 7]
    assert lc.verify(logits, drafts, **how, acceptance=[1, 0, 0])[:-1].tolist() == [5]
    assert lc.verify(logits[:1], [], seed=1, position=0, method="synthetic", acceptance=1).size == 1


ROWS = np.zeros((3, 5), np.float32)
BAD = [
    ({"method": "greedy"}, ValueError, "method must be one of token, block, synthetic, not 'gree"),
    ({"method": None}, ValueError, "method must be one of token, block, synthetic, not None"),
    ({"method": "block"}, ValueError, "proposed must be given if method is 'block'"),
    ({"acceptance": 0.5}, ValueError, "acceptance must be None unless method is 'synthetic'"),
    ({"method": "synthetic"}, TypeError, "acceptance must be a number in [0, 1], not None"),
    ({"method": "synthetic", "acceptance": 2}, ValueError, "acceptance must be in [0, 1], not 2"),
    (
        {"method": "synthetic", "acceptance": "1"},
        TypeError,
        "acceptance must be a number in [0, 1]",
    ),
    (
        {"method": "synthetic", "acceptance": [0.5, -1.0]},
        ValueError,
        "acceptance must be in [0, 1], not -1.0",
    ),
    (
        {"method": "synthetic", "acceptance": [0.5]},
        ValueError,
        "acceptance must be one rate or one per depth (2), not (1,)",
    ),
]


@pytest.mark.parametrize(("how", "kind", "text"), BAD)
def test_bad_input_is_named(how, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        lc.verify(ROWS, [1, 2], seed=1, position=2, **how)
    batch = lc.Batch(5)
    batch.add(lc.Params(seed=1))
    with pytest.raises(kind, match="^" + re.escape(text)):
        lc.Chain().verify(ROWS, batch, [[1, 2]], **how)
