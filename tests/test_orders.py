"""The chain in the order that a request body asks for."""

import re

import pytest

import logitchain as lc
from by_hand import MASKS, ORDERS, steps
from logitchain.dialects import DIALECTS

PENALTIES = ["repetition_penalty", "frequency_penalty", "presence_penalty"]
TEMPERATURE = ["temperature", "dynamic_temperature"]


def order(dialect, **body):
    """The names of the steps behind the masks and `logit_bias`."""
    chain = lc.Chain.from_request(body, dialect=dialect)
    names = [step.name for step in chain.steps]
    assert names[: len(MASKS) + 1] == [*MASKS, "logit_bias"]
    return names[len(MASKS) + 1 :]


def error(dialect, **body):
    with pytest.raises((TypeError, ValueError)) as raised:
        lc.Chain.from_request(body, dialect=dialect)
    return type(raised.value), str(raised.value)


def preset(name):
    return lc.Chain.preset(name).steps


# ---- bodies that do not ask


def test_every_preset_has_a_dialect():
    assert lc.PRESETS.keys() == DIALECTS.keys() - {"openai", "friendli"} == ORDERS.keys()


@pytest.mark.parametrize("dialect", lc.PRESETS)
def test_the_preset_is_the_order_of_a_body_that_does_not_ask(dialect):
    unset = {"samplers": None, "sampler_order": None, "sampler_priority": None}
    off = {"temperature_last": None, "mirostat": None}
    for body in ({}, {"top_k": 4, "model": "m"}, unset | off):
        assert lc.Chain.from_request(body, dialect=dialect).steps == preset(dialect)


def test_the_default_order_is_that_of_an_openai_body():
    assert lc.Chain.from_request({"samplers": ["top_k"]}).steps == lc.Chain().steps


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "transformers", "mlx_lm", "openvino_genai"])
def test_other_engines_do_not_let_a_body_ask(dialect):
    body = {"samplers": 5, "temperature_last": True, "mirostat": 2}
    assert lc.Chain.from_request(body, dialect=dialect).steps == preset(dialect)


def test_the_arguments_of_a_chain():
    chain = lc.Chain.from_request({}, dialect="llama_cpp", on_invalid="mark", threads=2)
    assert (chain.on_invalid, chain.threads) == ("mark", 2)
    with pytest.raises(ValueError, match="dialect must be one of openai, vllm"):
        lc.Chain.from_request({}, dialect="llama-cpp")
    with pytest.raises(TypeError, match="the request body must be a JSON object, not"):
        lc.Chain.from_request([{}])


def test_a_subclass_makes_its_own_kind():
    class Mine(lc.Chain):
        pass

    assert type(Mine.from_request({})) is Mine


# ---- llama.cpp

SAMPLERS = {
    "penalties": PENALTIES,
    "dry": ["dry"],
    "top_n_sigma": ["top_n_sigma"],
    "top_k": ["top_k"],
    "typ_p": ["typical_p"],
    "top_p": ["top_p"],
    "min_p": ["min_p"],
    "xtc": ["xtc"],
    "temperature": TEMPERATURE,
    "infill": [],
    "adaptive_p": ["adaptive_p"],
}
OTHERS = {
    **{
        "top-k": "top_k",
        "top-p": "top_p",
        "nucleus": "top_p",
        "min-p": "min_p",
        "temp": "temperature",
    },
    **{"typical-p": "typ_p", "typical": "typ_p", "typ-p": "typ_p", "typ": "typ_p"},
    **{"top-n-sigma": "top_n_sigma", "adaptive-p": "adaptive_p", "topk": "top_k", "minp": "min_p"},
    **{"Top_K": "top_k", "DRY": "dry", "topnsigma": "top_n_sigma"},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_of_llama_cpp(name):
    assert order("llama_cpp", samplers=[name]) == SAMPLERS[name]
    for spelling in (other for other, one in OTHERS.items() if one == name):
        assert order("llama_cpp", samplers=[spelling]) == SAMPLERS[name]


def test_samplers_of_llama_cpp_as_letters():
    for letter, name in zip("edskypmxtia", SAMPLERS, strict=True):
        assert order("llama_cpp", samplers=letter) == SAMPLERS[name]
    assert order("llama_cpp", samplers="tkp") == [*TEMPERATURE, "top_k", "top_p"]


def test_samplers_come_in_the_order_of_the_body_with_the_options_of_the_preset():
    body = {"samplers": ["temperature", "min_p", "penalties", "dry"]}
    chain = lc.Chain.from_request(body, dialect="llama_cpp")
    assert [(step.name, step.options) for step in chain.steps[len(MASKS) + 1 :]] == [
        *[(name, {}) for name in (*TEMPERATURE, "min_p")],
        *[(name, {"scope": "all", "window": 64}) for name in PENALTIES],
        ("dry", {"window": 64}),
    ]


def test_adaptive_p_of_llama_cpp_comes_last_and_once_and_others_come_again():
    names = ["adaptive_p", "top_k", "adaptive-p", "top_k"]
    assert order("llama_cpp", samplers=names) == ["top_k", "top_k", "adaptive_p"]


def test_no_samplers_are_an_order():
    assert order("llama_cpp", samplers=[]) == order("llama_cpp", samplers="") == []


def test_mirostat_of_llama_cpp_has_its_own_chain():
    for body in ({}, {"samplers": ["top_k"]}):
        assert order("llama_cpp", mirostat=2, **body) == ["temperature", "mirostat"]
    assert order("llama_cpp", mirostat=0) == order("llama_cpp")


# ---- koboldcpp

LAST = ["xtc", "adaptive_p"]
NUMBERS = {
    0: ["top_k"],
    1: ["top_a"],
    2: ["top_p", "min_p"],
    3: ["tfs"],
    4: ["typical_p"],
    5: [*TEMPERATURE, "quadratic", "top_n_sigma"],
    6: ["repetition_penalty", "presence_penalty"],
}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_sampler_of_koboldcpp(number):
    assert order("koboldcpp", sampler_order=[number]) == ["dry", *NUMBERS[number], *LAST]


def test_the_recommended_order_of_koboldcpp_is_the_preset_without_mirostat():
    usual = order("koboldcpp", sampler_order=[6, 0, 1, 3, 4, 2, 5])
    assert usual == [name for name in order("koboldcpp") if name != "mirostat"]
    assert order("koboldcpp", sampler_order=[]) == order("koboldcpp")
    assert order("koboldcpp", sampler_order=[0, 0]) == ["dry", "top_k", "top_k", *LAST]


@pytest.mark.parametrize("field", ["mirostat", "mirostat_mode"])
def test_mirostat_of_koboldcpp_has_its_own_chain(field):
    own = ["dry", "repetition_penalty", "presence_penalty", "temperature", "quadratic", "mirostat"]
    assert order("koboldcpp", **{field: 2}, sampler_order=[0]) == own
    assert order("koboldcpp", **{field: 0}, sampler_order=[0]) == ["dry", "top_k", *LAST]


# ---- text-generation-webui

#: In which order those come first that have no place in a body's order.
UNNAMED = [
    *("no_repeat_ngram", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff"),
    *("eta_cutoff", "dry", "repetition_penalty", "presence_penalty", "frequency_penalty", "tfs"),
    *("top_a", "top_n_sigma", "adaptive_p", "xtc", "dynamic_temperature", "quadratic", "mirostat"),
]


def webui(**body):
    chain = lc.Chain.from_request(body, dialect="text_generation_webui")
    names = [step.name for step in chain.steps]
    assert names[: len(MASKS)] == [*MASKS[:5], *MASKS[6:], "logit_bias"]
    return names[len(MASKS) :]


@pytest.mark.parametrize("name", [*UNNAMED, "quadratic_sampling", "encoder_repetition_penalty"])
def test_a_sampler_of_text_generation_webui(name):
    if name == "quadratic":
        return
    ours = {"quadratic_sampling": "quadratic", "encoder_repetition_penalty": ""}.get(name, name)
    others = [one for one in UNNAMED if one != ours]
    for spelling in ([name], name, f" {name}\n", [name, name]):
        assert webui(sampler_priority=spelling) == [*others, *filter(None, [ours])]


def test_a_priority_of_text_generation_webui():
    text = "\n".join(name.replace("quadratic", "quadratic_sampling") for name in reversed(UNNAMED))
    assert webui(sampler_priority=text) == UNNAMED[::-1]
    assert webui(sampler_priority="top_p, top_k,temperature")[-3:] == [
        "top_p",
        "top_k",
        "temperature",
    ]
    for nothing in ([], "", "\n"):
        assert webui(sampler_priority=nothing) == webui()
    chain = lc.Chain.from_request({"sampler_priority": ["top_k"]}, dialect="text_generation_webui")
    assert chain.steps[-1] == lc.Chain([("top_k", {"ties": "all"})]).steps[0]


def test_temperature_last_of_text_generation_webui():
    moved = ["temperature", "dynamic_temperature", "quadratic"]
    others = [name for name in webui() if name not in moved]
    assert webui(temperature_last=True) == [*others, *moved]
    assert webui(temperature_last=False) == webui()
    named = webui(sampler_priority=["temperature", "top_k"], temperature_last=True)
    assert named[-4:] == ["top_k", *moved]


def test_what_follows_the_draw_of_text_generation_webui_is_left_out():
    usual = webui()
    for body, last in (
        ({"adaptive_target": 0.5}, "adaptive_p"),
        ({"mirostat_mode": 2}, "mirostat"),
        ({"adaptive_target": 0.5, "mirostat_mode": 2}, "adaptive_p"),
    ):
        assert webui(**body) == usual[: usual.index(last) + 1]
        assert "temperature" not in webui(temperature_last=True, **body)
    assert webui(adaptive_target=0, mirostat_mode=0) == usual


# ---- exllamav2 and exllamav3


def test_temperature_last_of_exllamav2_and_exllamav3():
    for dialect, behind in (("exllamav2", "dynamic_temperature"), ("exllamav3", "xtc")):
        names = [name for name, _ in steps(ORDERS[dialect]) if name != "temperature"]
        names.insert(names.index(behind), "temperature")
        chain = lc.Chain.from_request({"temperature_last": True}, dialect=dialect)
        assert [step.name for step in chain.steps] == names
        chain = lc.Chain.from_request({"temperature_last": False}, dialect=dialect)
        assert chain.steps == preset(dialect)


# ---- errors

NAMES = (
    "penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature, infill, adaptive_p"
)
ERRORS = [
    ("llama_cpp", "samplers", ["top_j"], ValueError, f"must be of {NAMES}, not 'top_j'"),
    ("llama_cpp", "samplers", [5], TypeError, f"must be of {NAMES}, not 5"),
    ("llama_cpp", "samplers", ["k"], ValueError, f"must be of {NAMES}, not 'k'"),
    ("llama_cpp", "samplers", 5, TypeError, f"must be a list or a string of {NAMES}, not 5"),
    *[
        (
            "llama_cpp",
            "samplers",
            "kz",
            ValueError,
            f"must be of {', '.join('edskypmxtia')}, not 'z'",
        )
    ],
    *[
        (
            "llama_cpp",
            "mirostat",
            1,
            ValueError,
            "must be 0 or 2, only version 2 is supported, not 1",
        )
    ],
    ("llama_cpp", "mirostat", "2", TypeError, "must be 0 or 2, not '2'"),
    ("koboldcpp", "sampler_order", [7], ValueError, "must be of 0, 1, 2, 3, 4, 5, 6, not 7"),
    ("koboldcpp", "sampler_order", [True], TypeError, "must be of 0, 1, 2, 3, 4, 5, 6, not True"),
    ("koboldcpp", "sampler_order", [0.0], TypeError, "must be of 0, 1, 2, 3, 4, 5, 6, not 0.0"),
    (
        "koboldcpp",
        "sampler_order",
        "60",
        TypeError,
        "must be a list of 0, 1, 2, 3, 4, 5, 6, not '60'",
    ),
    (
        "koboldcpp",
        "sampler_order",
        [0] * 8,
        ValueError,
        "must have at most 7 items, not 8: [0, 0, 0",
    ),
    ("text_generation_webui", "sampler_priority", ["top-k"], ValueError, "must be of encoder_"),
    (
        "text_generation_webui",
        "sampler_priority",
        "top_k\ntop_q",
        ValueError,
        "must be of encoder_",
    ),
    ("text_generation_webui", "sampler_priority", {}, TypeError, "must be a list or a string of"),
    ("text_generation_webui", "mirostat_mode", 1, ValueError, "must be 0 or 2, only version 2"),
    *[
        (dialect, "temperature_last", 1, TypeError, "must be true or false, not 1")
        for dialect in ("text_generation_webui", "exllamav2", "exllamav3")
    ],
]


@pytest.mark.parametrize(("dialect", "field", "value", "kind", "text"), ERRORS)
def test_an_error_names_the_field_the_legal_values_and_the_value(dialect, field, value, kind, text):
    raised, message = error(dialect, **{field: value})
    assert raised is kind
    assert message.startswith(f"request body, field {field!r}: {field} {text}")
    assert len(message) < 700


def test_an_error_suggests_the_nearest_name():
    assert error("llama_cpp", samplers=["top_kk"])[1].endswith("; did you mean 'top_k'?")
    _, message = error("text_generation_webui", sampler_priority=["top-k"])
    assert message.endswith("not 'top-k'; did you mean 'top_k'?")


# ---- chains that are kept


def test_equal_orders_have_equal_steps():
    of = lc.Chain.from_request
    letters = of({"samplers": "kt"}, dialect="llama_cpp")
    names = of({"samplers": ["top-k", "temp"], "top_k": 3}, dialect="llama_cpp")
    assert letters.steps == names.steps
    assert letters.steps != of({"samplers": "tk"}, dialect="llama_cpp").steps
    assert repr(letters) == repr(names)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("llama_cpp", {"samplers": "tk", "top_k": 2, "temperature": 0.5}),
        ("koboldcpp", {"sampler_order": [5, 0], "top_k": 2, "temperature": 0.5}),
    ],
)
def test_a_chain_of_a_body_processes_its_request(dialect, body):
    batch = lc.Batch(vocab_size=3)
    batch.add(lc.Params.from_request(body, dialect=dialect))
    rows = lc.Chain.from_request(body, dialect=dialect)([[1.0, 3.0, 2.0]], batch)
    assert re.sub(r"\s", "", str(rows)) == "[[-inf6.4.]]"
