"""The batch against a naive model: lists, dicts and counters."""

import copy
import itertools
import pickle
import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from numpy.testing import assert_array_equal

import logitchain as lc
from logitchain.batch import NUMERIC
from logitchain.controls.record import as_number
from observed import biases, counter, state

VOCAB = 12

token = st.integers(0, VOCAB - 1)
history = st.lists(token, max_size=20)
requests = st.builds(
    lc.Params,
    temperature=st.floats(0, 3),
    top_k=st.integers(0, VOCAB),
    top_p=st.floats(0.1, 1),
    frequency_penalty=st.floats(-2, 2),
    seed=st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1)),
    n=st.integers(1, 3),
    logit_bias=st.dictionaries(token, st.floats(-5, 5), max_size=3),
    dry_multiplier=st.sampled_from((0.0, 0.5)),
    mirostat_tau=st.sampled_from((None, 2.0)),
)


def last(tokens, window):
    return tokens[len(tokens) - min(window, len(tokens)) :]


class BatchMachine(RuleBasedStateMachine):
    """Rows come, grow, shrink and go in any order; the batch always says what the model says."""

    handles = Bundle("handles")

    def __init__(self):
        super().__init__()
        self.batch = lc.Batch(VOCAB)
        self.model = []  # of dicts, in order
        self.used = set()

    def find(self, handle):
        return next(row for row in self.model if row["handle"] == handle)

    @rule(target=handles, params=requests, prompt=history, output=history)
    def add(self, params, prompt, output):
        new = self.batch.add(params, prompt, output)
        assert len(new) == params.n
        assert not self.used & set(new), "a handle is reused"
        self.used |= set(new)
        for sample, handle in enumerate(new):
            seed = self.batch.seed(handle)
            if sample == 0 and params.seed is not None:
                assert seed == params.seed
            else:
                assert 0 <= seed < 2**53
            row = {"handle": handle, "params": params, "seed": seed}
            self.model.append(row | {"prompt": list(prompt), "output": list(output)})
        return multiple(*new)

    @rule(data=st.data())
    def append_to_all(self, data):
        tokens = data.draw(st.lists(token, min_size=len(self.model), max_size=len(self.model)))
        self.batch.append(np.array(tokens, np.int64) if data.draw(st.booleans()) else tokens)
        for row, new in zip(self.model, tokens, strict=True):
            row["output"].append(new)

    @rule(data=st.data(), chosen=st.sets(handles))
    def append_to_some(self, data, chosen):
        rows = data.draw(st.permutations(sorted(chosen)))
        tokens = [data.draw(token) for _ in rows]
        self.batch.append(tokens, rows=rows)
        for handle, new in zip(rows, tokens, strict=True):
            self.find(handle)["output"].append(new)

    @rule(data=st.data(), handle=handles)
    def rollback(self, data, handle):
        output = self.find(handle)["output"]
        k = data.draw(st.integers(0, len(output)))
        self.batch.rollback(handle, k)
        del output[len(output) - k :]

    @rule(data=st.data(), handle=handles, rest=history)
    def follow(self, data, handle, rest):
        output = self.find(handle)["output"]
        kept = data.draw(st.integers(0, len(output)))
        output[kept:] = rest
        self.batch.follow(
            handle, np.array(output, np.int32) if data.draw(st.booleans()) else output
        )

    @rule(data=st.data())
    def reorder(self, data):
        self.model = data.draw(st.permutations(self.model))
        self.batch.reorder([row["handle"] for row in self.model])

    @rule(handle=consumes(handles))
    def remove_one(self, handle):
        self.batch.remove(handle)
        self.model.remove(self.find(handle))

    @rule(gone=st.sets(consumes(handles), max_size=3))
    def remove_some(self, gone):
        self.batch.remove(iter(gone))
        self.model = [row for row in self.model if row["handle"] not in gone]

    @rule(data=st.data())
    def a_bad_call_changes_nothing(self, data):
        before = state(self.batch)
        batch, count = self.batch, len(self.model)
        unknown = max(self.used, default=0) + 1
        calls = [
            lambda: batch.add(lc.Params(), [0, 2**63]),
            lambda: batch.add(lc.Params(n=2), [0], [-(2**63) - 1]),
            lambda: batch.add(lc.Params(n=2, logit_bias={VOCAB: 1.0})),
            lambda: batch.add(lc.Params(eos_token=VOCAB)),
            lambda: batch.add(lc.Params(top_k=VOCAB + 1)),
            lambda: batch.add({"top_k": 1}),
            lambda: batch.append([0] * (count + 1)),
            lambda: batch.append([0] * count + [VOCAB], rows=[*batch.rows, unknown]),
            lambda: batch.append([0] * (count + 1), rows=[*batch.rows, unknown]),
            lambda: batch.append([0.5] * max(count, 1)),
            lambda: batch.append([VOCAB] * max(count, 1)),
            lambda: batch.append([0] * (count - 1) + [-1] if count else [0]),
            lambda: batch.rollback(unknown, 0),
            lambda: batch.remove(unknown),
            lambda: batch.remove([*batch.rows, unknown]),
            *[lambda r=r: batch.remove([*batch.rows, r]) for r in batch.rows],
            *[lambda r=r: batch.rollback(r, len(batch.output(r)) + 1) for r in batch.rows],
            *[lambda r=r: batch.rollback(r, -1) for r in batch.rows],
            *[lambda r=r: batch.rollback(r, True) for r in batch.rows],
            lambda: batch.follow(unknown, []),
            *[lambda r=r: batch.follow(r, [0, 2**63]) for r in batch.rows],
            lambda: batch.reorder([*batch.rows[1:], unknown]),
            lambda: batch.reorder([*batch.rows[1:], *batch.rows[:1], *batch.rows[:1]] or [0]),
        ]
        with pytest.raises((TypeError, ValueError)):
            data.draw(st.sampled_from(calls))()
        assert state(self.batch) == before

    @invariant()
    def rows_are_in_order(self):
        assert self.batch.rows == [row["handle"] for row in self.model]
        assert len(self.batch) == len(self.model)
        assert self.batch.status == ["ok"] * len(self.model)
        for r, row in enumerate(self.model):
            assert self.batch.index(row["handle"]) == r

    @invariant()
    def each_row_is_its_own(self):
        for row in self.model:
            handle = row["handle"]
            assert self.batch.prompt(handle) == row["prompt"]
            assert self.batch.output(handle) == row["output"]
            assert self.batch.params(handle) is row["params"]
            assert self.batch.seed(handle) == row["seed"]

    @invariant()
    def columns_are_in_the_order_of_the_rows(self):
        assert_array_equal(self.batch.positions, [len(row["output"]) for row in self.model])
        seeds = [row["seed"] % 2**64 for row in self.model]
        assert_array_equal(self.batch.seeds, np.array(seeds, np.uint64))
        for name in NUMERIC:
            expected = [as_number(getattr(row["params"], name)) for row in self.model]
            assert_array_equal(self.batch[name], expected)
            is_integer = lc.FIELDS[name].integer and lc.FIELDS[name].off is not None
            assert self.batch[name].dtype == (np.int64 if is_integer else np.float64)

    @invariant()
    def counts_are_those_of_a_counter(self):
        for r, row in enumerate(self.model):
            prompt, output = row["prompt"], row["output"]
            for window in (None, 0, 1, 3, 7, 100):
                whole = len(prompt) + len(output) if window is None else window
                scopes = {"all": prompt + output, "prompt": prompt, "output": output}
                for scope, tokens in scopes.items():
                    expected = Counter(last(tokens, whole))
                    assert counter(self.batch.counts(r, scope, window)) == expected

    @invariant()
    def gaps_lead_to_the_same_token_before(self):
        for row, seen in zip(self.model, state(self.batch)["gaps"], strict=True):
            if row["params"].dry_multiplier == 0:
                assert seen is None
                continue
            tokens = row["prompt"] + row["output"]
            places = {}
            for i, one in enumerate(tokens):
                assert seen[0][i] == i - places.get(one, i)
                places[one] = i
            assert seen[1] == places

    @invariant()
    def biases_are_those_of_the_requests(self):
        assert biases(self.batch) == [row["params"].logit_bias for row in self.model]


TestBatch = BatchMachine.TestCase
TestBatch.settings = settings(stateful_step_count=16)


# ---- what the model above is too random to show


def test_a_token_taken_back_and_another_one_generated():
    batch = lc.Batch(8)
    (row,) = batch.add(lc.Params(), [0, 1])
    batch.append([5])
    batch.rollback(row, 1)
    batch.append([0])
    assert counter(batch.counts(0)) == {0: 1}
    assert counter(batch.counts(0, "all")) == {0: 2, 1: 1}


def test_a_long_history_grows_and_shrinks():
    batch = lc.Batch(100)
    (row,) = batch.add(lc.Params(), range(10))
    output = [i * 7 % 100 for i in range(300)]
    for token in output:
        batch.append([token])
    for length in (299, 250, 117, 30, 1, 0):
        batch.rollback(row, len(batch.output(row)) - length)
        assert counter(batch.counts(0)) == Counter(output[:length])
        assert counter(batch.counts(0, "all")) == Counter([*range(10), *output[:length]])
        assert batch.positions.tolist() == [length]


@pytest.mark.parametrize("sizes", [(0, 0), (0, 90), (90, 0), (90, 90)])
@pytest.mark.parametrize("talker", [0, 1])
def test_a_row_that_outgrows_its_place_is_not_taken_for_its_neighbour(sizes, talker):
    batch, zeros = lc.Batch(100), np.zeros((2, 100))
    for size in sizes:
        batch.add(lc.Params(presence_penalty=1.0), [98] * size)
    counted, windowed = lc.Chain(), lc.Chain([("presence_penalty", {"window": 99})])
    for step in range(40):
        batch.append([step, 99] if talker == 0 else [99, step])
        expected = lc.presence_penalty(zeros, 1.0, [batch.output(row) for row in batch.rows])
        assert_array_equal(counted(zeros, batch), expected)
        assert_array_equal(windowed(zeros, batch), expected)


def test_handles_count_up_and_are_never_given_twice():
    batch = lc.Batch(4)
    first = batch.add(lc.Params(n=2))
    batch.remove(first)
    second = batch.add(lc.Params(n=2))
    assert not set(first) & set(second)
    for row in first:
        with pytest.raises(ValueError, match="row must be one of the batch's 2 rows"):
            batch.seed(row)


def test_sample_0_has_the_requests_seed_and_the_others_small_ones_of_their_own():
    batch = lc.Batch(4)
    for seed in (0, 7, -1, 2**64 - 1, -(2**63)):
        seeds = [batch.seed(row) for row in batch.add(lc.Params(n=50, seed=seed))]
        assert seeds[0] == seed
        assert len(set(seeds)) == 50
        assert all(0 <= other < 2**53 for other in seeds[1:])
        again = [batch.seed(row) for row in batch.add(lc.Params(n=3, seed=seed))]
        assert again == seeds[:3]


def test_the_request_may_name_each_seed():
    batch = lc.Batch(4)
    rows = batch.add(lc.Params(n=3, seed=[5, -1, 5]))
    assert [batch.seed(row) for row in rows] == [5, -1, 5]
    assert batch.seeds.tolist() == [5, 2**64 - 1, 5]


def test_no_seed_is_a_fresh_one_each_time():
    batch = lc.Batch(4)
    seeds = [batch.seed(batch.add(lc.Params())[0]) for _ in range(20)]
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**53 for seed in seeds)


def generate(batch, steps, rng):
    for _ in range(steps):
        logits = rng.normal(0, 1, (len(batch), batch.vocab_size)).astype(np.float32)
        batch.append(lc.Chain().sample(logits, batch))


def test_a_samples_seed_given_alone_gives_its_tokens():
    params = {"temperature": 1.5, "xtc_probability": 0.5, "xtc_threshold": 0.1}
    together, logits = lc.Batch(30), np.random.default_rng(3).normal(0, 1, (12, 30))
    rows = together.add(lc.Params(n=4, seed=11, **params), [1, 2])
    for step in logits:
        together.append(lc.Chain().sample(np.tile(step, (4, 1)), together))
    output = [together.output(row) for row in rows]
    assert len({tuple(tokens) for tokens in output}) == 4
    for row, tokens in zip(rows, output, strict=True):
        alone = lc.Batch(30)
        (same,) = alone.add(lc.Params(seed=together.seed(row), **params), [1, 2])
        for step in logits:
            alone.append(lc.Chain().sample(step, alone))
        assert alone.output(same) == tokens


def test_output_tokens_continue_a_row_that_was_removed():
    params = {"seed": 5, "temperature": 2.0, "frequency_penalty": 1.0, "repetition_penalty": 1.5}
    whole = lc.Batch(20)
    (row,) = whole.add(lc.Params(**params), [3, 3, 9])
    generate(whole, 6, np.random.default_rng(1))
    continued = lc.Batch(20)
    (same,) = continued.add(lc.Params(**params), [3, 3, 9], output_tokens=whole.output(row))
    assert_array_equal(continued.positions, whole.positions)
    assert continued.output(same) == whole.output(row)
    for scope in ("all", "prompt", "output"):
        for window in (None, 4):
            now, then = (batch.counts(0, scope, window) for batch in (continued, whole))
            assert counter(now) == counter(then)
    for batch in (whole, continued):
        generate(batch, 6, np.random.default_rng(2))
    assert continued.output(same) == whole.output(row)
    continued.rollback(same, 12)
    assert continued.output(same) == []


def test_what_is_handed_out_is_a_copy():
    batch = lc.Batch(8)
    (row,) = batch.add(lc.Params(), prompt := [1, 2])
    batch.append(tokens := np.array([3]))
    prompt[0], tokens[0] = 7, 7
    batch.output(row).append(7)
    batch.prompt(row).append(7)
    assert (batch.prompt(row), batch.output(row)) == ([1, 2], [3])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_its_own_way(copied):
    batch = lc.Batch(8)
    (row,) = batch.add(lc.Params(temperature=0.0, allowed_tokens=[1, 2, 3]), [5], [6])
    other = copied(batch)
    other.set_mask(row, np.array([1 << 3], np.int32))
    assert lc.Chain().sample(np.zeros((1, 8)), other) == [3]
    other.append([3])
    other.add(lc.Params())  # rows are laid out anew
    assert lc.Chain().sample(np.zeros((2, 8)), other)[0] == 3
    assert (other.output(row), other.positions.tolist()) == ([6, 3], [2, 0])
    assert lc.Chain().sample(np.zeros((1, 8)), batch) == [1]
    assert (batch.output(row), batch.has_mask(row)) == ([6], False)


def test_a_status_stays_while_rows_go_on():
    batch = lc.Batch(4)
    row, _ = batch.add(lc.Params(n=2))
    logits = np.zeros((2, 4))
    logits[0] = np.nan
    lc.Chain().sample(logits, batch, on_invalid="mark")
    marked = list(batch.status)
    assert marked == ["token 0 is nan", "ok"]
    batch.set_mask(row, np.array([1], np.int32))
    for _ in range(40):
        batch.append([0, 0])
    assert batch.status == marked


def test_rows_of_numpy_integers():
    batch = lc.Batch(8)
    rows = np.array(batch.add(lc.Params(n=3), np.array([1, 2], np.int16)))
    batch.append(np.array([4, 5], np.uint8), rows=rows[1:])
    batch.rollback(rows[1], np.int32(1))
    assert [batch.output(row) for row in rows] == [[], [], [5]]
    batch.remove(rows[1])
    batch.remove(rows[::2])
    assert batch.rows == []


def test_remove_nothing_and_append_nothing():
    batch = lc.Batch(8)
    batch.append([])
    batch.remove([])
    rows = batch.add(lc.Params(n=2))
    batch.append([], rows=[])
    batch.remove([])
    assert batch.rows == rows
    assert batch.positions.tolist() == [0, 0]


# ---- what is wrong is named

IDS = "must be a sequence of integers"
SHAPE = "not an array of shape (1, 3)"
INT64 = "must be in [-9223372036854775808, 9223372036854775807]"
UNKNOWN = "row must be one of the batch's 2 rows, not "
ADD = [
    ((lc.Params(), [2**63]), ValueError, f"prompt_tokens {INT64}, not {2**63}"),
    ((lc.Params(), [-1, 2**63]), ValueError, f"prompt_tokens {INT64}, not {2**63}"),
    ((lc.Params(), np.array([2**64 - 1], np.uint64)), ValueError, f"not {2**64 - 1}"),
    ((lc.Params(), [2**70]), ValueError, f"prompt_tokens {INT64}, not {2**70}"),
    ((lc.Params(), [1.0]), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), 1), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), "ab"), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), [[1]]), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), [True]), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), None), TypeError, f"prompt_tokens {IDS}"),
    ((lc.Params(), np.arange(3)[None]), TypeError, f"prompt_tokens {IDS}, {SHAPE}"),
    ((lc.Params(), [], np.arange(3)[None]), TypeError, f"output_tokens {IDS}, {SHAPE}"),
    ((lc.Params(), [], [-(2**63) - 1]), ValueError, f"output_tokens {INT64}, not {-(2**63) - 1}"),
    ((lc.Params(), [], {}), TypeError, f"output_tokens {IDS}"),
    ((lc.Params(eos_token=8),), ValueError, "eos_token must be in [0, 8), not 8"),
    ((lc.Params(top_k=9),), ValueError, "top_k must be in [0, 8], not 9"),
    ((lc.Params(logit_bias={8: 1}),), ValueError, "logit_bias must be in [0, 8), not 8"),
    (({"top_k": 1},), TypeError, "params must be a Params"),
    ((None,), TypeError, "params must be a Params"),
]
NO_HANDLES = (True, False, np.True_, 0.0, 1.0)
OF_A_ROW = ("seed", "params", "prompt", "output", "index", "has_mask")
WITH_A_ROW = [("rollback", 0), ("follow", [1]), ("set_mask", None)]
OTHERS = [
    ("append", ([1],), ValueError, "tokens must be one per row (2), not 1"),
    ("append", ([1, 2], [0]), ValueError, "tokens must be one per row (1), not 2"),
    ("append", ([1, 8],), ValueError, "tokens must be in [0, 8), not 8"),
    ("append", ([1, -1],), ValueError, "tokens must be in [0, 8), not -1"),
    ("append", ([1.0, 2.0],), TypeError, f"tokens {IDS}"),
    ("append", (1, [0]), TypeError, f"tokens {IDS}"),
    ("append", ([1], [99]), ValueError, f"{UNKNOWN}99"),
    ("rollback", (99, 0), ValueError, f"{UNKNOWN}99"),
    ("rollback", ([0, 1], 0), ValueError, f"{UNKNOWN}[0, 1]"),
    ("rollback", (0, 1), ValueError, "k must be in [0, 0], not 1"),
    ("rollback", (0, -1), ValueError, "k must be in [0, 0], not -1"),
    ("rollback", (0, 0.0), TypeError, "k must be an integer in [0, 0], not 0.0"),
    ("follow", (99, []), ValueError, f"{UNKNOWN}99"),
    ("follow", (0, [1, 2**63]), ValueError, f"output_tokens {INT64}, not {2**63}"),
    ("follow", (0, np.arange(3)[None]), TypeError, f"output_tokens {IDS}, {SHAPE}"),
    ("append", (np.arange(3)[None],), TypeError, f"tokens {IDS}, {SHAPE}"),
    (
        "set_mask",
        (0, np.ones((1, 1), "i4")),
        TypeError,
        "of shape (words,), not int32 (1, 1)",
    ),
    ("follow", (0, 1), TypeError, f"output_tokens {IDS}"),
    ("reorder", ([0],), ValueError, "rows must be all of the batch's 2, not [0]"),
    ("reorder", ([0, 0],), ValueError, "rows must be all of the batch's 2, not [0, 0]"),
    ("reorder", ([0, 99],), ValueError, f"{UNKNOWN}99"),
    ("reorder", ("x",), TypeError, "rows must be handles of the batch, not 'x'"),
    ("remove", (99,), ValueError, f"{UNKNOWN}99"),
    ("remove", ([0, 0],), ValueError, "rows must be distinct, not [0, 0]"),
    ("remove", ("x",), TypeError, "rows must be handles of the batch, not 'x'"),
    ("remove", (None,), TypeError, "rows must be"),
    ("seed", (None,), ValueError, f"{UNKNOWN}None"),
    ("index", (0.0,), ValueError, f"{UNKNOWN}0.0"),
    ("output", (-1,), ValueError, f"{UNKNOWN}-1"),
    *[("counts", (r,), ValueError, f"r must be in [0, 2), not {r}") for r in (2, 9, -1, 2**70)],
    *[("counts", (r,), TypeError, f"integer in [0, 2), not {r}") for r in (True, 1.0, None)],
    *[(name, (True,), ValueError, f"{UNKNOWN}True") for name in ("remove", "reorder", *OF_A_ROW)],
    *[(name, (np.True_,), ValueError, f"{UNKNOWN}True") for name in OF_A_ROW],
    *[(name, (True, value), ValueError, f"{UNKNOWN}True") for name, value in WITH_A_ROW],
    *[("remove", ([1, row],), ValueError, f"{UNKNOWN}{row}") for row in NO_HANDLES],
    *[("reorder", ([1, row],), ValueError, f"{UNKNOWN}{row}") for row in NO_HANDLES],
    ("remove", (np.True_,), TypeError, "rows must be handles of the batch, not True"),
    ("append", ([1], [True]), ValueError, f"{UNKNOWN}True"),
    ("append", ([1], True), ValueError, f"{UNKNOWN}True"),
    ("append", ([1], np.array([True])), ValueError, f"{UNKNOWN}True"),
    ("remove", ("0",), TypeError, "rows must be handles of the batch, not '0'"),
    ("remove", (["0"],), ValueError, f"{UNKNOWN}'0'"),
    ("counts", (0, "both"), ValueError, "scope must be one of all, prompt, output, not 'both'"),
    ("counts", (0, "all", -1), ValueError, "window must be in [0, inf), not -1"),
    ("counts", (0, "all", 1.0), TypeError, "window must be an integer in [0, inf), not 1.0"),
]
BAD_CALLS = [("add", *case) for case in ADD] + OTHERS


@pytest.mark.parametrize(("method", "arguments", "kind", "text"), BAD_CALLS)
def test_a_bad_call_names_what_is_wrong_and_changes_nothing(method, arguments, kind, text):
    batch = lc.Batch(8)
    assert batch.add(lc.Params(n=2, seed=1), [1, 2]) == [0, 1]
    before = state(batch)
    with pytest.raises(kind, match=re.escape(text)):
        getattr(batch, method)(*arguments)
    assert state(batch) == before


@pytest.mark.parametrize("size", [0, -1, 2**21, 10**30])
def test_a_vocabulary_has_a_size_that_the_controls_can_handle(size):
    with pytest.raises(ValueError, match=r"^vocab_size must be in \[1, "):
        lc.Batch(size)


@pytest.mark.parametrize("size", [None, 8.0, "8", True, [8]])
def test_a_vocabularys_size_is_an_integer(size):
    with pytest.raises(TypeError, match=r"^vocab_size must be an integer in \[1, "):
        lc.Batch(size)


def test_rows_take_their_masks_draws_and_status_to_another_place():
    logits = np.random.default_rng(3).normal(size=(3, 8)).astype(np.float32)
    logits[1] = np.nan
    batch = lc.Batch(8)
    rows = batch.add(lc.Params(n=3, seed=5))
    batch.set_mask(rows[2], np.array([0b1100], np.int32))
    chain = lc.Chain(on_invalid="mark")
    tokens, status = chain.sample(logits, batch), batch.status
    order = [2, 0, 1]
    batch.reorder([rows[place] for place in order])
    assert batch.status == [status[place] for place in order]
    assert chain.sample(logits[order], batch).tolist() == tokens[order].tolist()
    assert tokens[1] == -1
    assert tokens[2] in (2, 3)


def peak_of(action):
    """How many bytes an action has allocated at the most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.1}], ids=["plain", "counted"])
def test_a_change_allocates_what_its_own_row_needs(fields):
    """The histories of 64 other rows, 20 MB in all, stay where they are."""
    batch = lc.Batch(32_000)
    for seed in range(64):
        batch.add(lc.Params(seed=seed, **fields), np.arange(20_000) + seed)
    small = lc.Params(seed=99, **fields)
    (row,) = batch.add(small, [1, 2, 3])
    before = [(entry.history.tokens, entry.history.table) for entry in batch._state.entries]
    changes = {
        "add": lambda: batch.add(small, [1, 2, 3]),
        "remove": lambda: batch.remove(batch.rows[-1]),
        "append": lambda: batch.append([5, 6], [row, batch.rows[0]]),
        "follow": lambda: batch.follow(row, [5, 7]),
        "rollback": lambda: batch.rollback(row, 1),
        "reorder": lambda: batch.reorder(batch.rows[::-1]),
    }
    costly = {name: peak for name, change in changes.items() if (peak := peak_of(change)) > 200_000}
    assert not costly
    after = [(entry.history.tokens, entry.history.table) for entry in batch._state.entries[::-1]]
    pairs = zip(itertools.chain(*before), itertools.chain(*after), strict=True)
    assert all(one is other for one, other in pairs)


def test_a_row_of_several_turns_draws_at_the_next_position():
    """With what it read between the turns in its place, it is a request with another prompt."""
    params = lc.Params(seed=7, min_tokens=4, eos_token=3, mirostat_tau=2.0)
    logits = np.linspace(0, 3, 20, dtype=np.float32)
    chain = lc.Chain()
    turn, later = lc.Batch(20), lc.Batch(20)
    (row,) = later.add(params, [1, 2, 8, 9, 4], generated_before=2)
    turn.add(params, [1, 2], [8, 9])
    assert later.positions.tolist() == turn.positions.tolist() == [2]
    assert later.output(row) == []
    assert later.counts(0)[0].tolist() == []
    assert chain.sample(logits, later) == chain.sample(logits, turn)
    later.append([5], row)
    later.append([6], row)
    later.rollback(row, 1)
    assert later.positions.tolist() == [3]
    assert later.output(row) == [5]
    twin = pickle.loads(pickle.dumps(later))
    assert twin.positions.tolist() == [3]
    with later.trial() as trial:
        trial.append([7])
        assert trial.positions.tolist() == [4]
    assert later.positions.tolist() == [3]
    with pytest.raises(ValueError, match="generated_before must be in"):
        later.add(params, generated_before=-1)


@pytest.mark.parametrize("count", [-1, 2**62 + 1, 2**63, 1.5, True])
def test_generated_before_is_a_position(count):
    batch = lc.Batch(5)
    with pytest.raises((TypeError, ValueError), match=r"^generated_before must be"):
        batch.add(lc.Params(), generated_before=count)
    (row,) = batch.add(lc.Params(seed=0), generated_before=2**62)
    batch.append([1])
    assert batch.positions.tolist() == [2**62 + 1]
    batch.remove(row)
