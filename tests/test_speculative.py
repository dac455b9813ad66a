"""Speculative decoding: as a distribution, and for what it promises."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
from drafting import Random, alone, plain, situations
from effort import effort
from fitting import assert_fits, softmax
from logitchain import rng
from logitchain.numeric import compile as jit
from logitchain.sample import race
from logitchain.speculative import keep_or_redraw, remainder
from observed import state
from strategies import rows

INTERPRETED = jit.INTERPRETED
INF = np.inf


def logits(*probs):
    """A float32 row of these probabilities."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs)).astype(np.float32)


# ---- one position, as a distribution: over 300,000 seeds an error of 1.5 % of each shows

PAIRS = {  # target, drafter
    "close": (logits(0.5, 0.3, 0.2), logits(0.4, 0.35, 0.25)),
    "far": (logits(0.7, 0.2, 0.06, 0.04), logits(0.05, 0.05, 0.2, 0.7)),
    "equal": (logits(0.5, 0.3, 0.2), logits(0.5, 0.3, 0.2)),
    "shifted": (logits(0.5, 0.3, 0.2), logits(0.5, 0.3, 0.2) + np.float32(3)),
    "disjoint": (logits(0.6, 0.4, 0, 0, 0), logits(0, 0, 0.1, 0.2, 0.7)),
    "target removed some": (logits(0.6, 0, 0.4, 0), logits(0.25, 0.25, 0.25, 0.25)),
    "drafter removed some": (logits(0.1, 0.2, 0.3, 0.4), logits(0, 0.8, 0.2, 0)),
    "certain drafter": (logits(0.3, 0.7), logits(1, 0)),
    "certain target": (logits(0, 1), logits(0.5, 0.5)),
    "three blocks": (
        logits(0.2, *[0] * 127, 0.3, 0.5),
        logits(0.4, *[0.002] * 127, 0.046, 0.3),
    ),
    "eight tokens": (
        logits(0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05),
        logits(0.05, 0.05, 0.05, 0.3, 0.2, 0.15, 0.1, 0.1),
    ),
}
SEEDS = effort(interpreted=50, quick=60_000, long=300_000)


@jit.kernel
def settle_two(target, drafter, first_seed, offset, out):
    """Tokens of two positions for each seed; the drafter's noise is that of seed + offset."""
    every = np.empty(0, np.int32)
    for i in range(out.shape[0]):
        seed = np.uint64(first_seed + i)
        for place in range(2):
            draft = race(drafter, every, seed + np.uint64(offset), np.uint64(place))
            out[i, place] = keep_or_redraw(target, draft, drafter, seed, np.uint64(place))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("offset", [0, 1], ids=["same seed", "other seed"])
def test_a_token_and_the_next_have_the_targets_distribution(pair, offset):
    target, drafter = pair
    tokens = np.empty((SEEDS, 2), np.int64)
    settle_two(target, drafter, 0, offset, tokens)
    size, p = target.size, softmax(target)
    assert_fits(tokens[:, 0], p)
    assert_fits(tokens[:, 0] * size + tokens[:, 1], np.outer(p, p).ravel())
    assert_fits(tokens[:-1, 1] * size + tokens[1:, 1], np.outer(p, p).ravel())


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_a_draft_is_kept_as_often_as_can_be(pair):
    target, drafter = pair
    count = SEEDS // 10
    seeds = np.arange(count, dtype=np.uint64)
    drafts = lc.sample(np.broadcast_to(drafter, (count, drafter.size)), seed=seeds, position=0)
    kept = [
        keep_or_redraw(target, draft, drafter, seed, np.uint64(0)) == draft
        for draft, seed in zip(drafts, seeds, strict=True)
    ]
    share = np.minimum(softmax(target), softmax(drafter)).sum()
    assert abs(np.mean(kept) - share) < 5 * np.sqrt(share * (1 - share) / count) + 1e-6


@given(rows(min_vocab=2, max_vocab=200), st.data())
def test_the_remainder_is_the_definition(target, data):
    drafter = data.draw(rows(min_vocab=target.size, max_vocab=target.size))
    p, q = softmax(target), softmax(drafter)
    rest = np.maximum(p - q, 0)
    ours = remainder(target, weighed(target), drafter, weighed(drafter))
    assert_allclose(np.exp(ours) * p.max(), rest, atol=2e-6)


def weighed(row):
    best = row.max()
    return best, np.exp(row.astype(np.float64) - best).sum()


@pytest.mark.parametrize("logit", [-32, -100])
def test_where_rounding_leaves_nothing_the_row_itself_is_drawn_from(logit):
    target, drafter = np.array([[0, 0, -INF], [0, 0, logit]], np.float32)  # token 2 has no mass
    for seed in range(50):
        tokens = lc.verify([target, target], [2], [drafter], seed=seed, position=0)
        assert len(tokens) == 1
        assert tokens[0] in (0, 1)


# ---- whole sequences, as a distribution: over 15,000 an error of 7 % of each shows

SEQUENCES = effort(interpreted=50, quick=3_000, long=15_000)
LENGTH, VOCAB = 4, 3
MODEL = np.log(np.random.default_rng(3).dirichlet(np.ones(VOCAB), VOCAB + 1)).astype(np.float32)
DRAFTER = np.log(np.random.default_rng(4).dirichlet(np.ones(VOCAB), VOCAB + 1)).astype(np.float32)
PARAMS = {
    "temperature": 1.3,
    "frequency_penalty": 0.7,
    "xtc_probability": 0.4,
    "xtc_threshold": 0.3,
}


def ask(model, batch):
    """The model's logits for each row: they depend on its last token."""
    return model[[(batch.output(row) or [VOCAB])[-1] for row in batch.rows]]


def law(chain):
    """The probability of each sequence of LENGTH tokens; XTC's coin falls either way."""
    probs = np.ones((VOCAB,) * LENGTH)
    odds = {0.0: 1 - PARAMS["xtc_probability"], 1.0: PARAMS["xtc_probability"]}
    for output in (output for n in range(LENGTH) for output in product(range(VOCAB), repeat=n)):
        step = np.zeros(VOCAB)
        for coin, chance in odds.items():
            batch = lc.Batch(VOCAB)
            batch.add(lc.Params(seed=0, **PARAMS | {"xtc_probability": coin}), [], output)
            step += chance * softmax(chain(ask(MODEL, batch), batch)[0])
        probs[output] *= step.reshape(-1, *[1] * (LENGTH - len(output) - 1))
    return probs.ravel()


def generate(chain, k, method, seeds, drafter_seed):
    """Sequences of at least LENGTH tokens, k drafts at a time; no method: `proposed` is unknown."""
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(n=len(seeds), seed=seeds, **PARAMS))
    done = {}
    while len(batch):
        drafts, proposed, given = [], [], [ask(MODEL, batch)]
        seed = drafter_seed(batch.seeds, batch.positions)
        for _ in range(k):
            proposed.append(chain(ask(DRAFTER, batch), batch))
            drafts.append(lc.sample(proposed[-1], seed=seed, position=batch.positions))
            batch.append(drafts[-1])
            given.append(ask(MODEL, batch))
        for row in batch.rows:
            batch.rollback(row, k)
        flat = np.stack(given, axis=1).reshape(-1, VOCAB)
        known = (np.stack(proposed, axis=1),) if method else ()
        told = {"method": method or "token"}
        tokens = chain.verify(flat, batch, list(zip(*drafts, strict=True)), *known, **told)
        for row, new in zip(list(batch.rows), tokens, strict=True):
            batch.append(new, [row] * len(new))
            if len(batch.output(row)) >= LENGTH:
                done[row] = batch.output(row)[:LENGTH]
        batch.remove([row for row in batch.rows if row in done])
    return np.array([done[row] for row in sorted(done)])


DRAFTER_SEEDS = {
    "same seed": lambda seeds, positions: seeds,
    "own seed": lambda seeds, positions: seeds + np.uint64(2**40),
    "draft seed": lc.draft_seed,
}


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("method", "drafter"),
    [
        *product([None, "token"], ["same seed", "own seed"]),
        *product(["token", "block"], ["draft seed"]),
    ],
)
def test_sequences_have_the_distribution_of_plain_sampling(k, method, drafter):
    chain, seeds = lc.Chain(), list(range(SEQUENCES))
    output = generate(chain, k, method, seeds, DRAFTER_SEEDS[drafter])
    assert_fits(output @ VOCAB ** np.arange(LENGTH)[::-1], law(chain))


# ---- the same tokens as without drafts


def flat(batch, model, drafts):
    """The model's logits for all rows and their drafts."""
    output = [
        [*batch.output(row), *told[:depth]]
        for row, told in zip(batch.rows, drafts, strict=True)
        for depth in range(len(told) + 1)
    ]
    return np.stack([model(tokens) for tokens in output])


def some_drafts(data, future, vocab):
    """Drafts of which the first are right; fewer than there is future."""
    count = data.draw(st.integers(0, len(future) - 3))
    wrong = data.draw(st.lists(st.integers(0, vocab - 1), max_size=2))
    return [*future[:count], *wrong]


@given(situations(), st.data())
def test_without_known_logits_the_tokens_are_those_without_drafts(situation, data):
    chain, batch, model = situation
    futures = [plain(chain, batch, row, model, 8) for row in batch.rows]
    drafts = [some_drafts(data, future, batch.vocab_size) for future in futures]
    tokens = chain.verify(flat(batch, model, drafts), batch, drafts)
    for new, future, told in zip(tokens, futures, drafts, strict=True):
        right = [a == b for a, b in zip(told, future, strict=False)]
        kept = right.index(False) if False in right else len(right)
        assert new.dtype == np.int64
        assert new.tolist() == future[: kept + 1]


METHODS = [
    {"method": "token"},
    {"method": "block"},
    {"method": "synthetic", "acceptance": [0.9, 0.6, 1.0, 0.5]},
]


def processed(chain, batch, row, model, drafts):
    """The processed logits before each draft of a row and after the last."""
    output = [[*batch.output(row), *drafts[:depth]] for depth in range(len(drafts) + 1)]
    return np.stack([chain(model(tokens), alone(batch, row, tokens)) for tokens in output])


def proposals(data, batch, chain, drafter):
    """For each row its drafts and what they were drawn from, or None."""
    drafts, known = [], []
    for row in batch.rows:
        told, logits = [], []
        for _ in range(data.draw(st.integers(0, 4))):
            output = [*batch.output(row), *told]
            logits.append(chain(drafter(output), alone(batch, row, output)))
            told.append(lc.sample(logits[-1], seed=batch.seed(row), position=len(output)))
        drafts.append(told)
        known.append(np.stack(logits) if told and data.draw(st.booleans()) else None)
    return drafts, known


@given(situations(), st.data())
def test_a_chain_verifies_each_row_as_the_pure_function_does(situation, data):
    """And so no row depends on another, or on how many drafts it has."""
    chain, batch, model = situation
    near = data.draw(st.floats(0, 1))
    other = Random(batch.vocab_size, 1000)
    drafts, known = proposals(
        data, batch, chain, lambda output: model(output) + np.float32(near) * other(output)
    )
    how = data.draw(st.sampled_from(METHODS))
    before = state(batch)
    tokens = chain.verify(flat(batch, model, drafts), batch, drafts, known, **how)
    assert state(batch) == before
    for row, new, told, logits in zip(batch.rows, tokens, drafts, known, strict=True):
        target = processed(chain, batch, row, model, told)
        key = {"seed": batch.seed(row), "position": len(batch.output(row))}
        alike = {} if logits is None and how["method"] == "block" else how
        assert_array_equal(new, lc.verify(target, told, logits, **key, **alike))


def test_the_loop_in_the_docs_gives_the_tokens_without_drafts():
    page = Path(__file__).parent.parent / "docs/speculative.md"
    loop, end, *_ = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(loop, names := {})
    batch, chain, rows = names["batch"], names["chain"], names["rows"]
    for row in rows:
        output = batch.output(row)
        again = alone(batch, row, output[:1])
        while len(again.output(0)) < len(output):
            again.append(chain.sample(names["model"](again, 0), again))
        assert again.output(0) == output
    assert batch.output(rows[0]) != batch.output(rows[1])
    exec(end, names)
    choices, params = names["choices"], names["params"]
    for row, choice in choices.items():
        again, tokens = lc.Batch(50), lc.Choice(params, lambda _: b"", seed=0, output_tokens=[11])
        (only,) = again.add(replace(params, n=1, seed=choice.seed), [], [11])
        while not tokens.finish_reason:
            again.append(chain.sample(names["model"](again, 0), again))
            tokens.append(again.output(only)[-1])
        assert (choice.tokens, choice.finish_reason) == (tokens.tokens, tokens.finish_reason), row
    assert [choice.finish_reason for choice in choices.values()] == ["stop", "length"]
    (batch := lc.Batch(50)).add(params, [], [11])
    assert 10 in names["step"](batch)[0][:-1]  # there is something to drop


# ---- what else is promised


@given(st.data(), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_drafter_that_is_the_model_is_always_right(data, seed, position):
    first = data.draw(rows(max_vocab=100))
    target = np.stack([first, *[np.roll(first, j) for j in range(1, 5)]])
    drafter_seed = data.draw(st.sampled_from([seed, 12345]))
    drafts = lc.sample(target[:-1], seed=drafter_seed, position=position + np.arange(4))
    last = lc.sample(target[-1], seed=seed, position=position + 4)
    for method in ("token", "block"):
        tokens = lc.verify(target, drafts, target[:-1], seed=seed, position=position, method=method)
        assert tokens.tolist() == [*drafts, last]


@given(st.data(), st.integers(0, 2**64 - 1))
def test_a_removed_token_is_never_returned(data, seed):
    target = data.draw(rows(min_vocab=2, max_vocab=100))
    drafter = data.draw(rows(min_vocab=target.size, max_vocab=target.size))
    draft = data.draw(st.sampled_from(np.flatnonzero(np.isfinite(drafter)).tolist()))
    for count, known in ((1, None), (1, "token"), (1, "block"), (3, "block")):
        given = [] if known is None else [np.stack([drafter] * count)]
        how = {"seed": seed, "position": 0, "method": known or "token"}
        tokens = lc.verify(np.stack([target] * (count + 1)), [draft] * count, *given, **how)
        assert np.isfinite(target[tokens]).all()


def test_the_coin_and_the_other_draw_have_a_stream_of_their_own():
    target, drafter = PAIRS["far"]
    for seed in range(40):
        coin = lc.uniform(seed, 5, rng.VERIFY)
        draft = int(lc.sample(drafter, seed=seed, position=5))
        is_kept = coin * softmax(drafter)[draft] < softmax(target)[draft]
        tokens = lc.verify(np.stack([target] * 2), [draft], [drafter], seed=seed, position=5)
        assert (len(tokens) == 2) == is_kept
        if is_kept:
            assert tokens.tolist() == [draft, lc.sample(target, seed=seed, position=6)]


def test_a_batch_without_rows_and_rows_without_drafts():
    chain, batch = lc.Chain(), lc.Batch(5)
    assert chain.verify(np.empty((0, 5)), batch, []) == []
    batch.add(lc.Params(n=3, seed=1))
    logits = np.random.default_rng(0).normal(0, 1, (3, 5))
    for known in (None, [None] * 3, np.empty((3, 0, 5))):
        tokens = chain.verify(logits, batch, [[]] * 3, known)
        assert_array_equal(np.concatenate(tokens), chain.sample(logits, batch))
    alone = lc.verify(logits[:1], [], seed=3, position=2)
    assert alone.tolist() == [lc.sample(logits[0], seed=3, position=2)]


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float64, "strided", "fixed", "bits"]
)
def test_logits_of_every_type(dtype):
    target = np.random.default_rng(1).normal(0, 2, (3, 40)).astype(ml_dtypes.bfloat16)
    target, kwargs = target.astype(np.float16).astype(np.float32), {}
    drafts, seed = [7, 9], {"seed": 4, "position": 1}
    batch = lc.Batch(40)
    batch.add(lc.Params(seed=4, top_k=20), [], [1])
    if dtype == "strided":
        given = np.repeat(target, 2, axis=1)[:, ::2]
    elif dtype == "fixed":
        given = target.copy()
        given.flags.writeable = False
    elif dtype == "bits":
        given = target.astype(ml_dtypes.bfloat16).view(np.uint16)
        target, kwargs = given.view(ml_dtypes.bfloat16).astype(np.float32), {"dtype": "bfloat16"}
    else:
        given = target.astype(dtype)
        target = given.astype(np.float32)
    for known in (None, 1):
        args, same = ([], []) if known is None else ([given[1:]], [target[1:]])
        tokens = lc.verify(given, drafts, *args, **seed, **kwargs)
        assert_array_equal(tokens, lc.verify(target, drafts, *same, **seed))
        args, same = [[x] for x in args], [[x] for x in same]
        (tokens,) = lc.Chain().verify(given, batch, [drafts], *args, **kwargs)
        assert_array_equal(tokens, lc.Chain().verify(target, batch, [drafts], *same)[0])


# ---- invalid rows


def two_rows():
    """A batch of two rows, the logits of their positions, and drafts of which all are kept."""
    batch = lc.Batch(4)
    batch.add(lc.Params(n=2, seed=3, temperature=0, frequency_penalty=0.1), [1, 1], [2])
    return batch, 9 * np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3, 0, 1]], [[0, 1, 2], [3, 0]]


def test_a_row_that_is_not_fit_raises_and_leaves_the_batch_as_it_was():
    for bad in (0, 2, 6):
        batch, logits, drafts = two_rows()
        logits[bad, 1] = np.nan
        before = state(batch) | {"status": None}
        with pytest.raises(ValueError, match=f"^logits: row {bad}, token 1 is nan$"):
            lc.Chain().verify(logits, batch, drafts)
        assert state(batch) | {"status": None} == before
    batch, logits, drafts = two_rows()
    logits[5] = np.nan
    tokens = lc.Chain().verify(logits, batch, [[0, 1, 2], [1, 0]])  # which no row gets to
    assert [new.tolist() for new in tokens] == [[0, 1, 2, 3], [3]]


@pytest.mark.parametrize("value", [np.nan, INF, -INF])
def test_a_row_after_a_draft_that_is_not_kept_is_not_judged(value):
    unfit, row = [value] * 4, [0.0, 9.0, -INF, 0.0]
    for known in (None, [[0.0, -INF, 0.0, -INF]] * 2):
        tokens = lc.verify([row, unfit, unfit], [2, 0], known, seed=1, position=2)
        assert tokens.tolist() == [1]
        batch = lc.Batch(4)
        batch.add(lc.Params(seed=1), [], [0, 0])
        known = None if known is None else [known]
        (ours,) = lc.Chain().verify([row, unfit, unfit], batch, [[2, 0]], known)
        assert ours.tolist() == [1]
        assert batch.status == ["ok"]


def test_masks_after_a_draft_that_a_grammar_refuses():
    logits = np.zeros((3, 4), np.float32)
    masks = np.array([[0b0010], [-1], [-1]], np.int32)  # only token 1 may come first
    masked = lc.token_bitmask(logits, masks)
    for known in (None, logits[1:]):
        assert lc.verify(masked, [2, 0], known, seed=0, position=0).tolist() == [1]
    masks[1:] = 0
    with pytest.raises(ValueError, match=r"^logits: row 1, no finite logit is left$"):
        lc.token_bitmask(logits, masks)


def test_a_row_that_is_marked_keeps_the_drafts_before():
    for know in (None, [9 * np.eye(4)[[0, 1, 2]], 9 * np.eye(4)[[3, 0]]]):
        batch, logits, drafts = two_rows()
        logits[5, 2], before = np.inf, state(batch)
        tokens = lc.Chain().verify(logits, batch, drafts, know, on_invalid="mark")
        assert [new.tolist() for new in tokens] == [[0, 1, 2, 3], [3, -1]]
        assert batch.status == ["ok", "token 2 is inf"]
        assert state(batch) | {"status": None} == before | {"status": None}


def test_a_control_that_fails_leaves_the_batch_as_it_was():
    def fail_late(rows, batch):
        if batch.positions[0] > 2:
            raise RuntimeError("late")

    batch, logits, drafts = two_rows()
    before = state(batch)
    with pytest.raises(RuntimeError, match="late"):
        lc.Chain((fail_late,)).verify(logits, batch, drafts)
    assert state(batch) == before


# ---- what is wrong is named

ROW = [0.0, 1.0, 2.0, -INF]
BAD = [
    (([ROW], [0]), ValueError, "logits must have shape (2, 4) with these drafts, not (1, 4)"),
    ((ROW, []), ValueError, "logits must have shape (1, 4) with these drafts, not (4,)"),
    (([ROW] * 2, [4]), ValueError, "drafts must be in [0, 4), not 4"),
    (([ROW] * 2, [-1]), ValueError, "drafts must be in [0, 4), not -1"),
    (([ROW] * 2, [0.0]), TypeError, "drafts must be a sequence of integers, not [0.0]"),
    (([ROW] * 2, 0), TypeError, "drafts must be a sequence of integers, not 0"),
    (([[np.nan] * 4, ROW], [0]), ValueError, "logits: row 0, token 0 is nan"),
    (([ROW, [np.nan] * 4], [2]), ValueError, "logits: row 1, token 0 is nan"),
    (([ROW] * 2, [3], [ROW]), ValueError, "proposed logits: row 0, draft 3 is -inf"),
    (([ROW] * 2, [0], [[INF] * 4]), ValueError, "proposed logits: row 0, token 0 is inf"),
    (([ROW] * 2, [0], [[1] * 3]), ValueError, "proposed logits must have shape (1, 4) with these"),
    (([ROW] * 2, [0], [ROW] * 2), ValueError, "proposed logits must have shape (1, 4) with these"),
    (([ROW] * 2, [0], ["abcd"]), TypeError, "proposed logits must be floating-point numbers"),
]
ROWS = [ROW] * 3
BAD_BATCHES = [
    ((ROWS[:2], [[0], []]), ValueError, "logits must have shape (3, 4) with these drafts, not (2"),
    ((ROWS, [[0]]), ValueError, "drafts must be one per row (2), not 1"),
    ((ROWS, 1), TypeError, "drafts must be one sequence of token ids for each row, not 1"),
    ((ROWS, [0, 1]), TypeError, "row 0 of the batch: drafts must be a sequence of integers, not 0"),
    ((ROWS, [[], [9]]), ValueError, "row 1 of the batch: drafts must be in [0, 4), not 9"),
    ((ROWS, [[], [1]], [None]), ValueError, "proposed must be one per row (2), not 1"),
    ((ROWS, [[], [1]], 5), TypeError, "proposed must be one array of logits for each row, or None"),
    (
        (ROWS, [[], [3]], [None, [ROW]]),
        ValueError,
        "row 1 of the batch: proposed logits: row 0, draft 3 is -inf",
    ),
    ((["abcd"] * 3, [[], [1]]), TypeError, "logits must be floating-point numbers"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), BAD)
def test_bad_input_is_named(arguments, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        lc.verify(*arguments, seed=1, position=2)


@pytest.mark.parametrize(("arguments", "kind", "text"), BAD_BATCHES)
def test_bad_input_of_a_batch_is_named_and_changes_nothing(arguments, kind, text):
    batch = lc.Batch(4)
    batch.add(lc.Params(n=2, seed=1), [1, 2])
    before = state(batch)
    with pytest.raises(kind, match="^" + re.escape(text)):
        lc.Chain().verify(arguments[0], batch, *arguments[1:])
    assert state(batch) == before


def test_keys_policies_and_batches_are_checked():
    with pytest.raises(TypeError, match="seed must be an integer"):
        lc.verify([ROW], [], seed=1.5, position=0)
    with pytest.raises(ValueError, match="position must be in"):
        lc.verify([ROW], [], seed=1, position=-1)
    with pytest.raises(TypeError, match="batch must be a Batch, not 4"):
        lc.Chain().verify([ROW], 4, [[]])
    with pytest.raises(ValueError, match="on_invalid must be one of raise, mark, not 'skip'"):
        lc.Chain().verify([ROW], lc.Batch(4), [], on_invalid="skip")
