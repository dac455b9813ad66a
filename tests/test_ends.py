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
        prompt_tokens=[9] * life.prompt_size,
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


@settings(max_examples=300)  # it is cheap, and the cases are many
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
    (row,) = batch.add(
        lc.Params.from_request(
            {
                "eos_token": list(params.eos_token),
                "stop_tokens": [list(s) for s in params.stop_tokens],
                "min_tokens": params.min_tokens,
                "min_total_tokens": params.min_total_tokens,
                "seed": seed,
            }
        ),
        [9] * life.prompt_size,
    )
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
    return {
        s[-1:]
        for s in ends
        if tuple(tokens[len(tokens) - len(s) + 1 :]) == s[:-1] and len(s) <= len(tokens) + 1
    }


# ---- cases


WORDS = [b"", b"Call", b" me", b" Ish", b"mael", b".", b""]
NAMES = {0: "<|end|>", 6: "<|im_end|>"}


def end(params, tokens, **arguments):
    """(pieces, stop_reason) of a choice."""
    choice = lc.Choice(params, WORDS.__getitem__, seed=7, special_tokens=NAMES, **arguments)
    return run(choice, tokens), choice.stop_reason


def test_the_text_of_a_sequence_that_may_begin_is_held_back():
    params = lc.Params(stop_tokens=[[2, 3, 4]])
    assert end(params, [1, 2, 3, 5]) == (["Call", "", "", " me Ish."], None)
    assert end(params, [1, 2, 2, 3, 4]) == (["Call", "", " me", "", ""], (2, 3, 4))
    assert end(lc.Params(stop_tokens=[[2, 3, 4]], max_tokens=3), [1, 2, 3]) == (
        ["Call", "", " me Ish"],
        None,
    )


def test_of_several_sequences_the_longest_counts_and_an_end_token_is_one_of_them():
    assert end(lc.Params(stop_tokens=[3, [2, 3]], eos_token=3), [1, 2, 3])[1] == (2, 3)
    assert end(lc.Params(stop_tokens=[3], eos_token=3), [1, 3])[1] == 3
    assert end(lc.Params(stop_tokens=[[2, 0]], eos_token=0), [1, 2, 0]) == (
        ["Call", "", ""],
        (2, 0),
    )


def test_a_phrase_within_tokens_that_are_held_back_ends_the_text():
    params = lc.Params(stop=["me"], stop_tokens=[[2, 3, 4]])
    assert end(params, [1, 2]) == (["Call", " "], "me")
    params = lc.Params(stop=["Ishmael"], stop_tokens=[[2, 3, 4]])
    assert end(params, [1, 2, 3, 4])[1] == (2, 3, 4)  # they are no text


def test_a_stop_phrase_that_is_a_special_token():
    params = lc.Params(stop=["<|im_end|>", "x"])
    assert end(params, [1, 6]) == (["Call", ""], "<|im_end|>")
    assert end(params, [1, 0]) == (["Call", ""], None)
    params = lc.Params(stop="<|im_end|>", min_tokens=5, eos_token=6)
    assert end(params, [1, 6])[1] == "<|im_end|>"  # of a phrase `min_tokens` says nothing
    params = lc.Params(stop="<|im_end|>", min_tokens=2, stop_after_min_tokens=True)
    assert end(params, [1, 6, 6, 6]) == (["Call", "", ""], "<|im_end|>")


def test_what_ended_the_text_can_be_part_of_it():
    assert end(lc.Params(stop="me", include_stop=True), [1, 2]) == (["Call", " me"], "me")
    assert end(lc.Params(stop="mael.", include_stop=True), [3, 4, 5])[0] == [" Ish", "mael", "."]
    assert end(lc.Params(stop_tokens=[[2, 3]], include_stop=True), [1, 2, 3]) == (
        ["Call", " me", " Ish"],
        (2, 3),
    )
    assert end(lc.Params(eos_token=5, include_stop=True), [1, 5]) == (["Call", "."], 5)


def test_a_longer_phrase_counts_where_the_shorter_one_came_too_early():
    params = lc.Params(stop=["Call", "Call me"], min_tokens=1, stop_after_min_tokens=True)
    assert end(params, [1, 2]) == (["", ""], "Call me")
    assert end(params, [1, 3]) == (["", "Call Ish"], None)
    assert end(lc.Params(stop=["Call", "Call me"], min_tokens=1), [1])[1] == "Call"
    params = lc.Params(stop=["Call"], min_tokens=1, stop_after_min_tokens=True)
    assert end(params, [1, 1]) == (["Call", ""], "Call")


def test_the_totals_count_the_prompt():
    params = lc.Params(max_total_tokens=10)
    assert len(end(params, [1] * 9, prompt_tokens=[9] * 7)[0]) == 3
    for size in (10, 11):
        with pytest.raises(ValueError, match=rf"^max_total_tokens must be more than .* {size} tok"):
            end(params, [], prompt_tokens=[9] * size)
    params = lc.Params(min_total_tokens=10, eos_token=0)
    assert end(params, [0] * 9, prompt_tokens=[9] * 7) == ([""] * 4, 0)
    choice = lc.Choice(
        lc.Params(max_total_tokens=10, eos_token=0),
        WORDS.__getitem__,
        seed=7,
        prompt_tokens=[9] * 5,
    )
    run(choice, [1, 0])
    choice.resume(prompt_tokens=[9] * 9)  # the result of a tool had two tokens
    choice.append(1)
    assert (choice.finish_reason, choice.text) == ("length", "CallCall")
    choice = lc.Choice(
        lc.Params(max_total_tokens=10, eos_token=0),
        WORDS.__getitem__,
        seed=7,
        prompt_tokens=[9] * 5,
    )
    run(choice, [1, 0])
    with pytest.raises(ValueError, match=r"^max_total_tokens must be more"):
        choice.resume(prompt_tokens=[9] * 10)
    assert choice.finish_reason == "stop"


def test_another_turn_begins_its_sequences_anew():
    choice = lc.Choice(lc.Params(stop_tokens=[[2, 3], [3, 5]]), WORDS.__getitem__, seed=7)
    run(choice, [1, 2, 3])
    assert choice.stop_reason == (2, 3)
    choice.resume()
    assert choice.stop_reason is None
    run(choice, [5, 3, 5])
    assert (choice.text, choice.stop_reason) == ("Call.", (3, 5))


def test_what_finds_the_ends_is_made_once_for_all_samples():
    params = lc.Params(stop=["END", "STOP"], stop_tokens=[[1, 2]], n=3, seed=7)
    for sample in params.samples():
        assert sample.stop.automaton is params.stop.automaton
        assert sample.stop_tokens.automaton is params.stop_tokens.automaton
    batch = lc.Batch(10)
    for row in batch.add(params):
        assert batch.params(row).stop.automaton is params.stop.automaton


def test_entries_have_the_tokens_ids_and_the_names_of_special_ones():
    params = lc.Params(top_logprobs=2)
    choice = lc.Choice(params, WORDS.__getitem__, seed=7, special_tokens=NAMES)
    choice.append(1, -0.5, ([1, 6], [-0.5, -1.0]))
    choice.append(6, -1.0, ([6], [-1.0]))
    choice.finish()
    first, second = choice.response()["logprobs"]["content"]
    assert (first["token"], first["token_id"]) == ("Call", 1)
    assert [(x["token"], x["token_id"]) for x in first["top_logprobs"]] == [
        ("Call", 1),
        ("<|im_end|>", 6),
    ]
    assert (second["token"], second["token_id"], second["bytes"]) == ("<|im_end|>", 6, [])
    older = choice.response(api="completions")["logprobs"]
    assert (older["tokens"], older["token_ids"]) == (["Call", "<|im_end|>"], [1, 6])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"special_tokens": [1]}, "special_tokens must be a mapping"),
        ({"prompt_tokens": [1.0]}, "prompt_tokens must be a sequence of integers"),
    ],
)
def test_a_bad_argument_is_named(arguments, text):
    with pytest.raises((TypeError, ValueError), match=rf"^{text}"):
        lc.Choice(lc.Params(), WORDS.__getitem__, seed=7, **arguments)
    with pytest.raises(TypeError, match=r"^message must be a string"):
        lc.Choice(lc.Params(), WORDS.__getitem__, seed=7).finish("error", 5)


@pytest.mark.parametrize(
    "ends", [5, [5], [[5]], (5,), {5}, range(5, 6), np.array([5]), np.int64(5)]
)
def test_a_token_alone_is_a_sequence_of_one(ends):
    assert lc.Params(stop_tokens=ends).stop_tokens == ((5,),)


def test_sequences_of_any_form():
    assert lc.Params(stop_tokens=[5, [1, 2], np.array([3, 4])]).stop_tokens == (
        (5,),
        (1, 2),
        (3, 4),
    )
    assert lc.Params(stop_tokens=np.array([[1, 2], [3, 4]])).stop_tokens == ((1, 2), (3, 4))
    for bad in ("5", [[]], [5.0], [-1], [True], {5: 1}, [[[5]]]):
        with pytest.raises((TypeError, ValueError), match=r"^stop_tokens must be ") as error:
            lc.Params(stop_tokens=bad)
        assert error.value.field == "stop_tokens"
