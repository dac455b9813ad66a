"""Forced output tokens: an answer begins with them, and a recorded answer is played again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
import strategies

VOCAB = 70
TABLE = np.random.default_rng(3).normal(0, 2, (VOCAB, VOCAB)).astype(np.float32)
CHAIN = lc.Chain()


@given(data=st.data(), logits=strategies.matrices(min_vocab=5, max_vocab=5))
def test_the_function_is_its_definition(data, logits):
    logits = np.where(np.isfinite(logits), logits, np.float32(-1))
    lists = [data.draw(st.lists(st.integers(0, 4), max_size=4)) for _ in logits]
    positions = [data.draw(st.integers(0, 5)) for _ in logits]
    ours = lc.forced_output_tokens(logits, lists, position=positions)
    for row, kept, forced, position in zip(logits, ours, lists, positions, strict=True):
        expected = reference.forced_output_tokens(row.astype(np.float64), forced, position)
        assert_array_equal(kept, expected)
    alike = lc.forced_output_tokens(logits, lists[0], position=1)
    for row, kept in zip(logits, alike, strict=True):
        expected = reference.forced_output_tokens(row.astype(np.float64), lists[0], 1)
        assert_array_equal(kept, expected)


def test_what_is_no_list_of_tokens_is_refused():
    zeros = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"^forced_output_tokens must be in \[0, 4\), not 4"):
        lc.forced_output_tokens(zeros, [4], position=0)
    with pytest.raises(ValueError, match="no finite logit is left"):
        lc.forced_output_tokens([0.0, -np.inf], [1], position=0)
    with pytest.raises(ValueError, match=r"^forced_output_tokens must be") as caught:
        lc.Batch(4).add(lc.Params(forced_output_tokens=[9]))
    assert caught.value.field == "forced_output_tokens"


def play(params, steps=24, prompt=(5,), batch=None):
    """(tokens, their raw log-probabilities), one after the other."""
    batch = batch or lc.Batch(VOCAB)
    (row,) = batch.add(params, prompt)
    logprobs = []
    for _ in range(steps):
        logits = TABLE[[[*prompt, *batch.output(row)][-1]]]
        sampled = CHAIN.sample_with_logprobs(logits, batch, of="raw")
        batch.append(sampled.tokens)
        logprobs.append(sampled.logprobs[0])
    return batch.output(row), np.array(logprobs)


RECORDED = play(lc.Params(seed=7, temperature=0.8, top_p=0.9))


def test_a_replay_has_the_log_probabilities_of_the_recording_bit_for_bit():
    tokens, logprobs = play(lc.Params(seed=1, forced_output_tokens=RECORDED[0]))
    assert tokens == RECORDED[0]
    assert_array_equal(logprobs.view(np.int32), RECORDED[1].view(np.int32))
    before = [5, *tokens[:-1]]
    raw = lc.token_logprobs(TABLE[before], tokens)
    assert_array_equal(logprobs.view(np.int32), np.asarray(raw).view(np.int32))


def test_a_replay_with_the_recorded_tokens_as_drafts_accepts_all():
    tokens, batch = RECORDED[0], lc.Batch(VOCAB)
    batch.add(lc.Params(seed=1, temperature=0.3, forced_output_tokens=tokens), [5])
    (kept,) = CHAIN.verify(TABLE[[5, *tokens]], batch, [tokens])
    assert kept[:-1].tolist() == tokens
    wrong = [*tokens[:6], (tokens[6] + 1) % VOCAB, *tokens[7:]]
    (kept,) = CHAIN.verify(TABLE[[5, *wrong]], batch, [wrong])
    assert kept.tolist() == tokens[:7], "a wrong draft is replaced by the forced token"
    proposed = [np.zeros((len(tokens), VOCAB), np.float32)]
    (kept,) = CHAIN.verify(TABLE[[5, *tokens]], batch, [tokens], proposed)
    assert kept[:-1].tolist() == tokens


def test_after_the_list_the_answer_is_the_one_that_the_seed_gives():
    free = play(lc.Params(seed=9))[0]
    forced = play(lc.Params(seed=9, forced_output_tokens=free[:10]))[0]
    assert forced == free


def test_preemption_rollback_and_turns():
    params = lc.Params(seed=9, forced_output_tokens=[3, 4, 5])
    whole = play(params, 6)[0]
    batch = lc.Batch(VOCAB)
    (row,) = batch.add(params, [5], whole[:2])
    assert CHAIN.sample(TABLE[[whole[1]]], batch).tolist() == [5]
    batch.rollback(row, 1)
    assert CHAIN.sample(TABLE[[whole[0]]], batch).tolist() == [4]
    turn = lc.Batch(VOCAB)
    turn.add(params, [5, *whole, 8], generated_before=6)
    assert CHAIN.sample(TABLE[[8]], turn).tolist() == [3], "each turn begins with them"


def test_an_error_names_the_control_that_contradicts():
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=1, forced_output_tokens=[3], banned_tokens=[3]))
    with pytest.raises(ValueError, match=r"no finite logit is left after forced_output_tokens$"):
        CHAIN.sample(TABLE[[0]], batch)
