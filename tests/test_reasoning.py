"""Reasoning: its blocks, its budget, its minimum, its forced end."""

import copy
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
from effort import effort
from logitchain.controls.reasoning import hold, parts_of
from logitchain.controls.token_bitmask import ALL

VOCAB = 6
START, END, LINE, WORD = 1, 2, 3, 4
BLOCK = {"reasoning_start": [START], "reasoning_end": [END]}
CHAIN = lc.Chain(("reasoning", "temperature", "top_p"))

few = st.integers(0, VOCAB - 1)


def sequences(smallest, largest=3):
    return st.lists(few, min_size=smallest, max_size=largest)


@st.composite
def requests(draw):
    """Fields of a request whose sequences are short, so that histories of few tokens have them."""
    budget = draw(st.one_of(st.none(), st.integers(0, 6)))
    end = draw(sequences(1))
    start = draw(st.one_of(st.just([]), sequences(1)).filter(lambda x: x != end))
    loop = {"max_pattern_size": draw(st.integers(1, 3)), "min_count": draw(st.integers(2, 3))}
    loop["min_pattern_size"] = draw(st.integers(0, loop["max_pattern_size"]))
    loop["action"] = draw(st.sampled_from(("stop", "end_reasoning")))
    return {
        "reasoning_budget": budget,
        "reasoning_start": start,
        "reasoning_end": end,
        "reasoning_message": draw(sequences(0)),
        "min_reasoning": draw(st.integers(0, 4 if budget is None else min(budget, 4))),
        "reasoning_grace": draw(st.integers(0, 3)),
        "reasoning_line_ends": draw(sequences(0, 2)),
        "reasoning_per_block": draw(st.booleans()),
        "repetition_detection": draw(st.one_of(st.none(), st.just(loop))),
        "eos_token": draw(sequences(0, 2)),
    }


@st.composite
def histories(draw, request, largest=24):
    """(prompt, output): tokens, and whole sequences of the request among them."""
    pieces = [[token] for token in range(VOCAB)]
    for name in ("reasoning_start", "reasoning_end", "reasoning_message"):
        pieces += [request[name]] * 2
    pieces += [[WORD] * 3, [*request["reasoning_message"], *request["reasoning_end"]]]
    drawn = draw(st.lists(st.sampled_from(pieces), max_size=largest))
    tokens = [token for piece in drawn for token in piece]
    cut = draw(st.integers(0, len(tokens)))
    return tokens[:cut], tokens[cut:]


def definition(row, request, prompt, output):
    detection = lc.Params(**request).repetition_detection
    loop = ()
    if detection and detection.action == "end_reasoning":
        loop = detection.min_pattern_size, detection.max_pattern_size, detection.min_count
    return reference.reasoning(
        row,
        request["reasoning_budget"],
        prompt,
        output,
        start=request["reasoning_start"],
        end=request["reasoning_end"],
        message=request["reasoning_message"],
        least=request["min_reasoning"],
        grace=request["reasoning_grace"],
        line_ends=request["reasoning_line_ends"],
        per_block=request["reasoning_per_block"],
        loop=loop,
        eos=request["eos_token"],
    )


def pure(row, request, prompt, output):
    rest = dict(request)
    return lc.reasoning(row, rest.pop("reasoning_budget"), prompt, output, **rest)


@given(data=st.data(), request=requests())
def test_the_function_is_its_definition(data, request):
    prompt, output = data.draw(histories(request))
    row = np.arange(VOCAB, dtype=np.float32)
    expected = definition(row.astype(np.float64), request, prompt, output)
    if not np.isfinite(expected).any():
        with pytest.raises(ValueError, match="no finite logit is left"):
            pure(row, request, prompt, output)
        return
    assert_array_equal(pure(row, request, prompt, output), expected)


def test_a_long_history_is_read_in_blocks_of_64_tokens():
    """Sequences at, before and across the borders of blocks; most blocks hold none."""
    rng = np.random.default_rng(5)
    request = {"reasoning_start": [7, START], "reasoning_end": [8, 8, END]}
    params = lc.Params(reasoning_budget=100, reasoning_message=[5], **request)
    more = {"message": [5], "least": 0, "grace": 0, "line_ends": [], "per_block": False}
    for case in range(effort(60, 600)):
        tokens = rng.integers(9, 20, 400)
        for place in rng.integers(0, 390, rng.integers(0, 6)):
            marker = [[7, START], [8, 8, END], [START], [8, END]][rng.integers(4)]
            tokens[place : place + len(marker)] = marker
        prompt, output = np.split(tokens, [rng.integers(0, 300)])
        start, end = request["reasoning_start"], request["reasoning_end"]
        state = reference.reasoning_block(prompt.tolist(), output.tolist(), start, end)
        assert lc.is_reasoning(params, prompt, output) == (state[0] is not None), case
        row = np.zeros(20, np.float32)
        ours = lc.reasoning(row, 100, prompt, output, reasoning_message=[5], **request)
        expected = reference.reasoning(
            row, 100, prompt, output, start=start, end=end, loop=(), eos=[], **more
        )
        assert_array_equal(ours, expected, f"{case}")


# ---- in a chain


def generate(params, logits, prompt=(), output=(), before=0, chain=CHAIN):
    """The tokens that a row says, one for each row of logits, and its batch."""
    batch = lc.Batch(logits.shape[-1])
    (row,) = batch.add(params, prompt, output, generated_before=before)
    for x in logits[len(output) :]:
        batch.append(chain.sample(x, batch))
    return batch.output(row), batch


@given(data=st.data(), request=requests(), seed=st.integers(0, 2**32))
def test_drafts_rollback_preemption_and_threads_change_no_token(data, request, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (effort(12, 30), VOCAB)).astype(np.float32)
    request |= {"eos_token": []}
    if request["min_reasoning"]:  # or else nothing may be left beside what it removes
        logits = np.concatenate([logits, np.zeros((len(logits), 1), np.float32)], axis=1)
    params = lc.Params(seed=seed, temperature=0.9, **request)
    prompt, _ = data.draw(histories(request, 4))
    output, batch = generate(params, logits, prompt)
    assert_rules(request, logits, prompt, output)
    for cut in {0, len(output) // 2, len(output) - 1}:
        assert generate(params, logits, prompt, output[:cut])[0] == output, "preempted"
    (row,) = batch.rows
    batch.rollback(row, 5)
    for x in logits[-5:]:
        batch.append(CHAIN.sample(x, batch))
    assert batch.output(row) == output, "rolled back"
    others = lc.Batch(logits.shape[1])
    rows = [others.add(params, prompt)[0] for _ in range(3)]
    threaded = lc.Chain(CHAIN.steps, threads=2)
    for x in logits:
        others.append(threaded.sample(np.stack([x] * 3), others))
    assert [others.output(row) for row in rows] == [output] * 3, "threads"
    size = data.draw(st.integers(1, 5))
    drafted = lc.Batch(logits.shape[1])
    (row,) = drafted.add(params, prompt)
    while len(drafted.output(row)) < len(output):
        done = len(drafted.output(row))
        drafts = output[done : done + size]
        if drafts and data.draw(st.booleans()):
            drafts[data.draw(st.integers(0, len(drafts) - 1))] = data.draw(few)
        drafts = drafts[: len(output) - done - 1]
        (kept,) = CHAIN.verify(logits[done : done + len(drafts) + 1], drafted, [drafts])
        assert kept.tolist() == output[done : done + len(kept)], "drafts"
        drafted.append(kept, [row] * len(kept))


def assert_rules(request, logits, prompt, output):
    """Each token is one that the definition allows."""
    for size, token in enumerate(output):
        row = definition(logits[size].astype(np.float64), request, prompt, output[:size])
        assert np.isfinite(row[token]), f"{token} after {output[:size]}"


def test_a_chain_takes_the_kernel_as_it_is_and_a_turn_has_its_own_budget():
    params = lc.Params(seed=3, reasoning_budget=2, reasoning_message=[5], **BLOCK)
    logits = np.tile(np.float32([0, -9, -9, 0, 9, 0]), (6, 1))
    first, _ = generate(params, logits, [0, START])
    assert first == [WORD, WORD, 5, END, WORD, WORD]
    again, _ = generate(params, logits, [0, START, *first, 0, START], before=len(first))
    assert again == first
    later, _ = generate(params, logits, [0, START, *first, 0], before=len(first))
    assert later == [WORD] * 6


# ---- cases that the tests of vLLM, llama.cpp and SGLang describe


def forced(params, prompt, output):
    """The one token that may come next; None if it is free."""
    batch = lc.Batch(12)
    batch.add(params, prompt, output)
    left = np.flatnonzero(lc.Chain(["reasoning"])(np.zeros(12, np.float32), batch) == 0)
    return int(left[0]) if left.size == 1 else None


def said(params, prompt, natural, count):
    """An answer to which a model adds what `natural(output)` says wherever it is free."""
    output = []
    for _ in range(count):
        token = forced(params, prompt, output)
        output.append(natural(output) if token is None else token)
    return output


def test_the_budget_ends_a_block_and_the_answer_is_free():
    params = lc.Params(reasoning_budget=5, **BLOCK)
    ours = said(params, [], lambda output: WORD if output else START, 30)
    assert ours == [START, *[WORD] * 5, END, *[WORD] * 23]


@pytest.mark.parametrize("end", [[END], [END, 7, 8]])
@pytest.mark.parametrize("gap", [0, 3])
def test_a_later_block_has_the_rest_of_the_budget_or_a_new_one(end, gap):
    fields = {"reasoning_start": [START], "reasoning_end": end, "reasoning_budget": 5}
    before = [START, WORD, WORD, *end, *[WORD] * gap, START]
    shared, own = (lc.Params(**fields, reasoning_per_block=x) for x in (False, True))
    assert forced(shared, [], [*before, *[WORD] * 2]) is None
    assert forced(shared, [], [*before, *[WORD] * 3]) == end[0]
    assert forced(own, [], [*before, *[WORD] * 4]) is None
    assert forced(own, [], [*before, *[WORD] * 5]) == end[0]
    spent = [START, *[WORD] * 5, *end, *[WORD] * gap, START]
    assert forced(shared, [], spent) == end[0], "a spent budget ends each further block at once"
    assert forced(own, [], spent) is None


def test_a_block_that_the_prompt_opened_is_reasoning_and_its_tokens_in_the_prompt_do_not_count():
    params = lc.Params(reasoning_budget=2, **BLOCK)
    assert forced(params, [0, START, WORD, WORD], []) is None
    assert forced(params, [0, START, WORD, WORD], [WORD, WORD]) == END
    assert forced(params, [START, WORD, END, 0], [WORD] * 5) is None
    assert forced(params, [START, WORD, END, 0, START], [WORD] * 2) == END
    assert forced(params, [0], [WORD] * 5) is None, "an answer without reasoning"


def test_a_budget_of_0_ends_at_once_even_with_a_grace():
    for more in ({}, {"reasoning_grace": 4, "reasoning_line_ends": [LINE]}):
        params = lc.Params(reasoning_budget=0, reasoning_message=[7], **BLOCK, **more)
        assert forced(params, [START], []) == 7
        assert forced(params, [START], [7]) == END
        assert forced(params, [], [START]) == 7
        assert forced(params, [START], [7, END]) is None


def test_a_natural_end_before_the_budget_is_left_alone():
    params = lc.Params(reasoning_budget=9, reasoning_message=[7, 8], **BLOCK)
    assert forced(params, [START], [WORD, END, *[WORD] * 20]) is None


def test_without_a_start_sequence_the_answer_begins_in_reasoning():
    params = lc.Params(reasoning_budget=2, reasoning_end=[END])
    assert said(params, [END, 0], lambda output: WORD, 6) == [WORD, WORD, END, WORD, WORD, WORD]


def test_the_forced_end_is_exact_under_drafts_whatever_the_model_prefers():
    """vLLM's cases: a phrase of six tokens, a drafter that knows it, a target that does not."""
    end = [6, 7, 8, 9, 10, END]
    params = lc.Params(
        reasoning_budget=12, reasoning_start=[START], reasoning_end=end, temperature=0
    )
    natural = np.zeros((1, 12), np.float32)
    natural[0, 5] = 1.0
    for drafter in (lambda n: end[n : n + 3], lambda n: [9] * 3, lambda n: [5, *end[:2]]):
        batch, chain = lc.Batch(12), lc.Chain()
        (row,) = batch.add(params, [], [START])
        while END not in batch.output(row):
            said_of_it = max(0, len(batch.output(row)) - 13)
            drafts = drafter(said_of_it) if len(batch.output(row)) > 11 else [5] * 3
            rows = np.repeat(natural, len(drafts) + 1, axis=0)
            (kept,) = chain.verify(rows, batch, [drafts])
            batch.append(kept, [row] * len(kept))
        output = batch.output(row)
        assert output[: output.index(END) + 1] == [START, *[5] * 12, *end]


def test_rows_that_move_keep_their_own_budgets():
    """vLLM's case: rows change places, and one without a budget joins."""
    batch, chain = lc.Batch(12), lc.Chain(["reasoning"])
    rows = [
        batch.add(lc.Params(reasoning_budget=budget, **BLOCK), [START])[0]
        for budget in (3, 7, None)
    ]
    zeros = np.zeros((3, 12), np.float32)
    for step in range(9):
        left = (chain(zeros, batch) == 0).sum(axis=1)
        spent = [budget is not None and step >= budget for budget in (3, 7, None)]
        assert [bool(left[batch.index(row)] == 1) for row in rows] == spent
        batch.append([WORD] * 3)
        batch.reorder(batch.rows[1:] + batch.rows[:1])


# ---- grace, minimum


def test_the_forced_end_waits_for_the_end_of_a_line():
    fields = {"reasoning_budget": 2, "reasoning_line_ends": [LINE, 9], **BLOCK}
    params = lc.Params(reasoning_grace=3, **fields)
    assert forced(params, [START], [WORD, LINE]) == END, "a line ends with the budget"
    assert forced(params, [START], [LINE, WORD]) is None
    assert forced(params, [START], [WORD] * 3 + [9]) == END
    assert forced(params, [START], [WORD] * 4) is None
    assert forced(params, [START], [WORD] * 5) == END, "the grace is over"


def left(params, prompt, output):
    batch = lc.Batch(12)
    batch.add(params, prompt, output)
    return np.flatnonzero(lc.Chain(["reasoning"])(np.zeros(12, np.float32), batch) == 0).tolist()


def test_the_minimum_holds_back_the_end_and_the_end_of_text():
    params = lc.Params(
        min_reasoning=3, reasoning_start=[START], reasoning_end=[5, END], eos_token=[0, 9]
    )
    every = list(range(12))
    kept = [token for token in every if token not in (0, 9)]
    assert left(params, [START], [WORD]) == kept
    assert left(params, [START], [WORD, 5]) == [token for token in kept if token != END]
    assert left(params, [START], [WORD, WORD, 5]) == every
    assert left(params, [START], [WORD, WORD, WORD, 5, END]) == every
    assert left(params, [], [WORD]) == every
    again = [WORD, WORD, WORD, 5, END, START]
    assert left(params, [START], again) == kept, "each block has its minimum"


def test_a_spent_budget_prevails_over_the_minimum():
    params = lc.Params(reasoning_budget=3, min_reasoning=3, **BLOCK)
    assert forced(params, [START], [WORD] * 3 + [END, START]) == END


# ---- other controls


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"banned_tokens": [END]}, "reasoning"),
        ({"no_repeat_ngram": 2}, "reasoning"),
        ({"logit_bias": {END: -np.inf}}, "logit_bias"),
    ],
)
def test_a_token_that_is_removed_elsewhere_is_an_error_that_names_the_control(fields, name):
    batch = lc.Batch(12)
    output = [WORD, END, 7, START, WORD]
    batch.add(lc.Params(reasoning_budget=1, **BLOCK, **fields), [START], output)
    with pytest.raises(ValueError, match=f"no finite logit is left after {name}$"):
        lc.Chain().sample(np.zeros(12, np.float32), batch)


def test_ngram_exempt_lets_the_forced_end_come_twice():
    fields = {"no_repeat_ngram": 2, "ngram_exempt": [END], "seed": 1}
    batch = lc.Batch(12)
    batch.add(
        lc.Params(reasoning_budget=1, **BLOCK, **fields), [START], [WORD, END, 7, START, WORD]
    )
    assert lc.Chain().sample(np.zeros(12, np.float32), batch).tolist() == [END]


def test_explain_shows_the_forced_token():
    batch = lc.Batch(12)
    detection = lc.RepetitionDetection(max_pattern_size=4, min_count=3, action="end_reasoning")
    params = lc.Params(reasoning_budget=1, **BLOCK, repetition_detection=detection, seed=1)
    (row,) = batch.add(params, [START], [WORD])
    report = lc.Chain().explain(np.zeros(12, np.float32), batch, row)
    (stage,) = [stage for stage in report.stages if stage.name == "reasoning"]
    assert report.token == END
    assert report.fate(WORD) == "removed by reasoning"
    assert stage.setting == "1 token, 1, 0, 0, patterns up to 4, 1 token, 0 tokens, 0 tokens"
    assert report.ignored == ()


def test_a_request_that_only_names_its_sequences_costs_no_step():
    """A server may send them with every request."""
    batch = lc.Batch(12)
    batch.add(lc.Params(**BLOCK, reasoning_message=[5]), [START], [WORD] * 9)
    logits = np.arange(12, dtype=np.float32)
    assert_array_equal(lc.Chain(["reasoning"])(logits, batch), logits)


# ---- is_reasoning, loops


def test_the_state_of_an_answer():
    params = lc.Params(**BLOCK)
    assert not lc.is_reasoning(params, [])
    assert lc.is_reasoning(params, [START])
    assert not lc.is_reasoning(params, [START], [WORD, END])
    assert lc.is_reasoning(params, [START], [WORD, END, START])
    assert lc.is_reasoning(lc.Params(reasoning_end=[END]), [END])
    assert not lc.is_reasoning(lc.Params(reasoning_end=[END]), [], [WORD, END])
    assert not lc.is_reasoning(lc.Params(), [START])
    assert not lc.is_reasoning(lc.Params(reasoning_start=[START]), [START])
    with pytest.raises(TypeError, match="params must be a Params"):
        lc.is_reasoning(None, [START])


def test_sequences_may_lie_across_the_end_of_the_prompt():
    params = lc.Params(reasoning_budget=2, reasoning_start=[7, 8, START], reasoning_end=[9, END])
    assert forced(params, [7, 8], [START, WORD]) is None
    assert forced(params, [7, 8], [START, WORD, WORD]) == 9
    assert forced(params, [7, 8, START, 9], [END, *[WORD] * 9]) is None


def test_of_two_sequences_that_are_complete_at_once_the_longer_counts():
    assert lc.is_reasoning(lc.Params(reasoning_start=[9, 5], reasoning_end=[5]), [9, 5])
    assert not lc.is_reasoning(lc.Params(reasoning_start=[5], reasoning_end=[9, 5]), [9, 5])


LOOPING = lc.RepetitionDetection(
    max_pattern_size=8, min_pattern_size=2, min_count=3, action="end_reasoning"
)


def test_a_loop_ends_the_reasoning_as_if_the_budget_were_spent():
    params = lc.Params(repetition_detection=LOOPING, reasoning_message=[5], **BLOCK)
    loop = [7, 8, 9] * 3
    assert forced(params, [START], [4, *loop[:-1]]) is None
    assert forced(params, [START], [4, *loop]) == 5
    assert forced(params, [START], [4, *loop, 5]) == END
    assert forced(params, [START], [4, *loop, 5, END]) is None
    assert forced(params, [], [START, 4, END, *loop * 9]) is None, "a loop in the answer"
    assert forced(params, [START], [4, *loop, 5, END, 4, START, 4, *loop]) == 5
    assert forced(params, [START, *loop], []) is None, "tokens of the prompt are no loop"


def test_a_forced_sequence_that_continues_the_loop_comes_to_its_end():
    looping = lc.RepetitionDetection(max_pattern_size=4, min_count=3, action="end_reasoning")
    for message in ([LINE], [LINE, LINE], [LINE, WORD], [WORD, LINE], [WORD] * 5):
        params = lc.Params(repetition_detection=looping, reasoning_message=message, **BLOCK)
        for pattern in ([LINE], [LINE, WORD], [WORD]):
            output = pattern * 3
            while output[-1] != END:
                output.append(forced(params, [START], output))
            assert output == [*pattern * 3, *message, END] or len(message) > 1
            assert output[-len(message) - 1 :] == [*message, END]


def test_the_budget_and_a_loop_go_together():
    params = lc.Params(repetition_detection=LOOPING, reasoning_budget=5, **BLOCK)
    assert forced(params, [START], [4, 3, 0, 6, 10]) == END


# ---- bad requests


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"reasoning_budget": 3}, "reasoning_budget", "reasoning_budget needs reasoning_end"),
        ({"min_reasoning": 3}, "min_reasoning", "min_reasoning needs reasoning_end"),
        (
            {"repetition_detection": LOOPING},
            "repetition_detection",
            "repetition_detection needs reasoning_end",
        ),
        (
            {"reasoning_budget": 3, "min_reasoning": 4, **BLOCK},
            "min_reasoning",
            "min_reasoning must be in [0, 3], not 4",
        ),
        (
            {"reasoning_start": [2], "reasoning_end": [2]},
            "reasoning_start",
            "reasoning_start must differ from reasoning_end, not be (2,)",
        ),
    ],
)
def test_fields_that_contradict_each_other(fields, field, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        lc.Params(**fields)
    assert caught.value.field == field
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        lc.Params.from_request(fields)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"request body, field '{field}': ")


def test_a_token_outside_the_vocabulary():
    for name in ("reasoning_start", "reasoning_message", "reasoning_line_ends"):
        with pytest.raises(ValueError, match=f"^{name} must be in \\[0, 12\\), not 12"):
            lc.Batch(12).add(lc.Params(**{**BLOCK, name: [12]}))
    with pytest.raises(ValueError, match=r"^reasoning_end must be in \[0, 3\), not 5"):
        lc.reasoning(np.zeros(3), 1, [], [], reasoning_end=[5])


def test_histories_hold_any_integers():
    huge = [2**62, -(2**63), 2**63 - 1]
    params = lc.Params(reasoning_budget=3, **BLOCK)
    assert forced(params, [*huge, START, -1], huge) == END


def test_a_kernel_that_is_asked_for_nothing_clears_nothing():
    numbers, ends = parts_of(lc.Params(reasoning_end=[END]))
    words = np.full(1, ALL)
    hold(words, np.array([WORD]), 0, np.nan, 0, 0, False, numbers, ends)
    assert words[0] == ALL


def test_copies_and_a_batch_of_several_samples_have_the_lists_too():
    batch = lc.Batch(12)
    batch.add(lc.Params(n=2, seed=1, reasoning_budget=1, **BLOCK), [START], [WORD])
    for each in (batch, copy.copy(batch), copy.deepcopy(batch)):
        assert lc.Chain().sample(np.zeros((2, 12), np.float32), each).tolist() == [END, END]
