"""How the values of callers are read, and how errors show them."""

import time
from decimal import Decimal

import numpy as np
import pytest

import logitchain as lc
from logitchain.inputs.values import LONGEST, buffer, one_of, show, suggestion

NAMES = [*lc.FIELDS, "messages", "model", "tools", "stream", "user", "metadata", "functions"]

TYPOS = {
    **{"top-p": "top_p", "topP": "top_p", "TOP_K": "top_k", "tpo_k": "top_k", "mni_p": "min_p"},
    **{"Temperature": "temperature", "tempertaure": "temperature", "temprature": "temperature"},
    **{"max_token": "max_tokens", "max tokens": "max_tokens", "maxTokens": "max_tokens"},
    **{"frequency_penalti": "frequency_penalty", "presense_penalty": "presence_penalty"},
    **{"repitition_penalty": "repetition_penalty", "xtc_treshold": "xtc_threshold"},
    **{"logits_bias": "logit_bias", "logprob": "logprobs", "eos_tokens": "eos_token"},
    **{"seeds": "seed", "stops": "stop", "bad_word": "bad_words", "message": "messages"},
}
OTHERS = [
    "input",
    "prompt",
    "text",
    "title",
    "length",
    "format",
    "echo",
    "suffix",
    "best_of",
    "mirostat",
    "xylophone",
    "grammar",
    "json_schema",
    "guided_json",
    "lora",
    "images",
    "max_length",
    "min_length",
    "n_predict",
    "x",
    "zzz",
    "need",
]


@pytest.mark.parametrize("typo", TYPOS)
def test_a_misspelt_name_is_suggested(typo):
    assert suggestion(typo, NAMES) == f"; did you mean {TYPOS[typo]!r}?"


@pytest.mark.parametrize("word", [*OTHERS, "", "-", "_" * 200, "top_p" * 10**6, 5, None, ["top-p"]])
def test_another_word_is_not(word):
    assert suggestion(word, NAMES) == ""


@pytest.mark.parametrize(
    ("call", "suggested"),
    [
        (lambda: lc.Chain(("min-p",)), "min_p"),
        (lambda: lc.Chain((("min-p", {}),)), "min_p"),
        (lambda: lc.Chain((("top_k", {"tie": "all"}),)), "ties"),
        (lambda: lc.Chain((("top_k", {"ties": "All"}),)), "all"),
        (lambda: lc.Chain.preset("llamacpp"), "llama_cpp"),
        (lambda: lc.Chain.preset("vLLM"), "vllm"),
        (
            lambda: lc.Params.from_request({}, dialect="text-generation-webui"),
            "text_generation_webui",
        ),
        (
            lambda: lc.Chain()(np.zeros((0, 3), np.float32), lc.Batch(3), until="tempurature"),
            "temperature",
        ),
        (lambda: lc.Batch(3)["topk"], "top_k"),
        (lambda: lc.top_k([1.0], 1, ties="ALL"), "all"),
    ],
)
def test_a_misspelt_word_is_suggested_wherever_it_is_one_of_several(call, suggested):
    with pytest.raises((TypeError, ValueError), match=r"must be one of|there is no") as error:
        call()
    assert str(error.value).endswith(f"; did you mean {suggested!r}?")


def test_a_word_of_another_type_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"^x must be one of a, b, not 5$"):
        one_of("x", 5, ["a", "b"])


# ---- values in errors


class Failing:
    def __repr__(self):
        raise KeyError("no repr")


class Endless:
    def __repr__(self):
        while True:
            pass


class Longest(str):
    def __repr__(self):
        return "x" * 10**9


def itself():
    value = []
    value.append(value)
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[
            (x, repr(x))
            for x in (None, True, 5, 0.5, "a", b"a", 1j, ..., range(3), [], (), {}, set())
        ],
        *[
            (x, repr(x))
            for x in ([1, "a"], (1,), (1, 2), {"a": [1]}, {1}, frozenset({1}), nested(9))
        ],
        *[(x, repr(x)) for x in (10**400, lc.Params(eos_token=5).eos_token)],
        *[
            (np.float32(0.5), "0.5"),
            (np.int8(5), "5"),
            (np.str_("a"), "'a'"),
            (np.bool_(1), "True"),
        ],
        *[(np.array([1, 2]), "array([1, 2])"), (10**5000, "an integer of 16610 bits")],
        (np.zeros((9, 99)), "an array of shape (9, 99) and float64"),
        (np.array([Failing()]), "an array of shape (1,) and object"),
        *[(Failing(), "an object of type Failing"), (Endless(), "an object of type Endless")],
        *[(Longest("a"), "an object of type Longest"), (Decimal(1), "an object of type Decimal")],
        ([1, {"a": Failing()}], "[1, {'a': an object of type Failing}]"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 50 else "",
)
def test_a_value_is_shown(value, text):
    assert show(value) == text


@pytest.mark.parametrize(
    "value",
    [
        *["x" * 10**7, b"x" * 10**7, [1] * 10**6, (1.5,) * 10**6, set(range(10**6)), itself()],
        *[
            nested(10**5),
            dict.fromkeys(range(10**4), "x" * 10**5),
            np.zeros(10**6),
            [["x"] * 9**5] * 99,
        ],
        *[{"x" * 10**6: itself()}, Longest("x" * 10**6), lc.Params(stop=["x" * 10**6])],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_long_value_is_cut_in_no_time(value):
    start = time.process_time()
    assert len(show(value)) <= LONGEST + 3
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: lc.Params(min_p=x),
        lambda x: lc.Params(seed=x),
        lambda x: lc.Params(stop=x),
        lambda x: lc.Params(logit_bias={5: x}),
        lambda x: lc.Params(logprobs=x),
        lambda x: lc.Params.from_request(x),
        lambda x: lc.Params.from_request({x: 1}),
        lambda x: lc.Params.from_request({}, dialect=x),
        lambda x: lc.Params.from_request({"typical_p": x}, dialect="llama_cpp"),
        lambda x: lc.Chain((x,)),
        lambda x: lc.Chain((("top_k", {x: 1}),)),
        lambda x: lc.Chain(on_invalid=x),
        lambda x: lc.Batch(x),
        lambda x: lc.Batch(3).add(x),
        lambda x: lc.Choice(lc.Params(), x, seed=1),
        lambda x: lc.uniform(x, 0),
        lambda x: lc.top_p([1.0], x),
        lambda x: lc.temperature([1.0], x),
    ],
)
@pytest.mark.parametrize("kind", [Failing, Endless])
def test_every_error_shows_an_object_by_its_type(call, kind):
    with pytest.raises((TypeError, ValueError), match=f"an object of type {kind.__name__}"):
        call(kind())


# ---- arrays


def test_a_masked_array_is_no_array():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for call in (lc.temperature, lc.top_p, lc.min_p):
        for logits in (masked, [masked], [[1.0, np.ma.masked]], [1.0, np.ma.masked]):
            with pytest.raises(
                (TypeError, ValueError), match=r"^logits must have no masked entries"
            ):
                call(logits, 0.5)
    with pytest.raises(ValueError, match=r"^temperature must have no masked entries"):
        lc.temperature(np.zeros((2, 3), np.float32), masked)
    with pytest.raises(ValueError, match=r"^prompt_tokens must have no masked entries"):
        lc.Batch(9).add(lc.Params(), np.ma.array([1, 2], mask=[False, True]))
    kept = np.ma.array([1.0, 2.0])
    assert (lc.top_p(kept, 1.0) == [1.0, 2.0]).all()


def test_any_error_of_an_array_interface_names_the_argument():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise KeyError("x" * 10**6)

    with pytest.raises(
        TypeError, match=r"^logits of type Broken cannot be read as an array"
    ) as error:
        buffer("logits", Broken())
    assert len(str(error.value)) < 600


def test_seeds_and_positions_in_lists_are_integers_of_numpy_too():
    batch = lc.Batch(3)
    batch.add(lc.Params(n=2, seed=7))
    logits = np.zeros((2, 3), np.float32)
    expected = lc.sample(logits, seed=batch.seeds, position=batch.positions)
    for seed, position in (
        (list(batch.seeds), list(batch.positions)),
        (tuple(batch.seeds), [np.array(0), np.int8(0)]),
        ([np.array(x) for x in batch.seeds], np.int64(0)),
    ):
        assert (lc.sample(logits, seed=seed, position=position) == expected).all()
    assert lc.uniform(np.int64(7), [np.uint64(0)])[0] == lc.uniform(7, 0)
    for bad in ([True], [1.0], [np.float32(1)], [np.bool_(True)], [np.timedelta64(1)]):
        with pytest.raises(TypeError, match=r"^position must be an integer"):
            lc.uniform(7, bad)
        with pytest.raises(TypeError, match="prompt_tokens must be a sequence of integers"):
            lc.Batch(9).add(lc.Params(), bad)
    assert lc.Batch(9).add(lc.Params(), [np.array(1), np.int8(2), 3]) == [0]
