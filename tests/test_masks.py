"""The controls that mask: what each removes, and nothing else."""

import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
import strategies
from effort import effort
from foreign import OnlyDLPack
from logitchain.controls.bad_words import ban_phrases
from logitchain.controls.banned_tokens import ban
from logitchain.controls.no_repeat_ngram import ban_repeats

VOCABS = effort((1, 5, 31, 32, 33, 63, 64, 65, 130), (1, 5, 32, 33, 64, 65, 700))


def alike(logits, rows, definition):
    """Hold a call to its definition, row by row; the rows left empty are its error."""
    expected = [definition(row.astype(np.float64), r) for r, row in enumerate(logits)]
    empty = [r for r, row in enumerate(expected) if not np.isfinite(row).any()]
    if empty:
        with pytest.raises(ValueError, match=f"^logits: row {empty[0]}, no finite logit is left$"):
            rows()
        return
    ours = rows()
    assert ours.dtype == np.float32
    left = ours > -np.inf
    assert_array_equal(left, np.isfinite(expected))
    assert_array_equal(ours[left].view(np.int32), logits[left].view(np.int32))


@st.composite
def matrices(draw):
    vocab = draw(st.sampled_from(VOCABS))
    return draw(strategies.matrices(min_vocab=vocab, max_vocab=vocab))


@given(data=st.data(), logits=matrices(), tail=st.sampled_from(("mask", "keep")))
def test_token_bitmask(data, logits, tail):
    vocab = logits.shape[1]
    mask = data.draw(strategies.bitmasks(vocab))
    masks = np.stack([np.roll(mask, r) for r in range(len(logits))])
    alike(
        logits,
        lambda: lc.token_bitmask(logits, masks, tail=tail),
        lambda row, r: reference.token_bitmask(row, masks[r], tail),
    )
    alike(
        logits,
        lambda: lc.token_bitmask(logits, mask, tail=tail),
        lambda row, r: reference.token_bitmask(row, mask, tail),
    )


@pytest.mark.parametrize("name", ["allowed_tokens", "banned_tokens"])
@given(data=st.data(), logits=matrices())
def test_tokens_named(name, data, logits):
    control, definition = getattr(lc, name), getattr(reference, name)
    lists = [data.draw(strategies.tokens(logits.shape[1])) for _ in logits]
    alike(logits, lambda: control(logits, lists), lambda row, r: definition(row, lists[r]))
    alike(logits, lambda: control(logits, lists[0]), lambda row, _: definition(row, lists[0]))


@given(data=st.data(), logits=matrices())
def test_min_tokens(data, logits):
    ends = data.draw(strategies.tokens(logits.shape[1]))
    stops = data.draw(strategies.phrases(logits.shape[1]))
    outputs = [data.draw(strategies.tokens(logits.shape[1])) for _ in logits]
    at_least, position = (
        np.array([data.draw(st.integers(0, 3)) for _ in logits]) for _ in range(2)
    )
    alike(
        logits,
        lambda: lc.min_tokens(logits, at_least, ends, stops, outputs, position=position),
        lambda row, r: reference.min_tokens(row, at_least[r], ends, stops, outputs[r], position[r]),
    )


@given(data=st.data(), logits=matrices())
def test_min_total_tokens(data, logits):
    ends = data.draw(strategies.tokens(logits.shape[1]))
    stops = data.draw(strategies.phrases(logits.shape[1]))
    tokens = data.draw(strategies.tokens(logits.shape[1]))
    prompt_size = data.draw(st.integers(0, len(tokens)))
    at_least = np.array([len(tokens) + data.draw(st.integers(-1, 2)) for _ in logits]).clip(0)
    alike(
        logits,
        lambda: lc.min_total_tokens(logits, at_least, ends, tokens, stops, prompt_size=prompt_size),
        lambda row, r: reference.min_total_tokens(
            row, at_least[r], ends, tokens, stops, prompt_size
        ),
    )


@given(data=st.data(), logits=matrices())
def test_no_repeat_ngram(data, logits):
    few = st.lists(st.integers(0, min(2, logits.shape[1] - 1)), max_size=20)
    lists = [data.draw(few) for _ in logits]
    sizes = np.array([data.draw(st.integers(0, 4)) for _ in logits])

    def definition(row, r):
        return reference.no_repeat_ngram(row, sizes[r], lists[r]) if sizes[r] else row

    alike(logits, lambda: lc.no_repeat_ngram(logits, sizes, lists), definition)


def test_no_repeat_ngram_on_every_short_history_of_two_tokens():
    """Most such n-grams overlap themselves, so the search often continues in the middle of one."""
    row = np.zeros(3)
    for length, n in product(range(8), range(1, 5)):
        for tokens in product(range(2), repeat=length):
            ours = lc.no_repeat_ngram(row, n, tokens)
            assert_array_equal(ours, reference.no_repeat_ngram(row, n, tokens), f"{n} {tokens}")


@given(data=st.data(), logits=matrices())
def test_bad_words(data, logits):
    few = min(3, logits.shape[1])
    words = data.draw(strategies.phrases(few))
    lists = [data.draw(st.lists(st.integers(0, few - 1), max_size=6)) for _ in logits]
    alike(
        logits,
        lambda: lc.bad_words(logits, words, lists),
        lambda row, r: reference.bad_words(row, words, lists[r]),
    )
    each = [words[r:] for r in range(len(logits))]
    if any(each):
        alike(
            logits,
            lambda: lc.bad_words(logits, each, lists[0]),
            lambda row, r: reference.bad_words(row, each[r], lists[0]),
        )


def test_a_bad_word_bans_its_own_last_token_alone():
    ours = lc.bad_words(np.zeros(5), [[0, 1], [2, 3], [0, 4]], [0])
    assert_array_equal(np.flatnonzero(ours == 0), [0, 2, 3])


@given(data=st.data(), logits=matrices())
def test_a_mask_is_the_same_first_or_last_and_twice_is_once(data, logits):
    mask = data.draw(strategies.bitmasks(logits.shape[1]))
    bias = {0: 1.5}
    try:
        masked = lc.token_bitmask(logits, mask)
    except ValueError:
        return
    assert_array_equal(lc.token_bitmask(masked, mask), masked)
    last = lc.token_bitmask(lc.logit_bias(logits, bias), mask)
    assert_array_equal(lc.logit_bias(masked, bias), last)


def test_out_is_filled_in_and_may_be_the_input():
    row = np.arange(100, dtype=np.float32)
    mask = np.full(4, 0x55555555, np.uint32)
    expected = np.where(np.arange(100) % 2, -np.inf, row).astype(np.float32)
    other = np.empty_like(row)
    assert lc.token_bitmask(row, mask, out=other) is other
    assert_array_equal(other, expected)
    assert lc.token_bitmask(row, mask, out=row) is row
    assert_array_equal(row, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("token", [3, 69], ids=["in a block", "in the rest"])
def test_a_row_is_fit_before_it_is_masked(token, value):
    row = np.zeros(70)
    row[token] = value
    every = np.full(3, -1, np.int32)
    for call in (
        lambda: lc.token_bitmask(row, every),
        lambda: lc.banned_tokens(row, [token]),
        lambda: lc.allowed_tokens(row, [0, token]),
    ):
        with pytest.raises(ValueError, match=f"^logits: token {token} is {value}$"):
            call()


def test_bits_beyond_the_vocabulary_are_ignored():
    row = np.zeros(33, np.float32)
    mask = np.array([0, -1, -1, -1], np.int32)
    assert_array_equal(np.flatnonzero(lc.token_bitmask(row, mask) == 0), [32])


@pytest.mark.parametrize("vocab", [1, 31, 32, 64])
def test_a_mask_that_ends_with_the_vocabulary_or_later_has_no_tail(vocab):
    mask = np.full(-(-vocab // 32), -1, np.int32)
    assert_array_equal(lc.token_bitmask(np.zeros(vocab), mask, tail="error"), np.zeros(vocab))


def test_masks_as_grammar_libraries_hand_them_over():
    mask = np.full((2, 2), -1, np.int32)  # one per row, of a matrix that is not contiguous
    mask[0, 0] = 2**31 - 1
    rows = lc.token_bitmask(np.zeros((2, 64)), np.asfortranarray(mask))
    assert_array_equal(np.argwhere(rows == -np.inf), [[0, 31]])


def test_a_mask_is_any_buffer_of_words():
    batch = lc.Batch(64)
    (row,) = batch.add(lc.Params())
    words = np.array([5, 0], np.int32)
    askew = np.frombuffer(b"." + words.tobytes(), np.uint8)[1:].view(np.int32)  # not aligned
    for mask in (OnlyDLPack(words), askew, memoryview(words), words[::-1][::-1]):
        batch.set_mask(row, mask)
        for rows in (lc.Chain()(np.zeros(64), batch), lc.token_bitmask(np.zeros(64), mask)):
            assert_array_equal(np.flatnonzero(rows == 0), [0, 2])
    with pytest.raises(ValueError, match=r"^mask must be one or one per row \(3\), not 2$"):
        lc.token_bitmask(np.zeros((3, 64)), OnlyDLPack(np.stack([words, words])))


def test_a_mask_of_no_words_is_all_tail():
    batch = lc.Batch(40)
    (row,) = batch.add(lc.Params())
    none = np.empty(0, np.int32)
    batch.set_mask(row, none, tail="keep")
    assert_array_equal(lc.Chain()(np.zeros(40), batch), np.zeros(40))
    assert_array_equal(lc.token_bitmask(np.zeros((2, 40)), none, tail="keep"), np.zeros((2, 40)))
    batch.set_mask(row, none)
    with pytest.raises(ValueError, match=r"^logits: row 0, no .* is left after token_bitmask$"):
        lc.Chain()(np.zeros(40), batch)
    with pytest.raises(ValueError, match=r"^logits: no finite logit is left$"):
        lc.token_bitmask([0.0], none)


MASK = np.array([-1, -1], np.int32)
BAD = [
    (lambda: lc.token_bitmask(np.zeros(70), MASK, tail="error"), ValueError,
     "mask must have a bit for each of 70 tokens, not 64"),
    (lambda: lc.token_bitmask(np.zeros(70), MASK, tail="zero"), ValueError,
     "tail must be one of mask, keep, error, not 'zero'"),
    (lambda: lc.token_bitmask(np.zeros(70), [1, 2]), TypeError,
     "mask must be int32 or uint32 words, not int64 (2,)"),
    (lambda: lc.token_bitmask(np.zeros(70), MASK.reshape(1, 1, 2)), TypeError,
     "mask must be int32 or uint32 words, not int32 (1, 1, 2)"),
    (lambda: lc.token_bitmask(np.zeros((3, 70)), MASK.reshape(2, 1)), ValueError,
     "mask must be one or one per row (3), not 2"),
    (lambda: lc.token_bitmask(np.zeros((3, 70)), MASK[None]), ValueError,
     "mask must be one or one per row (3), not 1"),
    (lambda: lc.token_bitmask(np.zeros(70), np.zeros(3, np.int32)), ValueError,
     "logits: no finite logit is left"),
    (lambda: lc.allowed_tokens(np.zeros(4), []), ValueError, "logits: no finite logit is left"),
    (lambda: lc.allowed_tokens(np.zeros(4), [4]), ValueError,
     "allowed_tokens must be in [0, 4), not 4"),
    (lambda: lc.banned_tokens(np.zeros((2, 4)), [[1], [-1]]), ValueError,
     "banned_tokens of row 1 must be in [0, 4), not -1"),
    (lambda: lc.banned_tokens(np.zeros(4), [True]), TypeError,
     "banned_tokens must be a sequence of integers, not [True]"),
    (lambda: lc.min_tokens(np.zeros(4), -1, [0], position=0), ValueError,
     "min_tokens must be in [0, inf), not -1"),
    (lambda: lc.min_tokens(np.zeros(4), 1, [9], position=0), ValueError,
     "eos_token must be in [0, 4), not 9"),
    (lambda: lc.no_repeat_ngram(np.zeros(4), 1.5, [0]), TypeError,
     "no_repeat_ngram must be an integer in [0, inf), not 1.5"),
    (lambda: lc.bad_words(np.zeros(4), [[]], [0]), ValueError,
     "bad_words must be non-empty lists of token ids, not [[]]"),
    (lambda: lc.bad_words(np.zeros(4), [[7]], [0]), ValueError,
     "bad_words must be in [0, 4), not 7"),
    (lambda: lc.bad_words(np.zeros(4), ["no"], [0]), TypeError,
     "bad_words must be lists of token ids, not ['no']"),
    (lambda: lc.bad_words(np.zeros((3, 4)), [[[1]], [[2]]], [0]), ValueError,
     "bad_words must be one list or one per row (3), not 2"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text for _, _, text in BAD])
def test_a_bad_call_names_what_is_wrong(call, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        call()


# ---- masks of a batch's rows


def masked(mask, vocab=70, **fields):
    batch = lc.Batch(vocab)
    first, second = batch.add(lc.Params(n=2, seed=1, **fields))
    batch.set_mask(second, mask)
    return batch, first, second


def test_a_rows_mask_holds_until_it_is_set_again_and_is_its_own():
    batch, first, second = masked(np.array([1 << 7, 0], np.int32))
    logits, chain = np.zeros((2, 70), np.float32), lc.Chain()
    for _ in range(3):
        tokens = chain.sample(logits, batch)
        assert tokens[1] == 7
        assert tokens[0] != 7
        batch.append(tokens)
    batch.remove(first)  # rows come and go
    batch.add(lc.Params(seed=3))
    assert chain(logits, batch)[0].max() == 0
    assert np.isfinite(chain(logits, batch)).sum(axis=1).tolist() == [1, 70]
    assert batch.has_mask(second)
    batch.set_mask(second, None)
    assert_array_equal(chain(logits, batch), logits)
    assert not batch.has_mask(second)


def test_a_repeat_that_begins_in_one_piece_of_the_history_and_ends_in_the_next():
    """Pieces of 64 tokens without the first token of the pattern are passed over."""
    history = np.full(140, 7)
    history[62:66] = 1, 2, 3, 9
    history[137:] = 1, 2, 3
    left = lc.no_repeat_ngram(np.zeros(20), 4, history)
    assert np.flatnonzero(left == -np.inf).tolist() == [9]


def test_the_tail_is_checked_without_a_mask():
    batch = lc.Batch(40)
    (row,) = batch.add(lc.Params())
    with pytest.raises(ValueError, match=r"^tail must be one of mask, keep, error, not 'none'$"):
        batch.set_mask(row, None, tail="none")


def test_a_mask_in_the_other_byte_order():
    mask = np.array([0b101, 1 << 7], np.uint32)
    expected = lc.token_bitmask(np.zeros(40), mask)
    for kind in (">u4", ">i4", "<u4", "<i4"):
        assert_array_equal(lc.token_bitmask(np.zeros(40), mask.astype(kind)), expected)


def test_the_tail_of_a_short_mask():
    for tail, left in (("mask", 1), ("keep", 7)):
        batch, _, second = masked(np.array([8, 0], np.int32))
        batch.set_mask(second, np.array([8, 0], np.uint32), tail=tail)
        assert np.isfinite(lc.Chain()(np.zeros((2, 70)), batch)).sum(axis=1).tolist() == [70, left]
    with pytest.raises(ValueError, match="mask must have a bit for each of 70 tokens, not 64"):
        batch.set_mask(second, np.array([8, 0], np.uint32), tail="error")


@pytest.mark.parametrize("mask", [np.zeros((1, 3), np.int32), np.zeros(3), [1, 2], 5, "mask"])
def test_a_batch_wants_words(mask):
    with pytest.raises(TypeError, match=r"^mask must be int32 or uint32 words"):
        masked(mask)


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (), (1, 1, 3), (0, 3), (1, 4008)])
def test_a_mask_of_another_shape_is_refused_with_its_shape(shape):
    text = f"mask must be int32 or uint32 words of shape (words,), not int32 {shape}"
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        masked(np.zeros(shape, np.int32))


def test_a_row_left_with_no_token_is_reported_and_not_drawn():
    batch, _, _ = masked(np.array([2, 0, 0], np.int32), banned_tokens=[1])
    logits = np.zeros((2, 70), np.float32)
    reason = "no finite logit is left after banned_tokens"
    with pytest.raises(ValueError, match=f"^logits: row 1, {reason}$"):
        lc.Chain().sample(logits, batch)
    tokens = lc.Chain(on_invalid="mark").sample(logits, batch)
    assert tokens[0] >= 0
    assert tokens[1] == -1
    assert batch.status == ["ok", reason]


@pytest.mark.parametrize("cleared", [3, 64, 129], ids=["in a block", "at its start", "in the rest"])
def test_a_mask_after_another_control_removes_what_its_bits_say(cleared):
    """The first 64 tokens, or the second, are all allowed."""
    mask = np.full(5, -1, np.int32)
    mask[cleared // 32] ^= 1 << cleared % 32
    batch = lc.Batch(130)
    (row,) = batch.add(lc.Params(temperature=0.5))
    batch.set_mask(row, mask)
    left = lc.Chain(("temperature", "token_bitmask"))(np.ones((1, 130)), batch)[0]
    assert_array_equal(np.flatnonzero(left == -np.inf), [cleared])
    assert_array_equal(np.flatnonzero(left == 2), np.delete(np.arange(130), cleared))


def test_ends_are_banned_for_as_long_as_the_request_says():
    batch = lc.Batch(4)
    batch.add(lc.Params(min_tokens=3, eos_token=[3], temperature=0.0))
    logits = np.array([[0.0, 1.0, 2.0, 9.0]])
    output = []
    for _ in range(5):
        output += lc.Chain().sample(logits, batch).tolist()
        batch.append(output[-1:])
    assert output == [2, 2, 2, 3, 3]


def test_no_ngram_is_generated_twice_and_no_bad_word_at_all():
    batch = lc.Batch(3)
    (row,) = batch.add(lc.Params(no_repeat_ngram=2, bad_words=[[0, 0]], temperature=0.0), [2, 0])
    logits = np.array([[2.0, 1.0, 0.0]])
    for _ in range(6):
        batch.append(lc.Chain().sample(logits, batch))
    text = [2, 0, *batch.output(row)]
    pairs = list(pairwise(text))
    assert len(set(pairs)) == len(pairs)
    assert (0, 0) not in pairwise(batch.output(row))


def test_bad_words_look_at_the_output_alone_unless_told():
    batch = lc.Batch(3)
    batch.add(lc.Params(bad_words=[[1, 0]]), [1])
    logits = np.zeros((1, 3))
    assert np.isfinite(lc.Chain(("bad_words",))(logits, batch)).all()
    told = lc.Chain([("bad_words", {"scope": "all"})])(logits, batch)
    assert_array_equal(told, [[-np.inf, 0, 0]])


def test_an_ngram_of_one_is_off_in_a_request():
    batch = lc.Batch(3)
    batch.add(lc.Params(no_repeat_ngram=1), [1, 2])
    assert np.isfinite(lc.Chain()(np.zeros((1, 3)), batch)).all()


@pytest.mark.parametrize("many", [2**53 + 1, 2**63, 10**400], ids=["odd", "long", "huge"])
def test_more_than_any_text_has_tokens(many):
    batch = lc.Batch(4)
    batch.add(lc.Params(no_repeat_ngram=many, min_tokens=many, eos_token=[2]), [1, 1], [1])
    assert_array_equal(lc.Chain()(np.zeros((1, 4)), batch), [[0, 0, -np.inf, 0]])
    assert batch["min_tokens"] >= 2**53
    assert_array_equal(lc.no_repeat_ngram(np.zeros(4), many, [1, 1]), np.zeros(4))


def test_kernels_stay_inside_their_arrays_where_histories_are_longer_than_the_vocabulary():
    words = np.full(1, np.uint64(2**64 - 1))
    output = np.tile(np.arange(3), 50)
    ban_repeats(words, output, 200)
    ban_phrases(words, output, np.full(150, 150), output[:5])
    assert words[0] == 2**64 - 1
    ban_repeats(words, output, 2)
    assert words[0] == 2**64 - 1 - (1 << 0)
    ban(words, output)
    assert words[0] == 2**64 - 8
