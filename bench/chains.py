"""The requests that are timed, and how each sampler does them."""

import ctypes
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import logitchain as lc

sys.path.append(str(Path(__file__).parent.parent / "tests/peers"))

Row = NDArray[np.float32]
Sampler = Callable[[Row], int]  # a row (vocab,) to a token

REQUESTS: dict[str, dict[str, Any]] = {
    "top_k 50, top_p, min_p, XTC": {
        **{"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.05},
        **{"xtc_probability": 0.5, "xtc_threshold": 0.1},
    },
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "temperature": {"temperature": 0.8},
}
SEEDS = 16
PENALTIES = {"repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1}
#: What issue and design ask for: times np.max, for real or peaked rows and for flat ones.
GOALS = {
    "top_k 50, top_p, min_p, XTC": (2, 3),
    "top_p, min_p": (3, 6),
    "top_p": (4, 10),
    "temperature": (6, 20),
}
#: The same for rows in the cache.
CACHED_GOALS = {
    "top_k 50, top_p, min_p, XTC": (2, 2),
    "top_p, min_p": (2.5, 2.5),
    "top_p": (4, 6),
    "temperature": (3, 3),
    "greedy": (1.3, 1.3),
}


def history(vocab: int, length: int = 2000) -> list[int]:
    """Tokens as text has them: few often, many seldom."""
    return (np.random.default_rng(3).zipf(1.3, length) % vocab).tolist()


def ours(
    vocab: int,
    request: dict[str, Any],
    said: Sequence[int] = (),
    order: Sequence[str] = lc.DEFAULT_ORDER,
) -> Sampler:
    """This library, a batch of one; calls differ in their seeds, so that draws differ."""
    chain, batches = lc.Chain(order), []
    for seed in range(SEEDS):
        batches.append(lc.Batch(vocab))
        batches[-1].add(lc.Params(seed=seed, **request), said)
    endless = itertools.cycle(batches)
    return lambda row: int(chain.sample(row[None], next(endless))[0])


#: llama.cpp's samplers in their order: the field that asks for one, and what makes it.
LLAMA_CPP: dict[str, Callable[..., int]] = {
    "repetition_penalty": lambda peer, request, vocab, said: peer.penalties(
        vocab, said, 1.1, 0.2, 0.1, last=len(said)
    ),
    "dry_multiplier": lambda peer, request, vocab, said: peer.dry(
        said, request["dry_multiplier"], 1.75, 2, len(said)
    ),
    "top_n_sigma": lambda peer, request, *_: peer.top_n_sigma(request["top_n_sigma"]),
    "top_k": lambda peer, request, *_: peer.top_k(request["top_k"]),
    "typical_p": lambda peer, request, *_: peer.typical_p(request["typical_p"]),
    "top_p": lambda peer, request, *_: peer.top_p(request["top_p"]),
    "min_p": lambda peer, request, *_: peer.min_p(request["min_p"]),
    "xtc_probability": lambda peer, request, *_: peer.xtc(
        request["xtc_threshold"], request["xtc_probability"]
    ),
    "temperature": lambda peer, request, *_: peer.dynamic_temperature(
        request["temperature"], request.get("dynatemp_range", 0.0)
    ),
}


def llama_cpp(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """llama.cpp's samplers in their usual order; their structs are filled in each time."""
    import llama_samplers as peer

    samplers = [make(peer, request, vocab, said) for x, make in LLAMA_CPP.items() if x in request]
    if "mirostat_tau" in request:
        samplers.append(peer.mirostat(request["mirostat_tau"]))
    elif "adaptive_target" in request:
        samplers.append(peer.adaptive_p(request["adaptive_target"]))
    else:
        samplers.append(peer.dist(1))
    records = np.zeros(vocab, peer.RECORD)
    ids = np.arange(vocab, dtype=np.int32)

    def call(row: Row) -> int:
        records["id"], records["logit"] = ids, row
        array = peer.TokenArray(records.ctypes.data, vocab, -1, False)
        for sampler in samplers:
            peer._apply(sampler, ctypes.byref(array))
        start = (array.data - records.ctypes.data) // peer.RECORD.itemsize
        return int(records["id"][start + array.selected])

    return call


#: transformers' processors in their order: the field that asks for one, and its class.
TRANSFORMERS = {
    "repetition_penalty": "RepetitionPenaltyLogitsProcessor",
    "temperature": "TemperatureLogitsWarper",
    "top_h": "TopHLogitsWarper",
    "top_k": "TopKLogitsWarper",
    "top_p": "TopPLogitsWarper",
    "min_p": "MinPLogitsWarper",
    "typical_p": "TypicalLogitsWarper",
    "epsilon_cutoff": "EpsilonLogitsWarper",
    "eta_cutoff": "EtaLogitsWarper",
}


def transformers(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """transformers' processors and torch.multinomial, one thread; it has no XTC."""
    import torch
    from transformers.generation import logits_process as peer

    torch.set_num_threads(1)
    processors = [
        getattr(peer, name)(request[field])
        for field, name in TRANSFORMERS.items()
        if field in request
    ]
    ids = torch.tensor([list(said) or [0]])

    def call(row: Row) -> int:
        scores = torch.from_numpy(row)[None]
        for processor in processors:
            scores = processor(ids, scores)
        return int(torch.multinomial(torch.softmax(scores, -1), 1))

    return call


def numpy(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """What one writes in NumPy on a first day: sort, cumulate, choose."""
    rng = np.random.default_rng(1)

    def call(row: Row) -> int:
        x = row / request["temperature"]
        order = np.argsort(-x)[: request.get("top_k", vocab)]
        q = np.exp(x[order] - x[order[0]])
        q /= q.sum()
        keep = np.cumsum(q) - q < request.get("top_p", 1.0)
        keep &= q >= request.get("min_p", 0.0) * q[0]
        if rng.random() < request.get("xtc_probability", 0.0):
            top = np.flatnonzero(keep & (q / q[keep].sum() >= request["xtc_threshold"]))
            keep[top[:-1]] = False
        q = np.where(keep, q, 0)
        return int(rng.choice(order, p=q / q.sum()))

    return call


def np_max(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """The floor: reading the row once."""
    return lambda row: np.max(row)


def copy(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """Copying the row."""
    target = np.empty(vocab, np.float32)
    return lambda row: np.copyto(target, row)  # type: ignore[return-value, func-returns-value]


SAMPLERS = {
    "np.max": np_max,
    "a copy": copy,
    "logitchain": ours,
    "llama.cpp": llama_cpp,
    "transformers": transformers,
    "NumPy": numpy,
}
