"""Against llama.cpp's samplers, on random rows.

Where sets of tokens may differ: llama.cpp sums a nucleus in float32, so at the boundary tokens with
|mass above - p| < 1e-4 may be on either side. Elsewhere they are equal. Its arithmetic is float32,
so logits may differ by two units in the last place.
"""

import numpy as np
import pytest

pytest.importorskip("xllamacpp")

import llama_samplers as peer
from rows import assert_same_kept, mass_above, random_rows

import logitchain as lc

ROWS = list(random_rows(240))
ULPS = 2.0**-22


def values(*choices):
    """A parameter for each row."""
    return [choices[i // 7 % len(choices)] for i in range(len(ROWS))]


def test_the_rows_are_what_they_should_be():
    assert len(ROWS) == 240
    assert all(np.unique(row).size == row.size for row in ROWS)


def test_top_k():
    for row, k in zip(ROWS, values(1, 5, 40, 1000), strict=True):
        k = min(k, row.size)
        assert_same_kept(lc.top_k(row, k), peer.apply(row, peer.top_k(k)))


def test_top_p():
    for row, p in zip(ROWS, values(0.1, 0.5, 0.9, 0.99), strict=True):
        boundary = np.abs(mass_above(row) - p) < 1e-4
        assert_same_kept(lc.top_p(row, p), peer.apply(row, peer.top_p(p)), boundary=boundary)


def test_min_p():
    for row, p in zip(ROWS, values(0.01, 0.05, 0.3, 1.0), strict=True):
        assert_same_kept(lc.min_p(row, p), peer.apply(row, peer.min_p(p)))


def test_xtc():
    for row, t in zip(ROWS, values(0.01, 0.05, 0.1, 0.4), strict=True):
        ours = lc.xtc(row, t, 1.0, seed=0, position=0)
        assert_same_kept(ours, peer.apply(row, peer.xtc(t)))


def test_temperature():
    for row, t in zip(ROWS, values(0.0, 0.3, 0.8, 1.7), strict=True):
        ours, theirs = lc.temperature(row, t), peer.apply(row, peer.temperature(t))
        assert_same_kept(ours, theirs, rtol=ULPS)


def test_logit_bias():
    for number, row in enumerate(ROWS):
        bias = {number % row.size: 3.5, row.size - 1: -7.25, 3: -np.inf}
        ours = lc.logit_bias(row, bias)
        assert_same_kept(ours, peer.apply(row, peer.logit_bias(row.size, bias)), rtol=ULPS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition", 1.3), ("repetition", 0.7), ("frequency", 0.4), ("presence", -0.9)],
)
def test_penalties(name, value):
    rng = np.random.default_rng(1)
    for row in ROWS:
        tokens = rng.integers(row.size, size=30)
        ours = getattr(lc, f"{name}_penalty")(row, value, tokens)
        theirs = peer.apply(row, peer.penalties(row.size, tokens.tolist(), **{name: value}))
        np.testing.assert_allclose(ours, theirs, rtol=ULPS, atol=1e-6)


def test_dry():
    """Over few distinct tokens, so that long repetitions are frequent."""
    rng = np.random.default_rng(4)
    penalised = 0
    for row in ROWS:
        tokens = rng.integers(min(row.size, 3), size=rng.integers(1, 200)).tolist()
        base, allowed = float(rng.choice([1.0, 1.1, 1.75, 3.0])), int(rng.integers(0, 5))
        last = int(rng.integers(250))
        theirs = peer.apply(row, peer.dry(tokens, 0.8, base, allowed, last))
        ours = lc.dry(row, tokens, 0.8, base, allowed, last)
        theirs = np.maximum(theirs, np.where(row > -np.inf, np.finfo(np.float32).min, -np.inf))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        penalised += bool((ours != row).any())
    assert penalised > 150


@pytest.mark.parametrize(("tau", "eta"), [(1.0, 0.1), (3.0, 0.5), (6.0, 1.0)])
def test_mirostat_over_many_tokens(tau, eta):
    """llama.cpp draws; mu follows its tokens here as there."""
    rows = [row for row in ROWS if np.isfinite(row).all()]
    mu, different = 2 * tau, []
    for row, (left, token) in zip(rows, peer.follow(peer.mirostat(tau, eta), rows), strict=True):
        ours = lc.mirostat(row, mu)
        different.append((np.isfinite(ours) != np.isfinite(left)).sum())
        mu = lc.mirostat_update(mu, lc.token_logprobs(ours, token), tau, eta)
    assert max(different) <= 2  # its probabilities and mu are float32
    assert np.count_nonzero(different) < len(rows) / 20


@pytest.mark.parametrize(("target", "decay"), [(0.1, 0.9), (0.5, 0.5), (0.9, 0.0), (0.3, 0.99)])
def test_adaptive_p_over_many_tokens(target, decay):
    """Each row's transformed logits show the state."""
    rows = [row for row in ROWS if np.isfinite(row).all()][:60]
    sampler, state = peer.adaptive_p(target, decay), None
    for row, (theirs, token) in zip(rows, peer.follow(sampler, rows), strict=True):
        ours = lc.adaptive_p(row, lc.adaptive_p_target(state, target))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
        prob = float(np.exp(lc.token_logprobs(row, token)))
        state = lc.adaptive_p_update(state, min(prob, 1.0), target, decay)


def test_dynamic_temperature():
    for number, row in enumerate(ROWS):
        if not np.isfinite(row).all():
            continue  # llama.cpp counts removed tokens
        settings = (0.5 + number % 3 / 2, 0.2 + number % 4 / 5, 0.5 + number % 2)
        theirs = peer.apply(row, peer.dynamic_temperature(*settings))
        np.testing.assert_allclose(lc.dynamic_temperature(row, *settings), theirs, rtol=1e-3)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_typical_p(p):
    """The mass of what is kept reaches p with both; few rows differ in more than the last token."""
    different = 0
    for row in ROWS:
        if not np.isfinite(row).all():
            continue  # with a removed token llama.cpp's entropy is NaN
        kept = [np.isfinite(x) for x in (lc.typical_p(row, p), peer.apply(row, peer.typical_p(p)))]
        different += (kept[0] != kept[1]).sum() > 1
    assert different < len(ROWS) / 50


def test_the_whole_chain_in_its_order():
    """Every control of the preset `llama_cpp`, with a history longer than its window of 64."""
    chain = lc.Chain.preset("llama_cpp")
    rng = np.random.default_rng(2)
    compared = 0
    for row in ROWS:
        history = rng.integers(row.size, size=90).tolist()
        params = lc.Params(
            logit_bias={1: 2.0},
            repetition_penalty=1.2,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            top_k=min(100, row.size),
            top_p=0.9,
            min_p=0.02,
            xtc_probability=1.0,
            xtc_threshold=0.2,
            temperature=0.7,
            seed=1,
        )
        batch = lc.Batch(row.size)
        batch.add(params, history[:50], history[50:])
        penalised = peer.apply(
            row,
            peer.logit_bias(row.size, {1: 2.0}),
            peer.penalties(row.size, history, 1.2, 0.1, 0.2),
        )
        truncated = lc.top_k(penalised, params.top_k)
        if (np.abs(mass_above(truncated) - 0.9) < 1e-4).any():
            continue  # what follows a nucleus depends on its last token
        theirs = peer.apply(
            penalised,
            *(peer.top_k(params.top_k), peer.top_p(0.9), peer.min_p(0.02)),
            *(peer.xtc(0.2), peer.temperature(0.7)),
        )
        assert_same_kept(chain(row, batch), theirs, rtol=2 * ULPS, atol=1e-6)
        compared += 1
    assert compared > 200


def test_both_draws_follow_softmax():
    row = np.log(np.array([0.35, 0.25, 0.2, 0.1, 0.06, 0.04], np.float32))
    count = 40_000
    q = np.exp(row.astype(np.float64))
    ours = lc.sample(np.tile(row, (count, 1)), seed=np.arange(count), position=0)
    theirs = np.array([peer.sample(row, peer.dist(seed)) for seed in range(count)])
    for tokens in (ours, theirs):
        counts = np.bincount(tokens, minlength=row.size)
        chi2 = ((counts - count * q) ** 2 / (count * q)).sum()
        assert chi2 < 25.7  # five degrees of freedom, one in 10,000
