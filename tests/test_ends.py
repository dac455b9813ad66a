"""How a text ends: sequences of tokens, minimums and maximums, phrases that are special tokens."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitchain as lc

PIECES = (b"a", b"b", b"ab", b"ba", b"", b"\xc3", b"\xa9", b"\xa9a")
PHRASES = ("a", "ab", "ba", "bab", "aab", "\u00e9", "\ufffd", "<one>", "<two>")


@st.composite
def lives(draw, min_size=0, **fields):
    """A request, its vocabulary, the names of special tokens, the prompt's size, and tokens."""
    vocabulary = [draw(st.sampled_from(PIECES)) for _ in range(5)]
    token = st.integers(0, 4)
    sequence = st.lists(token, min_size=1, max_size=4)
    prompt_size = draw(st.integers(0, 3))
    own = {
        "stop": draw(st.lists(st.sampled_from(PHRASES), max_size=3)),
        "eos_token": draw(st.lists(token, max_size=1)),
        "stop_tokens": draw(st.lists(sequence | token, max_size=3)),
        "min_tokens": draw(st.sampled_from((0, 0, 1, 3))),
        "min_total_tokens": draw(st.sampled_from((0, 0, 4, 7))),
        "max_tokens": draw(st.sampled_from((None, None, 1, 4, 9))),
        "max_total_tokens": draw(st.sampled_from((None, None, 4, 9))),
        "include_stop": draw(st.booleans()),
        "stop_after_min_tokens": draw(st.booleans()),
    }
    names = draw(st.sampled_from(({}, {1: "<one>"}, {1: "<one>", 2: "<two>"})))
    tokens = draw(st.lists(token, min_size=min_size, max_size=14))
    return SimpleNamespace(
        params=lc.Params(**{**own, **fields}),
        vocabulary=vocabulary,
        names=names,
        prompt_size=prompt_size,
        tokens=tokens,
    )


def choice_of(life, **arguments):
    return lc.Choice(
        life.params,
        life.vocabulary.__getitem__,
        seed=7,
        prompt_size=life.prompt_size,
        special_tokens=life.names,
        **arguments,
    )


def decode(data, final):
    if final:
        return data.decode("utf-8", "replace")
    return lc.TextStream().feed(data)


def phrase_in(text, stop, first):
    """(where the phrase ends that is complete first after `first` characters, the phrase)."""
    for end in range(first + 1, len(text) + 1):
        found = [phrase for phrase in stop if text[:end].endswith(phrase)]
        if found:
            return end, max(found, key=len)
    return None


def end_of(life):
    """The definition: (tokens used, text, finish_reason, stop_reason); None if it goes on."""
    params, tokens = life.params, life.tokens
    before = 0  # characters of the text, as far as it is known
    for k, token in enumerate(tokens, 1):
        is_late = k > params.min_tokens and life.prompt_size + k > params.min_total_tokens
        ends = [s for s in params.stop_tokens if tuple(tokens[max(0, k - len(s)) : k]) == s]
        ends += [(token,)] * (token in params.eos_token)
        longest = max(ends, key=len, default=()) if is_late else ()
        reason = longest[0] if len(longest) == 1 else longest or None
        may_stop = is_late or not params.stop_after_min_tokens
        dropped = len(longest)
        name = life.names.get(token)
        if reason is None and may_stop and name in params.stop:
            reason, dropped = name, 1
        full = k == params.max_tokens or life.prompt_size + k == params.max_total_tokens
        is_over = reason is not None or full
        last = k if params.include_stop else k - dropped
        text = decode(b"".join(life.vocabulary[t] for t in tokens[:last]), is_over)
        phrase = phrase_in(text, params.stop, before) if may_stop else None
        if phrase:
            end = phrase[0] if params.include_stop else phrase[0] - len(phrase[1])
            return tokens[:k], text[:end], "stop", phrase[1]
        if is_over:
            return tokens[:k], text, "length" if reason is None else "stop", reason
        before = len(text)
    return None


def run(choice, tokens, **arguments):
    pieces = []
    for token in tokens:
        if choice.finish_reason:
            break
        pieces.append(choice.append(token, **arguments))
    return pieces


@settings(max_examples=600)  # it is cheap, and the cases are many
@given(lives())
def test_a_text_ends_as_defined(life):
    choice = choice_of(life)
    pieces = run(choice, life.tokens)
    assert choice.text == "".join(pieces)
    expected = end_of(life)
    if expected is None:
        assert (choice.finish_reason, choice.stop_reason) == (None, None)
        assert choice.tokens == life.tokens
        choice.finish("abort", "gone")
        assert choice.response()["stop_reason"] == "gone"
        whole = decode(b"".join(life.vocabulary[t] for t in life.tokens), True)
        assert whole.startswith(choice.text)
        return
    assert (choice.tokens, choice.text, choice.finish_reason, choice.stop_reason) == expected
    said = json.loads(json.dumps(choice.response()))["stop_reason"]
    assert said == (list(expected[3]) if isinstance(expected[3], tuple) else expected[3])


@given(lives(logprobs=True))
def test_the_deltas_joined_are_the_response_and_so_is_a_copy_on_the_way(life):
    life.prompt_size = 0
    choice = choice_of(life)
    deltas = []
    for token in life.tokens:
        if choice.finish_reason:
            break
        choice.append(token, -1.0)
        deltas.append(choice.delta())
        choice = pickle.loads(pickle.dumps(choice))
    response = choice.response()
    assert "".join(x["delta"]["content"] for x in deltas) == response["message"]["content"]
    entries = [entry for x in deltas for entry in x["logprobs"]["content"]]
    assert entries == response["logprobs"]["content"]
    for entry in entries:
        token = entry["token_id"]
        assert bytes(entry["bytes"]) == life.vocabulary[token]
        assert entry["token"] == life.names.get(
            token, life.vocabulary[token].decode("utf-8", "replace")
        )
    if deltas:
        assert deltas[-1]["stop_reason"] == response["stop_reason"]
    ids = [entry["token_id"] for entry in entries]
    assert ids == choice.tokens[: len(ids)]


@given(lives(min_size=14, stop=(), max_tokens=None, max_total_tokens=None), st.integers(0, 2**32))
def test_choice_and_chain_agree_on_the_minimum(life, seed):
    """No token that a chain draws is an end before the minimum, and after it each one is."""
    params, vocab = life.params, len(life.vocabulary)
    batch, chain = lc.Batch(vocab), lc.Chain()
    (row,) = batch.add(lc.Params.from_request({
        "eos_token": list(params.eos_token),
        "stop_tokens": [list(s) for s in params.stop_tokens],
        "min_tokens": params.min_tokens,
        "min_total_tokens": params.min_total_tokens,
        "seed": seed,
    }), [9] * life.prompt_size)
    choice = choice_of(life)
    while not choice.finish_reason and len(choice.tokens) < 14:
        logits = np.random.default_rng(seed + len(choice.tokens)).normal(0, 2, vocab)
        if len({(t,) for t in range(vocab)} - ending(batch.params(row), choice.tokens)) == 0:
            return  # no token is left
        (token,) = chain.sample(logits, batch).tolist()
        size = len(choice.tokens)
        is_early = size < params.min_tokens or life.prompt_size + size < params.min_total_tokens
        is_end = (token,) in ending(params, choice.tokens)
        assert not (is_early and is_end)
        choice.append(token)
        batch.append([token])
        assert (choice.finish_reason == "stop") == is_end


def ending(params, tokens):
    """The tokens that would complete an end, each as a tuple of one."""
    ends = [*params.stop_tokens, *((token,) for token in params.eos_token)]
    return {s[-1:] for s in ends if tuple(tokens[len(tokens) - len(s) + 1 :]) == s[:-1]
            and len(s) <= len(tokens) + 1}
