"""Bad input, case by case, for every public function: what is wrong is named."""

import math
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc

INF, NAN = math.inf, math.nan
LOGITS = np.array(
    [[1.0, 3.0, 2.0, 0.5], [0.0, -1.0, 4.0, 4.0], [2.0, 2.0, 2.0, -np.inf]], np.float32
)
KEYS = {"seed": 1, "position": 2}


def batch():
    batch = lc.Batch(4)
    for seed in range(3):
        batch.add(lc.Params(seed=seed, temperature=0.5, top_k=2, top_p=0.5, min_p=0.1), [1])
    return batch


def tokens_for(x):
    return [0] * len(x) if np.ndim(x) == 2 else 0


# Every public function of logits, called with nothing wrong but the logits.
FUNCTIONS = {
    "temperature": lambda x: lc.temperature(x, 0.5),
    "top_k": lambda x: lc.top_k(x, 2),
    "top_p": lambda x: lc.top_p(x, 0.5),
    "min_p": lambda x: lc.min_p(x, 0.5),
    "xtc": lambda x: lc.xtc(x, 0.1, 1.0, **KEYS),
    "repetition_penalty": lambda x: lc.repetition_penalty(x, 1.5, [1]),
    "presence_penalty": lambda x: lc.presence_penalty(x, 1.5, [1]),
    "frequency_penalty": lambda x: lc.frequency_penalty(x, 1.5, [1]),
    "logit_bias": lambda x: lc.logit_bias(x, {1: 1.0}),
    "logprobs": lambda x: lc.logprobs(x),
    "token_logprobs": lambda x: lc.token_logprobs(x, tokens_for(x)),
    "top_logprobs": lambda x: lc.top_logprobs(x, 2),
    "sample": lambda x: lc.sample(x, **KEYS),
}
OFF = {
    "temperature off": lambda x: lc.temperature(x, 1.0),
    "top_k off": lambda x: lc.top_k(x, 0),
    "top_p off": lambda x: lc.top_p(x, 1.0),
    "min_p off": lambda x: lc.min_p(x, 0.0),
    "xtc off": lambda x: lc.xtc(x, 0.1, 0.0, **KEYS),
    "penalty off": lambda x: lc.presence_penalty(x, 0.0, []),
    "logit_bias off": lambda x: lc.logit_bias(x, {}),
    "top_logprobs of none": lambda x: lc.top_logprobs(x, 0),
}
BATCHED = {
    "Chain": lambda x: lc.Chain()(x, batch()),
    "Chain.sample": lambda x: lc.Chain().sample(x, batch()),
    "Chain.verify": lambda x: lc.Chain().verify(x, batch(), [[]] * 3),
    "Chain.explain": lambda x: [lc.Chain().explain(x, batch(), row) for row in range(3)],
    "empty Chain": lambda x: lc.Chain(())(x, batch()),
}
ALL = FUNCTIONS | OFF | BATCHED

every_function = pytest.mark.parametrize("function", ALL.values(), ids=ALL)
every_pure_function = pytest.mark.parametrize(
    "function", (FUNCTIONS | OFF).values(), ids=FUNCTIONS | OFF
)

UNFIT = {
    "nan": ({2: NAN}, "token 2 is nan"),
    "-nan": ({2: -NAN}, "token 2 is nan"),
    "inf": ({3: INF}, "token 3 is inf"),
    "both": ({1: NAN, 2: INF}, "token 1 is nan"),
    "inf first": ({0: INF, 2: NAN}, "token 0 is inf"),
    "nan among removed": ({0: -INF, 1: -INF, 2: -INF, 3: NAN}, "token 3 is nan"),
    "all removed": (dict.fromkeys(range(4), -INF), "no finite logit is left"),
}


@every_function
@pytest.mark.parametrize(("spoil", "reason"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_an_invalid_row_is_named_with_its_token(function, spoil, reason, row, kind):
    x = LOGITS.astype(kind)
    for token, value in spoil.items():
        x[row, token] = value
    with pytest.raises(ValueError, match="logits") as error:
        function(x)
    assert str(error.value) == f"logits: row {row}, {reason}"


@every_pure_function
@pytest.mark.parametrize(("spoil", "reason"), UNFIT.values(), ids=UNFIT)
def test_a_row_without_its_axis_needs_no_number(function, spoil, reason):
    x = LOGITS[0].copy()
    for token, value in spoil.items():
        x[token] = value
    with pytest.raises(ValueError, match="logits") as error:
        function(x)
    assert str(error.value) == f"logits: {reason}"


@every_function
def test_the_first_invalid_row_is_the_one_named(function):
    x = LOGITS.copy()
    x[1, 2], x[2, 0] = INF, NAN
    with pytest.raises(ValueError, match=r"^logits: row 1, token 2 is inf$"):
        function(x)


def test_a_bias_that_removes_all_is_found_afterwards():
    everything = dict.fromkeys(range(4), -INF)
    with pytest.raises(ValueError, match=r"^logits: row 1, no finite logit is left$"):
        lc.logit_bias(LOGITS, [{}, everything, {}])
    with pytest.raises(ValueError, match=r"^logits: no finite logit is left$"):
        lc.logit_bias(LOGITS[2], {0: -INF, 1: -INF, 2: -INF, 3: 5.0})


HUGE = [3.4028235e38, -3.4028235e38, 1e38, -1e38, 0.0]
EXTREMES = {
    "cold": lambda x: lc.temperature(x, 5e-324),
    "cool": lambda x: lc.temperature(x, 3e-9),
    "half": lambda x: lc.temperature(x, 0.5),
    "hot": lambda x: lc.temperature(x, 1.7e308),
    "repeat": lambda x: lc.repetition_penalty(x, 1.7e308, range(5)),
    "invite": lambda x: lc.repetition_penalty(x, 5e-324, range(5)),
    "absent": lambda x: lc.presence_penalty(x, 1.7e308, range(5)),
    "present": lambda x: lc.presence_penalty(x, -1.7e308, range(5)),
    "rare": lambda x: lc.frequency_penalty(x, 1.7e308, [0, 1, 2, 3, 4] * 9),
    "frequent": lambda x: lc.frequency_penalty(x, -1.7e308, [0, 1, 2, 3, 4] * 9),
    "up": lambda x: lc.logit_bias(x, dict.fromkeys(range(5), 1.7e308)),
    "down": lambda x: lc.logit_bias(x, dict.fromkeys(range(5), -1.7e308)),
}


@pytest.mark.parametrize("function", EXTREMES.values(), ids=EXTREMES)
def test_extreme_but_legal_numbers_make_no_infinity(function):
    for logits in (HUGE, HUGE[1:], HUGE[1:2] * 2 + HUGE[4:], [-x for x in HUGE]):
        x = np.resize(np.array(logits, np.float32), 5)
        assert np.isfinite(function(x)).all()


@pytest.mark.parametrize("temperature", [0.5, 0.1, 1e-3, 1e-9, 3e-9, 1e-20, 5e-324])
@pytest.mark.parametrize(
    "logits", [[-3e38, -2e38], [-2e38, -1e38, -3e38], [3e38, 2e38], [-1, 1e38]]
)
def test_no_temperature_makes_a_tie_at_the_top(temperature, logits):
    x = np.array(logits, np.float32)
    ours = lc.temperature(x, temperature)
    assert np.argmax(ours) == np.argmax(x)
    assert (ours == ours.max()).sum() == 1


# ---- parameters

ABOVE_ONE = math.nextafter(1, 2)
# name: (call, legal range, bad values, a legal value)
PARAMETERS = {
    "temperature": (lc.temperature, "[0, inf)", (-1, -5e-324, INF, -INF), 0.5),
    "top_k": (lc.top_k, "[0, vocab_size]", (-1, -(2**62)), 2),
    "top_p": (lc.top_p, "(0, 1]", (0, -0.0, -1, ABOVE_ONE, INF), 0.5),
    "min_p": (lc.min_p, "[0, 1]", (-5e-324, ABOVE_ONE, 1.5, -INF), 0.5),
    "xtc_threshold": (lambda x, v: lc.xtc(x, v, 1.0, **KEYS), "[0, 1]", (-0.1, ABOVE_ONE), 0.5),
    "xtc_probability": (lambda x, v: lc.xtc(x, 0.1, v, **KEYS), "[0, 1]", (-0.1, ABOVE_ONE), 0.5),
    "repetition_penalty": (
        lambda x, v: lc.repetition_penalty(x, v, [1]),
        "(0, inf)",
        (0, -1, INF),
        2,
    ),
    "frequency_penalty": (
        lambda x, v: lc.frequency_penalty(x, v, [1]),
        "(-inf, inf)",
        (INF, -INF),
        3,
    ),
    "presence_penalty": (
        lambda x, v: lc.presence_penalty(x, v, [1]),
        "(-inf, inf)",
        (INF, -INF),
        3,
    ),
}
every_parameter = pytest.mark.parametrize("name", PARAMETERS)
OUTSIDE = [(name, bad) for name, (_, _, bads, _) in PARAMETERS.items() for bad in bads]


@pytest.mark.parametrize(("name", "bad"), OUTSIDE)
def test_out_of_range_is_reported_in_one_form_before_any_arithmetic(name, bad):
    call, interval, _, legal = PARAMETERS[name]
    interval = lc.FIELDS[name].domain if name == "top_k" else interval
    for logits, value in (
        (LOGITS, bad),
        (LOGITS[0], bad),
        (LOGITS, [legal, bad, legal]),
        (LOGITS, np.array([bad, legal, legal])),
        (LOGITS[0], [bad]),
        (LOGITS[0], np.array(bad)),
    ):
        with pytest.raises(ValueError, match="must be in") as error:
            call(logits, value)
        found = re.fullmatch(
            rf"{name} must be in {re.escape(interval)}, not (.*)", str(error.value)
        )
        assert found
        assert float(found[1]) == bad


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "top_k"])
def test_a_nan_parameter_is_out_of_range(name):
    call, interval, _, legal = PARAMETERS[name]
    for value in (NAN, [legal, legal, NAN], np.float32(NAN)):
        with pytest.raises(
            ValueError, match=rf"^{name} must be in {re.escape(interval)}, not nan$"
        ):
            call(LOGITS, value)


def shown(value):
    """A value in a test's name, without its address: each process must have the same names."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


NO_NUMBERS = [True, False, np.True_, "0.5", b"1", None, 1j, {}, {1}, object(), [None], [[True]]]
NO_NUMBERS += [[True, True, True], ["1", "1", "1"], np.ones(3, bool), np.ones(3, complex)]
NO_NUMBERS += [np.array([None] * 3), np.datetime64("2020"), lambda: 1, [1, [2], 3], [[1, 2], [3]]]
NO_NUMBERS += [[True, 1, 1], [1, 1, None]]


@every_parameter
@pytest.mark.parametrize("value", NO_NUMBERS, ids=shown)
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        PARAMETERS[name][0](LOGITS, value)


@pytest.mark.parametrize(
    "value", [1.0, NAN, 0.5, [1, 2.0, 3], np.float32(1), np.ones(3)], ids=shown
)
def test_top_k_is_an_integer(value):
    with pytest.raises(TypeError, match=r"^top_k must be an integer in "):
        lc.top_k(LOGITS, value)


@every_parameter
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (4,), (1, 3), (3, 1), (3, 4), (1, 1), (0, 3)])
def test_a_parameter_is_one_value_or_one_per_row(name, shape):
    call, _, _, legal = PARAMETERS[name]
    text = rf"^{name} must be one value or one per row \(3\), not "
    with pytest.raises(ValueError, match=text):
        call(LOGITS, np.full(shape, legal))


@every_parameter
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8"])
def test_any_integer_type_is_a_number(name, kind):
    call, _, _, _ = PARAMETERS[name]
    expected = call(LOGITS, 1)
    assert_array_equal(call(LOGITS, np.ones(3, kind)), expected)
    assert_array_equal(call(LOGITS, np.dtype(kind).type(1)), expected)
    assert_array_equal(call(LOGITS, np.array(1, kind)), expected)


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "top_k"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "g"])
def test_any_float_type_is_a_number(name, kind):
    call, _, _, _ = PARAMETERS[name]
    expected = call(LOGITS, 0.5)
    assert_array_equal(call(LOGITS, np.full(3, 0.5, kind)), expected)
    assert_array_equal(call(LOGITS, np.dtype(kind).type(0.5)), expected)


def test_a_huge_integer_is_a_number_as_any_other():
    for huge in (2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30):
        assert_array_equal(lc.top_k(LOGITS, huge), LOGITS)
        assert_array_equal(lc.top_k(LOGITS, [huge] * 3), LOGITS)
        assert_array_equal(lc.temperature(LOGITS, huge), lc.temperature(LOGITS, float(huge)))
    for call in (lc.top_k, lc.temperature, lc.top_p, lc.min_p):
        with pytest.raises(ValueError, match=f"^{call.__name__} must be in "):
            call(LOGITS, -(10**30))


@pytest.mark.parametrize("huge", [10**400, np.longdouble("1e4000")], ids=["int", "longdouble"])
def test_a_number_that_no_float_holds_is_out_of_range(huge):
    for call in (lc.temperature, lc.top_p, lc.min_p):
        for value in (huge, [0.5, 0.5, huge]):
            with pytest.raises(ValueError, match=f"^{call.__name__} must be in "):
                call(LOGITS, value)


@pytest.mark.parametrize("ties", ["last", "", None, True, 5, ["all"]])
@pytest.mark.parametrize("control", [lc.top_k, lc.top_p])
def test_ties_is_one_of_two_words(control, ties):
    with pytest.raises(ValueError, match=r"^ties must be one of first, all, not "):
        control(LOGITS, 1, ties=ties)


@pytest.mark.parametrize("protected", ["keep", "", None, 5, ["skip"]])
def test_protected_is_one_of_three_words(protected):
    with pytest.raises(ValueError, match=r"^protected must be one of skip, exempt, exclude, not "):
        lc.xtc(LOGITS, 0.1, 1.0, **KEYS, protected=protected)


# ---- seed and position

KEYED = {
    "sample": lambda **keys: lc.sample(LOGITS, **(KEYS | keys)),
    "xtc": lambda **keys: lc.xtc(LOGITS, 0.1, 1.0, **(KEYS | keys)),
}
every_keyed = pytest.mark.parametrize("function", KEYED.values(), ids=KEYED)


@every_keyed
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"seed": 2**64}, f"seed must be in [{-(2**63)}, {2**64 - 1}], not {2**64}"),
        ({"seed": -(2**63) - 1}, f"seed must be in [{-(2**63)}, {2**64 - 1}], not {-(2**63) - 1}"),
        ({"seed": [1, 2, 2**64]}, f"seed must be in [{-(2**63)}, {2**64 - 1}], not {2**64}"),
        ({"position": -1}, f"position must be in [0, {2**64 - 1}], not -1"),
        ({"position": [0, -1, 0]}, f"position must be in [0, {2**64 - 1}], not -1"),
        ({"position": 2**64}, f"position must be in [0, {2**64 - 1}], not {2**64}"),
        ({"seed": [1, 2]}, "seed must be one value or one per row (3), not (2,)"),
        ({"seed": [[1, 2, 3]]}, "seed must be one value or one per row (3), not (1, 3)"),
        ({"position": [1]}, "position must be one value or one per row (3), not (1,)"),
        ({"position": []}, "position must be one value or one per row (3), not (0,)"),
    ],
)
def test_a_seed_or_position_out_of_range(function, keys, text):
    with pytest.raises(ValueError, match="must be") as error:
        function(**keys)
    assert str(error.value) == text


@every_keyed
@pytest.mark.parametrize("name", ["seed", "position"])
@pytest.mark.parametrize(
    "value",
    [
        1.0,
        NAN,
        True,
        "1",
        None,
        1j,
        [1.0, 2.0, 3.0],
        [True] * 3,
        [None] * 3,
        {},
        object(),
        [1, [2], 3],
        [[1, 2], [3]],
        [True, 2, 3],
        np.zeros(3),
        np.ones(3, bool),
    ],
    ids=shown,
)
def test_a_seed_or_position_is_an_integer(function, name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        function(**{name: value})


@every_keyed
def test_any_64_bit_seed_in_any_company(function):
    seeds = [2**64 - 1, -1, -(2**63), 2**63, 0]
    for a in seeds:
        for b in seeds:
            pair = function(seed=[a, b, 5])
            assert_array_equal(pair[0], function(seed=a)[0])
            assert_array_equal(pair[1], function(seed=b)[1])
    assert_array_equal(function(seed=-1), function(seed=2**64 - 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", -1),
        ("stream", 2**32),
        ("index", -1),
        ("index", 2**32),
        ("seed", 2**64),
        ("position", -1),
        ("stream", True),
        ("index", 0.5),
        ("seed", None),
        ("position", "0"),
        ("index", [0, -1]),
        ("stream", [[1], [1, 2]]),
    ],
)
def test_uniform_names_its_argument(name, value):
    arguments = {"seed": 1, "position": 2, "stream": 16, "index": 0} | {name: value}
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        lc.uniform(**arguments)


def test_uniform_needs_shapes_that_broadcast():
    with pytest.raises(ValueError, match=r"^shapes do not broadcast: seed \(2,\), position \(3,\)"):
        lc.uniform([1, 2], [1, 2, 3])


# ---- token ids

INT64 = "must be in [-9223372036854775808, 9223372036854775807]"
LISTED = {
    "repetition_penalty": lambda ids: lc.repetition_penalty(LOGITS, 1.5, ids),
    "presence_penalty": lambda ids: lc.presence_penalty(LOGITS, 1.5, ids),
    "frequency_penalty": lambda ids: lc.frequency_penalty(LOGITS, 1.5, ids),
    "penalty off": lambda ids: lc.presence_penalty(LOGITS, 0.0, ids),
}
every_listed = pytest.mark.parametrize("function", LISTED.values(), ids=LISTED)


@every_listed
@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([2**63], f"tokens {INT64}, not {2**63}"),
        ([-(2**63) - 1], f"tokens {INT64}, not {-(2**63) - 1}"),
        ([0, -1, 2**63], f"tokens {INT64}, not {2**63}"),
        (np.array([2**64 - 1], np.uint64), f"tokens {INT64}, not {2**64 - 1}"),
        (np.array([[0], [1], [2**63]], np.uint64), f"tokens of row 2 {INT64}, not {2**63}"),
        ([[0], [2**64], [4]], f"tokens of row 1 {INT64}, not {2**64}"),
        ([[0], [1]], "tokens must be one sequence or one per row (3), not 2"),
        ([[0], [1], [1], [1]], "tokens must be one sequence or one per row (3), not 4"),
        (np.zeros((2, 5), int), "tokens must be one sequence or one per row (3), not 2"),
        ([[], []], "tokens must be one sequence or one per row (3), not 2"),
    ],
    ids=shown,
)
def test_tokens_of_more_than_64_bits_or_of_the_wrong_count(function, ids, text):
    with pytest.raises(ValueError, match="tokens") as error:
        function(ids)
    assert str(error.value) == text


@pytest.mark.parametrize("shape", [(1, 3, 1), (1, 1, 3), ()])
@pytest.mark.parametrize(
    "function",
    [
        *LISTED.values(),
        lambda ids: lc.no_repeat_ngram(LOGITS, 2, ids),
        lambda ids: lc.bad_words(LOGITS, [[1]], ids),
        lambda ids: lc.banned_tokens(LOGITS, ids),
    ],
)
def test_an_array_of_tokens_is_refused_with_its_shape(function, shape):
    with pytest.raises(TypeError, match="must be a sequence of integers, not ") as error:
        function(np.full(shape, 123456789))
    assert not shape or str(shape) in str(error.value)
    assert not shape or "123456789" not in str(error.value)


@every_listed
@pytest.mark.parametrize(
    "ids",
    [
        None,
        1,
        1.0,
        "01",
        b"01",
        {1: 1},
        {1},
        [1.0],
        [True],
        ["1"],
        [None],
        [0, 1.5],
        [[0], 1, 2],
        np.int64(1),
        np.array(1),
        np.zeros(3),
        np.zeros(3, bool),
        np.zeros((1, 3, 1), int),
        iter([1]),
        [[0], None, [1]],
        [[0], [1.0], [1]],
        [[[0]], [[1]], [[1]]],
        [0, [1]],
        [True, 1],
        [2**70],
    ],
    ids=shown,
)
def test_tokens_are_sequences_of_integers(function, ids):
    with pytest.raises(
        (TypeError, ValueError), match=r"^tokens( of row \d)? (must be|.*cannot be)"
    ):
        function(ids)


@every_listed
def test_no_tokens_are_tokens(function):
    for ids in ([], (), np.zeros(0, int), np.zeros(0), [[], [], []], [(), [], np.zeros(0, int)]):
        assert_array_equal(function(ids), LOGITS)
    for ids in ([1, 1], (1, 1), range(1, 2), np.array([1, 1], np.uint8), [[np.int64(1)]] * 3):
        assert function(ids).shape == (3, 4)


@pytest.mark.parametrize(
    ("ids", "kind", "text"),
    [
        ([0, 4, 0], ValueError, "tokens must be in [0, 4), not 4"),
        ([0, 0, -1], ValueError, "tokens must be in [0, 4), not -1"),
        ([0, 0], ValueError, "tokens must be one per row (3), not 2"),
        ([], ValueError, "tokens must be one per row (3), not 0"),
        (0, TypeError, "tokens must be a sequence of integers, not 0"),
        ([0.0] * 3, TypeError, "tokens must be a sequence of integers, not [0.0, 0.0, 0.0]"),
        ([True] * 3, TypeError, "tokens must be a sequence of integers, not [True, True, True]"),
        ([[0]] * 3, TypeError, "tokens must be a sequence of integers, not [[0], [0], [0]]"),
        (None, TypeError, "tokens must be a sequence of integers, not None"),
    ],
    ids=shown,
)
def test_token_logprobs_takes_one_token_per_row(ids, kind, text):
    with pytest.raises(kind, match="tokens") as error:
        lc.token_logprobs(LOGITS, ids)
    assert str(error.value) == text


@pytest.mark.parametrize("token", [4, -1, 2**40, 1.0, True, None, "1", [1], [0, 1]])
def test_token_logprobs_of_one_row_takes_one_token(token):
    with pytest.raises((TypeError, ValueError), match=r"^tokens must be "):
        lc.token_logprobs(LOGITS[0], token)


@pytest.mark.parametrize(
    ("n", "kind"),
    [
        (-1, ValueError),
        (5, ValueError),
        (2**70, ValueError),
        (1.0, TypeError),
        (True, TypeError),
        (None, TypeError),
        ("1", TypeError),
        ([1, 2, 3], TypeError),
        (NAN, TypeError),
    ],
)
def test_top_logprobs_takes_as_many_as_there_are(n, kind):
    with pytest.raises(kind, match=r"^n must be (an integer )?in \[0, 4\], not "):
        lc.top_logprobs(LOGITS, n)


@pytest.mark.parametrize("ids", [[4], [-1], [0, 9], [1.0], [True], ["1"], 5, None, "ab", [[1]]])
@pytest.mark.parametrize("protected", ["skip", "exempt", "exclude"])
def test_protected_ids_are_token_ids(ids, protected):
    with pytest.raises((TypeError, ValueError), match=r"^protected_ids must be "):
        lc.xtc(LOGITS, 0.1, 1.0, **KEYS, protected_ids=ids, protected=protected)


# ---- logit_bias


@pytest.mark.parametrize(
    ("bias", "kind", "text"),
    [
        ({4: 1.0}, ValueError, "token ids in logit_bias must be in [0, 4), not 4"),
        ({10**30: 1.0}, ValueError, f"token ids in logit_bias must be in [0, 4), not {10**30}"),
        ({-1: 1.0}, ValueError, "a token id in logit_bias must be in [0, vocab_size), not -1"),
        ({1: NAN}, ValueError, "logit_bias[1] must be in [-inf, inf), not nan"),
        ({1: INF}, ValueError, "logit_bias[1] must be in [-inf, inf), not inf"),
        ([{}, {1: INF}, {}], ValueError, "logit_bias[1] must be in [-inf, inf), not inf"),
        ({1: 1.0, "1": 2.0}, ValueError, "logit_bias names token 1 twice"),
        ([{}], ValueError, "bias must be one mapping or one per row (3), not 1"),
        ([{}] * 4, ValueError, "bias must be one mapping or one per row (3), not 4"),
        ([], ValueError, "bias must be one mapping or one per row (3), not 0"),
    ],
    ids=shown,
)
def test_a_bias_out_of_range(bias, kind, text):
    with pytest.raises(kind, match="bias") as error:
        lc.logit_bias(LOGITS, bias)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "bias",
    [
        None,
        5,
        {1, 2},
        "abc",
        iter([{}, {}, {}]),
        [None] * 3,
        [1.0, 2.0, 3.0],
        [[], [], []],
        {1: True},
        {1: "1"},
        {1: None},
        {1: [1.0]},
        {1.0: 1},
        {True: 1},
        {"a": 1},
        {None: 1},
        np.ones(3),
        np.ones((3, 4)),
        [[(1, 2)]] * 3,
        {(1,): 1},
        {1: 1j},
    ],
    ids=shown,
)
def test_a_bias_is_a_mapping_of_token_ids_to_numbers(bias):
    with pytest.raises(TypeError, match=r"(logit_)?bias.* must be "):
        lc.logit_bias(LOGITS, bias)


# ---- lists of which the order counts

ROWS = [0, 1, 2]
ORDERED = {
    "order": (lambda x: lc.Chain(x), ["top_k", "top_p"]),
    "rows": (lambda x: batch().reorder(x), ROWS),
    "rows of append": (lambda x: batch().append([1, 1, 1], x), ROWS),
    "drafts": (lambda x: lc.Chain().verify(LOGITS, batch(), x), [(), (), ()]),
}


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize("name", ORDERED)
def test_a_set_has_no_order(name, kind):
    call, items = ORDERED[name]
    call(items)
    call(iter(items))
    with pytest.raises(TypeError, match=f"^{name.split()[0]} must be "):
        call(kind(items))


def test_a_set_is_a_list_where_the_order_does_not_count():
    rows = batch()
    rows.remove({0, 2})
    assert rows.rows == [1]
    assert lc.Params(bad_words={(1, 2)}).bad_words == ((1, 2),)


def test_the_keys_of_a_dict_have_an_order():
    rows = batch()
    rows.reorder({2: "c", 0: "a", 1: "b"})
    assert rows.rows == [2, 0, 1]
    with pytest.raises(TypeError, match=r"^order must be a sequence of controls, not {'top_k': "):
        lc.Chain({"top_k": {"ties": "all"}})


# ---- requests


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, bad in OUTSIDE if name != "n"])
def test_what_a_function_refuses_no_request_may_carry(name, bad):
    for call in (lambda: lc.Params(**{name: bad}), lambda: lc.Params.from_request({name: bad})):
        with pytest.raises(ValueError, match=f"{name} must be in "):
            call()


def test_a_request_is_checked_against_the_vocabulary_when_it_joins_a_batch():
    for params, text in (
        (lc.Params(top_k=5), "top_k must be in [0, 4], not 5"),
        (lc.Params(top_k=2**70), f"top_k must be in [0, 4], not {2**70}"),
        (lc.Params(logit_bias={"4": 1}), "token ids in logit_bias must be in [0, 4), not 4"),
        (lc.Params(eos_token=[0, 4]), "eos_token must be in [0, 4), not 4"),
        (lc.Params(eos_token=2**70), f"eos_token must be in [0, 4), not {2**70}"),
    ):
        with pytest.raises(ValueError, match="must be in") as error:
            lc.Batch(4).add(params)
        assert str(error.value) == text
