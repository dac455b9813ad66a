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


def ours(vocab: int, request: dict[str, Any], said: Sequence[int] = (), **options: Any) -> Sampler:
    """This library, a batch of one; calls differ in their seeds, so that draws differ."""
    chain, batches = lc.Chain(**options), []
    for seed in range(SEEDS):
        batches.append(lc.Batch(vocab))
        batches[-1].add(lc.Params(seed=seed, **request), said)
    endless = itertools.cycle(batches)
    return lambda row: int(chain.sample(row[None], next(endless))[0])


def llama_cpp(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """llama.cpp's samplers in their usual order; their structs are filled in each time."""
    import llama_samplers as peer

    samplers = []
    if "repetition_penalty" in request:
        samplers.append(peer.penalties(vocab, said, 1.1, 0.2, 0.1, last=len(said)))
    if "top_k" in request:
        samplers.append(peer.top_k(request["top_k"]))
    if "top_n_sigma" in request:
        samplers.append(peer.top_n_sigma(request["top_n_sigma"]))
    if "typical_p" in request:
        samplers.append(peer.typical_p(request["typical_p"]))
    if "top_p" in request:
        samplers.append(peer.top_p(request["top_p"]))
    if "min_p" in request:
        samplers.append(peer.min_p(request["min_p"]))
    if "xtc_probability" in request:
        samplers.append(peer.xtc(request["xtc_threshold"], request["xtc_probability"]))
    samplers += [peer.temperature(request["temperature"]), peer.dist(1)]
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


def transformers(vocab: int, request: dict[str, Any], said: Sequence[int] = ()) -> Sampler:
    """transformers' processors and torch.multinomial, one thread; it has no XTC."""
    import torch
    from transformers.generation import logits_process as peer

    torch.set_num_threads(1)
    processors: list[Any] = []
    if "repetition_penalty" in request:
        processors.append(peer.RepetitionPenaltyLogitsProcessor(1.1))
    processors.append(peer.TemperatureLogitsWarper(request["temperature"]))
    if "top_k" in request:
        processors.append(peer.TopKLogitsWarper(request["top_k"]))
    if "top_p" in request:
        processors.append(peer.TopPLogitsWarper(request["top_p"]))
    if "min_p" in request:
        processors.append(peer.MinPLogitsWarper(request["min_p"]))
    if "typical_p" in request:
        processors.append(peer.TypicalLogitsWarper(request["typical_p"]))
    if "epsilon_cutoff" in request:
        processors.append(peer.EpsilonLogitsWarper(request["epsilon_cutoff"]))
    if "eta_cutoff" in request:
        processors.append(peer.EtaLogitsWarper(request["eta_cutoff"]))
    if "top_h" in request:
        processors.append(peer.TopHLogitsWarper(request["top_h"]))
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
