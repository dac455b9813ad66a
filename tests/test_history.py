"""Histories: any 64-bit integers, read in linear time, whole after an interrupt at any bytecode."""

import copy
import pickle
import sys
from array import array
from collections import Counter
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
from effort import effort
from logitchain.controls.no_repeat_ngram import ban_repeats
from logitchain.engines.request import Request
from observed import counter, state

INT64 = np.iinfo(np.int64)
SCOPES = ("all", "prompt", "output")

# ---- any 64-bit integer


@st.composite
def histories(draw, vocab):
    """Token ids, a few of them not of the vocabulary."""
    edges = (-1, -200, vocab, vocab + 1, -(-vocab // 64) * 64, 1_000_000 + 2**30)
    foreign = st.one_of(
        st.sampled_from((*edges, INT64.min, INT64.max)), st.integers(INT64.min, INT64.max)
    )
    some = draw(st.lists(foreign, min_size=1, max_size=3))
    return draw(
        st.lists(st.one_of(st.integers(0, min(2, vocab - 1)), st.sampled_from(some)), max_size=20)
    )


def expected(row, params, prompt, output, window):
    """What the definitions make of a row: penalties without the foreign ids, n-grams with them."""
    vocab = row.size

    def heard(tokens):
        tokens = tokens if window is None else tokens[max(0, len(tokens) - window) :]
        return [token for token in tokens if 0 <= token < vocab]

    row = row.astype(np.float64)
    if params.no_repeat_ngram > 1:
        row = reference.no_repeat_ngram(row, params.no_repeat_ngram, prompt + output)
    row = reference.bad_words(row, params.bad_words, output)
    row = reference.repetition_penalty(row, params.repetition_penalty, heard(prompt + output))
    row = reference.frequency_penalty(row, params.frequency_penalty, heard(output))
    return reference.presence_penalty(row, params.presence_penalty, heard(output))


@given(data=st.data(), vocab=st.sampled_from((3, 63, 64, 65, 130)))
def test_a_history_may_hold_any_64_bit_integer(data, vocab):
    prompt, output = (data.draw(histories(vocab)) for _ in range(2))
    params = lc.Params(
        no_repeat_ngram=data.draw(st.integers(0, 4)),
        bad_words=[[1, 2]] if data.draw(st.booleans()) else [],
        repetition_penalty=1.5,
        frequency_penalty=0.25,
        presence_penalty=0.5,
        top_k=data.draw(st.sampled_from((0, 2))),
        seed=1,
    )
    row = np.linspace(3, -3, vocab).astype(np.float32)
    window = data.draw(st.sampled_from((None, 0, 1, 5, 100)))
    penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    options = {} if window is None else {"window": window}
    order = ("no_repeat_ngram", "bad_words", *[(name, options) for name in penalties])
    batch = lc.Batch(vocab)
    (handle,) = batch.add(params, prompt, output[:3])
    batch.follow(handle, output)
    assert (batch.prompt(handle), batch.output(handle)) == (prompt, output)
    assert counter(batch.counts(0, "all")) == Counter(prompt + output)
    assert counter(batch.counts(0, "output", 3)) == Counter(output[-3:])
    want = expected(row, params, prompt, output, window)
    # The same steps on survivors: top_k comes first, and the penalties read ids of few tokens.
    late = lc.Chain(("top_k", *order))
    if not np.isfinite(want).any():
        with pytest.raises(ValueError, match="no finite logit is left"):
            lc.Chain(order)(row, batch)
        return
    got = lc.Chain(order)(row, batch)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    if params.top_k == 0 or np.isfinite(want[:2]).any():
        kept = np.where(np.arange(vocab) < (params.top_k or vocab), want, -np.inf)
        np.testing.assert_allclose(late(row, batch), kept, rtol=1e-6)
    if window is None:
        pure = row
        if params.no_repeat_ngram > 1:
            pure = lc.no_repeat_ngram(pure, params.no_repeat_ngram, prompt + output)
        pure = lc.bad_words(pure, params.bad_words, output)
        pure = lc.repetition_penalty(pure, 1.5, np.array(prompt + output, np.int64))
        pure = lc.frequency_penalty(pure, 0.25, output)
        assert_array_equal(lc.presence_penalty(pure, 0.5, output), got)


def test_placeholders_of_a_multimodal_prompt():
    batch = lc.Batch(128256)
    (row,) = batch.add(lc.Params(seed=1), [128000, 128256, 9906, 1_000_000 + 7, -1, -200])
    logits = np.zeros((1, 128256), np.float32)
    batch.append(lc.Chain().sample(logits, batch))
    assert batch.prompt(row) == [128000, 128256, 9906, 1_000_007, -1, -200]
    for token in (128256, -1):  # one that is drawn, banned or biased is of the vocabulary
        with pytest.raises(ValueError, match=r"^tokens must be in \[0, 128256\)"):
            batch.append([token])
        with pytest.raises(ValueError, match=r"drafts must be in \[0, 128256\)"):
            lc.Chain().verify(np.zeros((2, 128256)), batch, [[token]])
    for params in (lc.Params(bad_words=[[128256, 5]]), lc.Params(banned_tokens=[128256])):
        with pytest.raises(ValueError, match=r"must be in \[0, 128256\)"):
            batch.add(params)


def test_an_engine_hands_over_a_multimodal_prompt():
    asked = {"repetition_penalty": 1.5, "no_repeat_ngram": 2, "draw": True}
    request = Request(asked, dialect="sglang", seed=3)
    output = []
    for _ in range(3):
        logits = np.zeros(8, np.float32)
        request.apply(lc.Chain(), logits, array("q", [1, 1_000_000 + 2**30, 8, -1]), output)
        output.append(int(logits.argmax()))
    assert request.output == output


# ---- linear time


def test_ngrams_are_found_in_linear_time():
    history = np.zeros(effort(3000, 128_000), np.int64)
    words = np.full(1, np.uint64(2**64 - 1))
    ban_repeats(words, history[:10], 3)
    start = perf_counter()
    ban_repeats(words, history, history.size // 2)  # compared token by token this takes 4 s
    assert perf_counter() - start < 0.2
    assert words[0] == 2**64 - 2


@given(
    history=st.lists(st.integers(0, 1), max_size=40),
    n=st.one_of(st.integers(1, 12), st.sampled_from((40, 2**62))),
)
def test_ngrams_of_few_tokens_overlap(history, n):
    row = np.zeros(3)
    assert_array_equal(
        lc.no_repeat_ngram(row, n, history), reference.no_repeat_ngram(row, n, list(history))
    )


# ---- rows that are marked keep their status


def marked():
    """A batch of three rows, of which a chain has marked the second."""
    batch = lc.Batch(8)
    states = {"mirostat_tau": 2.0, "dry_multiplier": 0.5}
    params = lc.Params(n=3, seed=5, temperature=0.0, frequency_penalty=0.5, **states)
    batch.add(params, [1, -1, 1], [2], {"mirostat_mu": 3.5})
    logits = np.zeros((3, 8), np.float32)
    logits[1, 3] = np.nan
    lc.Chain().sample(logits, batch, on_invalid="mark")
    assert batch.status == ["ok", "token 3 is nan", "ok"]
    return batch


def test_a_status_stays_when_other_rows_come_and_go():
    batch = marked()
    first, second, third = batch.rows
    batch.add(lc.Params())
    assert batch.status == ["ok", "token 3 is nan", "ok", "ok"]
    batch.remove(first)
    assert batch.status == ["token 3 is nan", "ok", "ok"]
    batch.reorder([third, *batch.rows[2:], second])
    assert batch.status == ["ok", "ok", "token 3 is nan"]
    batch.remove(second)
    assert batch.status == ["ok", "ok"]


# ---- copies

COPIES = [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))]


class Named(lc.Batch):
    """A batch with something of its own."""

    def __init__(self, vocab_size, name):
        super().__init__(vocab_size)
        self.name = name


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("changed", [0, 1], ids=["the original changes", "the copy changes"])
def test_a_copy_is_a_batch_of_its_own(copied, changed):
    original = marked()
    original.set_mask(original.rows[2], np.array([0b1100], np.int32))
    both = original, copied(original)
    before = observed(original)
    assert observed(both[1]) == before
    batch = both[changed]
    first, second, third = batch.rows
    batch.append([3, 4, 5])
    batch.rollback(second, 2)
    batch.set_mask(third, np.array([0b1], np.int32))
    batch.append([7] * 60, [first] * 60)
    batch.add(lc.Params(seed=1))
    batch.remove(first)
    batch.status = ["ok"] * 3
    assert observed(both[1 - changed]) == before
    assert copied(Named(8, "x")).name == "x"


# ---- interrupts

FILES = {
    str(Path(lc.__file__).parent / f"{name}.py")
    for name in ("batch", "history", "states", "speculative/rows", "speculative/walk")
}
#: How many bytecodes of a call are tried; more take minutes.
TRIED = effort(interpreted=20, quick=300, long=10**6)
PENALTIES = lc.Chain(("token_bitmask", "frequency_penalty", "temperature"))
VERIFIED = 9 * np.eye(8, dtype=np.float32)[[3, 4, 5, 6, 6, 7, 1]]
DRAFTS = [[3, 4, 5], [6], []]
ALLOWED = lc.Params(n=2, seed=3, allowed_tokens=[1, 2])


def observed(batch):
    """All that a batch shows, with what a chain makes of it."""
    logits = np.tile(np.arange(8, dtype=np.float32), (len(batch), 1))
    shown = state(batch)
    rows = range(len(batch))
    shown["counts"] = [counter(batch.counts(r, scope)) for r in rows for scope in SCOPES]
    shown["masks"] = [batch.has_mask(row) for row in batch.rows]
    shown["logits"] = PENALTIES(logits, batch).tolist()
    batch.status = shown["status"]  # the chain has set its own
    return shown


class Interrupt:
    """Raises KeyboardInterrupt before the k-th bytecode of what changes a batch."""

    def __init__(self, k=-1):
        self.left = k

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self

    def during(self, call):
        """Whether the call was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def full():
    """The same batch with no room left in any history."""
    batch = marked()
    history = batch._state.entries[0].history
    while history.size < history.tokens.size:
        batch.append([2, 2, 2])
    return batch


def masked():
    batch = marked()
    batch.set_mask(1, np.array([0b1100], np.int32))
    return batch


CALLS = {
    "append": (marked, lambda batch: batch.append([3, 2, 4])),
    "append without room": (full, lambda batch: batch.append([3, 2, 4])),
    "append to a row twice": (marked, lambda batch: batch.append([3, 3, 4], [2, 2, 0])),
    "rollback": (full, lambda batch: batch.rollback(1, 3)),
    "follow": (full, lambda batch: batch.follow(1, [2, 2, 5, -7])),
    "follow without room": (full, lambda batch: batch.follow(0, [2] * 30)),
    "reorder": (masked, lambda batch: batch.reorder([2, 0, 1])),
    "add": (masked, lambda batch: batch.add(ALLOWED, [6], [7])),
    "remove": (masked, lambda batch: batch.remove([0, 1])),
    "first mask": (marked, lambda batch: batch.set_mask(1, np.array([0b11], np.int32))),
    "next mask": (masked, lambda batch: batch.set_mask(1, np.array([0b11], np.int32))),
    "no mask": (masked, lambda batch: batch.set_mask(1, None)),
    "verify": (marked, lambda batch: lc.Chain().verify(VERIFIED, batch, DRAFTS)),
    "verify without room": (full, lambda batch: lc.Chain().verify(VERIFIED, batch, DRAFTS)),
}


def check(batch, before, after):
    """The batch is as before the call, or as after it, and goes on as such."""
    shown = observed(batch)
    assert shown in (before, after)
    (new,) = batch.add(lc.Params(seed=9))
    assert new == (3 if shown == before else max(2, *after["rows"]) + 1)
    outputs = [batch.output(row) for row in batch.rows]
    batch.append([1] * len(batch))
    batch.rollback(new, 1)
    assert [batch.output(row) for row in batch.rows] == [*[[*x, 1] for x in outputs[:-1]], []]
    assert batch.positions.tolist() == [*[len(x) + 1 for x in outputs[:-1]], 0]
    for r, row in enumerate(batch.rows):
        assert counter(batch.counts(r)) == Counter(batch.output(row))


def results(made, call):
    """What is observed before and after a call, and how many bytecodes it has."""
    before, batch, tracer = observed(made()), made(), Interrupt()
    assert not tracer.during(lambda: call(batch))
    return before, observed(batch), -1 - tracer.left


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_bytecode_leaves_a_whole_batch(name):
    made, call = CALLS[name]
    before, after, count = results(made, call)
    for k in range(1, count + 1, count // TRIED + 1):
        batch = made()
        assert Interrupt(k).during(lambda batch=batch: call(batch))
        check(batch, before, after)


@pytest.mark.parametrize("name", ["append", "follow without room", "verify"])
def test_an_interrupt_while_an_interrupted_call_is_completed(name):
    made, call = CALLS[name]
    before, after, count = results(made, call)
    interrupted = 0
    for k in range(1, count + 1, 10 * count // TRIED + 1):
        batch = made()
        Interrupt(k).during(lambda batch=batch: call(batch))
        for j in range(1, 1000, 89):
            interrupted += Interrupt(j).during(lambda batch=batch: batch.positions)
        check(batch, before, after)
    assert interrupted
