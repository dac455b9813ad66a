"""llama.cpp: its samplers, in the library that the wheel `xllamacpp` or `llama_cpp` brings."""

import ctypes
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_bool, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case, Row
from .known import (
    K_BEYOND,
    K_OF_MINUS_ONE,
    OURS,
    P_ABOVE_ONE,
    P_IN_FLOAT32,
    P_OF_ZERO,
    THRESHOLD,
    TOO_COLD,
    TYPICAL,
    Known,
    alike,
    at_deviation,
    beyond,
    both,
    gives,
    instead,
    requested,
    rescaled,
    tied,
)

CONTROLS = (
    *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature"),
    *("dynamic_temperature", "mirostat", "adaptive_p"),
)

TIES = "of equal logits where top_k, top_p or XTC cuts an arbitrary one stays"

KNOWN = (
    *OURS,
    Known(
        "logit_bias",
        instead(
            lambda case: max(case.get("logit_bias"), default=0) >= case.row.size,
            logit_bias=lambda case: {
                token: x for token, x in case.get("logit_bias").items() if token < case.row.size
            },
        ),
        "An id outside the vocabulary is an error in vLLM, SGLang and transformers, ignored in "
        "llama.cpp and exllamav3",
    ),
    Known("frequency_penalty", beyond, "any finite number in llama.cpp's server"),
    Known("presence_penalty", beyond, "any finite number in llama.cpp's server"),
    Known("top_k", tied(), TIES),
    K_OF_MINUS_ONE,
    K_BEYOND,
    Known("top_p", tied(), TIES),
    P_IN_FLOAT32,
    TYPICAL,
    Known(
        "typical_p",
        both(
            requested(
                lambda case: case.get("top_n_sigma") > 0 or bool(np.isneginf(case.row).any())
            ),
            lambda difference, _: difference.filtered,
        ),
        "With a removed token in the row, llama.cpp's entropy is NaN",
        rounding=True,
    ),
    Known(
        "dynamic_temperature",
        rescaled,
        "llama.cpp sums the entropy in float32",
        rounding=True,
    ),
    Known(
        "adaptive_p",
        alike(1e-3),
        "llama.cpp's probabilities are float32",
        rounding=True,
    ),
    Known(
        "top_n_sigma",
        at_deviation,
        "llama.cpp sums the squares in float32",
        rounding=True,
    ),
    P_OF_ZERO,
    P_ABOVE_ONE,
    Known(
        "min_p",
        instead(lambda case: case.get("min_p") > 1, min_p=1.0),
        "llama.cpp checks no range (above 1 the best stays)",
    ),
    Known(
        "min_p",
        instead(lambda case: case.get("min_p") < 0, min_p=0.0),
        "llama.cpp checks no range (above 1 the best stays)",
    ),
    Known(
        "xtc",
        instead(lambda case: case.get("xtc_threshold") == 0, xtc_threshold=1e-30),
        "its threshold 0 is off",
    ),
    Known(
        "xtc",
        gives(
            lambda case: case.get("xtc_threshold") == 0 and bool(np.isneginf(case.row).any()),
            lambda difference: np.full(difference.case.row.size, -np.inf, np.float32),
        ),
        "llama.cpp and text-generation-webui remove every finite token.",
    ),
    Known("xtc", tied(), TIES),
    Known("xtc", THRESHOLD, "a value filter keeps `q >= threshold * (1 - e)`", rounding=True),
    Known(
        "temperature",
        instead(lambda case: case.get("temperature") < 0, temperature=0.0),
        "greedy in llama.cpp (also T < 0)",
    ),
    TOO_COLD,
)

#: The wheels that bring the library, and where in them it is.
WHEELS = {"xllamacpp": "xllamacpp*.so", "llama_cpp": "lib/libllama.*"}

#: What a wheel is called where that is not the name of its package.
DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python"}

#: The default order, by the samplers' own names, and how many tokens the penalties look back.
ORDER = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
LAST = 64


class TokenArray(ctypes.Structure):
    """llama_token_data_array."""

    _fields_ = (
        ("data", c_void_p),
        ("size", c_size_t),
        ("selected", c_int64),
        ("is_sorted", c_bool),
    )


class LogitBias(ctypes.Structure):
    """llama_logit_bias."""

    _fields_ = (("token", c_int32), ("bias", c_float))


class ChainParams(ctypes.Structure):
    """llama_sampler_chain_params."""

    _fields_ = (("no_perf", c_bool),)


#: llama_token_data
RECORD = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

#: What the functions llama_sampler_... return and take.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "chain_init": (c_void_p, ChainParams),
    "chain_add": (None, c_void_p, c_void_p),
    "accept": (None, c_void_p, c_int32),
    "apply": (None, c_void_p, POINTER(TokenArray)),
    "free": (None, c_void_p),
    "init_logit_bias": (c_void_p, c_int32, c_int32, POINTER(LogitBias)),
    "init_penalties": (c_void_p, c_int32, c_int32, c_float, c_float, c_float),
    "init_top_k": (c_void_p, c_int32),
    "init_top_p": (c_void_p, c_float, c_size_t),
    "init_min_p": (c_void_p, c_float, c_size_t),
    "init_top_n_sigma": (c_void_p, c_float),
    "init_typical": (c_void_p, c_float, c_size_t),
    "init_dry": (c_void_p, c_void_p, c_float, c_float, c_int32, c_int32, c_void_p, c_size_t),
    "init_xtc": (c_void_p, c_float, c_float, c_size_t, c_uint32),
    "init_temp": (c_void_p, c_float),
    "init_temp_ext": (c_void_p, c_float, c_float, c_float),
    "init_mirostat_v2": (c_void_p, c_uint32, c_float, c_float),
    "init_adaptive_p": (c_void_p, c_float, c_float, c_uint32),
    "init_dist": (c_void_p, c_uint32),
}

#: What makes the sampler of a name: the function, and its arguments for a case.
SAMPLERS: dict[str, tuple[str, Callable[[Case], tuple[Any, ...]]]] = {
    "penalties": (
        "init_penalties",
        lambda case: (
            *(case.row.size, LAST, case.get("repetition_penalty")),
            *(case.get("frequency_penalty"), case.get("presence_penalty")),
        ),
    ),
    "dry": (
        "init_dry",
        lambda case: (
            *(None, case.get("dry_multiplier"), case.get("dry_base")),
            case.get("dry_allowed_length"),
            *(LAST if case.get("dry_window") is None else case.get("dry_window"), None, 0),
        ),
    ),
    "top_n_sigma": ("init_top_n_sigma", lambda case: (case.get("top_n_sigma"),)),
    "typ_p": ("init_typical", lambda case: (case.get("typical_p"), 0)),
    "top_k": ("init_top_k", lambda case: (case.get("top_k"),)),
    "top_p": ("init_top_p", lambda case: (case.get("top_p"), 0)),
    "min_p": ("init_min_p", lambda case: (case.get("min_p"), 0)),
    "xtc": (
        "init_xtc",
        lambda case: (case.get("xtc_probability"), case.get("xtc_threshold"), 0, 0),
    ),
    "temperature": (
        "init_temp_ext",
        lambda case: (
            *(case.get("temperature"), case.get("dynatemp_range")),
            case.get("dynatemp_exponent"),
        ),
    ),
}


def version() -> str:
    """Whose library it is, and its version."""
    wheel, _ = _wheel()
    return f"llama.cpp of {wheel} {metadata.version(DISTRIBUTIONS.get(wheel, wheel))}"


def runs(case: Case) -> bool:
    """Whether a case can be run: sequence breakers would need a model's vocabulary."""
    return not case.get("dry_sequence_breakers")


def process(case: Case) -> Row:
    """The row as llama.cpp's chain of samplers leaves it to the draw."""
    call = library()
    chain = call["chain_init"](ChainParams(True))
    for sampler in _samplers(call, case):
        call["chain_add"](chain, sampler)
    for token in (*case.prompt, *case.output):
        call["accept"](chain, token)
    records = np.zeros(case.row.size, RECORD)
    records["id"], records["logit"] = np.arange(case.row.size), case.row
    array = TokenArray(records.ctypes.data, case.row.size, -1, False)
    call["apply"](chain, ctypes.byref(array))
    call["free"](chain)
    start = (array.data - records.ctypes.data) // RECORD.itemsize  # XTC moves the pointer
    survivors = records[start : start + array.size]
    out = np.full(case.row.size, -np.inf, np.float32)
    out[survivors["id"]] = survivors["logit"]
    return out


def _samplers(call: dict[str, Any], case: Case) -> Iterator[Any]:
    bias = [LogitBias(*entry) for entry in case.get("logit_bias").items()]
    if bias:
        entries = (LogitBias * len(bias))(*bias)
        yield call["init_logit_bias"](case.row.size, len(bias), entries)
    for name in _order():
        if name in SAMPLERS:
            function, arguments = SAMPLERS[name]
            yield call[function](*arguments(case))
    if case.get("mirostat_tau") is not None:
        yield call["init_mirostat_v2"](0, case.get("mirostat_tau"), case.get("mirostat_eta"))
    if case.get("adaptive_target") is not None:
        state = case.get("adaptive_target"), case.get("adaptive_decay")
        yield call["init_adaptive_p"](*state, 0)


def _wheel() -> tuple[str, Path]:
    """The wheel that is installed, and where."""
    for wheel in WHEELS:
        spec = find_spec(wheel)
        if spec and spec.origin:
            return wheel, Path(spec.origin).parent
    raise ModuleNotFoundError(f"one of {', '.join(WHEELS)} must be installed")


@cache
def library() -> dict[str, Any]:
    """The functions of the library, by name."""
    wheel, folder = _wheel()
    library = ctypes.CDLL(str(min(folder.glob(WHEELS[wheel]))))
    functions = {}
    for name, (result, *arguments) in SIGNATURES.items():
        functions[name] = library[f"llama_sampler_{name}"]
        functions[name].restype, functions[name].argtypes = result, arguments
    return functions


@cache
def _order() -> list[str]:
    """The default order, asked of the library where there is somebody to ask."""
    if _wheel()[0] == "xllamacpp":
        return str(import_module("xllamacpp").CommonParams().sampling.samplers).split(";")
    return ORDER.split(";")
