"""What the adapters share: which fields an engine leaves to us, and where an answer ends."""

import random
from dataclasses import replace

import numpy as np
import pytest

import logitchain as lc
from logitchain.controls import CONTROLS
from logitchain.engines.ends import Answer, answer_beside, most_tokens
from logitchain.engines.request import NOT_OURS, OURS, Request, reads_history

VOCAB = 8
TEXTS = [bytes([97 + token]) for token in range(VOCAB)]

#: Every control on. One that reads the history does so within twelve tokens.
EVERY = lc.Params(
    **{"allowed_tokens": range(7), "banned_tokens": [7], "min_tokens": 99, "min_total_tokens": 99},
    **{"eos_token": 0, "no_repeat_ngram": 2, "bad_words": [[1, 2], [2, 1]], "logit_bias": {1: 0.5}},
    **{"banned_texts": lc.BannedTexts(["bc", "cb"], TEXTS), "forced_output_tokens": [1] * 13},
    **{"reasoning_end": [3], "reasoning_budget": 4, "reasoning_message": [1, 2, 1, 2, 1, 2, 1, 2]},
    **{"watermark": {"scheme": "sbw", "key": 42, "deduplicate": False}, "dry_multiplier": 1.0},
    **{"dry_allowed_length": 1, "repetition_penalty": 1.5, "frequency_penalty": 0.5},
    **{"presence_penalty": 0.5, "temperature": 0.7, "dynatemp_range": 0.3, "smoothing_factor": 0.5},
    **{"top_n_sigma": 1.0, "top_k": 4, "top_p": 0.8, "min_p": 0.2, "typical_p": 0.8, "top_a": 0.5},
    **{"epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "tfs": 0.8, "p_less": True, "top_h": 0.5},
    **{"xtc_probability": 0.5, "xtc_threshold": 0.1, "mirostat_tau": 2.0, "adaptive_target": 0.5},
    seed=7,
)
CASES = {
    **{control.name: (control, EVERY) for control in CONTROLS if control.name != "token_bitmask"},
    "min_tokens of a sequence": (
        next(control for control in CONTROLS if control.name == "min_tokens"),
        replace(EVERY, stop_tokens=[[1, 2], [2, 1]]),
    ),
    "min_total_tokens of a sequence": (
        next(control for control in CONTROLS if control.name == "min_total_tokens"),
        replace(EVERY, stop_tokens=[[1, 2], [2, 1]]),
    ),
}


def processed(control, params, output):
    """A row as one control leaves it, after this output."""
    batch = lc.Batch(VOCAB)
    batch.add(params, [5, 6], output)
    logits = np.arange(VOCAB, dtype=np.float32) / 8
    return lc.Chain([control])(logits, batch, on_invalid="mark").tolist()


@pytest.mark.parametrize("name", CASES)
def test_a_control_that_reads_the_history_is_known_to(name):
    """Two histories of one size tell. A state follows from the tokens, which `add` does not see."""
    control, params = CASES[name]
    assert control.is_on(params)
    draw = random.Random(1)
    outputs = [[draw.choice(some) for _ in range(12)] for some in 10 * [[1], [2], [1, 2]]]
    differs = len({tuple(processed(control, params, output)) for output in outputs}) > 1
    assert reads_history(control, params) == (differs or bool(control.state))


def test_a_request_reads_the_history_if_one_of_its_controls_does():
    def reads(**fields):
        return Request(fields, dialect="vllm", seed=1).reads_history

    assert not reads(temperature=0.5, xtc_probability=0.5, xtc_threshold=0.1, banned_tokens=[1])
    assert not reads(min_tokens=3, eos_token=2, forced_output_tokens=[1, 2])
    assert reads(reasoning_end=[3], reasoning_budget=5)
    assert reads(repetition_penalty=1.1)
    assert reads(mirostat_tau=2.0)
    assert reads(watermark={"scheme": "sbw", "key": 42})


ELSEWHERE = {
    **{"n": 2, "max_tokens": 3, "max_total_tokens": 9, "stop": "END", "stop_tokens": [[1, 2]]},
    **{"stop_after_min_tokens": True, "include_stop": True, "logprobs": True, "top_logprobs": 2},
    **{"logprob_token_ids": [1], "logprobs_of": "processed"},
}


def test_every_field_is_ours_or_the_engines():
    assert set(ELSEWHERE) == set(NOT_OURS)
    assert {*NOT_OURS, *OURS} >= set(lc.FIELDS)


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_no_control_acts_on_is_the_engines(name):
    with pytest.raises(ValueError, match=f"^{name} must be given as the engine's own") as raised:
        Request({name: ELSEWHERE[name], "draw": True}, dialect="openai", seed=1)
    assert raised.value.field == name


def test_texts_to_ban_need_a_vocabulary_which_no_body_has():
    with pytest.raises(ValueError, match="banned_texts must be given as bad_words"):
        Request({"banned_texts": ["bc"]}, dialect="openai", seed=1)
    made = Request({"banned_texts": EVERY.banned_texts}, dialect="openai", seed=1)
    logits = np.zeros(VOCAB, np.float32)
    made.apply(lc.Chain(), logits, prompt=[], output=[1])
    assert logits[2] == -np.inf


def test_that_vllm_holds_back_stop_phrases_too_is_its_own_affair():
    """Its dialect says so of every request with `min_tokens`; of these phrases none are ours."""
    assert Request({"min_tokens": 3}, dialect="vllm", seed=1).params.min_tokens == 3


def test_a_loop_ends_the_reasoning_and_no_answer_of_an_engine():
    loop = {"max_pattern_size": 4, "min_count": 2}
    with pytest.raises(ValueError, match="repetition_detection must not be given"):
        Request({"repetition_detection": loop}, dialect="openai", seed=1)
    ours = {"reasoning_end": [3], "repetition_detection": loop | {"action": "end_reasoning"}}
    request = Request(ours, dialect="openai", seed=1)
    logits = np.zeros(VOCAB, np.float32)
    request.apply(lc.Chain(), logits, prompt=[1], output=[4, 5, 4, 5])
    assert np.flatnonzero(logits > -np.inf).tolist() == [3]


@pytest.mark.parametrize("scheme", ["gumbel", "dual_key_gumbel", "sglang"])
def test_a_mark_of_the_draw_needs_our_draw(scheme):
    asked = {"watermark": {"scheme": scheme, "key": 42}}
    with pytest.raises(ValueError, match=f"not '{scheme}', .*: use \"draw\": true") as raised:
        Request(asked, dialect="openai", seed=1)
    assert raised.value.field == "watermark"
    request = Request(asked | {"draw": True}, dialect="openai", seed=1)
    batch, output = lc.Batch(VOCAB), []
    (row,) = batch.add(lc.Params(**asked, seed=1), [1])
    for _ in range(6):
        logits = np.zeros(VOCAB, np.float32)
        request.apply(lc.Chain(), logits, [1], output)
        batch.append(lc.Chain().sample(np.zeros(VOCAB), batch))
        output.append(int(logits.argmax()))
    assert output == batch.output(row)


# ---- where an answer ends

ENDING = lc.Params(
    **{"stop_tokens": [[1, 2, 3], [4]], "eos_token": 0, "max_tokens": 9, "max_total_tokens": 10},
    **{"min_tokens": 2, "stop": "a", "logprobs": True, "logprob_token_ids": [1]},
    repetition_detection={"max_pattern_size": 2, "min_count": 3},
)


def test_an_answer_ends_as_a_choice_of_the_request_does():
    """Whatever was taken back before, and however many tokens come at once."""
    draw, reasons = random.Random(2), set()
    answer = Answer(ENDING, [7, 7])
    plain = replace(ENDING, stop=(), logprobs=False, logprob_token_ids=())
    for _ in range(300):
        output = [draw.choice([1, 1, 2, 2, 3, 4, 5, 6, 0]) for _ in range(12)]
        choice = lc.Choice(plain, TEXTS.__getitem__, seed=1, prompt_tokens=[7, 7])
        for size, token in enumerate(output, 1):
            choice.append(token)
            if draw.random() < 0.5:
                answer.follow(output[:size])
                assert (answer.tokens, answer.certain) == (choice.tokens, len(choice.text))
            if choice.finish_reason:
                break
        answer.follow(output)
        reasons.add(choice.finish_reason)
        assert (answer.reason, answer.length) == (choice.finish_reason, len(choice.tokens))
    assert reasons == {"stop", "length", "repetition"}


def test_an_answer_goes_on_where_its_end_is_taken_back():
    answer = Answer(lc.Params(stop_tokens=[5]), [])
    answer.follow([1, 5])
    assert answer.length == 2
    answer.follow([1])
    assert answer.length is None
    answer.follow([1, 2, 5, 5])
    assert answer.length == 3


def test_a_prompt_may_leave_no_room():
    with pytest.raises(ValueError, match="max_total_tokens must be more than the prompt's 2 tok"):
        Answer(lc.Params(max_total_tokens=2), [1, 2])


def test_how_many_tokens_there_are_at_most():
    assert most_tokens(lc.Params(), 3) is None
    assert most_tokens(lc.Params(max_tokens=9, max_total_tokens=8), 3) == 5
    assert most_tokens(lc.Params(max_tokens=4, max_total_tokens=8), 3) == 4


def test_an_engines_own_ends_are_left_to_it():
    assert answer_beside(lc.Params(max_tokens=1, eos_token=5), []) is None
    answer = answer_beside(replace(ENDING, max_tokens=1), [])
    answer.follow([0, 1, 2, 3])
    assert (answer.length, answer.reason) == (4, "stop")
