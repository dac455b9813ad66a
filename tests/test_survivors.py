"""The fast path: bit for bit what the controls give one after the other."""

from itertools import permutations, product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import strategies
from by_hand import ORDERS, by_hand, check, steps
from by_hand import draw as draw_by_hand
from effort import effort
from in_blocks import blocks_of
from logitchain.chain import DEFAULT_ORDER, PRESETS
from logitchain.controls.xtc import PROTECTIONS
from logitchain.fused.nucleus import NEVER, weigh
from logitchain.numeric import compile as jit
from logitchain.numeric import functions as numerics

INTERPRETED = jit.INTERPRETED
VOCABS = (1, 2, 5, 63, 64, 65, 128, *effort((191,), (700, 3000)))
LARGE = effort((130,), (49_152, 128_256, 300_000))

unit = strategies.unit
settings_of_a_request = {
    "temperature": st.sampled_from((1.0, 1.0, 0.0, 0.7, 1.3, 1e-5, 3e-7, 1e6, 1e30)),
    "top_p": st.one_of(st.just(1.0), st.just(1.0), unit, st.floats(1e-9, 1e-3)),
    "min_p": st.one_of(st.just(0.0), st.just(0.0), unit, st.just(1.0), st.just(1e-300)),
    "top_n_sigma": st.sampled_from((0.0, 0.0, 0.0, 0.5, 1.0, 3.0)),
    "typical_p": st.sampled_from((1.0, 1.0, 1.0, 0.3, 0.9)),
    "top_a": st.sampled_from((0.0, 0.0, 0.0, 0.01, 0.3)),
    "epsilon_cutoff": st.sampled_from((0.0, 0.0, 0.0, 3e-4, 0.01)),
    "eta_cutoff": st.sampled_from((0.0, 0.0, 0.0, 3e-4, 0.01)),
    "tfs": st.sampled_from((1.0, 1.0, 1.0, 0.5, 0.95)),
    "p_less": st.sampled_from((False, False, False, True)),
    "top_h": st.sampled_from((None, None, None, 0.4, 0.8)),
    "dynatemp_range": st.sampled_from((0.0, 0.0, 0.0, 0.5, 2.0)),
    "dynatemp_exponent": st.sampled_from((0.0, 1.0, 1.5)),
    "mirostat_tau": st.sampled_from((None, None, None, 0.1, 3.0)),
    "adaptive_target": st.sampled_from((None, None, None, 0.0, 0.3)),
    "smoothing_factor": st.sampled_from((0.0, 0.0, 0.0, 0.2, 1.0)),
    "xtc_probability": st.sampled_from((0.0, 0.0, 0.5, 1.0)),
    "xtc_threshold": st.one_of(st.just(0.0), unit),
    "repetition_penalty": st.sampled_from((1.0, 1.0, 0.5, 1.1, 3.0)),
    "presence_penalty": st.sampled_from((0.0, 0.0, -2.0, 0.3)),
    "frequency_penalty": st.sampled_from((0.0, 0.0, -0.7, 1.5)),
}


@st.composite
def batches(draw, vocabs=VOCABS, max_requests=3):
    """(logits, batch, what each row is) of one vocabulary."""
    vocab = draw(st.sampled_from(vocabs))
    token = st.integers(0, vocab - 1)
    batch, rows = lc.Batch(vocab), []
    for _ in range(draw(st.integers(1, max_requests))):
        params = lc.Params(
            **{name: draw(values) for name, values in settings_of_a_request.items()},
            **{name: draw(values) for name, values in strategies.masks(vocab).items()},
            **draw(strategies.reasoning(vocab)),
            top_k=draw(st.one_of(st.just(0), st.just(0), st.integers(0, min(vocab, 60)))),
            seed=draw(st.integers(0, 2**64 - 1)),
            n=draw(st.integers(1, 2)),
            logit_bias=draw(st.one_of(st.just({}), st.just({}), strategies.biases(vocab))),
        )
        prompt, output = (draw(st.lists(token, max_size=40)) for _ in range(2))
        for handle in batch.add(params, prompt, output):
            mask = draw(st.one_of(st.none(), st.none(), strategies.bitmasks(vocab)))
            batch.set_mask(handle, mask)
            row = {"params": params, "prompt": prompt, "output": output, "mask": mask}
            rows.append(row | {"seed": batch.seed(handle)})
    logits = [draw(strategies.rows(min_vocab=vocab, max_vocab=vocab)) for _ in rows]
    return np.stack(logits), batch, rows


@given(drawn=batches())
def test_the_default_order(drawn):
    check(*drawn, DEFAULT_ORDER, lc.Chain())


@pytest.mark.parametrize("name", PRESETS)
@given(drawn=batches(max_requests=1))
def test_each_preset(name, drawn):
    check(*drawn, ORDERS[name], lc.Chain.preset(name))


OPTIONS = {
    "top_k": st.fixed_dictionaries({"ties": st.sampled_from(("first", "all"))}),
    "top_p": st.fixed_dictionaries({"ties": st.sampled_from(("first", "all"))}),
    "repetition_penalty": st.fixed_dictionaries(
        {"scope": st.sampled_from(("all", "prompt", "output")), "window": st.integers(0, 9)}
    ),
    "xtc": st.fixed_dictionaries(
        {
            "protected_ids": st.just([0]),
            "protected": st.sampled_from(("skip", "exempt", "exclude")),
        }
    ),
}
an_entry = st.sampled_from(DEFAULT_ORDER).flatmap(
    lambda name: st.tuples(st.just(name), OPTIONS.get(name, st.just({})))
)


@given(drawn=batches(), order=st.lists(an_entry, max_size=10))
def test_any_order_even_with_a_control_twice(drawn, order):
    check(*drawn, order, lc.Chain(order))


@given(drawn=batches(), order=st.lists(an_entry, max_size=6), data=st.data())
def test_callables_between_the_controls(drawn, order, data):
    logits, batch, rows = drawn
    place = data.draw(st.integers(0, len(order)))

    def halve(rows, batch):
        rows *= np.float32(0.5)

    chain = lc.Chain([*order[:place], halve, *order[place:]], on_invalid="mark")
    by_row = [*order[:place], lambda x, row: x * np.float32(0.5), *order[place:]]
    expected = by_hand(logits, rows, by_row)
    tokens, ours = chain.sample(logits, batch), chain(logits, batch)
    for r, x in enumerate(expected):
        if isinstance(x, ValueError):
            assert tokens[r] == -1
        else:
            assert_array_equal(ours[r].view(np.int32), x.view(np.int32))
            assert tokens[r] == draw_by_hand(x, rows[r])


SMALLER = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("dtype", SMALLER.values(), ids=SMALLER)
@given(drawn=batches())
def test_smaller_formats_are_read_as_they_are(dtype, drawn):
    logits, batch, _ = drawn
    with np.errstate(over="ignore"):
        logits = np.clip(logits, -60000, 60000, where=logits > -np.inf, out=logits).astype(dtype)
    wide = logits.astype(np.float32)
    chain = lc.Chain(on_invalid="mark")
    assert_array_equal(chain.sample(logits, batch), chain.sample(wide, batch))
    assert_array_equal(chain(logits, batch).view(np.int32), chain(wide, batch).view(np.int32))


def test_every_float16_is_read_exactly():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[~np.isnan(every) & (every < np.inf)]
    batch = lc.Batch(finite.size)
    batch.add(lc.Params(seed=0))
    ours = lc.Chain(())(finite[None], batch)[0]
    assert_array_equal(ours.view(np.int32), finite.astype(np.float32).view(np.int32))
    for bad in every[np.isnan(every) | (every == np.inf)][:: effort(977, 1)]:
        row = finite.copy()
        row[5] = bad
        assert lc.Chain().sample(row[None], batch, on_invalid="mark") == [-1]


REQUESTS = {
    "top_k": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.05},
    "top_k and xtc": {"top_k": 50, "xtc_probability": 1.0, "xtc_threshold": 0.05},
    "min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "small top_p": {"temperature": 1.5, "top_p": 0.2},
    "hot": {"temperature": 1.3},
    "nothing": {},
    "xtc alone": {"xtc_probability": 1.0, "xtc_threshold": 0.001},
    "greedy": {"temperature": 0.0},
    "bias": {"temperature": 0.7, "top_p": 0.9, "logit_bias": {0: 9.0, 77: float("-inf")}},
}
SHAPES = {
    "flat": lambda g, v: g.normal(0, 1.5, v),
    "peaked": lambda g, v: g.normal(0, 2, v) + g.uniform(4, 14, v) * (g.random(v) < 12 / v),
    "two levels": lambda g, v: np.where(g.random(v) < 0.3, 2.0, -1.0),
    "all equal": lambda g, v: np.full(v, 0.25),
    "one token": lambda g, v: np.where(np.arange(v) == v // 3, 1.0, -np.inf),
    "coarse": lambda g, v: g.integers(-20, 20, v) * 0.5,
    "steep": lambda g, v: -np.arange(v) * 0.01,
    "neighbours": lambda g, v: 1.0 + g.integers(0, 6, v) * 2.0**-23,
}


@pytest.mark.parametrize("vocab", LARGE)
@pytest.mark.parametrize("shape", SHAPES)
def test_large_vocabularies(shape, vocab):
    """All requests side by side, with and without penalties."""
    rng = np.random.default_rng(vocab)
    batch, rows = lc.Batch(vocab), []
    for number, fields in enumerate(REQUESTS.values()):
        said = (rng.zipf(1.3, 500) % vocab).tolist()
        for penalties in ({}, {"repetition_penalty": 1.2, "frequency_penalty": 0.3}):
            params = lc.Params(seed=number, **{**fields, **penalties})
            batch.add(params, said[:200], said[200:])
            rows.append(
                {"params": params, "prompt": said[:200], "output": said[200:], "seed": number}
            )
    logits = np.stack([SHAPES[shape](rng, vocab) for _ in rows]).astype(np.float32)
    check(logits, batch, rows, DEFAULT_ORDER, lc.Chain())
    tokens = lc.Chain(threads=3).sample(logits, batch)
    assert_array_equal(tokens, lc.Chain().sample(logits, batch))


@pytest.mark.skipif(INTERPRETED, reason="two million tokens in plain Python")
@pytest.mark.parametrize("fields", [{"top_p": 0.7}, {"top_p": 0.9, "top_k": 9}, {"top_p": 1e-6}])
def test_the_largest_vocabulary_with_all_the_mass_it_can_have(fields):
    """2**21 - 1 equal tokens: sums of masses come within one token's of 2**63."""
    batch = lc.Batch(numerics.MAX_VOCAB)
    batch.add(lc.Params(seed=5, **fields))
    row = np.full(numerics.MAX_VOCAB, 3.0, np.float32)
    row[-1] = 2.5  # and one that may go
    expected = lc.top_k(row, fields.get("top_k", 0))
    expected = lc.top_p(expected, fields["top_p"])
    assert_array_equal(lc.Chain()(row, batch), expected)
    for position in range(8):
        tokens = lc.Chain().sample(row, batch)
        assert tokens == lc.sample(expected, seed=5, position=position)
        batch.append(tokens)


@pytest.mark.parametrize("between", ["token_bitmask", "banned_tokens", "logit_bias"])
@pytest.mark.parametrize("after", ["top_k", "top_p", "min_p", None])
def test_the_best_tokens_may_go_after_a_temperature(between, after):
    """In one row the best 100 of 300, in the other all."""
    logits = np.tile(np.float32(0.3) * np.arange(300, dtype=np.float32)[::-1], (2, 1))
    batch, rows = lc.Batch(300), []
    for gone in (100, 300):
        removed = list(range(gone))
        mask = np.packbits(np.arange(320) >= gone, bitorder="little").view(np.int32)
        bias = dict.fromkeys(removed, float("-inf"))
        fields = {"banned_tokens": removed, "logit_bias": bias, "temperature": 0.8}
        params = lc.Params(seed=1, top_k=5, top_p=0.9, min_p=0.1, **fields)
        batch.set_mask(batch.add(params)[0], mask)
        rows.append({"params": params, "prompt": [], "output": [], "mask": mask, "seed": 1})
    order = ["temperature", between, *filter(None, [after])]
    check(logits, batch, rows, order, lc.Chain(order))


@pytest.mark.parametrize("protected", PROTECTIONS)
def test_protected_tokens_are_known_among_few(protected):
    """Among those that are gathered for top_k they have other places."""
    row = np.arange(3000, dtype=np.float32) / 10
    params = lc.Params(top_k=20, xtc_probability=1.0, xtc_threshold=0.05, seed=1)
    batch = lc.Batch(3000)
    batch.add(params)
    rows = [{"params": params, "prompt": [], "output": [], "seed": 1}]
    order = ["top_k", ("xtc", {"protected_ids": [1, 2998], "protected": protected})]
    check(row[None], batch, rows, order, lc.Chain(order))


def test_a_penalty_after_another_may_count_other_tokens():
    """Each token that was said has a block of its own."""
    prompt, output = [10, 90], [150, 220, 280]
    params = lc.Params(repetition_penalty=2.0, frequency_penalty=1.5, seed=1)
    batch = lc.Batch(300)
    batch.add(params, prompt, output)
    rows = [{"params": params, "prompt": prompt, "output": output, "seed": 1}]
    logits = np.ones((1, 300), np.float32)
    told = [{"scope": s, "window": w} for s in ("all", "prompt", "output") for w in (None, 1, 2)]
    for first, second in product(told, told):
        order = [("repetition_penalty", first), ("frequency_penalty", second)]
        check(logits, batch, rows, order, lc.Chain(order))


LEADING = ("token_bitmask", "logit_bias", "banned_tokens", "presence_penalty")


@pytest.mark.parametrize("order", list(permutations(LEADING)), ids=" ".join)
def test_a_block_that_a_mask_emptied_stays_empty(order):
    """The best tokens by far are in there, and each of the other controls names some of them."""
    logits = np.zeros((2, 150), np.float32)
    logits[:, 64:128] = np.arange(64) + 10
    batch, rows = lc.Batch(150), []
    for top_k in (0, 3):
        fields = {"logit_bias": {70: 99.0, 5: 1.0}, "banned_tokens": [6, 71], "top_k": top_k}
        params = lc.Params(seed=1, presence_penalty=-2.0, **fields)
        mask = np.array([-2, -1, 0, 0, -1], np.int32)
        (handle,) = batch.add(params, [], [72, 140])
        batch.set_mask(handle, mask)
        rows.append({"params": params, "prompt": [], "output": [72, 140], "mask": mask, "seed": 1})
    for last in ((), ("top_k",), ("temperature", "top_p", "top_k")):
        check(logits, batch, rows, [*order, *last], lc.Chain([*order, *last]))


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.1, 1.7, 3.1])
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_logits_that_scaling_makes_equal(temperature, k):
    """A lower id may win against a larger logit: the floor must not cut it off."""
    rng = np.random.default_rng(k)
    batch = lc.Batch(1000)
    batch.add(lc.Params(temperature=temperature, top_k=k, seed=k))
    for _ in range(effort(2, 10)):
        logits = (3.0 + rng.integers(0, 8, (1, 1000)) * 2.0**-22).astype(np.float32)
        expected = lc.top_k(lc.temperature(logits, temperature), k)
        assert_array_equal(lc.Chain()(logits, batch), expected)
        assert lc.Chain().sample(logits, batch) == lc.sample(expected, seed=k, position=0)


def test_a_token_exactly_at_the_end_of_the_nucleus_is_not_drawn():
    """64 equal tokens: the target is the mass of 32, so the 33rd is out."""
    batch = lc.Batch(64)
    batch.add(lc.Params(top_p=0.5 + 2.0**-20, n=400, seed=3))
    tokens = lc.Chain().sample(np.zeros((400, 64), np.float32), batch)
    assert np.unique(tokens).tolist() == list(range(32))


def test_what_a_bound_leaves_open_is_weighed():
    """The second token stays only for the sake of 64 tokens far below, which are bounded first."""
    row = np.full(128, -np.inf, np.float32)
    row[:2] = 0.0, np.log(0.5)
    row[64:] = -12.8
    batch = lc.Batch(128)
    batch.add(lc.Params(top_p=0.66662 + 2.0**-20, n=50, seed=0))
    logits = np.tile(row, (50, 1))
    expected = lc.top_p(row, 0.66662 + 2.0**-20)
    assert np.flatnonzero(expected > -np.inf).tolist() == [0, 1]
    assert_array_equal(lc.Chain()(logits, batch), np.tile(expected, (50, 1)))
    assert set(lc.Chain().sample(logits, batch)) == {0, 1}


@given(
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from((0.0, 0.0, -30.0, 200.0, 3e3, 1e6)),
    sigma=st.sampled_from((0.1, 1.5, 4.0, 20.0)),
    heat=st.sampled_from((0.05, 0.3, 0.8, 1.0, 1.7, 30.0)),
)
def test_the_bounds_of_a_mass_hold_the_mass(seed, offset, sigma, heat):
    rng = np.random.default_rng(seed)
    row = (offset + rng.normal(0, sigma, 640)).astype(np.float32)
    row[rng.random(640) < 0.1] = -np.inf
    whole = blocks_of(row)
    tops = lc.temperature(whole.peaks, heat)
    about = np.float32(np.inf), 0, NEVER
    low, high, _ = weigh(whole, heat, tops, *about, False)
    exact, same, _ = weigh(whole, heat, tops, *about, True)
    scaled = lc.temperature(row, heat)
    assert exact == same == numerics.total_mass(scaled, scaled.max())
    assert low <= exact <= high
    assert high - low <= exact * 2.0**-10 + 4000


@given(drawn=batches(max_requests=5), threads=st.integers(2, 5))
def test_threads_share_rows_and_change_nothing(drawn, threads):
    logits, batch, _ = drawn
    one, several = lc.Chain(on_invalid="mark"), lc.Chain(on_invalid="mark", threads=threads)
    expected, status = one(logits, batch), batch.status
    tokens = one.sample_with_logprobs(logits, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logitchain.chain._SHARE", 1)  # row by row
        assert_array_equal(several(logits, batch), expected)
        assert batch.status == status
        for ours, other in zip(several.sample_with_logprobs(logits, batch), tokens, strict=True):
            assert_array_equal(ours, other)


@pytest.mark.parametrize("of", ["raw", "processed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@given(drawn=batches(max_requests=3), n=st.integers(0, 20), data=st.data())
def test_log_probabilities_come_with_the_token(of, dtype, drawn, n, data):
    logits, wishes, rows = drawn
    batch = lc.Batch(wishes.vocab_size)
    for row in rows:
        fields = {name: getattr(row["params"], name) for name in lc.FIELDS}
        fields |= {"n": 1, "seed": row["seed"], "top_logprobs": min(n, batch.vocab_size)}
        batch.add(lc.Params(**fields), row["prompt"], row["output"])
    logits = np.clip(logits, -60000, 60000, where=logits > -np.inf, out=logits).astype(dtype)
    calls = [lambda rows, batch: None] if data.draw(st.booleans()) else []
    chain = lc.Chain([*DEFAULT_ORDER, *calls], on_invalid="mark")
    ours = chain.sample_with_logprobs(logits, batch, of=of)
    assert_array_equal(ours.tokens, chain.sample(logits, batch))
    source = logits if of == "raw" else chain(logits, batch)
    for r in np.flatnonzero(ours.tokens >= 0):
        assert ours.logprobs[r] == np.float32(lc.token_logprobs(source[r], ours.tokens[r]))
        ids, best = lc.top_logprobs(source[r], ours.top_ids.shape[1])
        assert_array_equal(ours.top_logprobs[r], best)
        assert_array_equal(ours.top_ids[r], np.where(best > -np.inf, ids, -1))
    marked = ours.tokens < 0
    assert ours.top_ids.shape == (len(rows), min(n, batch.vocab_size))
    assert (ours.top_ids[marked] == -1).all()
    assert (ours.top_logprobs[marked] == -np.inf).all()
    assert (ours.logprobs[marked] == -np.inf).all()


def test_the_result_may_be_where_the_logits_are():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (len(REQUESTS), 5000)).astype(np.float32)
    batch = lc.Batch(5000)
    for fields in REQUESTS.values():
        batch.add(lc.Params(seed=1, presence_penalty=0.5, **fields), [1, 2, 3], [4, 4])
    expected = lc.Chain()(logits, batch)
    assert lc.Chain()(logits, batch, out=logits) is logits
    assert_array_equal(logits, expected)


def test_orders_are_those_of_the_chain_tests():
    assert set(ORDERS) == set(PRESETS)
    assert [name for name, _ in steps(DEFAULT_ORDER)] == list(DEFAULT_ORDER)
