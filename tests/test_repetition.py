"""Repetition at the end of the tokens: finding it, and the answers that it ends."""

import time

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitchain as lc
import reference

START, END, EOS = 1, 2, 0
SEQUENCES = {"reasoning_start": [START], "reasoning_end": [END]}


@given(
    tokens=st.lists(st.integers(0, 1), max_size=20),
    tail=st.lists(st.integers(0, 2), max_size=5),
    copies=st.integers(0, 5),
    sizes=st.tuples(st.integers(0, 6), st.integers(1, 6)).map(sorted).filter(lambda x: x[1]),
    count=st.integers(2, 5),
)
def test_the_function_is_its_definition(tokens, tail, copies, sizes, count):
    tokens = tokens + tail * copies
    smallest, largest = sizes
    detection = {"max_pattern_size": largest, "min_pattern_size": smallest, "min_count": count}
    expected = reference.find_repetition(tokens, smallest, largest, count)
    for same in (tokens, np.array(tokens, np.int64), tuple(tokens)):
        assert lc.find_repetition(same, detection) == expected
    assert lc.find_repetition(tokens, lc.RepetitionDetection(**detection)) == expected


def test_cases_by_eye():
    def size(tokens, **sizes):
        return lc.find_repetition(tokens, lc.RepetitionDetection(**sizes))

    assert size([1, 1, 1], max_pattern_size=1, min_count=3) == 1
    assert size([1, 1], max_pattern_size=1, min_count=3) == 0
    assert size([1, 1, 1, 1], max_pattern_size=2, min_pattern_size=2, min_count=2) == 2
    assert size([7, 8, 9] * 3, max_pattern_size=8, min_pattern_size=2, min_count=3) == 3
    assert size([7, 8, 9] * 3 + [6], max_pattern_size=8, min_count=3) == 0
    assert size([8, 9, *[7, 8, 9] * 3], max_pattern_size=2, min_count=3) == 0
    assert size([-(2**63), 2**63 - 1] * 2, max_pattern_size=9, min_count=2) == 2
    assert size([5] * 9, max_pattern_size=2**70, min_count=2**70) == 0
    assert size([], max_pattern_size=3, min_count=2) == 0
    assert lc.find_repetition([5, 5, 5], {}) == 0, "it looks for no pattern"


def test_the_time_is_linear_in_what_the_copies_can_have():
    """Quadratic, the longest of these would take seconds."""
    tokens = np.zeros(20_000 if numba.config.DISABLE_JIT else 400_000, np.int64)
    tokens[-3] = 1
    detection = lc.RepetitionDetection(max_pattern_size=tokens.size // 4, min_count=4)
    assert lc.find_repetition(tokens, detection) == 0
    began = time.perf_counter()
    lc.find_repetition(tokens, detection)
    assert time.perf_counter() - began < 1.0
    short = lc.RepetitionDetection(max_pattern_size=4, min_count=4)
    began = time.perf_counter()
    for _ in range(200):
        lc.find_repetition(tokens, short)
    assert time.perf_counter() - began < 1.0, "the rest of a long history is not read"


def choice_of(prompt_tokens=(), **fields):
    params = lc.Params(**fields)
    return lc.Choice(params, lambda token: b"%d " % token, seed=1, prompt_tokens=prompt_tokens)


def told(choice, tokens):
    """How many of the tokens a choice takes."""
    for taken, token in enumerate(tokens, 1):
        choice.append(token)
        if choice.finish_reason:
            return taken
    return len(tokens)


LOOP = {"max_pattern_size": 4, "min_pattern_size": 2, "min_count": 3}
ENDS = LOOP | {"action": "end_reasoning"}


def test_a_choice_ends_with_the_token_that_completes_a_loop():
    choice = choice_of(repetition_detection=LOOP)
    assert told(choice, [9, *[7, 8] * 9]) == 7
    assert (choice.finish_reason, choice.text) == ("repetition", "9 7 8 7 8 7 8 ")
    assert choice.response()["finish_reason"] == "repetition"
    with pytest.raises(ValueError, match="comes after the end of the choice"):
        choice.append(7)


def test_the_text_that_was_held_back_comes_out_with_the_loop():
    choice = choice_of(repetition_detection=LOOP, stop="8 7 8 7 8 7", logprobs=True)
    pieces = [choice.append(token, -1.0) for token in [7, 8] * 3]
    assert "".join(pieces) == choice.text == "7 8 7 8 7 8 "
    assert len(choice.response()["logprobs"]["content"]) == 6
    assert "".join(choice.delta()["delta"]["content"]) == choice.text


@pytest.mark.parametrize(
    ("fields", "tokens", "reason"),
    [
        ({"max_tokens": 6}, [7, 8] * 3, "length"),
        ({"eos_token": 8, "min_tokens": 5}, [7, 8] * 3, "stop"),
        ({"stop": "8 7 8 7 8"}, [7, 8] * 3, "stop"),
        ({"min_tokens": 7}, [7, 8] * 3, None),
        ({"min_tokens": 6}, [7, 8] * 3, "repetition"),
        ({}, [7, 8, 7, 8, 7], None),
    ],
)
def test_other_ends_come_first(fields, tokens, reason):
    choice = choice_of(repetition_detection=LOOP, **fields)
    assert told(choice, tokens) == len(tokens)
    assert choice.finish_reason == reason


def test_a_loop_within_the_reasoning_that_is_to_end_it_does_not_end_the_choice():
    loop = [7, 8] * 4
    for prompt, tokens, taken in (
        ([START], loop, None),
        ([START], [*loop, END, *loop], 8 + 1 + 6),
        ([], loop, 6),
        ([], [START, *loop], None),
        ([START, END], loop, 6),
    ):
        choice = choice_of(prompt, repetition_detection=ENDS, **SEQUENCES)
        assert told(choice, tokens) == (taken or len(tokens))
        assert choice.finish_reason == (taken and "repetition")
    stops = choice_of([START], repetition_detection=LOOP, **SEQUENCES)
    assert told(stops, loop) == 6, "the action is to stop"


def test_a_preempted_choice_and_a_later_turn():
    again = lc.Choice(
        lc.Params(repetition_detection=LOOP),
        lambda token: b"x",
        seed=1,
        output_tokens=[7, 8, 7, 8, 7],
    )
    again.append(8)
    assert again.finish_reason == "repetition"
    choice = choice_of([START], repetition_detection=ENDS, eos_token=EOS, **SEQUENCES)
    assert told(choice, [7, 8, 7, 8, EOS]) == 5
    choice.resume(prompt_tokens=[5])
    assert told(choice, [7, 8] * 3) == 6, "the turn before does not count"
    assert choice.finish_reason == "repetition"
    other = choice_of([], repetition_detection=ENDS, eos_token=EOS, **SEQUENCES)
    told(other, [EOS])
    other.resume(prompt_tokens=[5, START])
    assert (told(other, [7, 8] * 4), other.finish_reason) == (8, None)
    told(other, [EOS])
    other.resume()
    assert (told(other, [7, 8] * 4), other.finish_reason) == (8, None), "it still reasons"


def test_a_chain_and_a_choice_end_the_reasoning_and_then_the_answer():
    """A model that says the same two tokens, whatever comes: stepwise and against drafts."""
    params = lc.Params(
        temperature=0, repetition_detection=ENDS, reasoning_message=[6], eos_token=EOS, **SEQUENCES
    )
    after = {START: 7, 7: 8, 8: 7, 6: 9, END: 7}

    def rows(tokens):
        return np.eye(10, dtype=np.float32)[[after[token] for token in tokens]]

    expected = [7, 8, 7, 8, 7, 8, 6, END, 7, 8, 7, 8, 7, 8]
    for size in range(4):
        batch, chain, choice = lc.Batch(10), lc.Chain(), None
        (row,) = batch.add(params, [START])
        choice = lc.Choice(params, lambda token: b"x", seed=1, prompt_tokens=[START])
        while not choice.finish_reason:
            tokens = [START, *batch.output(row)]
            drafts = [7, 8, 7] if tokens[-1] in (8, END, START) else [8, 7, 8]
            drafts = drafts[:size]
            (kept,) = chain.verify(rows([tokens[-1], *drafts]), batch, [drafts])
            batch.append(kept, [row] * len(kept))
            for token in kept.tolist():
                if not choice.finish_reason:
                    choice.append(token)
        assert (choice.tokens, choice.finish_reason) == (expected, "repetition")
