"""llama.cpp's own samplers, through ctypes on the functions that the wheel `xllamacpp` exports.

A sampler here is an opaque pointer made by one of the functions below; `apply` runs several in
order over one row and frees them.
"""

import ctypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitchain.conformance.llama_cpp import RECORD, LogitBias, TokenArray, library

Row = NDArray[np.float32]

_of = library()
_apply, _accept, _free = _of["apply"], _of["accept"], _of["free"]
top_k, temperature, dist = _of["init_top_k"], _of["init_temp"], _of["init_dist"]
top_n_sigma = _of["init_top_n_sigma"]
_top_p, _min_p, _xtc = _of["init_top_p"], _of["init_min_p"], _of["init_xtc"]
_penalties, _logit_bias = _of["init_penalties"], _of["init_logit_bias"]


def top_p(p: float) -> int:
    """A nucleus sampler."""
    return int(_top_p(p, 0))


def typical_p(p: float) -> int:
    """llama.cpp's locally typical sampling, with no minimum of tokens to keep."""
    return int(_of["init_typical"](p, 0))


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


def dry(
    tokens: Sequence[int], multiplier: float, base: float, allowed_length: int, last: int
) -> int:
    """DRY over a history, without sequence breakers: these would take a model's vocabulary."""
    sampler = _of["init_dry"](None, multiplier, base, allowed_length, last, None, 0)
    for token in tokens:
        _accept(sampler, token)
    return int(sampler)


def dynamic_temperature(temperature: float, reach: float, exponent: float = 1.0) -> int:
    """A temperature that moves with the entropy; with a range of 0, a plain one."""
    return int(_of["init_temp_ext"](temperature, reach, exponent))


def mirostat(tau: float, eta: float = 0.1, seed: int = 1) -> int:
    """Mirostat 2, which also draws."""
    return int(_of["init_mirostat_v2"](seed, tau, eta))


def adaptive_p(target: float, decay: float = 0.9, seed: int = 1) -> int:
    """Adaptive-p, which also draws."""
    return int(_of["init_adaptive_p"](target, decay, seed))


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


def follow(sampler: int, rows: Iterable[Row]) -> Iterator[tuple[Row, int]]:
    """Each row after one sampler that keeps a state and draws, and the token that it drew."""
    for row in rows:
        left, selected = _left(row, [sampler])
        token = int(left[selected]["id"])
        out = np.full(row.size, -np.inf, np.float32)
        out[left["id"]] = left["logit"]
        yield out, token
        _accept(sampler, token)
    _free(sampler)


def sample(row: Row, *samplers: int) -> int:
    """The token that the last sampler selects."""
    left, selected = _run(row, samplers)
    return int(left[selected]["id"])


def _run(row: Row, samplers: Sequence[int]) -> tuple[NDArray[Any], int]:
    result = _left(row, samplers)
    for sampler in samplers:
        _free(sampler)
    return result


def _left(row: Row, samplers: Sequence[int]) -> tuple[NDArray[Any], int]:
    records = np.zeros(row.size, RECORD)
    records["id"], records["logit"] = np.arange(row.size), row
    array = TokenArray(records.ctypes.data, row.size, -1, False)
    for sampler in samplers:
        _apply(sampler, ctypes.byref(array))
    start = (array.data - records.ctypes.data) // RECORD.itemsize  # XTC moves the pointer
    return records[start : start + array.size], array.selected
