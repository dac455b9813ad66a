"""llama.cpp's own samplers, through ctypes on the functions that the wheel `xllamacpp` exports.

A sampler here is an opaque pointer made by one of the functions below; `apply` runs several in
order over one row and frees them.
"""

import ctypes
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]

#: llama_token_data
RECORD = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class TokenArray(Structure):
    """llama_token_data_array"""

    _fields_ = (
        ("data", c_void_p),
        ("size", c_size_t),
        ("selected", c_int64),
        ("is_sorted", c_bool),
    )


class LogitBias(Structure):
    """llama_logit_bias"""

    _fields_ = (("token", c_int32), ("bias", c_float))


def _load() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None
    assert spec.submodule_search_locations
    (extension,) = Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so")
    return ctypes.CDLL(str(extension))


LIBRARY = _load()


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = LIBRARY[f"llama_sampler_{name}"]
    function.restype, function.argtypes = result, arguments
    return function


_apply = _function("apply", None, c_void_p, POINTER(TokenArray))
_accept = _function("accept", None, c_void_p, c_int32)
_free = _function("free", None, c_void_p)

top_k = _function("init_top_k", c_void_p, c_int32)
temperature = _function("init_temp", c_void_p, c_float)
dist = _function("init_dist", c_void_p, c_uint32)
_top_p = _function("init_top_p", c_void_p, c_float, c_size_t)
_min_p = _function("init_min_p", c_void_p, c_float, c_size_t)
_xtc = _function("init_xtc", c_void_p, c_float, c_float, c_size_t, c_uint32)
_penalties = _function("init_penalties", c_void_p, c_int32, c_int32, c_float, c_float, c_float)
_logit_bias = _function("init_logit_bias", c_void_p, c_int32, c_int32, POINTER(LogitBias))


def top_p(p: float) -> int:
    """A nucleus sampler."""
    return int(_top_p(p, 0))


def min_p(p: float) -> int:
    """A min_p sampler."""
    return int(_min_p(p, 0))


def xtc(threshold: float, probability: float = 1.0, seed: int = 0) -> int:
    """An XTC sampler; with probability 1 its coin always hits."""
    return int(_xtc(probability, threshold, 0, seed))


def penalties(
    vocab: int,
    tokens: Sequence[int],
    repetition: float = 1.0,
    frequency: float = 0.0,
    presence: float = 0.0,
    last: int = 64,
) -> int:
    """The penalties over a history: its last tokens, prompt and output alike."""
    sampler = _penalties(vocab, last, repetition, frequency, presence)
    for token in tokens:
        _accept(sampler, token)
    return int(sampler)


def logit_bias(vocab: int, bias: Mapping[int, float]) -> int:
    """A logit bias."""
    entries = (LogitBias * len(bias))(*[LogitBias(t, b) for t, b in bias.items()])
    return int(_logit_bias(vocab, len(bias), entries))


def apply(row: Row, *samplers: int) -> Row:
    """The row after the samplers, removed tokens at -inf, in the order of token ids."""
    left, _ = _run(row, samplers)
    out = np.full(row.size, -np.inf, np.float32)
    out[left["id"]] = left["logit"]
    return out


def sample(row: Row, *samplers: int) -> int:
    """The token that the last sampler selects."""
    left, selected = _run(row, samplers)
    return int(left[selected]["id"])


def _run(row: Row, samplers: Sequence[int]) -> tuple[NDArray[Any], int]:
    records = np.zeros(row.size, RECORD)
    records["id"], records["logit"] = np.arange(row.size), row
    array = TokenArray(records.ctypes.data, row.size, -1, False)
    for sampler in samplers:
        _apply(sampler, ctypes.byref(array))
        _free(sampler)
    start = (array.data - records.ctypes.data) // RECORD.itemsize  # XTC moves the pointer
    return records[start : start + array.size], array.selected
