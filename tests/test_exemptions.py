"""penalty_window, penalty_exempt, ngram_window and ngram_exempt: what counts, what stays alone."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
import reference

VOCAB = 200
PROMPT, OUTPUT = [1, 2, 3, 150, 1, 2], [7, 7, 3, 1, 2]
PENALTIES = {
    "repetition_penalty": (1.3, "all"),
    "frequency_penalty": (0.5, "output"),
    "presence_penalty": (0.7, "output"),
}
ROW = np.random.default_rng(4).normal(0, 2, VOCAB).astype(np.float32)


def run(chain=None, **fields):
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=1, **fields), PROMPT, OUTPUT)
    return (chain or lc.Chain())(ROW, batch)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("window", [None, 0, 1, 3, 8, 10**6, 2**70])
@pytest.mark.parametrize("exempt", [(), (7,), (2, 1, 2), tuple(range(VOCAB))])
def test_a_penalty(name, window, exempt):
    value, scope = PENALTIES[name]
    tokens = PROMPT + OUTPUT if scope == "all" else OUTPUT
    tokens = tokens if window is None else tokens[max(0, len(tokens) - window) :]
    tokens = [token for token in tokens if token not in exempt]
    expected = getattr(lc, name)(ROW, value, tokens)
    assert_array_equal(run(**{name: value}, penalty_window=window, penalty_exempt=exempt), expected)
    if exempt == tuple(range(VOCAB)) or window == 0:
        assert_array_equal(expected, ROW)


def test_a_request_decides_and_else_the_chain():
    chain = lc.Chain([("frequency_penalty", {"scope": "all", "window": 2})])
    batch = lc.Batch(VOCAB)
    for window in (None, 4):
        batch.add(lc.Params(frequency_penalty=0.5, penalty_window=window), PROMPT, OUTPUT)
    both = chain(np.stack([ROW, ROW]), batch)
    assert_array_equal(both[0], lc.frequency_penalty(ROW, 0.5, OUTPUT[-2:]))
    assert_array_equal(both[1], lc.frequency_penalty(ROW, 0.5, OUTPUT[-4:]))
    assert np.isnan(batch["penalty_window"][0])
    assert batch["penalty_window"][1] == 4


@pytest.mark.parametrize("top_k", [0, 50])
def test_all_penalties_together_and_candidates(top_k):
    fields = {name: value for name, (value, _) in PENALTIES.items()}
    expected = ROW
    for name, (value, scope) in PENALTIES.items():
        tokens = (PROMPT + OUTPUT if scope == "all" else OUTPUT)[-6:]
        expected = getattr(lc, name)(expected, value, [t for t in tokens if t != 7])
    expected = lc.top_k(expected, top_k)
    assert_array_equal(run(**fields, top_k=top_k, penalty_window=6, penalty_exempt=[7]), expected)
    late = lc.Chain(["top_k", *PENALTIES])  # they get candidates
    expected = lc.top_k(ROW, top_k)
    for name, (value, scope) in PENALTIES.items():
        tokens = (PROMPT + OUTPUT if scope == "all" else OUTPUT)[-6:]
        expected = getattr(lc, name)(expected, value, [t for t in tokens if t != 7])
    ours = run(late, **fields, top_k=top_k, penalty_window=6, penalty_exempt=[7])
    assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    ("fields", "removed"),
    [
        ({}, [3, 7]),  # after "1 2" came 3 and 7
        ({"ngram_window": 5}, []),  # the earlier ones lie further back
        ({"ngram_window": 7}, [7]),
        ({"ngram_window": 0}, []),
        ({"ngram_exempt": [3]}, [7]),
        ({"penalty_exempt": [7, 9]}, [3]),
        ({"ngram_exempt": [3], "penalty_exempt": [7]}, []),
    ],
)
def test_n_grams(fields, removed):
    ours = run(no_repeat_ngram=3, **fields)
    assert np.flatnonzero(np.isneginf(ours)).tolist() == removed


def test_an_exempt_token_that_another_mask_removed_stays_removed():
    ours = run(no_repeat_ngram=3, ngram_exempt=[3, 7], banned_tokens=[3])
    assert np.flatnonzero(np.isneginf(ours)).tolist() == [3]
    only = run(no_repeat_ngram=3, ngram_exempt=[3, 7], allowed_tokens=[7, 9])
    assert np.flatnonzero(np.isfinite(only)).tolist() == [7, 9]


def test_drafts_and_explanations_see_them():
    fields = {"frequency_penalty": 2.0, "penalty_window": 3, "penalty_exempt": [7]}
    batch = lc.Batch(VOCAB)
    (row,) = batch.add(lc.Params(temperature=0, **fields), PROMPT, OUTPUT)
    rows = np.tile(ROW, (3, 1))
    expected = []
    history = list(OUTPUT)
    for logits in rows:
        tokens = [token for token in history[-3:] if token != 7]
        left = reference.frequency_penalty(logits.astype(np.float64), 2.0, tokens)
        expected.append(int(left.argmax()))
        history.append(expected[-1])
    (tokens,) = lc.Chain().verify(rows, batch, [expected[:2]])
    assert tokens.tolist() == expected
    settings = {s.name: s.setting for s in lc.Chain().explain(ROW, batch, row).stages}
    assert settings["frequency_penalty"] == "2, 3"
    assert settings["repetition_penalty"] == "off"


def test_ids_outside_the_vocabulary_are_refused():
    for name in ("penalty_exempt", "ngram_exempt"):
        with pytest.raises(ValueError, match=f"{name} must be in \\[0, {VOCAB}\\), not {VOCAB}"):
            lc.Batch(VOCAB).add(lc.Params(**{name: [VOCAB]}))
