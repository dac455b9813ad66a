"""Texts that no tokens spell: against all token sequences of small vocabularies."""

import pickle
from itertools import product
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
from effort import effort

PIECES = [
    b"",
    *map(bytes, product(b"ab", repeat=1)),
    b"ab",
    b"ba",
    b"aab",
    b"bab",
    b"\xc3",
    b"\xa9",
]


def banned(texts, history):
    row = lc.banned_texts(np.zeros(texts.vocab_size + 1), texts, history)
    return np.flatnonzero(row == -np.inf).tolist()


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
    st.lists(st.sampled_from(("a", "ab", "aba", "aab", "bbab", "\u00e9", "a\u00e9")), max_size=2),
)
def test_a_token_is_banned_if_and_only_if_it_completes_a_text(vocabulary, texts):
    """Of all token sequences, those without a text in them, and each token after it."""
    compiled, row = lc.BannedTexts(texts, vocabulary), np.zeros(len(vocabulary) + 1)
    for size in range(effort(interpreted=3, quick=4)):
        for history in product(range(len(vocabulary)), repeat=size):
            said = b"".join(vocabulary[token] for token in history)
            if not reference.has_one(said, texts):
                expected = reference.banned_texts(row, texts, vocabulary, history)
                assert_array_equal(lc.banned_texts(row, compiled, history), expected)


@given(st.data())
def test_of_a_long_history_as_well(data):
    vocabulary = [b"", b"a", b"b", b"ab", b"aaa", b"c"]
    texts = ["aaaab", "baaaac", "abab"]
    compiled = lc.BannedTexts(texts, vocabulary)
    history = []
    for _ in range(40):
        gone = banned(compiled, history)
        row = reference.banned_texts(np.zeros(6), texts, vocabulary, history)
        assert gone == np.flatnonzero(row == -np.inf).tolist()
        left = [token for token in range(len(vocabulary)) if token not in gone]
        history.append(data.draw(st.sampled_from(left)))


def test_no_text_is_generated():
    vocabulary = [b"a", b"b", b"ab", b"ba", b""]
    compiled = lc.BannedTexts(["aba", "bb"], vocabulary)
    batch, chain = lc.Batch(5), lc.Chain()
    (row,) = batch.add(lc.Params(seed=7, banned_texts=compiled), [0, 1])  # the prompt may say it
    (other,) = batch.add(lc.Params(seed=7), [0, 1])
    rng = np.random.default_rng(3)
    for _ in range(200):
        batch.append(chain.sample(rng.normal(0, 2, (2, 5)), batch))
    said = [b"".join(vocabulary[x] for x in batch.output(one)) for one in (row, other)]
    for text in (b"aba", b"bb"):
        assert text not in said[0]
        assert text in said[1]


def test_what_is_no_token_ends_a_word_and_the_prompt_counts_if_the_chain_says_so():
    compiled = lc.BannedTexts("ab", [b"a", b"b"])
    assert banned(compiled, [0, 99]) == banned(compiled, [0, -1]) == banned(compiled, []) == []
    for scope, token in (("output", 1), ("all", 0)):
        batch = lc.Batch(2)
        batch.add(lc.Params(seed=7, banned_texts=compiled), [0])
        assert lc.Chain([("banned_texts", {"scope": scope})]).sample([0.0, 99.0], batch) == token


def test_it_is_a_value_of_a_request():
    compiled = lc.BannedTexts(["ab", "ab"], [b"a", b"b"])
    assert (compiled.texts, len(compiled), compiled.vocab_size) == (("ab",), 1, 2)
    assert repr(compiled) == "BannedTexts(['ab'], vocab_size 2)"
    params = lc.Params(banned_texts=compiled)
    assert params == lc.Params(banned_texts=lc.BannedTexts("ab", [b"a", b"b"]))
    assert hash(compiled) == hash(lc.BannedTexts("ab", [b"a", b"b"]))
    assert params != lc.Params(banned_texts=lc.BannedTexts("ab", [b"b", b"a"]))
    assert pickle.loads(pickle.dumps(params)) == params
    assert repr(params) == "Params(banned_texts=BannedTexts(['ab'], vocab_size 2))"
    assert lc.Params.from_request({"banned_texts": []}) == lc.Params(banned_texts=None)
    params.check_vocabulary(2)
    with pytest.raises(
        ValueError, match="banned_texts must be of at most 1 tokens, not 2"
    ) as error:
        params.check_vocabulary(1)
    assert error.value.field == "banned_texts"


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: lc.BannedTexts([""], [b"a"]), ValueError, "texts must be non-empty strings"),
        (lambda: lc.BannedTexts([b"a"], [b"a"]), TypeError, "texts must be strings"),
        (lambda: lc.BannedTexts(5, [b"a"]), TypeError, "texts must be strings"),
        (lambda: lc.BannedTexts("a", ["a"]), TypeError, "token 0 must be bytes"),
        (
            lambda: lc.Params(banned_texts=["a"]),
            TypeError,
            "banned_texts must be logitchain.Banned",
        ),
        (
            lambda: lc.banned_texts([0.0], lc.BannedTexts("a", [b"a", b"b"]), []),
            ValueError,
            "banned_texts must be of at most 1 tokens, not 2",
        ),
        (lambda: lc.banned_texts([0.0], ["a"], []), TypeError, "banned_texts must be logitchain"),
    ],
)
def test_a_bad_call_names_what_is_wrong(call, kind, text):
    with pytest.raises(kind, match=rf"^{text}"):
        call()


def test_a_large_vocabulary_takes_a_time_proportional_to_it():
    words = [bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676 % 26]) for i in range(50_000)]
    start = perf_counter()
    lc.BannedTexts(["abc" * 20, "hello world", "zz"], words)
    assert perf_counter() - start < 20
    with pytest.raises(ValueError, match="ban fewer texts"):
        lc.BannedTexts([chr(0x4E00 + i) + "a" for i in range(200)], [b"a"] * 50_000)
