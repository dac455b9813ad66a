"""DRY: against its definition, and the cases of llama.cpp and of vLLM's example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import reference
from effort import effort
from logitchain.controls.dry import largest_exponent

INF = float("inf")


few = st.integers(0, 3)
many_breakers = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), max_size=9)
breakers = st.lists(st.lists(few, min_size=1, max_size=3), max_size=2)


@given(
    st.lists(few, max_size=40),
    st.floats(0, 3),
    st.sampled_from((1.0, 1.1, 1.75, 2.0)),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(0, 45)),
    breakers,
)
def test_it_is_the_definition(tokens, multiplier, base, allowed, window, breakers):
    row = np.random.default_rng(len(tokens)).normal(0, 2, 5).astype(np.float32)
    ours = lc.dry(row, tokens, multiplier, base, allowed, window, breakers)
    settings = multiplier, base, allowed, window, breakers
    expected = reference.dry(row.astype(np.float64), tokens, *settings)
    assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "parameters", "penalties"),
    [
        # llama.cpp, tests/test-sampling.cpp: multiplier, base, allowed length, window, breakers
        ([0, 1], (1.0, 1.1, 2, 4, []), {}),
        ([0, 1, 2, 0, 1], (1.0, 1.1, 2, 5, []), {2: 1.0}),
        ([0, 1, 3, 4, 0, 1], (1.0, 1.1, 2, 6, [[3]]), {}),
        ([0, 1, 2, 0, 1], (2.0, 1.1, 2, 5, []), {2: 2.0}),
        ([0, 1, 2, 3, 4, 0, 1], (1.0, 1.1, 4, 7, []), {}),
        # a port of it to vLLM
        ([0, 0, 0, 1, 0, 0], (1.0, 2.0, 2, None, []), {0: 1.0, 1: 1.0}),
        ([1, 2, 3, 1, 2], (1.0, 2.0, 2, None, []), {3: 1.0}),
        ([7] * 6, (1.0, 2.0, 2, None, []), {7: 8.0}),
        ([7] * 6, (1.0, 2.0, 2, None, [[7]]), {}),
        ([], (1.0, 2.0, 1, None, []), {}),
        # a breaker of two tokens ends the search, and only breakers of one token are exempt
        ([4, 5, 6, 4, 5], (1.0, 2.0, 2, None, [[5, 4]]), {6: 1.0}),
        ([5, 6, 9, 4, 5, 6], (1.0, 2.0, 2, None, [[9, 4]]), {9: 1.0}),
        ([5, 6, 9, 4, 5, 6], (1.0, 2.0, 2, None, [[4, 5]]), {}),
    ],
)
def test_cases(tokens, parameters, penalties):
    expected = np.zeros(16)
    for token, penalty in penalties.items():
        expected[token] = -penalty
    assert_allclose(lc.dry(np.zeros(16), tokens, *parameters), expected, rtol=1e-6)


def test_the_cap_of_the_exponent():
    limit = float(np.float32(1.000001))
    caps = [largest_exponent(base) for base in (2.0, 1.75, 1.0, 1.0000005, limit)]
    assert caps == [128, 158, 0, 0, 0]
    assert largest_exponent(1.0000012) > 10**7
    ours = lc.dry(np.zeros(2), [1] * 500, 1.0, 2.0)
    assert ours[1] == -np.finfo(np.float32).max  # 2**128 is beyond float32
    assert lc.dry(np.zeros(2), [1] * 500, 1e-9, 1.75)[1] == pytest.approx(-1e-9 * 1.75**158)


def test_ids_outside_the_vocabulary_equal_only_themselves():
    history = [-1, 2**40, 3, -1, 2**40]
    assert lc.dry(np.zeros(5), history, 1.0).tolist() == [0, 0, 0, -1, 0]
    assert lc.dry(np.zeros(3), history, 1.0).tolist() == [0, 0, 0]


def test_a_long_history_takes_linear_time():
    tokens = np.tile([1, 2], 200_000)
    assert lc.dry(np.zeros(3), tokens, 1.0, 1.0)[1] == -1.0


def test_rows_and_what_is_refused():
    rows = np.float32([[0, 1, -INF], [2, 1, 0]])
    histories = [[0, 1, 2, 0, 1], [1, 0, 1]]
    both = lc.dry(rows, histories, 1.0, dry_allowed_length=1)
    each = [lc.dry(*pair, 1.0, dry_allowed_length=1) for pair in zip(rows, histories, strict=True)]
    assert_array_equal(both, each)
    assert both[0, 2] == -INF
    assert_array_equal(lc.dry(rows, histories, 0), rows)
    refused = {
        "dry_multiplier": {"dry_multiplier": -1},
        "dry_base": {"dry_multiplier": 1, "dry_base": 0.9},
        "dry_allowed_length": {"dry_multiplier": 1, "dry_allowed_length": -1},
        "dry_window": {"dry_multiplier": 1, "dry_window": -1},
        "dry_sequence_breakers": {"dry_multiplier": 1, "dry_sequence_breakers": [[3]]},
    }
    for name, parameters in refused.items():
        with pytest.raises(ValueError, match=f"{name} must be in"):
            lc.dry(rows, histories, **parameters)


# ---- in a chain: by the gaps between equal tokens


@given(
    st.lists(few, max_size=40),
    st.sampled_from((1.0, 1.0000005, 1.75)),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(0, 45)),
    breakers,
    st.data(),
)
def test_in_a_chain_it_is_the_function(tokens, base, allowed, window, breakers, data):
    batch, settings = lc.Batch(5), (0.8, base, allowed, window, breakers)
    names = ("multiplier", "base", "allowed_length", "window", "sequence_breakers")
    fields = {f"dry_{name}": value for name, value in zip(names, settings, strict=True)}
    first = data.draw(st.integers(0, len(tokens)))
    (row,) = batch.add(lc.Params(**fields), tokens[:first])
    logits = np.float32([1, 2, 3, 4, 5])
    for token in tokens[first:]:
        batch.append([token])
    chain = lc.Chain(["dry"])
    assert_array_equal(chain(logits, batch), lc.dry(logits, tokens, *settings))
    taken = data.draw(st.integers(0, len(tokens) - first))
    batch.rollback(row, taken)
    left = tokens[: len(tokens) - taken]
    assert_array_equal(chain(logits, batch), lc.dry(logits, left, *settings))


@given(
    st.lists(st.integers(0, 6), max_size=60),
    many_breakers,
    st.integers(0, 2),
    st.sampled_from((1.0, 1.5)),
)
def test_many_breakers(tokens, breakers, allowed, base):
    settings = 0.5, base, allowed, None, breakers
    ours = lc.dry(np.zeros(7), tokens, *settings)
    expected = reference.dry(np.zeros(7), tokens, *settings)
    assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
    batch = lc.Batch(7)
    params = lc.Params(
        dry_multiplier=0.5,
        dry_base=base,
        dry_allowed_length=allowed,
        dry_sequence_breakers=breakers,
    )
    batch.add(params, tokens)
    assert_array_equal(lc.Chain(["dry"])(np.zeros(7), batch), ours)


def test_a_breaker_is_seen_as_far_back_as_it_counts():
    """With a base of 1 no longer repetition than the allowed one has to be known."""
    history = [6, 1, 7, 5, 6, 1]
    assert lc.dry(np.zeros(8), history, 1.0, 1.0)[7] == -1.0
    assert not lc.dry(np.zeros(8), history, 1.0, 1.0, dry_sequence_breakers=[[5, 6]]).any()


def test_breakers_are_of_a_bounded_length():
    for call in (
        lambda breaker: lc.dry(np.zeros(3), [1], 1.0, dry_sequence_breakers=[breaker]),
        lambda breaker: lc.Params(dry_sequence_breakers=[breaker]),
    ):
        call([1] * 64)
        with pytest.raises(ValueError, match="sequences of at most 64 tokens, not of 65"):
            call([1] * 65)


def test_a_base_without_a_cap():
    base, tokens = 1.0000005, [1] * effort(300, 3000)
    ours = lc.dry(np.zeros(2), tokens, 1.0, base)
    assert ours[1] == pytest.approx(-(base ** (len(tokens) - 3)), rel=1e-7)
    assert ours[1] < -1.0001


def test_a_text_of_few_tokens_is_read_in_linear_time():
    """From one place to the one before would take too long: each repetition is long."""
    batch = lc.Batch(3)
    tokens = [1] * effort(300, 30_000)
    batch.add(lc.Params(dry_multiplier=1e-30, dry_base=1.0000005), tokens)
    ours = lc.Chain(["dry"])(np.zeros(3), batch)
    assert_array_equal(ours, lc.dry(np.zeros(3), tokens, 1e-30, 1.0000005))
    assert ours[1] < 0


def test_exempt_tokens_and_foreign_ids():
    batch = lc.Batch(4)
    history = [3, 2**40, 2, 3, 2**40, 1, 3, 2**40]
    batch.add(lc.Params(dry_multiplier=1.0, penalty_exempt=[2]), history)
    assert lc.Chain(["dry"])(np.zeros(4), batch).tolist() == [0, -1, 0, 0]


def test_before_and_after_other_controls():
    """After a cut its tokens are found among the candidates that are left."""
    rng = np.random.default_rng(5)
    row = rng.normal(0, 3, 3000).astype(np.float32)
    history = rng.integers(0, 40, 500).tolist()
    batch = lc.Batch(3000)
    batch.add(lc.Params(dry_multiplier=2.0, top_k=300, frequency_penalty=0.5, seed=1), [], history)
    for order in (
        ["dry", "top_k"],
        ["top_k", "dry"],
        ["frequency_penalty", "dry", "top_k"],
        ["dry", "frequency_penalty", "top_k"],
    ):
        expected = row
        for name in order:
            expected = {
                "dry": lambda x: lc.dry(x, history, 2.0),
                "top_k": lambda x: lc.top_k(x, 300),
                "frequency_penalty": lambda x: lc.frequency_penalty(x, 0.5, history),
            }[name](expected)
        assert_array_equal(lc.Chain(order)(row, batch), expected)
        token = lc.Chain(order).sample(row, batch)[0]
        assert token == lc.sample(expected, seed=1, position=500)
