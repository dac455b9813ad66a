"""Watermarks: the schemes against their sources, the draw in every place that draws, the detector.

`watermarks.json` names the source of each case.
"""

import copy
import json
import math
import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
import strategies
from effort import effort
from logitchain.params.watermark import SCHEMES
from logitchain.watermark.tails import gamma_tail, weighted_tail

CASES = json.loads(Path(__file__).with_name("watermarks.json").read_text())
GOLDEN = CASES["gumbel"]["cases"][0]
MARK = lc.Watermark("gumbel", key=42)
DRAWN = [scheme for scheme in SCHEMES if scheme != "sbw"]


def fixture(position, vocab):
    """The logits of vLLM's cases."""
    return (((37 * np.arange(vocab) + 17 * position) % 131 - 56) / 16).astype(np.float32)


def generate(params, count, vocab, prompt=(), spread=1.5, chain=None):
    """Tokens of one row from logits that differ from step to step."""
    chain, batch, rng = chain or lc.Chain(), lc.Batch(vocab), np.random.default_rng(5)
    (row,) = batch.add(params, prompt)
    for _ in range(count):
        batch.append(chain.sample(rng.normal(0, spread, (1, vocab)), batch))
    return batch.output(row)


# ---- the schemes


def test_vllms_tokens_and_scores():
    vocab, tokens = GOLDEN["vocab_size"], []
    mark = lc.Watermark("gumbel", key=GOLDEN["key"], context_width=4, deduplicate=True)
    batch = lc.Batch(vocab)
    batch.add(lc.Params(watermark=mark, seed=1))
    for position in range(len(GOLDEN["tokens"])):
        drawn = lc.Chain().sample(fixture(position, vocab), batch)
        batch.append(drawn)
        tokens += drawn.tolist()
    assert tokens == GOLDEN["tokens"]
    assert_allclose(lc.detect_watermark(tokens, mark).score, GOLDEN["score"], rtol=1e-12)
    other = lc.detect_watermark(tokens, {"key": 43})
    assert_allclose(other.score, GOLDEN["score_with_key_43"], rtol=1e-12)


def test_vllms_detector():
    for case in CASES["gumbel_scores"]["cases"]:
        options = {name: case[name] for name in ("key", "context_width", "deduplicate")}
        found = lc.detect_watermark(case["tokens"], options)
        assert_allclose(found, (case["score"], case["p_value"], case["scored"]), rtol=1e-12)
    both = CASES["dual_key_gumbel"]
    for case in both["cases"]:
        mark = lc.Watermark("dual_key_gumbel", key=both["key"], alpha=case["alpha"])
        found = lc.detect_watermark(both["tokens"], mark)
        assert_allclose(found.score, case["score"], rtol=1e-12)
        assert_allclose(
            found.p_value, case["p_value"], rtol=1e-12 if case["alpha"] == 0.5 else 1e-2
        )
        assert found.tokens_scored == case["scored"]


@pytest.mark.parametrize("case", CASES["sglang"]["cases"])
def test_sglangs_tokens_and_scores(case):
    alpha = None if case["key_b"] is None else 1 - case["mixing_probability"]
    width, prompt, tokens = case["context_width"], case["prompt"], case["tokens"]
    mark = lc.Watermark(
        "sglang", key=case["key"], key_b=case["key_b"], alpha=alpha, context_width=width
    )
    found = lc.detect_watermark(tokens, mark, prompt_tokens=prompt)
    assert_allclose(found, (case["score"], case["p_value"], case["scored"]), rtol=1e-12)
    assert_allclose(lc.detect_watermark(tokens, mark), case["without_prompt"], rtol=1e-12)
    for position, (token, keyed) in enumerate(zip(tokens, case["keyed"], strict=True)):
        row, so_far = fixture(position, CASES["sglang"]["vocab_size"]), tokens[:position]
        keys = {"seed": 3, "position": position}
        ours = lc.watermarked_sample(row, mark, so_far, prompt_tokens=prompt, **keys)
        assert ours == (token if keyed else lc.sample(row, **keys))


@pytest.mark.parametrize("case", CASES["sbw"]["cases"])
def test_vllms_green_tokens(case):
    width = len(case["context"])
    mark = lc.Watermark("sbw", key=case["key"], gamma=case["gamma"], context_width=width)
    output = [token for token in case["context"] if token >= 0]
    raised = lc.green_list(np.zeros(CASES["sbw"]["vocab_size"]), mark, output)
    assert np.flatnonzero(raised).tolist() == case["green"]


marks = strategies.watermarks().filter(lambda mark: mark is not None)
histories = st.lists(st.integers(0, 3), max_size=12)


@given(st.data(), marks, histories, histories)
def test_a_token_is_that_of_the_definition(data, mark, prompt, output):
    row = data.draw(strategies.rows(max_vocab=150))
    keys = {"seed": 9, "position": len(output)}
    if mark.scheme == "sbw":
        with np.errstate(over="ignore"):
            theirs = reference.green_list(row.astype(np.float64), mark, output)
        limit = np.finfo(np.float32).max
        theirs = np.where(theirs > -np.inf, np.clip(theirs, -limit, limit), theirs)
        assert_array_equal(lc.green_list(row, mark, output), theirs.astype(np.float32))
        return
    ours = lc.watermarked_sample(row, mark, output, prompt_tokens=prompt, **keys)
    if mark.scheme == "dual_key_gumbel":
        return
    words = reference.noise_words(mark, prompt, output, row.size)
    if words is None:
        assert ours == lc.sample(row, **keys)
        return
    noise = -np.log(-np.log((words + 0.5) * 2.0**-32))
    scores = row.astype(np.float64) - row.max() + noise
    assert scores[ours] >= scores.max() - 1e-9


def test_two_keys_take_turns():
    mark = lc.Watermark("dual_key_gumbel", key=42, alpha=0.3)
    keys = (int(x) % 2**64 for x in mark.numbers[1:3])
    words = [reference.gumbel_words(key, [-1] * 4, 60) for key in keys]
    firsts = [int(np.argmax(word)) for word in words]
    assert firsts[0] != firsts[1]
    row = np.zeros((2000, 60))
    drawn = lc.watermarked_sample(row, mark, [], seed=np.arange(2000), position=0)
    assert set(drawn.tolist()) == set(firsts)
    assert abs((drawn == firsts[1]).mean() - 0.3) < 0.04


@pytest.mark.parametrize("scheme", ["gumbel", "sglang"])
@pytest.mark.parametrize("vocab", [1, 63, 64, 65, 1003])
@pytest.mark.parametrize("spread", [0.0, 0.1, 2.0, 30.0])
def test_a_long_row_is_raced_as_its_tokens_are(scheme, vocab, spread):
    """The bounds that leave out logarithms change no winner."""
    mark = lc.Watermark(scheme, key=7)
    rng = np.random.default_rng(vocab)
    for n in range(effort(1, 3, 30)):
        row = rng.normal(0, spread, vocab).astype(np.float32)
        row[rng.random(vocab) < 0.2 * (n % 2)] = -np.inf
        row[-1] = max(row[-1], -40.0)
        output = [n, n + 1, 2]
        words = reference.noise_words(mark, [5, 6], output, vocab)
        scores = row - np.float64(row.max()) - np.log(-np.log((words + 0.5) * 2.0**-32))
        keys = {"seed": 0, "position": 3, "prompt_tokens": [5, 6]}
        ours = lc.watermarked_sample(row, mark, output, **keys)
        assert scores[ours] >= scores.max() - 1e-9
        best = np.argsort(-scores)[:20]
        few = np.full_like(row, -np.inf)
        few[best] = row[best]
        few[np.argmax(row)] = row.max()
        assert lc.watermarked_sample(few, mark, output, **keys) == ours


# ---- in chains and batches


def rows_of(batch):
    return [
        (batch.params(row), batch.prompt(row), batch.output(row), batch.seeds[r])
        for r, row in enumerate(batch.rows)
    ]


REQUESTS = [
    {},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 5},
    {"min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 0.0},
    {"xtc_probability": 0.5, "xtc_threshold": 0.05, "logit_bias": {3: 2.0}},
]


def batch_of(vocab, schemes=SCHEMES, **options):
    batch = lc.Batch(vocab)
    for n, (request, scheme) in enumerate(product(REQUESTS, [None, *schemes])):
        mark = None if scheme is None else lc.Watermark(scheme, key=n, context_width=2, **options)
        params = lc.Params(watermark=mark, seed=n, **request)
        batch.add(params, [1, 2, n % 4], [5, 6, n % 3, 5, 6][: n % 6])
    return batch


@pytest.mark.parametrize("vocab", [8, 700])
@pytest.mark.parametrize("order", [lc.DEFAULT_ORDER, lc.PRESETS["vllm"]])
def test_a_chain_draws_what_the_pure_function_does(vocab, order):
    batch, chain, rng = batch_of(vocab), lc.Chain(order), np.random.default_rng(1)
    for _ in range(effort(1, 2, 20)):
        logits = rng.normal(0, 2, (len(batch), vocab)).astype(np.float32)
        tokens, processed = chain.sample(logits, batch), chain(logits, batch)
        of = [chain.sample_with_logprobs(logits, batch, of=of) for of in ("raw", "processed")]
        assert all(np.array_equal(drawn.tokens, tokens) for drawn in of)
        for r, (params, prompt, output, seed) in enumerate(rows_of(batch)):
            mark, keys = params.watermark, {"seed": seed, "position": len(output)}
            if mark is None or not mark.keys_draw:
                assert tokens[r] == lc.sample(processed[r], **keys)
            else:
                keys["prompt_tokens"] = prompt
                assert tokens[r] == lc.watermarked_sample(processed[r], mark, output, **keys)
            explanation = chain.explain(logits, batch, batch.rows[r])
            assert explanation.token == tokens[r]
            assert "watermark" not in explanation.ignored or mark.scheme == "sbw"
            left = np.flatnonzero(processed[r] > -np.inf)
            assert left[np.argmin(explanation.arrivals(left))] == tokens[r]
        threads = lc.Chain(order, threads=2).sample(logits, batch)
        assert_array_equal(threads, tokens)
        turned = copy.copy(batch)
        turned.reorder(batch.rows[::-1])
        assert_array_equal(chain.sample(logits[::-1], turned), tokens[::-1])
        half = chain.sample(logits.astype(np.float16), batch)
        assert_array_equal(half, chain.sample(logits.astype(np.float16).astype(np.float32), batch))
        batch.append(tokens)


def test_greedy_rows_stay_greedy():
    logits = np.random.default_rng(2).normal(0, 1, (3, 50))
    for scheme in DRAWN:
        batch = lc.Batch(50)
        batch.add(lc.Params(temperature=0, n=3, watermark={"scheme": scheme, "key": 1}))
        assert_array_equal(lc.Chain().sample(logits, batch), logits.argmax(axis=1))


def test_the_seed_does_not_matter_until_a_context_repeats():
    def text(seed, deduplicate, spread=1.5):
        mark = lc.Watermark("gumbel", key=42, context_width=1, deduplicate=deduplicate)
        return generate(lc.Params(watermark=mark, seed=seed), 40, 12, spread=spread)

    assert text(1, False) == text(2, False)
    first, second = text(1, True), text(2, True)
    places = [n for n in range(40) if first[n] != second[n]]
    assert places
    context = first[places[0] - 1]
    assert context in first[: places[0] - 1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_drafts_change_no_token(scheme):
    vocab, chain, rng = 40, lc.Chain(), np.random.default_rng(3)
    params = lc.Params(
        watermark=lc.Watermark(scheme, key=5, context_width=2), n=4, seed=1, temperature=0.9
    )
    batch = lc.Batch(vocab)
    batch.add(params, [1, 2], [3, 4, 3, 4])
    logits = rng.normal(0, 1.5, (5, vocab)).astype(np.float32)
    plain = copy.copy(batch)
    steps = []
    for depth in range(4):
        steps.append(chain.sample(np.repeat(logits[depth : depth + 1], 4, axis=0), plain))
        plain.append(steps[-1])
    expected = np.transpose(steps)
    drafts = expected[:, :3].copy()
    drafts[1, 1] = (drafts[1, 1] + 1) % vocab
    given = np.tile(logits[:4], (4, 1))
    proposed = [rng.normal(0, 2, (3, vocab)), None, rng.normal(0, 1, (3, vocab)), None]
    ours = chain.verify(given, batch, list(drafts))
    assert [row.tolist() for row in ours] == [
        row[: 2 if r == 1 else 4].tolist() for r, row in enumerate(expected)
    ]
    if scheme != "sbw":
        again = chain.verify(given, batch, list(drafts), proposed)
        assert [row.tolist() for row in again] == [row.tolist() for row in ours]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_trees_of_drafts_change_no_token(scheme):
    vocab, chain, rng = 40, lc.Chain(), np.random.default_rng(7)
    batch = lc.Batch(vocab)
    mark = lc.Watermark(scheme, key=5, context_width=2)
    batch.add(lc.Params(watermark=mark, seed=1), [1, 2], [3, 4])
    logits = rng.normal(0, 1.5, (4, vocab)).astype(np.float32)
    plain, expected = copy.copy(batch), []
    for row in logits:
        expected += chain.sample(row[None], plain).tolist()
        plain.append(expected[-1:])
    other = (expected[1] + 1) % vocab
    drafts, parents = lc.draft_tree([[expected[0], other], expected[:3]])
    depths = [0]
    for parent in parents:
        depths.append(depths[parent + 1] + 1)
    ours = chain.verify(logits[depths], batch, [drafts], parents=[parents])
    assert ours[0].tolist() == expected


def test_an_ordinary_row_beside_a_marked_one_keeps_its_rejection_sampling():
    chain, rng = lc.Chain(), np.random.default_rng(8)
    batch = lc.Batch(20)
    batch.add(lc.Params(seed=1))
    alone = copy.copy(batch)
    batch.add(lc.Params(seed=2, watermark=MARK))
    logits, proposed = rng.normal(0, 1, (4, 20)), rng.normal(0, 1, (1, 20))
    both = chain.verify(logits, batch, [[3], [4]], [proposed, proposed])
    assert_array_equal(both[0], chain.verify(logits[:2], alone, [[3]], [proposed])[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rollback_preemption_and_turns(scheme):
    vocab, chain, rng = 30, lc.Chain(), np.random.default_rng(4)
    mark = lc.Watermark(scheme, key=6, context_width=2)
    batch = lc.Batch(vocab)
    (row,) = batch.add(lc.Params(seed=3, watermark=mark), [1, 2, 3])
    logits = rng.normal(0, 1, (30, 1, vocab))
    for step in range(20):
        batch.append(chain.sample(logits[step], batch))
    text = batch.output(row)
    batch.rollback(row, 8)
    assert chain.sample(logits[12], batch) == [text[12]]
    other = lc.Batch(vocab)
    other.add(lc.Params(seed=3, watermark=mark), [1, 2, 3], text[:15])
    assert chain.sample(logits[15], other) == [text[15]]
    assert chain.sample(logits[15], pickle.loads(pickle.dumps(other))) == [text[15]]
    # In another turn the contexts begin anew; SGLang's go on.
    turn = lc.Batch(vocab)
    turn.add(lc.Params(seed=3, watermark=mark), [1, 2, 3, *text, 9], generated_before=20)
    processed = chain(logits[20], turn)
    if mark.keys_draw:
        keys = {"seed": 3, "position": 20, "prompt_tokens": [1, 2, 3, *text, 9]}
        assert chain.sample(logits[20], turn) == [
            lc.watermarked_sample(processed[0], mark, [], **keys)
        ]


def test_callables_marked_rows_and_samples():
    def nudge(rows, batch):
        rows[:, 0] += 1.0

    batch = lc.Batch(16)
    batch.add(lc.Params(n=3, seed=1, watermark=MARK))
    chain = lc.Chain(["temperature", nudge, "top_k"], on_invalid="mark")
    logits = np.zeros((3, 16))
    logits[1, 3] = np.nan
    tokens = chain.sample(logits, batch)
    assert tokens[1] == -1
    assert tokens[0] == tokens[2]  # n samples of one context are one
    row = chain(logits, batch)[0]
    assert tokens[0] == lc.watermarked_sample(row, MARK, [], seed=0, position=0)


def test_explain_says_what_the_watermark_does():
    batch = lc.Batch(8)
    first, second, third = (
        batch.add(lc.Params(seed=1, watermark=mark))[0]
        for mark in (MARK, {"scheme": "sbw", "key": 1}, None)
    )
    logits = np.zeros((3, 8))
    texts = [str(lc.Chain().explain(logits, batch, row)) for row in (first, second, third)]
    assert ["with a watermark" in text for text in texts] == [True, False, False]
    assert "green_list  sbw" in texts[1]
    assert not any("not in this chain" in text for text in texts)
    bare = lc.Chain(["top_p"])
    ignored = [bare.explain(logits, batch, row).ignored for row in (first, second)]
    assert ignored == [(), ("watermark",)]


# ---- detection


@given(st.floats(1e-3, 400), st.integers(1, 300))
def test_the_gamma_tail_is_the_sum_of_its_series(score, n):
    terms = [1.0]
    for k in range(1, n):
        terms.append(terms[-1] * score / k)
    if math.isfinite(terms[-1]) and score < 300:
        exact = min(1.0, math.exp(-score) * math.fsum(terms))
        assert_allclose(gamma_tail(score, n), exact, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_tail_of_two_keys_is_that_of_the_sum(alpha):
    rng, n = np.random.default_rng(1), 6
    sums = (1 - alpha) * rng.gamma(n, 1, 200_000) + alpha * rng.gamma(n, 1, 200_000)
    for score in np.quantile(sums, (0.1, 0.5, 0.9, 0.99)):
        share = (sums >= score).mean()
        assert abs(weighted_tail(score, n, alpha) - share) < 5 * math.sqrt(share / 200_000) + 1e-4


@pytest.mark.parametrize("scheme", DRAWN)
def test_p_values_of_other_texts_are_uniform(scheme):
    """Kolmogorov and Smirnov's test over many keys, with a fixed seed."""
    rng, count = np.random.default_rng(11), effort(20, 300, 5000)
    p_values = np.sort(
        [
            lc.detect_watermark(
                rng.zipf(1.3, 120) % 200, {"scheme": scheme, "key": int(key), "context_width": 2}
            ).p_value
            for key in rng.integers(0, 2**63, count)
        ]
    )
    steps = np.arange(count + 1) / count
    distance = max((steps[1:] - p_values).max(), (p_values - steps[:-1]).max())
    assert distance * math.sqrt(count) < 1.63  # one in a hundred is larger


def test_green_counts_of_other_texts_are_binomial():
    rng, count, n = np.random.default_rng(12), effort(20, 300, 5000), 0
    scores, p_values = [], []
    for key in rng.integers(0, 2**63, count):
        mark = lc.Watermark("sbw", key=int(key), gamma=0.25)
        found = lc.detect_watermark(rng.zipf(1.3, 150) % 200, mark)
        scores.append(found.score - 0.25 * found.tokens_scored)
        p_values.append(found.p_value)
        n += found.tokens_scored
    assert abs(sum(scores)) < 4 * math.sqrt(n * 0.25 * 0.75)
    spread = sum(x * x for x in scores)
    assert 0.8 < spread / (n * 0.25 * 0.75) < 1.2
    for level in (0.01, 0.1, 0.5):  # a discrete p-value is at least that of a uniform one
        share = np.mean(np.array(p_values) <= level)
        assert share < level + 4 * math.sqrt(level / count)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_watermark_is_found_with_its_key_alone(scheme):
    mark = lc.Watermark(scheme, key=99)
    text = generate(lc.Params(watermark=mark, seed=1), 200, 300)
    assert lc.detect_watermark(text, mark).p_value < 1e-6
    assert lc.detect_watermark(text, lc.Watermark(scheme, key=98)).p_value > 1e-4
    plain = generate(lc.Params(seed=1), 200, 300)
    assert lc.detect_watermark(plain, mark).p_value > 1e-4


def test_repeated_contexts_count_once():
    once, every = MARK, lc.Watermark("gumbel", key=42, deduplicate=False)
    text = [1, 2, 3, 4] * 10
    assert lc.detect_watermark(text, once).tokens_scored == 8
    assert lc.detect_watermark(text, every).tokens_scored == 40
    ordered = lc.detect_watermark([7, 1, 7, 2], {"key": 1, "context_width": 1})
    assert ordered == lc.detect_watermark([7, 1, 7], {"key": 1, "context_width": 1})
    assert lc.detect_watermark([], MARK) == (0.0, 1.0, 0)
    green = lc.Watermark("sbw", key=1)
    assert lc.detect_watermark([], green) == (0.0, 1.0, 0)
    assert lc.detect_watermark(np.array(text), once) == lc.detect_watermark(text, once)
    assert lc.detect_watermark([], {"scheme": "sglang", "key": 1}, prompt_tokens=[1]) == (0, 1, 0)


# ---- what may be given


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"key": -1}, ValueError, f"watermark.key must be in [0, {2**64 - 1}], not -1"),
        ({"key": 2**64}, ValueError, f"watermark.key must be in [0, {2**64 - 1}], not {2**64}"),
        ({"key": None}, TypeError, f"watermark.key must be an integer in [0, {2**64 - 1}]"),
        (
            {"key": 1, "scheme": "gumball"},
            ValueError,
            "watermark.scheme must be one of gumbel",
        ),
        ({"key": 1, "context_width": 0}, ValueError, "watermark.context_width must be in [1, 64]"),
        ({"key": 1, "context_width": 65}, ValueError, "watermark.context_width must be in [1, 64]"),
        ({"key": 1, "deduplicate": 1}, TypeError, "watermark.deduplicate must be true or false"),
        ({"key": 1, "key_b": 2}, ValueError, "watermark.key_b must not be given for the scheme"),
        ({"key": 1, "delta": 2.0}, ValueError, "watermark.delta must not be given"),
        ({"key": 1, "scheme": "sbw", "gamma": 1}, ValueError, "watermark.gamma must be in (0, 1)"),
        (
            {"key": 1, "scheme": "sbw", "delta": -1},
            ValueError,
            "watermark.delta must be in",
        ),
        (
            {"key": 1, "scheme": "dual_key_gumbel", "alpha": 2},
            ValueError,
            "watermark.alpha",
        ),
        ({"scheme": "gumbel"}, ValueError, "watermark must have the option 'key'"),
        ({"key": 1, "contextwidth": 1}, ValueError, "did you mean 'context_width'?"),
        ([1], TypeError, "watermark must be a Watermark or a mapping, not [1]"),
    ],
)
def test_bad_options(options, error, text):
    for make in (
        lambda: lc.Params(watermark=options),
        lambda: lc.Params.from_request({"watermark": options}),
    ):
        with pytest.raises(error) as raised:
            make()
        assert text in str(raised.value)
        assert raised.value.field == "watermark"
    with pytest.raises(error) as raised:
        lc.detect_watermark([1], options)
    assert text in str(raised.value)


def test_a_watermark_shows_no_key_and_is_a_value():
    mark = lc.Watermark("sglang", key=123456789, key_b=987654321)
    params = lc.Params(watermark=mark)
    for text in (repr(mark), repr(params), params._repr_html_(), str(lc.Batch(3))):
        assert "123456789" not in text
        assert "987654321" not in text
    assert lc.Params(watermark={"scheme": "sglang", "key": 123456789, "key_b": 987654321}) == params
    assert hash(mark) == hash(copy.deepcopy(mark))
    assert pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(AttributeError):
        mark.key = 3
    assert "watermark" not in lc.Batch(3).columns or lc.Batch(3)["temperature"].size == 0
    with pytest.raises(ValueError, match="field must be one of"):
        lc.Batch(3)["watermark"]


def test_functions_of_the_other_kind_say_so():
    with pytest.raises(ValueError, match=r"watermark.scheme must be one of the draw, not 'sbw'"):
        lc.watermarked_sample([0.0], {"scheme": "sbw", "key": 1}, [], seed=1, position=0)
    with pytest.raises(ValueError, match=r"must be one of green tokens, 'sbw', not 'gumbel'"):
        lc.green_list([0.0], MARK, [])
    with pytest.raises(TypeError, match="watermark must be a Watermark or a mapping, not None"):
        lc.detect_watermark([1], None)
    with pytest.raises(ValueError, match="token 0 is nan"):
        lc.watermarked_sample([np.nan], MARK, [], seed=1, position=0)


def test_sglangs_bodies():
    def read(value):
        return lc.Params.from_request({"watermark": value}, dialect="sglang").watermark

    mark = lc.Watermark("sglang", key=0x0123456789ABCDEF, context_width=2)
    assert read({"key": "0123456789abcdef", "context_window": 2, "enabled": True}) == mark
    assert read({"key": "0xFF"}) == lc.Watermark("sglang", key=255)
    assert read({"scheme": "gumbel", "key": 42}) == MARK
    assert read({"enabled": False}) is read(False) is read(None) is None
    for value in ({"enabled": True}, {"key": "xyz"}, {"key": "1" * 17}, {}, {"context_window": 3}):
        with pytest.raises(ValueError, match="hexadecimal") as error:
            read(value)
        assert error.value.field == "watermark"
    with pytest.raises(ValueError, match="context_width must be in"):
        read({"key": "ff", "context_window": 65})
