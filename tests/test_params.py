"""The fields of a request: the table, the check of a value, the parser of a request body."""

import copy
import dataclasses
import json
import math
import pickle
import re

import numpy as np
import pytest
from ml_dtypes import bfloat16

import logitchain as lc
from logitchain.dialects import DIALECTS, NOT_SAMPLING
from logitchain.params import Bias, Phrases, Seeds, StopPhrases, TokenIds, real_number

INF = math.inf
ABOVE_ONE, BELOW_ONE = math.nextafter(1, 2), math.nextafter(1, 0)
TINY = 5e-324
SEEDS = "[-9223372036854775808, 18446744073709551615]"

# field: (range in the error text, values inside, values outside), both ends on either side
REALS = {
    "temperature": ("[0, inf)", (0, TINY, 1.7e308, 10**30), (-TINY, -1, INF, -INF, 10**400)),
    "top_p": ("(0, 1]", (TINY, 0.5, 1), (0, -0.0, -0.1, ABOVE_ONE, INF)),
    "top_n_sigma": ("[0, inf)", (0, -0.0, TINY, 1e300), (-TINY, INF, -INF)),
    "min_p": ("[0, 1]", (0, -0.0, TINY, 1), (-TINY, ABOVE_ONE, 1.5, -INF)),
    "typical_p": ("(0, 1]", (TINY, 0.5, 1), (0, -0.0, -0.1, ABOVE_ONE, INF)),
    "top_a": ("[0, 1]", (0, -0.0, TINY, 1), (-TINY, ABOVE_ONE, 1.5, -INF)),
    "epsilon_cutoff": ("[0, 1)", (0, -0.0, TINY, BELOW_ONE), (-TINY, 1, -INF)),
    "eta_cutoff": ("[0, 1)", (0, -0.0, TINY, BELOW_ONE), (-TINY, 1, -INF)),
    "tfs": ("(0, 1]", (TINY, 0.5, 1), (0, -0.0, -0.1, ABOVE_ONE, INF)),
    "top_h": ("(0, 1)", (TINY, 0.5, BELOW_ONE), (0, -0.0, -0.1, 1, INF)),
    "dynatemp_range": ("[0, inf)", (0, -0.0, TINY, 1e300), (-TINY, INF, -INF)),
    "dynatemp_exponent": ("[0, inf)", (0, -0.0, TINY, 1e300), (-TINY, INF, -INF)),
    "mirostat_tau": ("(0, inf)", (TINY, 1, 1e300), (0, -0.0, -1, INF)),
    "mirostat_eta": ("(0, 1]", (TINY, 0.5, 1), (0, -0.0, ABOVE_ONE, INF)),
    "adaptive_target": ("[0, 1]", (0, -0.0, TINY, 1), (-TINY, ABOVE_ONE, 1.5, -INF)),
    "adaptive_decay": ("[0, 0.99]", (0, -0.0, TINY, 0.99), (-TINY, math.nextafter(0.99, 1), INF)),
    "dry_multiplier": ("[0, inf)", (0, -0.0, TINY, 1e300), (-TINY, INF, -INF)),
    "dry_base": ("[1, inf)", (1, ABOVE_ONE, 1e300), (BELOW_ONE, 0, INF, -INF)),
    "smoothing_factor": ("[0, inf)", (0, -0.0, TINY, 1e300), (-TINY, INF, -INF)),
    "smoothing_curve": ("[1, inf)", (1, ABOVE_ONE, 1e300), (BELOW_ONE, 0, INF, -INF)),
    "xtc_probability": ("[0, 1]", (0, 1), (-TINY, ABOVE_ONE, 2)),
    "xtc_threshold": ("[0, 1]", (0, 1), (-TINY, ABOVE_ONE, 2)),
    "repetition_penalty": ("(0, inf)", (TINY, 1, 1.7e308), (0, -0.0, -1, INF, 10**400)),
    "frequency_penalty": ("[-2, 2]", (-2, 0, 2), (math.nextafter(-2, -3), math.nextafter(2, 3))),
    "presence_penalty": ("[-2, 2]", (-2, 0, 2), (math.nextafter(-2, -3), math.nextafter(2, 3))),
}
INTEGERS = {
    "top_k": ("[0, vocab_size]", (0, 1, 2**40), (-1, -(10**400))),
    "n": ("[1, 1048576]", (1, 2, 2**20), (0, -1, 2**20 + 1)),
    "max_tokens": ("[1, inf)", (1, 2**70), (0, -1)),
    "penalty_window": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "ngram_window": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "dry_window": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "dry_allowed_length": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "max_total_tokens": ("[1, inf)", (1, 2**70), (0, -1)),
    "min_tokens": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "min_total_tokens": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "no_repeat_ngram": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "reasoning_budget": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "min_reasoning": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "reasoning_grace": ("[0, inf)", (0, 1, 2**70), (-1,)),
    "top_logprobs": ("[0, vocab_size]", (0, 1, 2**40), (-1, -(10**400))),
    "seed": (SEEDS, (0, 7, -1, -(2**63), 2**64 - 1), (-(2**63) - 1, 2**64)),
}
NUMBERS = REALS | INTEGERS
TOKENS = ("eos_token", "allowed_tokens", "banned_tokens", "penalty_exempt", "ngram_exempt")
TOKENS += ("logprob_token_ids", "forced_output_tokens", "reasoning_line_ends")
TOKENS += ("reasoning_start", "reasoning_end", "reasoning_message")
PHRASES = ("bad_words", "dry_sequence_breakers")
FLAGS = ("logprobs", "p_less", "include_stop", "stop_after_min_tokens", "reasoning_per_block")
OTHERS = {"logit_bias", "stop", "stop_tokens", "banned_texts", "logprobs_of"}
OTHERS |= {"repetition_detection", "watermark"}
OTHERS |= {*FLAGS, *PHRASES, *TOKENS}
#: Fields that other fields need.
NEEDING = ("reasoning_budget", "min_reasoning", "repetition_detection")
BESIDE = {name: {"reasoning_end": [1]} for name in NEEDING}

INSIDE = [(name, value) for name, (_, inside, _) in NUMBERS.items() for value in inside]
OUTSIDE = [
    (name, interval, value) for name, (interval, _, outside) in NUMBERS.items() for value in outside
]


# ---- the table


def test_the_table_is_the_dataclass_and_the_dataclass_is_the_table():
    assert list(lc.FIELDS) == [field.name for field in dataclasses.fields(lc.Params)]
    assert set(lc.FIELDS) == {*NUMBERS, *OTHERS}
    assert all(name == field.name for name, field in lc.FIELDS.items())


@pytest.mark.parametrize("name", lc.FIELDS)
def test_off_is_the_default(name):
    default = getattr(lc.Params(), name)
    assert default == lc.FIELDS[name].off
    assert type(default) is type(lc.FIELDS[name].off)
    assert lc.Params(**{name: lc.FIELDS[name].off}) == lc.Params()


@pytest.mark.parametrize("name", NUMBERS)
def test_the_table_says_the_range(name):
    field = lc.FIELDS[name]
    assert field.range == NUMBERS[name][0]
    assert field.integer == (name in INTEGERS and name != "seed")


# ---- numbers


@pytest.mark.parametrize(("name", "value"), INSIDE)
def test_a_number_inside_is_stored_as_it_is(name, value):
    kind = int if name in INTEGERS else float
    stored = getattr(lc.Params(**{name: value}, **BESIDE.get(name, {})), name)
    assert stored == kind(value)
    assert type(stored) is kind


@pytest.mark.parametrize(("name", "interval", "value"), OUTSIDE)
def test_a_number_outside_is_refused_in_one_form(name, interval, value):
    with pytest.raises(ValueError, match="must be in") as error:
        lc.Params(**{name: value})
    assert str(error.value) == f"{name} must be in {interval}, not {value!r}"


@pytest.mark.parametrize("name", REALS)
def test_nan_is_out_of_range(name):
    with pytest.raises(ValueError, match="must be in") as error:
        lc.Params(**{name: math.nan})
    assert str(error.value) == f"{name} must be in {REALS[name][0]}, not nan"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False, np.True_, "1", "x", b"1", 1j, {}, {1}, object()])
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be "):
        lc.Params(**{name: value})


@pytest.mark.parametrize("name", [name for name in INTEGERS if name != "seed"])
@pytest.mark.parametrize("value", [1.0, 1.5, math.nan, np.float32(1), [1]])
def test_a_float_or_a_list_is_no_integer(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be an integer in "):
        lc.Params(**{name: value})


@pytest.mark.parametrize(
    "name", [name for name, field in lc.FIELDS.items() if field.off is not None]
)
def test_none_is_off_only_where_off_has_no_other_form(name):
    if name in ("stop", "stop_tokens", "banned_texts", *PHRASES, *TOKENS):
        assert len(getattr(lc.Params(**{name: None}), name)) == 0
        return
    with pytest.raises(TypeError, match=rf"^{name} must be "):
        lc.Params(**{name: None})


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("name", [*NUMBERS])
def test_numpy_integers_are_numbers(name, kind):
    if name == "top_h":  # no integer is in its range
        return
    number = 0 if name in ("epsilon_cutoff", "eta_cutoff", "adaptive_decay") else 1
    stored = getattr(lc.Params(**{name: kind(number)}, **BESIDE.get(name, {})), name)
    assert stored == number
    assert type(stored) is (int if name in INTEGERS else float)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, bfloat16])
def test_numpy_floats_are_numbers_and_shown_as_plain_ones(kind):
    assert type(lc.Params(min_p=kind(0.5)).min_p) is float
    with pytest.raises(
        ValueError, match=r"^min_p must be in \[0, 1\], not (np\.longdouble\(')?1\.5"
    ):
        lc.Params(min_p=kind(1.5))


@pytest.mark.parametrize("name", [*NUMBERS, *TOKENS])
def test_a_time_difference_is_no_number(name):
    for value in (np.timedelta64(1), np.timedelta64(1, "ns"), np.array(1, "m8[ns]")):
        with pytest.raises(TypeError, match=rf"^{name} must be "):
            lc.Params(**{name: value})


def test_an_array_without_dimensions_is_a_number():
    assert lc.Params(min_p=np.array(0.5), top_k=np.array(5)) == lc.Params(min_p=0.5, top_k=5)
    assert lc.Params(logprobs=np.array(True)).logprobs is True
    with pytest.raises(TypeError, match=r"^top_k must be an integer"):
        lc.Params(top_k=np.array(5.0))


@pytest.mark.parametrize("name", ["seed", *TOKENS])
def test_integers_of_numpy_are_integers_in_lists_as_well(name):
    for value in ([np.int64(5)], (np.uint8(5),), [np.array(5)], np.array(5), np.uint64(5)):
        assert getattr(lc.Params(**{name: value}), name) in ((5,), 5)
    for value in ([np.float64(5)], [np.bool_(True)], [np.array(5.0)], [bfloat16(5)]):
        with pytest.raises(TypeError, match=rf"^{name} must be an integer"):
            lc.Params(**{name: value})


def test_a_masked_array_is_no_value():
    masked = np.ma.array([1, 2], mask=[False, True])
    for name in ("seed", "temperature", "n", *TOKENS):
        for value in (masked, [1, np.ma.masked], np.ma.masked):
            with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
                lc.Params(**{name: value})
    assert lc.Params(eos_token=np.ma.array([1, 2])).eos_token == (1, 2)


@pytest.mark.parametrize("name", ["temperature", "top_k", "seed", "max_tokens", "logit_bias"])
def test_an_integer_too_long_to_print_is_refused_by_name(name):
    value = {10**5000: 1.0, "4": 10**5000} if name == "logit_bias" else -(10**5000)
    with pytest.raises(ValueError, match=name):
        lc.Params(**{name: value})


# ---- seeds, stop phrases, end tokens, flags


@pytest.mark.parametrize("seeds", [[7], (0,), np.array([3]), [2**64 - 1]])
def test_a_list_of_one_seed_for_one_sample(seeds):
    assert lc.Params(seed=seeds).seed == tuple(int(seed) for seed in seeds)


def test_a_seed_for_each_sample():
    assert lc.Params(n=3, seed=[0, -1, 2**64 - 1]).seed == (0, -1, 2**64 - 1)
    assert lc.Params(n=2, seed=np.array([5, 6], np.uint64)).seed == (5, 6)


@pytest.mark.parametrize(("n", "seeds"), [(1, [1, 2]), (3, [1, 2]), (2, [1]), (2, [])])
def test_as_many_seeds_as_samples(n, seeds):
    with pytest.raises(ValueError, match=r"^seed must be (one|an) integer"):
        lc.Params(n=n, seed=seeds)


@pytest.mark.parametrize("seeds", [[1.0], [True], ["1"], [None], np.array([0.5]), [{}]])
def test_seeds_are_integers(seeds):
    with pytest.raises(TypeError, match=r"^seed must be an integer in "):
        lc.Params(seed=seeds)


@pytest.mark.parametrize("name", ["seed", *TOKENS])
def test_a_list_of_lists_is_refused(name):
    with pytest.raises(TypeError, match=f"^{name} must be "):
        lc.Params(**{name: [[1, 2]]})


@pytest.mark.parametrize(
    ("value", "stored"),
    [(None, ()), ("\n", ("\n",)), (["a", "bc"], ("a", "bc")), (("a",), ("a",)), ([], ())],
)
def test_stop(value, stored):
    assert lc.Params(stop=value).stop == stored


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("", ValueError),
        (["a", ""], ValueError),
        ([1], TypeError),
        (5, TypeError),
        (b"a", TypeError),
        ({"a": 1}, TypeError),
        ([None], TypeError),
        (True, TypeError),
    ],
)
def test_stop_is_non_empty_strings(value, kind):
    with pytest.raises(kind, match=r"^stop must be "):
        lc.Params(stop=value)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        *[(None, ()), (2, (2,)), ([2, 7], (2, 7)), (np.array([2, 7]), (2, 7)), ([], ()), (0, (0,))],
        *[(range(2, 5), (2, 3, 4)), ({7}, (7,)), (frozenset({0}), (0,)), (range(0), ())],
    ],
)
@pytest.mark.parametrize("name", TOKENS)
def test_token_ids(name, value, stored):
    assert getattr(lc.Params(**{name: value}), name) == stored


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (-1, ValueError),
        ([3, -1], ValueError),
        (1.0, TypeError),
        ("2", TypeError),
        (True, TypeError),
        ([None], TypeError),
        ({2: 1}, TypeError),
        ([[2]], TypeError),
    ],
)
@pytest.mark.parametrize("name", TOKENS)
def test_token_ids_are_token_ids(name, value, kind):
    with pytest.raises(kind, match=rf"^{name} must be "):
        lc.Params(**{name: value})


@pytest.mark.parametrize(
    ("value", "stored"),
    [(None, ()), ([], ()), ([[1, 2], (3,)], ((1, 2), (3,))), (np.array([[1, 2]]), ((1, 2),))],
)
def test_bad_words(value, stored):
    assert lc.Params(bad_words=value).bad_words == stored


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("no", TypeError),
        (["no"], TypeError),
        ([1], TypeError),
        (5, TypeError),
        ([[1.0]], TypeError),
        ([[True]], TypeError),
        ([[[1]]], TypeError),
        ([[1], []], ValueError),
        ([[-1]], ValueError),
    ],
)
def test_bad_words_are_lists_of_token_ids(value, kind):
    with pytest.raises(kind, match=r"^bad_words must be "):
        lc.Params(bad_words=value)


def test_logprobs_is_a_flag():
    assert lc.Params(logprobs=True).logprobs is True
    assert lc.Params(logprobs=np.False_).logprobs is False
    for value in (1, 0, "true", [], 1.0):
        with pytest.raises(TypeError, match=r"^logprobs must be true or false, not "):
            lc.Params(logprobs=value)


@pytest.mark.parametrize("form", [dict, lambda fields: lc.RepetitionDetection(**fields)])
def test_repetition_detection_is_a_record_or_a_mapping(form):
    fields = {"max_pattern_size": np.int64(20), "min_count": 3}
    stored = lc.Params(repetition_detection=form(fields)).repetition_detection
    assert stored == lc.RepetitionDetection(max_pattern_size=20, min_pattern_size=0, min_count=3)
    assert (type(stored.max_pattern_size), stored.action) == (int, "stop")
    assert lc.Params(repetition_detection=form({})) == lc.Params(), "it looks for no pattern"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (5, TypeError, "repetition_detection must be a RepetitionDetection or a mapping, not 5"),
        (True, TypeError, "repetition_detection must be a RepetitionDetection or a mapping"),
        ({"min_counts": 3}, ValueError, "repetition_detection has no 'min_counts'; did you mean"),
        ({3: 3}, ValueError, "repetition_detection has no 3"),
        ({"max_pattern_size": 4}, ValueError, "repetition_detection.min_count must be in [2, inf)"),
        (
            {"max_pattern_size": 4, "min_pattern_size": 5, "min_count": 2},
            ValueError,
            "repetition_detection.min_pattern_size must be in [0, 4], not 5",
        ),
        ({"max_pattern_size": -1}, ValueError, "repetition_detection.max_pattern_size must be in"),
        ({"max_pattern_size": 1.0}, TypeError, "repetition_detection.max_pattern_size must be an"),
        ({"action": "end"}, ValueError, "repetition_detection.action must be one of stop, end_r"),
    ],
)
def test_a_repetition_detection_out_of_range(value, kind, text):
    for call in (lambda x: lc.Params(**x), lc.Params.from_request):
        with pytest.raises(kind, match=re.escape(text)) as caught:
            call({"repetition_detection": value})
        assert caught.value.field == "repetition_detection"
    with pytest.raises(kind):
        lc.find_repetition([], value)


# ---- logit_bias


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({}, {}),
        ({5: 1, 7: -2.5}, {5: 1.0, 7: -2.5}),
        ({"5": 1, "0": -100}, {5: 1.0, 0: -100.0}),
        ({np.int32(5): np.float32(0.5)}, {5: 0.5}),
        ({5: -INF}, {5: -INF}),
        ({5: 1e300, 6: -1e300}, {5: 1e300, 6: -1e300}),
    ],
)
def test_logit_bias(value, stored):
    bias = lc.Params(logit_bias=value).logit_bias
    assert bias == stored
    assert all(type(token) is int and type(number) is float for token, number in bias.items())


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ({5: math.nan}, ValueError, "logit_bias[5] must be in [-inf, inf), not nan"),
        ({5: INF}, ValueError, "logit_bias[5] must be in [-inf, inf), not inf"),
        ({"5": INF}, ValueError, "logit_bias['5'] must be in [-inf, inf), not inf"),
        ({"1": 1.0, 1: 2.0}, ValueError, "logit_bias names token 1 twice"),
        ({"1": 1.0, "01": 2.0}, ValueError, "logit_bias names token 1 twice"),
        ({-1: 1}, ValueError, "a token id in logit_bias must be in [0, vocab_size), not -1"),
        ({"-1": 1}, ValueError, "a token id in logit_bias must be in [0, vocab_size), not -1"),
    ],
)
def test_logit_bias_out_of_range(value, kind, text):
    with pytest.raises(kind, match="logit_bias") as error:
        lc.Params(logit_bias=value)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "key", ["a", "", "-", "--5", "1.0", "1e3", " 1", "٣", 1.0, True, None, (1,)]
)
def test_logit_bias_keys_are_token_ids(key):
    with pytest.raises((TypeError, ValueError), match=r"^a token id in logit_bias must be "):
        lc.Params(logit_bias={key: 1.0})


@pytest.mark.parametrize("number", [True, False, "1", None, [1.0], 1j])
def test_logit_bias_values_are_numbers(number):
    with pytest.raises(TypeError, match=r"^logit_bias\[5\] must be a number"):
        lc.Params(logit_bias={5: number})


@pytest.mark.parametrize("huge", [-(10**400), np.longdouble("-1e4000")], ids=["int", "longdouble"])
def test_a_bias_that_no_float_holds_is_no_ban(huge):
    for call in (lambda b: lc.Params(logit_bias=b), lambda b: lc.logit_bias(np.zeros(9), b)):
        with pytest.raises(ValueError, match=r"^logit_bias\[5\] must fit into a float64, not "):
            call({5: huge})
    assert lc.Params(logit_bias={5: -math.inf, 6: np.longdouble("-inf")}).logit_bias[6] == -math.inf


@pytest.mark.parametrize("value", [[], [[5, 1.0]], "5", 5, None, {5}])
def test_logit_bias_is_a_mapping(value):
    with pytest.raises(TypeError, match=r"^logit_bias must be a mapping"):
        lc.Params(logit_bias=value)


# ---- Params is a value


@pytest.mark.parametrize("name", lc.FIELDS)
def test_params_is_frozen(name):
    params = lc.Params()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(params, name, lc.FIELDS[name].off)


def test_params_keeps_its_own_copies():
    bias, stop, seeds = {5: 1.0}, ["a"], [1, 2]
    params = lc.Params(n=2, logit_bias=bias, stop=stop, seed=seeds)
    bias[6], stop[0], seeds[0] = 1.0, "b", 9
    assert (params.logit_bias, params.stop, params.seed) == ({5: 1.0}, ("a",), (1, 2))


def test_params_takes_names_only_and_known_ones():
    with pytest.raises(TypeError, match="positional"):
        lc.Params(0.5)
    with pytest.raises(TypeError, match="top_q"):
        lc.Params(top_q=0.5)


def test_equal_fields_make_equal_params():
    assert lc.Params(seed=1, logit_bias={"3": 1}) == lc.Params(seed=1, logit_bias={3: 1.0})
    assert lc.Params(seed=1) != lc.Params(seed=2)
    assert dataclasses.replace(lc.Params(seed=1, top_k=3), top_k=0) == lc.Params(seed=1)


# ---- what has been checked is not checked again

MANY = 49_152
LARGE = {
    "logit_bias": dict.fromkeys(range(MANY), -1.0),
    "allowed_tokens": range(MANY),
    "banned_tokens": range(1, MANY),
    "eos_token": range(MANY),
    "bad_words": [(token, token) for token in range(MANY)],
    "stop": [str(token) for token in range(MANY)],
    "seed": range(MANY),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_checked_value_is_taken_as_it_is(name):
    value = list(LARGE[name]) if name == "seed" else LARGE[name]
    params = lc.Params(**{name: value, "n": MANY})
    stored = getattr(params, name)
    assert getattr(dataclasses.replace(params, temperature=0.5), name) is stored
    again = {**vars(params), "top_k": 5}
    assert getattr(lc.Params(**again), name) is stored
    samples = dataclasses.replace(params, n=2, seed=7).samples()
    assert name == "seed" or all(getattr(sample, name) is stored for sample in samples)


@pytest.mark.parametrize("name", LARGE)
def test_a_checked_value_is_a_plain_one_to_all_others(name):
    small = {"logit_bias": {5: 1.0, 7: -INF}, "bad_words": ((5,), (7, 8)), "stop": ("a", "b")}
    value = small.get(name, (5, 7))
    params = lc.Params(**{name: value, "n": 2})
    stored = getattr(params, name)
    assert stored == value
    assert repr(stored) == repr(value)
    for twin in (
        *(copy.copy(params), copy.deepcopy(params), pickle.loads(pickle.dumps(params))),
        lc.Params(**{name: dataclasses.asdict(params)[name], "n": 2}),
    ):
        assert twin == params
        assert type(getattr(twin, name)) is type(stored)
    assert json.dumps({"x": stored}) == json.dumps({"x": value})


def test_a_checked_bias_cannot_be_changed():
    bias = lc.Params(logit_bias={5: 1.0}).logit_bias
    for change in (
        lambda: bias.__setitem__(5, math.nan),
        lambda: bias.__delitem__(5),
        lambda: bias.update({5: math.nan}),
        lambda: bias.setdefault(6, math.nan),
        lambda: bias.__ior__({6: math.nan}),
        *(bias.clear, bias.popitem, lambda: bias.pop(5)),
    ):
        with pytest.raises(TypeError, match=r"^logit_bias cannot be changed"):
            change()
    assert bias == {5: 1.0}
    assert type(bias | {6: 2.0}) is dict


def test_no_checked_value_is_made_without_a_check():
    for make in (
        lambda: Bias({5: math.nan}),
        lambda: Bias([(5, "x")]),
        lambda: TokenIds([-1]),
        lambda: Phrases([[]]),
        lambda: StopPhrases([""]),
        lambda: Seeds([2**64]),
    ):
        with pytest.raises((TypeError, ValueError), match="must be"):
            make()


# ---- one Params per sample


@pytest.mark.parametrize("seed", [7, -1, 2**64 - 1, [3, 1, 2]])
def test_samples_are_the_rows_of_the_batch_one_by_one(seed):
    params = lc.Params(n=3, seed=seed, top_k=5, logit_bias={1: 2.0}, stop="x")
    together, alone = lc.Batch(9), lc.Batch(9)
    rows = together.add(params)
    for row, sample in zip(rows, params.samples(), strict=True):
        assert sample == dataclasses.replace(params, n=1, seed=together.seed(row))
        (other,) = alone.add(sample)
        assert alone.seed(other) == together.seed(row)


def test_samples_without_a_seed_draw_one():
    first, second = (lc.Params(n=3, min_p=0.5).samples() for _ in range(2))
    seeds = [sample.seed for sample in first]
    assert len({*seeds}) == 3
    assert [sample.seed for sample in lc.Params(n=3, seed=seeds[0]).samples()] == seeds
    assert first != second
    (only,) = lc.Params().samples()
    assert 0 <= only.seed < 2**53


# ---- a subclass with fields of its own


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyParams(lc.Params):
    taste: float = 0.0
    lora: str | None = None
    tags: list = dataclasses.field(default_factory=list)
    temperature: float = 0.7
    made: int = dataclasses.field(default=0, init=False)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "made", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slope(lc.Params):
    rep_pen_slope: float = 1.0


@pytest.mark.parametrize("passthrough", [(), ("taste",), ("taste", "lora", "tags", "other")])
def test_a_subclass_gets_its_fields_from_the_body(passthrough):
    body = {"taste": 0.5, "lora": "x", "tags": [1], "min_p": 0.1, "messages": [], "n": 2}
    params = MyParams.from_request(body, passthrough=passthrough)
    assert params == MyParams(taste=0.5, lora="x", tags=[1], min_p=0.1, n=2)
    assert params.temperature == 0.7
    assert params.made == 1
    # A dialect's rule of this name gives way: there it is a control that is not here.
    assert Slope.from_request({"rep_pen_slope": 0.5}, dialect="koboldcpp").rep_pen_slope == 0.5
    assert MyParams.from_request({"taste": None, "user": "u"}) == MyParams()


def test_the_fields_of_a_subclass_are_not_lost():
    params = MyParams(taste=0.5, lora="x", seed=7, n=2)
    assert dataclasses.replace(params, min_p=0.5).taste == 0.5
    for sample in params.samples():
        assert type(sample) is MyParams
        assert (sample.taste, sample.lora, sample.made) == (0.5, "x", 1)
    batch = lc.Batch(9)
    assert all(batch.params(row) is params for row in batch.add(params))


def test_the_fields_of_a_subclass_are_suggested():
    for unknown, suggested in (("tastes", "taste"), ("loar", "lora"), ("min-p", "min_p")):
        with pytest.raises(ValueError, match=f"did you mean '{suggested}'"):
            MyParams.from_request({unknown: 1})
    with pytest.raises(ValueError, match="unknown field 'made'"):
        MyParams.from_request({"made": 5})


def test_a_subclass_keeps_the_checks_of_what_it_overrides():
    with pytest.raises(ValueError, match=r"^temperature must be in \[0, inf\), not -1"):
        MyParams(temperature=-1)
    with pytest.raises(ValueError, match="field 'temperature': temperature must be in"):
        MyParams.from_request({"temperature": -1})


def test_a_field_of_a_subclass_may_be_required_and_checked():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Strict(lc.Params):
        tenant: str
        slack: float = dataclasses.field(
            default=0.0, metadata={"check": lambda name, value: real_number(name, value, "[0, 1]")}
        )

    with pytest.raises(ValueError, match="the request body must have the field 'tenant'"):
        Strict.from_request({})
    with pytest.raises(ValueError, match=r"field 'slack': slack must be in \[0, 1\], not 2"):
        Strict.from_request({"tenant": "t", "slack": 2})
    with pytest.raises(TypeError, match="slack must be a number"):
        Strict(tenant="t", slack="x")
    assert Strict.from_request({"tenant": "t", "slack": 1}) == Strict(tenant="t", slack=1.0)


# ---- from_request

BODY = """
{
  "model": "m-135m", "stream": true, "stream_options": {"include_usage": true},
  "messages": [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in \\u00c5lesund?"}]}
  ],
  "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
    "properties": {"top_k": {"type": "integer"}}}}}],
  "tool_choice": "auto", "parallel_tool_calls": false,
  "response_format": {"type": "json_object"}, "user": "u-1", "metadata": {"seed": "not ours"},
  "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": false},
  "temperature": 0.8, "top_n_sigma": 2, "top_k": 40, "top_p": 0.95, "min_p": 0.05,
  "typical_p": 0.9, "top_a": 0.2, "epsilon_cutoff": 0.0003, "eta_cutoff": 0.002,
  "tfs": 0.95, "p_less": true, "top_h": 0.4, "smoothing_factor": 0.2, "smoothing_curve": 1.5,
  "dynatemp_range": 0.5, "dynatemp_exponent": 1.5, "mirostat_tau": 5, "mirostat_eta": 0.2,
  "adaptive_target": 0.4, "adaptive_decay": 0.8, "dry_multiplier": 0.8, "dry_base": 2,
  "dry_allowed_length": 3, "dry_window": 1000, "dry_sequence_breakers": [[13], [7, 8]],
  "xtc_probability": 0.5, "xtc_threshold": 0.1,
  "repetition_penalty": 1.1, "frequency_penalty": -0.25, "presence_penalty": 1,
  "logit_bias": {"1003": -100, "7": 2.5}, "seed": [9007199254740991, 0, -1], "n": 3,
  "max_tokens": 256, "min_tokens": 4, "stop": ["\\n\\n", "END"], "eos_token": 2,
  "max_total_tokens": 300, "min_total_tokens": 20, "stop_tokens": [5, [7, 8]],
  "include_stop": true, "stop_after_min_tokens": true,
  "allowed_tokens": [7, 8, 9], "banned_tokens": [8], "no_repeat_ngram": 3,
  "bad_words": [[7, 9], [9]], "banned_texts": [], "penalty_window": 64, "penalty_exempt": [3, 4],
  "ngram_window": 500, "ngram_exempt": 3, "forced_output_tokens": [5, 6],
  "reasoning_budget": 100, "reasoning_start": [11], "reasoning_end": 12, "min_reasoning": 10,
  "reasoning_message": [13, 14], "reasoning_grace": 20, "reasoning_line_ends": [15, 16],
  "reasoning_per_block": true,
  "repetition_detection": {"max_pattern_size": 20, "min_count": 4, "action": "end_reasoning"},
  "watermark": {"scheme": "sglang", "key": 18446744073709551615, "key_b": 7, "alpha": 0.25},
  "logprobs": true, "top_logprobs": 5, "logprob_token_ids": [7, 3], "logprobs_of": "top_k"
}
"""
PARSED = {
    "temperature": 0.8,
    "top_n_sigma": 2.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "typical_p": 0.9,
    "top_a": 0.2,
    "epsilon_cutoff": 0.0003,
    "eta_cutoff": 0.002,
    "tfs": 0.95,
    "p_less": True,
    "top_h": 0.4,
    "smoothing_factor": 0.2,
    "smoothing_curve": 1.5,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 1.5,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.2,
    "adaptive_target": 0.4,
    "adaptive_decay": 0.8,
    "dry_multiplier": 0.8,
    "dry_base": 2.0,
    "dry_allowed_length": 3,
    "dry_window": 1000,
    "dry_sequence_breakers": ((13,), (7, 8)),
    "xtc_probability": 0.5,
    "xtc_threshold": 0.1,
    "repetition_penalty": 1.1,
    "frequency_penalty": -0.25,
    "presence_penalty": 1.0,
    "logit_bias": {1003: -100.0, 7: 2.5},
    "seed": (2**53 - 1, 0, -1),
    "n": 3,
    "max_tokens": 256,
    "min_tokens": 4,
    "stop": ("\n\n", "END"),
    "eos_token": (2,),
    "max_total_tokens": 300,
    "min_total_tokens": 20,
    "stop_tokens": ((5,), (7, 8)),
    "include_stop": True,
    "stop_after_min_tokens": True,
    "allowed_tokens": (7, 8, 9),
    "banned_tokens": (8,),
    "no_repeat_ngram": 3,
    "bad_words": ((7, 9), (9,)),
    "penalty_window": 64,
    "penalty_exempt": (3, 4),
    "ngram_window": 500,
    "ngram_exempt": (3,),
    "forced_output_tokens": (5, 6),
    "reasoning_budget": 100,
    "reasoning_start": (11,),
    "reasoning_end": (12,),
    "min_reasoning": 10,
    "reasoning_message": (13, 14),
    "reasoning_grace": 20,
    "reasoning_line_ends": (15, 16),
    "reasoning_per_block": True,
    "repetition_detection": {
        "max_pattern_size": 20,
        "min_pattern_size": 0,
        "min_count": 4,
        "action": "end_reasoning",
    },
    "banned_texts": lc.BannedTexts(),
    "watermark": dataclasses.asdict(lc.Watermark("sglang", key=2**64 - 1, key_b=7, alpha=0.25)),
    "logprobs": True,
    "top_logprobs": 5,
    "logprob_token_ids": (7, 3),
    "logprobs_of": "top_k",
}


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("text_generation_webui", {"epsilon_cutoff": 10**400}),
        ("text_generation_webui", {"dynamic_temperature": True, "dynatemp_high": 10**400}),
        ("exllamav2", {"max_temp": 10**400}),
        ("vllm", {"sampling_params": {"sampling_params": {"temperature": 0}}}),
        ("openai", {"eos_token": json.loads("[" * 300 + "]" * 300)}),
        ("openai", {"bad_words": json.loads("[" * 300 + "]" * 300)}),
        ("openai", {"seed": json.loads("[" * 300 + "]" * 300)}),
    ],
)
def test_what_json_can_say_and_no_request_means(dialect, body):
    name = next(iter(body))
    with pytest.raises((TypeError, ValueError), match=f"request body, field '({name}|dyn|temp)"):
        lc.Params.from_request(body, dialect=dialect)


def test_numpy_numbers_in_the_bodies_of_engines():
    read = lc.Params.from_request
    webui = {"dialect": "text_generation_webui"}
    assert read({"epsilon_cutoff": np.float32(5)}, **webui) == read(
        {"epsilon_cutoff": 5.0}, **webui
    )
    body = {"dry_multiplier": np.float32(0.5), "dry_base": np.int64(3)}
    params = read(body, dialect="llama_cpp")
    assert (params.dry_multiplier, params.dry_base) == (0.5, 3.0)


def test_a_whole_body():
    body = json.loads(BODY)
    assert dataclasses.asdict(lc.Params.from_request(body)) == PARSED
    assert body == json.loads(BODY)
    assert set(PARSED) == set(lc.FIELDS)


@pytest.mark.parametrize("name", lc.FIELDS)
def test_each_field_of_the_body_alone(name):
    body = json.loads(BODY)
    some = {name: body[name], "n": body["n"], **BESIDE.get(name, {})}
    assert dataclasses.asdict(lc.Params.from_request(some))[name] == PARSED[name]


def test_a_params_goes_through_json_and_back():
    params = lc.Params.from_request(json.loads(BODY))
    texts = dataclasses.asdict(params)["banned_texts"].texts  # which no JSON has
    again = json.loads(json.dumps(dataclasses.asdict(params) | {"banned_texts": texts}))
    assert lc.Params.from_request(again) == params
    assert lc.Params.from_request(dataclasses.asdict(lc.Params())) == lc.Params()


def test_null_is_off():
    assert lc.Params.from_request(dict.fromkeys(lc.FIELDS)) == lc.Params()
    assert lc.Params.from_request({}) == lc.Params()


def test_json_may_say_minus_infinity_but_not_nan():
    parse = lc.Params.from_request
    assert parse(json.loads('{"logit_bias": {"1": -Infinity}}')).logit_bias == {1: -INF}
    for text in ('{"logit_bias": {"1": NaN}}', '{"temperature": NaN}', '{"temperature": Infinity}'):
        with pytest.raises(ValueError, match="must be in"):
            parse(json.loads(text))


@pytest.mark.parametrize("name", sorted(NOT_SAMPLING))
def test_what_is_not_sampling_is_left_alone(name):
    assert lc.Params.from_request({name: object(), "top_k": 3}) == lc.Params(top_k=3)


@pytest.mark.parametrize(
    ("unknown", "suggested"),
    [
        ("top-p", "top_p"),
        ("Temperature", "temperature"),
        ("frequency_penalti", "frequency_penalty"),
        ("max_token", "max_tokens"),
        ("xtc_treshold", "xtc_threshold"),
        ("message", "messages"),
        ("max_completion_token", "max_completion_tokens"),
    ],
)
def test_an_unknown_field_is_an_error_with_a_suggestion(unknown, suggested):
    with pytest.raises(ValueError, match="unknown field") as error:
        lc.Params.from_request({unknown: 1})
    expected = f"unknown field {unknown!r} in the request body; did you mean {suggested!r}?"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    "unknown",
    ["zzzzzzz", "input", "text", "length", "mirostat", "dry", "", 5, None, ("a", 1)],
)
def test_an_unknown_field_like_no_other_is_an_error_too(unknown):
    with pytest.raises(ValueError, match="unknown field") as error:
        lc.Params.from_request({unknown: 1})
    assert str(error.value) == f"unknown field {unknown!r} in the request body"


def test_the_name_of_an_unknown_field_is_not_repeated_without_end():
    for unknown in ("x" * 10**6, 10**5000, ("x" * 10**6,)):
        with pytest.raises(ValueError, match="unknown field") as error:
            lc.Params.from_request({unknown: 1})
        assert len(str(error.value)) < 600


def test_passthrough_leaves_a_field_to_the_caller():
    body = {"guided_json": {}, "lora": 1, "top_k": 2}
    assert lc.Params.from_request(body, passthrough=("guided_json", "lora")).top_k == 2
    assert lc.Params.from_request(body, passthrough=iter(body)).top_k == 0
    with pytest.raises(ValueError, match="unknown field 'lora'"):
        lc.Params.from_request(body, passthrough={"guided_json"})


@pytest.mark.parametrize("passthrough", [None, 5])
def test_passthrough_is_names(passthrough):
    with pytest.raises(TypeError, match="passthrough"):
        lc.Params.from_request({"top_k": 1}, passthrough=passthrough)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("min_p", 1.5, "min_p must be in [0, 1], not 1.5"),
        ("top_k", -1, "top_k must be in [0, vocab_size], not -1"),
        ("n", 0, "n must be in [1, 1048576], not 0"),
        ("top_p", True, "top_p must be a number in (0, 1], not True"),
        ("top_k", 3.0, "top_k must be an integer in [0, vocab_size], not 3.0"),
        ("temperature", "hot", "temperature must be a number in [0, inf), not 'hot'"),
        ("max_completion_tokens", 0, "max_tokens must be in [1, inf), not 0"),
        ("logit_bias", {"3": "1"}, "logit_bias['3'] must be a number in [-inf, inf), not '1'"),
        ("stop", [1], "stop must be a string or a list of strings, not [1]"),
    ],
)
def test_an_error_names_the_field_of_the_body(field, value, text):
    with pytest.raises((TypeError, ValueError), match="request body") as error:
        lc.Params.from_request({field: value})
    assert str(error.value) == f"request body, field {field!r}: {text}"


def test_a_value_that_cannot_be_read_as_an_array_names_the_field_of_the_body():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise KeyError("broken")

    with pytest.raises(TypeError, match=r"^request body, field 'top_k' of type Broken cannot be"):
        lc.Params.from_request({"top_k": Broken()})


@pytest.mark.parametrize(("dialect", "field"), [("openai", "seed"), ("sglang", "sampling_seed")])
def test_a_wrong_number_of_seeds_names_the_field_of_the_body(dialect, field):
    with pytest.raises(ValueError, match=f"field '{field}'"):
        lc.Params.from_request({field: [1, 2], "n": 3}, dialect=dialect)


@pytest.mark.parametrize("body", [None, [], [("top_k", 1)], "{}", 5, b"{}", {"top_k"}])
def test_a_body_is_a_mapping(body):
    with pytest.raises(TypeError, match=r"^the request body must be a JSON object, not "):
        lc.Params.from_request(body)


@pytest.mark.parametrize("dialect", ["gpt", "", None, 5, ["openai"]])
def test_a_dialect_is_known(dialect):
    with pytest.raises((TypeError, ValueError), match=r"^dialect must be one of openai, vllm, "):
        lc.Params.from_request({}, dialect=dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_our_own_names_are_understood_in_every_dialect(dialect):
    body = {name: value for name, value in PARSED.items() if name != "logit_bias"}
    body |= {"logit_bias": {"1003": -100, "7": 2.5}}
    expected = PARSED
    if "mirostat" in DIALECTS[dialect] or "mirostat_mode" in DIALECTS[dialect]:
        expected = expected | {
            "mirostat_tau": None,
            "mirostat_eta": 0.1,
        }  # its version is not there
    if dialect == "text_generation_webui":  # there they are in units of 1 / 10,000
        body |= {"epsilon_cutoff": 3, "eta_cutoff": 20}
        expected = expected | {"epsilon_cutoff": 3 * 1e-4, "eta_cutoff": 20 * 1e-4}
    if dialect == "friendli":  # which refuses it beside max_tokens
        del body["max_total_tokens"], body["min_total_tokens"]
        expected = expected | {"max_total_tokens": None, "min_total_tokens": 0}
    assert dataclasses.asdict(lc.Params.from_request(body, dialect=dialect)) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_new_tokens", 5), ("rep_pen", 1.0), ("sampling_seed", 1), ("n_predict", 1)],
)
def test_another_dialects_spelling_is_unknown_without_it(field, value):
    with pytest.raises(ValueError, match=f"unknown field '{field}'"):
        lc.Params.from_request({field: value})


@pytest.mark.parametrize("value", [True, -1.0, -2, "-1"])
def test_only_the_integer_minus_one_is_off_in_a_dialect(value):
    for dialect, field in (("vllm", "top_k"), ("llama_cpp", "n_predict")):
        with pytest.raises((TypeError, ValueError), match=f"request body, field '{field}'"):
            lc.Params.from_request({field: value}, dialect=dialect)


@pytest.mark.parametrize("value", [5, True, "5", [5], [[5]], [[5, 1, 2]], [[[5], 1.0]], {"5": []}])
def test_a_bad_bias_in_a_dialect_names_the_field(value):
    with pytest.raises((TypeError, ValueError), match="request body, field 'logit_bias'"):
        lc.Params.from_request({"logit_bias": value}, dialect="llama_cpp")


@pytest.mark.parametrize(
    ("body", "dialect", "second"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, "openai", "max_completion_tokens"),
        ({"n_predict": 5, "max_tokens": 5}, "llama_cpp", "max_tokens"),
        ({"seed": 1, "sampling_seed": 1}, "sglang", "sampling_seed"),
    ],
)
def test_one_field_in_two_spellings_is_an_error(body, dialect, second):
    with pytest.raises(ValueError, match=f"twice, the second time as '{second}'"):
        lc.Params.from_request(body, dialect=dialect)


def test_null_in_one_spelling_leaves_the_field_to_the_other():
    for body in (
        {"max_tokens": None, "max_completion_tokens": 6},
        {"max_completion_tokens": 6, "max_tokens": None},
    ):
        assert lc.Params.from_request(body).max_tokens == 6


def test_pairs_that_name_a_token_twice_are_an_error_as_in_a_mapping():
    with pytest.raises(ValueError, match="logit_bias names token 1 twice"):
        lc.Params.from_request({"logit_bias": [[1, 2.0], [1, 3.0]]}, dialect="llama_cpp")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"min_p": 1.5}, "min_p"),
        ({"top-p": 0.5}, "top-p"),
        ({"seed": [1, 2], "n": 3}, "seed"),
        ({"temperature": 1, "stop": ""}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"min_p": "x"}, "min_p"),
    ],
)
def test_an_error_has_the_name_of_the_field(body, field):
    with pytest.raises((TypeError, ValueError)) as error:
        lc.Params.from_request(body)
    assert error.value.field == field
    if field in lc.FIELDS:
        with pytest.raises((TypeError, ValueError)) as error:
            lc.Params(**body)
        assert error.value.field == field


def test_of_a_dialect_the_error_has_the_name_in_the_body():
    for body, field in (
        ({"min_length": -1}, "min_length"),
        ({"max_length": 5, "max_tokens": 5}, "max_tokens"),
    ):
        with pytest.raises(ValueError, match=field) as error:
            lc.Params.from_request(body, dialect="exllamav2")
        assert error.value.field == field


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        *[(name, [9], [3, 10]) for name in ("allowed_tokens", "banned_tokens", "eos_token")],
        *[(name, [9], [10]) for name in ("penalty_exempt", "ngram_exempt")],
        *[(name, [[9, 1], [2]], [[1], [2, 10]]) for name in ("bad_words", "dry_sequence_breakers")],
        ("logit_bias", {9: 1.0}, {3: 1.0, 10: 1.0}),
        ("top_k", 10, 11),
        ("banned_tokens", [], [2**70]),
    ],
)
def test_tokens_that_the_vocabulary_lacks(field, good, bad):
    """`check_vocabulary` and `Batch.add` say the same of them."""
    lc.Params(**{field: good}).check_vocabulary(10)
    lc.Batch(10).add(lc.Params(**{field: good}))
    wrong = lc.Params(**{field: bad})
    for check in (lambda: wrong.check_vocabulary(10), lambda: lc.Batch(10).add(wrong)):
        with pytest.raises(ValueError, match=f"{field}.* must be in .0, 10.*, not 1") as error:
            check()
        assert error.value.field == field


@pytest.mark.parametrize(
    ("read", "body", "field"),
    [
        (lc.Params, {"sampling_params": 3}, "sampling_params"),
        (lc.Params, {"sampling_params": {"sampling_params": {}}}, "sampling_params"),
        (lc.Params, {"top_p": np.ma.masked}, "top_p"),
        (lc.Chain, {"sampling_params": 3}, "sampling_params"),
    ],
)
def test_every_error_of_a_body_has_its_field(read, body, field):
    with pytest.raises((TypeError, ValueError)) as caught:
        read.from_request(body, dialect="vllm")
    assert caught.value.field == field


@pytest.mark.parametrize("body", [{"samplers": ["x"]}, {"samplers": 1}, {"mirostat": "x"}])
def test_every_error_of_an_order_has_its_field(body):
    with pytest.raises((TypeError, ValueError)) as caught:
        lc.Chain.from_request(body, dialect="llama_cpp")
    assert caught.value.field == next(iter(body))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None, "a"])
def test_a_vocabulary_to_check_has_a_size(size):
    with pytest.raises((TypeError, ValueError), match=r"^vocab_size must be"):
        lc.Params().check_vocabulary(size)
