"""The mask of a prefix: which tokens may come next, and a loop that heals a prompt."""

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitchain as lc

texts = st.lists(st.sampled_from((b"a", b"b", b"\xc3")), max_size=5).map(b"".join)


def allowed(words, count):
    return [i for i in range(count) if int(words[i // 32]) >> i % 32 & 1]


@given(st.lists(texts, max_size=70), texts)
def test_it_is_the_definition(tokens, prefix):
    words = lc.prefix_mask(tokens, prefix)
    assert words.dtype == np.int32
    assert words.shape == (-(-len(tokens) // 32),)
    expected = []
    for i, token in enumerate(tokens):
        shared = min(len(token), len(prefix))
        if token[:shared] == prefix[:shared] and (token or not prefix):
            expected.append(i)
    assert allowed(words, 32 * len(words)) == expected


def test_a_prompt_is_healed():
    """The prompt ended with "http"; the model would say "://" next, but "https" is one token."""
    vocabulary = [b"<end>", b"http", b"https", b"://", b"ht", b"tp", b"s", b" "]
    logits = np.array([0, 1, 3, 9, 0.5, 2, 0, 4], np.float32)
    batch, prefix, said = lc.Batch(len(vocabulary)), b"http", b""
    (row,) = batch.add(lc.Params(temperature=0), [7])
    while prefix:
        batch.set_mask(row, lc.prefix_mask(vocabulary, prefix))
        (token,) = lc.Chain().sample(logits, batch)
        batch.append([token])
        said, prefix = said + vocabulary[token], prefix[len(vocabulary[token]) :]
        batch.set_mask(row, None)
    assert said == b"https"
    logits[2] = -9.0  # or in two steps
    logits[4] = 5.0
    batch.set_mask(row, lc.prefix_mask(vocabulary, b"http"))
    assert lc.Chain().sample(logits, batch) == 4
    batch.set_mask(row, lc.prefix_mask(vocabulary, b"tp"))
    assert lc.Chain().sample(logits, batch) == 5


@pytest.mark.parametrize(
    ("tokens", "prefix", "name"),
    [
        ([b"a", "b"], b"a", "token 1"),
        ([b"a"], "a", "prefix"),
        (b"ab", b"a", "vocabulary_bytes"),
        ({b"a": 0}, b"a", "vocabulary_bytes"),
        ({b"a"}, b"a", "vocabulary_bytes"),
        (5, b"a", "vocabulary_bytes"),
        ([None], b"a", "token 0"),
    ],
)
def test_what_is_not_bytes_is_refused(tokens, prefix, name):
    with pytest.raises(TypeError, match=f"^{name} must be "):
        lc.prefix_mask(tokens, prefix)


def test_where_no_token_fits_the_mask_is_empty():
    assert lc.prefix_mask([b"a", b""], b"b").tolist() == [0]
    assert lc.prefix_mask([], b"b").tolist() == []
    assert allowed(lc.prefix_mask([b"a", b""], b""), 2) == [0, 1]


# ---- sequence breakers

WORDS = [b"a", b"b", b"ab", b"x:", b"xa", b"bc", b"\n", b"y\n\n", b"", "\u00e9".encode(), b"\xc3"]


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        ([":"], [(3,)]),
        (["\n", ":"], [(6,), (7,), (3,)]),
        (["ab"], [(0, 1), (2,), (4, 1)]),
        (["abc"], [(0, 5), (4, 5)]),  # no token is "c", so none follows on "ab"
        (["\u00e9"], [(9,)]),
        (["", "zzz"], []),
        ((), []),
    ],
)
def test_sequence_breakers(strings, expected):
    assert lc.sequence_breakers(strings, WORDS) == expected


def test_the_tokenizer_splits_the_rest():
    calls = []

    def tokenize(text):
        calls.append(text)
        return np.arange(30)

    vocabulary = [b"a", b"xab", *[b"-"] * 28]
    found = lc.sequence_breakers(["ab:"], vocabulary, tokenize)
    assert found == [(0, *range(20)), (1, *range(20))]
    assert calls == ["b:", ":"]


def test_a_token_may_end_within_a_character():
    byte = [bytes([i]) for i in range(256)]
    assert lc.sequence_breakers(["\u00e9:"], byte) == [(0xC3, 0xA9, ord(":"))]

    def tokenize(text):
        return [byte.index(bytes([x])) for x in text.encode()]

    assert lc.sequence_breakers(["\u00e9:"], byte, tokenize) == [(0xC3, 0xA9, ord(":"))]


@pytest.mark.parametrize("given", [[1.7], [-5, 99], "1", 3.0, [10**30]])
def test_what_the_tokenizer_gives_is_checked(given):
    with pytest.raises((TypeError, ValueError), match="tokenize"):
        lc.sequence_breakers(["ab"], WORDS, lambda text: given)


def test_a_large_vocabulary_takes_little_time():
    rng = np.random.default_rng(1)
    letters = np.frombuffer(b"endofthx ", np.uint8)
    words = [bytes(rng.choice(letters, 1 + i % 6)) for i in range(20_000)]
    started = perf_counter()
    assert lc.sequence_breakers(["end of the text"], words)
    assert perf_counter() - started < 20  # it was minutes


def test_they_break_repetitions():
    vocabulary = [b"the", b" cat", b" sat", b":\n", b" on"]
    breakers = lc.sequence_breakers(["\n"], vocabulary)
    history = [0, 1, 2, 3, 0, 1]
    assert lc.dry(np.zeros(5), history, 1.0)[2] == -1.0
    assert lc.dry(np.zeros(5), history, 1.0, dry_sequence_breakers=breakers)[2] == -1.0
    history = [0, 1, 2, 0, 3, 1]
    assert not lc.dry(np.zeros(5), history, 1.0, dry_sequence_breakers=breakers).any()


def test_tokens_that_end_a_line():
    assert lc.line_ends(WORDS) == [6, 7]
    assert lc.line_ends(WORDS, ends=[b"\n\n", b"b"]) == [1, 2, 7]
    assert lc.line_ends(WORDS, ends=[]) == []
    for words, ends in ((WORDS, b"\n"), (WORDS, ["\n"]), (["a"], [b"\n"]), ({"a": 0}, [b"\n"])):
        with pytest.raises(TypeError, match="must be"):
            lc.line_ends(words, ends)


@pytest.mark.parametrize(("strings", "words"), [("\n", WORDS), ([3], WORDS), (["a"], {"a": 0})])
def test_breakers_of_another_kind(strings, words):
    with pytest.raises(TypeError, match="must be"):
        lc.sequence_breakers(strings, words)
