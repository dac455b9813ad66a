"""Kept sets and what else is told of a token are those of the processed row, bit for bit."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
from effort import effort
from strategies import rows

VOCABS = effort((1, 5, 64, 65), (1, 5, 64, 65, 200, 700))
REQUESTS = {
    "nothing": {},
    "temperature": {"temperature": 0.7},
    "greedy": {"temperature": 0},
    "top_k": {"temperature": 0.8, "top_k": 20},
    "top_p": {"top_p": 0.8},
    "min_p": {"temperature": 1.5, "min_p": 0.05, "presence_penalty": 0.5},
    "masks": {"allowed_tokens": [0, 3, 4, 64, 170], "logit_bias": {3: 1.5, 4: -math.inf}},
    "xtc": {"top_k": 30, "xtc_probability": 1.0, "xtc_threshold": 0.02},
    "typical": {"typical_p": 0.7, "dry_multiplier": 0.8},
    "mirostat": {"mirostat_tau": 2.0, "temperature": 0.9},
    "adaptive": {"adaptive_target": 0.3},
}


def row_of(rng, vocab):
    row = [
        rng.normal(0, 2, vocab),
        rng.normal(0, 2, vocab) + 9 * (rng.random(vocab) < 3 / vocab),
        rng.integers(-3, 4, vocab) * 0.5,  # ties
        np.full(vocab, 1.5),
    ][rng.integers(4)]
    removed = rng.random(vocab) < rng.choice([0.0, 0.0, 0.4])
    removed[0] = False
    return np.where(removed, -np.inf, row)


def drawn_case(seed, dtype=np.float32, **further):
    """(logits, batch) of a few random requests over one vocabulary."""
    rng = np.random.default_rng(seed)
    vocab = int(rng.choice(VOCABS))
    batch = lc.Batch(vocab)
    for name in rng.choice(list(REQUESTS), rng.integers(1, 5)):
        fields = {
            key: [x for x in value if x < vocab]
            if key == "allowed_tokens"
            else {x: y for x, y in value.items() if x < vocab}
            if key == "logit_bias"
            else min(value, vocab)
            if key == "top_k"
            else value
            for key, value in REQUESTS[name].items()
        }
        params = lc.Params(seed=int(rng.integers(2**62)), **fields, **further)
        batch.add(params, rng.integers(0, vocab, 9), rng.integers(0, vocab, 5))
    logits = np.stack([row_of(rng, vocab) for _ in batch.rows]).astype(dtype)
    return logits, batch


def kept_by_definition(row):
    ids = np.flatnonzero(np.isfinite(row))
    return ids, lc.logprobs(row)[ids]


def in_order(row):
    return np.lexsort((np.arange(row.size), -row))


def halve(rows, batch):
    rows *= np.float32(0.5)


def drop_last(rows, batch):
    rows[:, -1] = np.where(rows.shape[1] > 1, -np.inf, rows[:, -1])


CHAINS = {
    "default": lambda: lc.DEFAULT_ORDER,
    **{name: lambda name=name: lc.PRESETS[name] for name in lc.PRESETS},
    "a callable first": lambda: [halve, "temperature", "top_k", "min_p"],
    "a callable between": lambda: ["logit_bias", "top_k", drop_last, "top_p", "min_p"],
    "callables last": lambda: ["allowed_tokens", "temperature", "top_p", halve, drop_last],
    "nothing": list,
}
SOME = ("default", "sglang", "a callable between", "nothing")
every_chain = pytest.mark.parametrize("order", effort(SOME, [*CHAINS]))
seeds = st.integers(0, 2**32 - 1)


@every_chain
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@given(seed=seeds)
def test_the_kept_set_is_what_is_finite_in_the_processed_row(order, dtype, seed):
    logits, batch = drawn_case(seed, dtype)
    chain = lc.Chain(CHAINS[order](), on_invalid="mark")
    drawn = chain.sample_with_logprobs(logits, batch, of="processed", kept=True)
    tokens, processed = chain.sample(logits, batch), chain(logits, batch)
    assert_array_equal(drawn.tokens, tokens)
    assert (drawn.kept_offsets.dtype, drawn.kept_ids.dtype) == (np.int64, np.int32)
    assert (drawn.kept_logprobs.dtype, drawn.kept_truncated.dtype) == (np.float32, np.bool_)
    assert not drawn.kept_truncated.any()
    assert drawn.kept_offsets[-1] == drawn.kept_ids.size == drawn.kept_logprobs.size
    for r, token in enumerate(tokens):
        ids, logprobs = drawn.kept_set(r)
        if token < 0:
            assert not ids.size
            continue
        expected = kept_by_definition(processed[r])
        assert_array_equal(ids, expected[0])
        assert_array_equal(logprobs, expected[1])
        assert drawn.logprobs[r] == logprobs[ids == token]
    again = lc.kept_logprobs(processed, drawn.kept_offsets, drawn.kept_ids, tokens)
    assert_array_equal(again, drawn.logprobs)


@every_chain
@given(seed=seeds, most=st.integers(1, 70))
def test_a_truncated_list_has_the_first_of_the_order(order, seed, most):
    logits, batch = drawn_case(seed)
    chain = lc.Chain(CHAINS[order](), on_invalid="mark")
    drawn = chain.sample_with_logprobs(logits, batch, kept=most)
    processed = chain(logits, batch)
    for r in np.flatnonzero(drawn.tokens >= 0):
        ids, logprobs = drawn.kept_set(r)
        count = np.isfinite(processed[r]).sum()
        first = np.sort(in_order(processed[r])[: min(most, count)])
        assert_array_equal(ids, first)
        assert_array_equal(logprobs, lc.logprobs(processed[r])[first])
        assert drawn.kept_truncated[r] == (count > most)


@every_chain
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@given(seed=seeds, data=st.data())
def test_details_are_of_the_row_that_is_named(order, dtype, seed, data):
    named = [0, 2, 1, 0] if data.draw(st.booleans()) else []
    chain = lc.Chain(CHAINS[order](), on_invalid="mark")
    names = ["raw", "processed", *(step.name for step in chain.steps)]
    of = data.draw(st.sampled_from(names))
    top = data.draw(st.integers(0, 3))
    probe, _ = drawn_case(seed, dtype)
    vocab = probe.shape[1]
    fields = {"logprob_token_ids": [x % vocab for x in named], "top_logprobs": min(top, vocab)}
    by_request = data.draw(st.booleans())
    logits, batch = drawn_case(seed, dtype, **fields, logprobs_of=of if by_request else "raw")
    kept = data.draw(st.sampled_from((False, True, 3)))
    drawn = chain.sample_with_logprobs(
        logits, batch, of=None if by_request else of, kept=kept, details=True
    )
    assert_array_equal(drawn.tokens, chain.sample(logits, batch))
    raw = logits.astype(np.float32)
    processed = chain(logits, batch)
    row_of = raw
    if of != "raw":
        row_of = chain(logits, batch, until=None if of == "processed" else of)
    for r, token in enumerate(drawn.tokens):
        ids = fields["logprob_token_ids"]
        if token < 0:
            assert drawn.ranks[r] == 0
            assert np.isnan(drawn.entropy[r])
            assert drawn.kept_mass[r] == 0
            assert np.isneginf(drawn.named_logprobs[r]).all()
            continue
        row = row_of[r]
        logprobs = lc.logprobs(row)
        assert drawn.logprobs[r] == logprobs[token]
        assert_array_equal(drawn.named_logprobs[r], logprobs[ids])
        assert drawn.ranks[r] == 1 + in_order(row).tolist().index(token)
        q = np.exp(logprobs[np.isfinite(logprobs)].astype(np.float64))
        assert_allclose(drawn.entropy[r], -(q * np.log(q, where=q > 0, out=q * 0)).sum(), atol=2e-5)
        p = np.exp(lc.logprobs(raw[r]).astype(np.float64))
        assert_allclose(drawn.kept_mass[r], p[np.isfinite(processed[r])].sum(), atol=1e-6)
        best, values = lc.top_logprobs(row, fields["top_logprobs"])
        assert_array_equal(drawn.top_logprobs[r], values)
        assert_array_equal(drawn.top_ids[r], np.where(np.isfinite(values), best, -1))


@every_chain
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@given(seed=seeds, data=st.data())
def test_verify_tells_what_sampling_would_tell(order, dtype, seed, data):
    """Token by token, of the logits of each position, with the drafts so far in the history."""
    logits, batch = drawn_case(seed, dtype, logprob_token_ids=[0], top_logprobs=1)
    chain = lc.Chain(CHAINS[order](), on_invalid="mark")
    rng = np.random.default_rng(seed)
    drafts = [rng.integers(0, batch.vocab_size, rng.integers(4)).tolist() for _ in batch.rows]
    for r, token in enumerate(chain.sample(logits, batch)):
        if drafts[r] and token >= 0:
            drafts[r][0] = int(token)
    counts = [len(tokens) + 1 for tokens in drafts]
    rows = np.concatenate([row_of(rng, batch.vocab_size)[None] for _ in range(sum(counts))])
    starts = np.cumsum([0, *counts])[:-1]
    rows = rows.astype(dtype)
    rows[starts] = logits
    proposed = None
    if data.draw(st.booleans()):
        proposed = [np.zeros((len(tokens), batch.vocab_size), np.float32) for tokens in drafts]
    names = ["raw", "processed", *(step.name for step in chain.steps)]
    of = data.draw(st.sampled_from([None, *names]))
    kept = data.draw(st.sampled_from((True, 2)))
    told = chain.verify_with_logprobs(rows, batch, drafts, proposed, of=of, kept=kept, details=True)
    status = list(batch.status)
    tokens = chain.verify(rows, batch, drafts, proposed)
    assert batch.status == status
    assert all(len(batch.output(row)) == 5 for row in batch.rows)
    for r, (sampled, row_tokens) in enumerate(zip(told, tokens, strict=True)):
        assert_array_equal(sampled.tokens, row_tokens)
        alone = lc.Batch(batch.vocab_size)
        handle = batch.rows[r]
        (row,) = alone.add(
            lc.Params(**{x: getattr(batch.params(handle), x) for x in lc.FIELDS}),
            batch.prompt(handle),
            batch.output(handle),
        )
        for depth, token in enumerate(row_tokens):
            line = rows[starts[r] + depth][None]
            expected = chain.sample_with_logprobs(line, alone, of=of, kept=kept, details=True)
            if token == expected.tokens[0]:  # by rejection it may be another
                for name in sampled._fields:
                    ours, theirs = getattr(sampled, name), getattr(expected, name)
                    if name not in ("kept_offsets", "kept_ids", "kept_logprobs"):
                        assert_array_equal(ours[depth], theirs[0])
            if token >= 0:
                for ours, theirs in zip(sampled.kept_set(depth), expected.kept_set(0), strict=True):
                    assert_array_equal(ours, theirs)
                chain.carry(line, alone, [token])
                alone.append([token], [row])


@pytest.mark.parametrize("threads", [1, 3])
@given(seed=seeds)
def test_shares_of_rows_are_put_together_in_order(threads, seed):
    logits, batch = drawn_case(seed)
    whole = lc.Chain(on_invalid="mark").sample_with_logprobs(logits, batch, kept=True, details=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logitchain.chain._SHARE", 1)  # row by row
        chain = lc.Chain(on_invalid="mark", threads=threads)
        parts = chain.sample_with_logprobs(logits, batch, kept=True, details=True)
    for ours, theirs in zip(parts, whole, strict=True):
        assert_array_equal(ours, theirs)


def test_marked_rows_keep_nothing():
    batch = lc.Batch(3)
    batch.add(lc.Params(n=3, seed=1, logprob_token_ids=[1]))
    logits = [[0.0, 1.0, 2.0], [0.0, math.nan, 1.0], [-math.inf] * 3]
    chain = lc.Chain(["top_k", drop_last], on_invalid="mark")
    for kept in (True, 2):
        drawn = chain.sample_with_logprobs(logits, batch, of="processed", kept=kept, details=True)
        assert drawn.tokens[1:].tolist() == [-1, -1]
        assert drawn.kept_offsets.tolist() == [0, 2, 2, 2]
        assert not drawn.kept_truncated.any()  # two of two are all
        assert drawn.ranks.tolist()[1:] == [0, 0]
        assert np.isneginf(drawn.named_logprobs[1]).all()
    logprobs = lc.kept_logprobs(logits, drawn.kept_offsets, drawn.kept_ids, drawn.tokens)
    assert_array_equal(logprobs, drawn.logprobs)


def test_an_empty_batch_and_no_wish():
    chain = lc.Chain()
    drawn = chain.sample_with_logprobs(np.zeros((0, 7)), lc.Batch(7), kept=True, details=True)
    assert drawn.kept_offsets.tolist() == [0]
    assert [len(part) for part in drawn] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert chain.verify_with_logprobs(np.zeros((0, 7)), lc.Batch(7), []) == []
    batch = lc.Batch(7)
    batch.add(lc.Params(seed=1))
    drawn = chain.sample_with_logprobs(np.zeros((1, 7)), batch)
    further = drawn._asdict()
    assert [x.tolist() for x in drawn.named_logprobs] == [[]]
    for name in list(further)[5:]:
        assert further[name].size == 0


def test_requests_of_one_batch_may_ask_for_other_rows():
    logits = np.tile(np.array([0.0, 1.0, 4.0, 2.0, 2.0], np.float32), (4, 1))
    batch = lc.Batch(5)
    for of in ("raw", "processed", "temperature", "top_k"):
        fields = {"temperature": 0.5, "top_k": 3, "min_p": 0.1, "top_logprobs": len(of) % 4}
        batch.add(lc.Params(seed=0, logprobs_of=of, **fields))
    chain = lc.Chain()
    drawn = chain.sample_with_logprobs(logits, batch)
    rows = [logits[0], chain(logits, batch)[0]]
    rows += [chain(logits, batch, until=of)[0] for of in ("temperature", "top_k")]
    for r, row in enumerate(rows):
        assert drawn.logprobs[r] == lc.token_logprobs(row, drawn.tokens[r])
    assert (drawn.top_ids >= 0).sum(axis=1).tolist() == [3, 1, 3, 1]
    assert drawn.top_ids.shape == (4, 3)
    assert chain.sample_with_logprobs(logits, batch, of="raw").logprobs.tolist() == [
        lc.token_logprobs(logits[0], token) for token in drawn.tokens
    ]


@pytest.mark.parametrize("of", ["raw", "processed", "top_k"])
@pytest.mark.parametrize("n", [63, 64, 65, 300, 1000])
def test_a_list_of_any_length_is_in_order(of, n):
    rng = np.random.default_rng(n)
    logits = np.stack([rng.normal(0, 2, 1000), rng.integers(-3, 4, 1000)]).astype(np.float32)
    logits[:, 5:9] = -0.0, 0.0, -math.inf, 0.0
    batch = lc.Batch(1000)
    batch.add(lc.Params(n=2, seed=3, top_k=700, top_logprobs=n, temperature=0.9))
    chain = lc.Chain()
    drawn = chain.sample_with_logprobs(logits, batch, of=of)
    rows = logits if of == "raw" else chain(logits, batch)
    if of == "top_k":
        rows = chain(logits, batch, until="top_k")
    ids, logprobs = lc.top_logprobs(rows, n)
    assert_array_equal(drawn.top_logprobs, logprobs)
    assert_array_equal(drawn.top_ids, np.where(np.isfinite(logprobs), ids, -1))


# ---- the trainer's side


@given(row=rows(), data=st.data())
def test_the_trainers_side_is_a_softmax_over_the_set(row, data):
    ids = np.flatnonzero(np.isfinite(row))
    ids = ids[: data.draw(st.integers(1, ids.size))]
    token = data.draw(st.sampled_from(ids.tolist()))
    expected = lc.token_logprobs(row[ids], ids.tolist().index(token))
    ours = lc.kept_logprobs(row[None], [0, ids.size], ids, [token])
    assert (ours.shape, ours.dtype, ours[0]) == ((1,), np.float32, np.float32(expected))
    assert lc.kept_logprobs(row, np.array([0, ids.size]), ids, [token])[0] == ours[0]


TRAINED = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, -math.inf]], np.float32)
WRONG = {
    "a token out of the set": (
        ([0, 2, 4], [0, 2, 0, 1], [1, 0]),
        r"^tokens: row 0, token 1 is not in the row's kept set$",
    ),
    "a token of an empty set": (
        ([0, 0, 2], [0, 1], [1, 0]),
        r"^tokens: row 0, token 1 is not in the row's kept set$",
    ),
    "no token of a set": (
        ([0, 2, 4], [0, 2, 0, 1], [0, -1]),
        r"^tokens: row 1, token -1 is not in the row's kept set$",
    ),
    "another negative token": (([0, 0, 0], [], [-1, -2]), r"^tokens: row 1, token -2 is not in"),
    "too few tokens": (([0, 0, 0], [], [-1]), r"^tokens must be one per row \(2\), not 1$"),
    "too few offsets": (([0, 0], [], [-1, -1]), r"^kept_offsets must be one per row and one \(3\)"),
    "offsets that fall": (([0, 2, 1], [1], [1, 1]), r"^kept_offsets must rise from 0 to 1, not"),
    "offsets past the end": (([0, 1, 3], [1, 1], [1, 1]), r"^kept_offsets must rise from 0 to 2"),
    "offsets that start late": (([1, 2, 2], [1, 1], [1, -1]), r"^kept_offsets must rise from 0"),
    "ids out of order": (([0, 2, 2], [2, 0], [0, -1]), r"^kept_ids of row 0 must be ascending$"),
    "ids twice": (([0, 2, 2], [1, 1], [1, -1]), r"^kept_ids of row 0 must be ascending$"),
    "ids past the end": (([0, 1, 1], [3], [3, -1]), r"^kept_ids must be in \[0, 3\), not 3$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name):
    arguments, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        lc.kept_logprobs(TRAINED, *arguments)


def test_a_token_that_the_trainer_excludes_has_no_probability():
    assert lc.kept_logprobs(TRAINED, [0, 0, 3], [0, 1, 2], [-1, 2]).tolist() == [-math.inf] * 2
    broken = TRAINED.copy()
    broken[1] = math.nan
    with pytest.raises(ValueError, match=r"^trainer_logits: row 1, token 0 is nan$"):
        lc.kept_logprobs(broken, [0, 0, 3], [0, 1, 2], [-1, 2])
    assert np.isneginf(lc.kept_logprobs(broken, [0, 2, 2], [0, 1], [0, -1])[1])


# ---- errors


@pytest.mark.parametrize("kept", [0, -1, 2.0, "all", [1]])
def test_kept_is_a_flag_or_a_number(kept):
    batch = lc.Batch(3)
    batch.add(lc.Params(seed=1))
    with pytest.raises((ValueError, TypeError), match=r"^kept must be "):
        lc.Chain().sample_with_logprobs(np.zeros((1, 3)), batch, kept=kept)


def test_a_row_that_the_chain_does_not_have():
    chain, batch = lc.Chain(["temperature", halve]), lc.Batch(3)
    batch.add(lc.Params(seed=1, logprobs_of="top_p"))
    names = "must be one of raw, processed, temperature, halve, not 'top_p'"
    for call in (
        lambda **x: chain.sample_with_logprobs(np.zeros((1, 3)), batch, **x),
        lambda **x: chain.verify_with_logprobs(np.zeros((1, 3)), batch, [[]], **x),
    ):
        with pytest.raises(ValueError, match=f"^logprobs_of {names}") as error:
            call()
        assert error.value.field == "logprobs_of"
        with pytest.raises(ValueError, match=f"^of {names}"):
            call(of="top_p")
        call(of="halve")
    with pytest.raises(ValueError, match=f"^logprobs_of {names}") as error:
        chain.check(lc.Params(logprobs_of="top_p"))
    assert error.value.field == "logprobs_of"


@pytest.mark.parametrize("value", ["", 1, None, ["raw"]])
def test_logprobs_of_is_a_name(value):
    with pytest.raises((TypeError, ValueError), match=r'^logprobs_of must be "raw", ') as error:
        lc.Params(logprobs_of=value)
    assert error.value.field == "logprobs_of"


def test_named_tokens_and_lists_are_of_the_vocabulary():
    for fields in ({"logprob_token_ids": [1, 9]}, {"top_logprobs": 10}):
        (name,) = fields
        with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 9[\)\]], not ") as error:
            lc.Params(**fields).check_vocabulary(9)
        assert error.value.field == name
        with pytest.raises(ValueError, match=rf"^{name} must be in "):
            lc.Batch(9).add(lc.Params(**fields))
    lc.Batch(9).add(lc.Params(top_logprobs=9, logprob_token_ids=range(9)))
