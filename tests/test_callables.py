"""Callables in a chain: what they may do to the rows, and the errors that name them."""

import copy
import functools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
from logitchain.chain import DEFAULT_ORDER
from logitchain.fused.tables import VALUES

INF = np.inf
LOGITS = np.array([[1.0, 3.0, -INF, 2.0, 0.5], [0.0, -1.0, -INF, 4.0, 4.0]], np.float32)


def two_rows():
    batch = lc.Batch(5)
    fields = {"temperature": 0.5, "top_p": 0.99, "min_p": 1e-6, "top_logprobs": 2}
    batch.add(lc.Params(n=2, seed=3, presence_penalty=0.5, **fields), [0, 1], [4])
    batch.set_mask(0, np.array([-1], np.int32))
    batch.status = ["ok", "from an earlier call"]
    return batch


def seen(batch):
    return (
        list(batch.rows),
        [(batch.prompt(row), batch.output(row)) for row in batch.rows],
        [batch.has_mask(row) for row in batch.rows],
        batch.requests.table[:, : len(VALUES) + 2].tolist(),  # without the addresses
        [row.words.tolist() for row in batch.requests.owners if row.words is not None],
    )


# Each way in which a chain meets its rows.
WAYS = {
    "call": lambda chain, x, batch: chain(x, batch),
    "out": lambda chain, x, batch: chain(x.copy(), batch, out=np.empty_like(x)),
    "in place": lambda chain, x, batch: chain(y := x.copy(), batch, out=y),
    "until": lambda chain, x, batch: chain(x, batch, until="culprit"),
    "mark": lambda chain, x, batch: chain(x, batch, on_invalid="mark"),
    "sample": lambda chain, x, batch: chain.sample(x, batch),
    "sample and mark": lambda chain, x, batch: chain.sample(x, batch, on_invalid="mark"),
    "float16": lambda chain, x, batch: chain.sample(x.astype(np.float16), batch),
    "raw": lambda chain, x, batch: chain.sample_with_logprobs(x, batch),
    "processed": lambda chain, x, batch: chain.sample_with_logprobs(x, batch, of="processed"),
    "explain": lambda chain, x, batch: chain.explain(x, batch, 0),
    "verify": lambda chain, x, batch: chain.verify(x, batch, [[], []]),
    "proposed": lambda chain, x, batch: chain.verify(
        x[[0, 0, 1]], batch, [[1], []], [x[:1], None], on_invalid="mark"
    ),
}


def appended_and_taken_back(batch):
    batch.append([1, 1])
    for row in batch.rows:
        batch.rollback(row, 1)


CHANGES = {
    "add": lambda batch: batch.add(lc.Params()),
    "append": lambda batch: batch.append([1, 1]),
    "append to one": lambda batch: batch.append([1], [0]),
    "append and take back": appended_and_taken_back,
    "rollback": lambda batch: batch.rollback(0, 1),
    "follow": lambda batch: batch.follow(1, [3]),
    "follow a longer text": lambda batch: batch.follow(1, [4] * 300),
    "reorder": lambda batch: batch.reorder([1, 0]),
    "remove": lambda batch: batch.remove(0),
    "remove all": lambda batch: batch.remove([0, 1]),
    "set_mask": lambda batch: batch.set_mask(0, np.array([3], np.int32)),
    "set the first mask": lambda batch: batch.set_mask(1, np.array([3], np.int32)),
    "drop a mask": lambda batch: batch.set_mask(0, None),
    "verify": lambda batch: lc.Chain().verify(np.zeros((4, 5)), batch, [[0], [0]]),
}
RESTORES = {
    "one token": lambda rows: rows.__setitem__((1, 2), 0.5),
    "to the lowest float": lambda rows: rows.__setitem__((1, 2), np.finfo(np.float32).min),
    "to inf": lambda rows: rows.__setitem__((1, 2), INF),
    "all": lambda rows: rows.fill(1.0),
    "with other values": lambda rows: np.maximum(rows, -100.0, out=rows),
    "by nan_to_num": lambda rows: np.nan_to_num(rows, copy=False),
    "bit by bit": lambda rows: rows.view(np.int32).fill(0),
    "through another shape": lambda rows: rows.reshape(-1).fill(0.0),
    "after it set the shape": lambda rows: (setattr(rows, "shape", (10,)), rows.fill(0.0)),
}
RETURNS = {
    "the rows": lambda rows, batch: rows,
    "new rows": lambda rows, batch: rows * 2,
    "a list": lambda rows, batch: rows.tolist(),
    "a truth": lambda rows, batch: True,
    "a falsehood": lambda rows, batch: False,
    "zero": lambda rows, batch: 0,
    "nothing in a list": lambda rows, batch: [],
    "NotImplemented": lambda rows, batch: NotImplemented,
}


def silent(function):
    """The function without its result."""

    def culprit(rows, batch):
        function(rows, batch)

    return culprit


def returning(function):
    def culprit(rows, batch):
        return function(rows, batch)

    return culprit


def quiet(rows, batch):
    rows -= 0.0


CHANGED = "batch must not change while culprit runs on its rows"
RESTORED = "culprit must leave removed tokens at -inf, not token 2 of row "
RETURNED = "culprit must change the rows in place and return None, not "
# (a callable named `culprit`, the kind of its error, how the error's text begins)
MISDEEDS = {
    **{
        name: (silent(lambda rows, batch, change=change: change(batch)), ValueError, CHANGED)
        for name, change in CHANGES.items()
    },
    **{
        name: (silent(lambda rows, batch, restore=restore: restore(rows)), ValueError, RESTORED)
        for name, restore in RESTORES.items()
    },
    **{name: (returning(function), TypeError, RETURNED) for name, function in RETURNS.items()},
}


def check(chain, way, kind, text):
    batch, logits = two_rows(), LOGITS.copy()
    before = seen(batch)
    with pytest.raises(kind, match=f"^{re.escape(text)}"):
        WAYS[way](chain, logits, batch)
    assert seen(batch) == before
    assert_array_equal(logits, LOGITS)
    batch.append([1, 1])  # it may change again
    expected = lc.Chain().sample(LOGITS, batch)
    assert_array_equal(lc.Chain((*DEFAULT_ORDER, quiet)).sample(LOGITS, batch), expected)


@pytest.mark.parametrize(("culprit", "kind", "text"), MISDEEDS.values(), ids=MISDEEDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_callable_that_breaks_a_rule_is_named(way, culprit, kind, text):
    check(lc.Chain(("top_k", culprit, "temperature")), way, kind, text)


@given(
    order=st.lists(st.sampled_from([*DEFAULT_ORDER, quiet]), max_size=5),
    place=st.integers(0, 5),
    misdeed=st.sampled_from(sorted(MISDEEDS)),
    way=st.sampled_from(sorted(WAYS)),
    threads=st.integers(1, 3),
)
def test_it_is_named_at_any_place_of_any_chain(order, place, misdeed, way, threads):
    culprit, kind, text = MISDEEDS[misdeed]
    chain = lc.Chain([*order[:place], culprit, *order[place:]], threads=threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logitchain.chain._SHARE", 1)
        check(chain, way, kind, text)


def test_the_first_token_that_comes_back_is_named_with_its_value():
    def restore(rows, batch):
        rows[1, 2] = 0.5

    with pytest.raises(ValueError, match="restore") as error:
        lc.Chain((restore,)).sample(LOGITS, two_rows())
    text = "restore must leave removed tokens at -inf, not token 2 of row 1 at 0.5"
    assert str(error.value) == text


def test_a_token_that_a_control_removed_may_not_come_back_either():
    def restore(rows, batch):
        rows[0, 4] = 9.0

    batch = lc.Batch(5)
    batch.add(lc.Params(banned_tokens=[4], n=2, seed=1))
    for order in (("banned_tokens", restore), (restore, "banned_tokens"), (restore,)):
        chain = lc.Chain(order)
        if order[0] == "banned_tokens":
            with pytest.raises(ValueError, match=r"^restore must leave .* token 4 of row 0 at 9"):
                chain.sample(LOGITS, batch)
        else:
            assert chain.sample(LOGITS, batch).shape == (2,)


def test_any_callable_is_named():
    class Restore:
        def __call__(self, rows, batch):
            rows[:] = 0

        def __repr__(self):
            return "Restore()" + "." * 10_000

    def restore(rows, batch, value):
        rows[:] = value

    for call, name in (
        (Restore(), "^Restore "),
        (functools.partial(restore, value=0.0), "^partial "),
        (lambda rows, batch: rows.fill(0), "<lambda>"),
    ):
        with pytest.raises((ValueError, TypeError), match=name) as error:
            lc.Chain((call,)).sample(LOGITS, two_rows())
        assert len(str(error.value)) < 700


@pytest.mark.parametrize("value", [np.nan, INF])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_nan_and_inf_are_errors_that_name_the_callable_or_marks(way, value):
    def culprit(rows, batch):
        rows[0, 1] = value

    batch, chain = two_rows(), lc.Chain(("top_k", culprit, "temperature"))
    reason = f"token 1 is {value} after culprit"
    if way == "explain":
        assert WAYS[way](chain, LOGITS, batch).status == reason
    elif "mark" in way or way == "proposed":
        WAYS[way](chain, LOGITS, batch)
        assert batch.status == [reason, "ok"]
    else:
        with pytest.raises(ValueError, match=f"^logits: row 0, {reason}$"):
            WAYS[way](chain, LOGITS, batch)


def test_a_callable_after_one_that_spoils_a_row_is_not_blamed():
    def spoil(rows, batch):
        rows[0] = np.nan

    batch = two_rows()
    chain = lc.Chain((quiet, spoil, quiet, "banned_tokens", quiet), on_invalid="mark")
    for call in (chain, chain.sample):
        call(LOGITS, batch)
        assert batch.status == ["token 0 is nan after spoil", "ok"]


def test_a_marked_row_holds_zeros_for_the_callables_that_follow():
    seen = []

    def look(rows, batch):
        seen.append((rows.copy(), list(batch.status)))

    logits = LOGITS.copy()
    logits[0, 3] = np.nan
    assert lc.Chain(("top_k", look), on_invalid="mark").sample(logits, two_rows())[0] == -1
    rows, status = seen[0]
    assert_array_equal(rows, [[0.0] * 5, LOGITS[1]])
    assert status == ["token 3 is nan", "ok"]


def test_neither_shape_nor_type_of_the_rows_can_be_changed():
    def reshape(rows, batch):
        rows.shape = (1, 10)
        rows.flags.writeable = False

    def retype(rows, batch):
        rows.dtype = np.int32

    def resize(rows, batch):
        rows.resize((1, 1), refcheck=False)

    expected = lc.Chain()(LOGITS, two_rows())
    for call in (reshape, retype):
        for place in range(len(DEFAULT_ORDER)):
            chain = lc.Chain((*DEFAULT_ORDER[:place], call, quiet, *DEFAULT_ORDER[place:]))
            assert_array_equal(chain(LOGITS, two_rows()), expected)
    with pytest.raises(ValueError, match="cannot resize"):
        lc.Chain((resize,)).sample(LOGITS, two_rows())


def test_rows_that_a_callable_keeps_are_its_own_business():
    kept = []

    def keep(rows, batch):
        for old in kept:
            old[:] = np.nan
        kept.append(rows)

    chain = lc.Chain(("temperature", keep, "top_p"))
    expected = lc.Chain(("temperature", "top_p")).sample(LOGITS, two_rows())
    for _ in range(3):
        assert_array_equal(chain.sample(LOGITS, two_rows()), expected)


def test_a_callable_may_use_copies_of_the_batch_and_other_chains():
    tokens = []

    def look_ahead(rows, batch):
        mine = copy.deepcopy(batch)
        mine.append([0, 1])
        mine.add(lc.Params())
        tokens.append(lc.Chain((quiet,)).sample(rows, batch))
        spoiled = np.full_like(rows, np.nan)
        assert lc.Chain((quiet,), on_invalid="mark").sample(spoiled, batch).tolist() == [-1, -1]

    chain, batch = lc.Chain((look_ahead, "temperature")), two_rows()
    expected = lc.Chain(("temperature",)).sample(LOGITS, batch)
    assert_array_equal(chain.sample(LOGITS, batch), expected)
    assert batch.status == ["ok", "ok"]
    with pytest.raises(ValueError, match=r"^batch must not change while inner runs on its rows$"):
        nest(batch)


def nest(batch):
    def inner(rows, batch):
        batch.append([0, 0])

    def outer(rows, batch):
        lc.Chain((inner,)).sample(rows, batch)

    lc.Chain((outer,)).sample(LOGITS, batch)


def test_an_error_of_a_callable_comes_through_and_the_batch_may_change_again():
    def fail(rows, batch):
        raise KeyError("mine")

    for way in WAYS.values():
        batch = two_rows()
        with pytest.raises(KeyError, match="mine"):
            way(lc.Chain((fail, silent(quiet))), LOGITS, batch)
        batch.append([1, 2])


def test_a_batch_of_no_rows():
    chain = lc.Chain(("top_k", quiet, "temperature"))
    assert chain.sample(np.zeros((0, 5), np.float32), lc.Batch(5)).shape == (0,)
    with pytest.raises(TypeError, match="must change the rows in place"):
        lc.Chain((lambda rows, batch: rows,))(np.zeros((0, 5), np.float32), lc.Batch(5))
