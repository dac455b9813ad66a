"""Compiling ahead of the first request, for `python -m logitchain warmup`."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from . import (
    Chain,
    adaptive_p,
    adaptive_p_target,
    adaptive_p_update,
    allowed_tokens,
    bad_words,
    banned_tokens,
    contrast,
    dry,
    dynamic_temperature,
    epsilon_cutoff,
    eta_cutoff,
    frequency_penalty,
    guide,
    logit_bias,
    logprobs,
    min_p,
    min_tokens,
    mirostat,
    mirostat_update,
    no_repeat_ngram,
    p_less,
    presence_penalty,
    quadratic,
    repetition_penalty,
    sample,
    temperature,
    tfs,
    token_bitmask,
    token_logprobs,
    top_a,
    top_h,
    top_k,
    top_logprobs,
    top_n_sigma,
    top_p,
    typical_p,
    uniform,
    verify,
    xtc,
)
from .fused.row import STAGES, compiled


def kernels() -> dict[str, Callable[[], Any]]:
    """A call for each group of kernels, which compiles them."""
    row = np.linspace(0, 1, 100, dtype=np.float32)
    return {
        "sample": lambda: sample(row, seed=0, position=0),
        "temperature": lambda: temperature(row, 0.5),
        "quadratic": lambda: quadratic(row, 0.5),
        "top_n_sigma": lambda: top_n_sigma(row, 1.0),
        "top_k": lambda: top_k(row, 5),
        "top_p": lambda: top_p(row, 0.5),
        "min_p": lambda: min_p(row, 0.5),
        "typical_p": lambda: typical_p(row, 0.5),
        "top_a": lambda: top_a(row, 0.5),
        "epsilon_cutoff": lambda: epsilon_cutoff(row, 0.5),
        "eta_cutoff": lambda: eta_cutoff(row, 0.5),
        "tfs": lambda: tfs(row, 0.5),
        "p_less": lambda: p_less(row),
        "top_h": lambda: top_h(row, 0.5),
        "xtc": lambda: xtc(row, 0.5, 1.0, seed=0, position=0),
        "repetition_penalty": lambda: repetition_penalty(row, 1.5, [1]),
        "presence_penalty": lambda: presence_penalty(row, 1.5, [1]),
        "dry": lambda: dry(row, [1, 2, 1, 2], 0.8, dry_sequence_breakers=[[3]]),
        "dynamic_temperature": lambda: dynamic_temperature(row, 1.0, 0.5),
        "mirostat": lambda: (mirostat(row, 5.0), mirostat_update(5.0, -1.0, 5.0, 0.1)),
        "adaptive_p": lambda: (
            adaptive_p(row, 0.5),
            adaptive_p_target(adaptive_p_update(None, 0.5, 0.5, 0.9), 0.5),
        ),
        "frequency_penalty": lambda: frequency_penalty(row, 1.5, [1]),
        "logit_bias": lambda: logit_bias(row, {1: 1.0}),
        "token_bitmask": lambda: token_bitmask(row, np.full(4, -1, np.int32)),
        "allowed_tokens": lambda: allowed_tokens(row, [1]),
        "banned_tokens": lambda: banned_tokens(row, [1]),
        "min_tokens": lambda: min_tokens(row, 1, [1], position=0),
        "no_repeat_ngram": lambda: no_repeat_ngram(row, 2, [1, 2, 1]),
        "bad_words": lambda: bad_words(row, [[1]], [1]),
        "logprobs": lambda: (logprobs(row), token_logprobs(row, 1), top_logprobs(row, 2)),
        "guide": lambda: guide(row, row, 1.5),
        "contrast": lambda: contrast(row, row, 0.5, 0.1),
        "uniform": lambda: uniform(0, 0),
        "verify": lambda: verify([row, row], [1], [row], seed=0, position=0),
        **{f"chain: {f.__name__}": partial(compiled, n) for n, (f, _) in enumerate(STAGES)},
        "chain": Chain().warmup,
    }


def _quiet() -> None:
    """Keep back the warning of a process that it compiles, which is no news here."""
    logging.getLogger(__package__).setLevel(logging.ERROR)


def timed(name: str) -> float:
    """Compile a group of kernels; the seconds that it took."""
    before = time.perf_counter()
    kernels()[name]()
    return time.perf_counter() - before


def warmup(jobs: int) -> Iterator[tuple[str, float]]:
    """Compile all kernels into numba's cache, in several processes.

    Yields the name of each group, when it is ready, and the seconds that it took.
    """
    with ProcessPoolExecutor(jobs, get_context("spawn"), _quiet) as pool:
        waiting = {pool.submit(timed, name): name for name in kernels()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    for name in kernels():  # two processes may have written one entry of the cache at a time
        timed(name)
