"""Searches for the row and the request that cost most: `python bench/worst.py [SECONDS] [VOCAB]`.

Random requests over rows of many shapes, each timed as a multiple of `np.max` of the same row; the
ten dearest are printed. No row and no request should cost more than LIMIT times `np.max`.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import logitchain as lc

LIMIT = 30.0
REPEAT = 5

Row = NDArray[np.float32]
Generator = np.random.Generator

#: Each makes a float64 row of `vocab` logits.
SHAPES: dict[str, Callable[[Generator, int], NDArray[Any]]] = {
    "normal": lambda g, v: g.normal(0, 1.5, v),
    "narrow": lambda g, v: g.normal(0, 0.01, v),
    "steep": lambda g, v: g.normal(0, 30, v),
    "peaked": lambda g, v: g.normal(0, 2, v) + 12 * (g.random(v) < 12 / v),
    "all equal": lambda g, v: np.full(v, 0.25),
    "two levels": lambda g, v: np.where(g.random(v) < 0.3, 2.0, -1.0),
    "coarse": lambda g, v: g.integers(-20, 20, v) * 0.5,
    "ascending": lambda g, v: np.arange(v) * 1e-4,
    "descending": lambda g, v: -np.arange(v) * 1e-4,
    "ascending, an ulp apart": lambda g, v: 1.0 + np.arange(v) * 2.0**-23,
    "neighbours": lambda g, v: 1.0 + g.integers(0, 6, v) * 2.0**-23,
    "neighbours and outliers": lambda g, v: np.where(
        g.random(v) < 0.999, 1.0 + g.integers(0, 6, v) * 2.0**-23, -30.0
    ),
    "one hot token a block": lambda g, v: np.where(np.arange(v) % 64 == 7, 5.0, g.normal(-3, 1, v)),
    "a dominant token": lambda g, v: np.where(np.arange(v) == v // 2, 40.0, g.normal(0, 1, v)),
    "mostly removed": lambda g, v: np.where(g.random(v) < 0.9, -np.inf, g.normal(0, 1, v)),
    "large": lambda g, v: 1e6 + g.normal(0, 1, v),
    "wild": lambda g, v: g.normal(0, 1, v) * 10.0 ** g.integers(-20, 20, v),
    "denormal": lambda g, v: g.normal(0, 1, v) * 1e-40,
}


def request(rng: random.Random, vocab: int) -> dict[str, Any]:
    """A random request; most fields are off."""
    fields: dict[str, Any] = {
        "temperature": (0.0, 1e-6, 1e-3, 0.3, 0.8, 1.7, 30.0, 1e9),
        "top_k": (1, 2, 50, 1000, vocab // 2, vocab - 1),
        "top_p": (1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.95, 0.999, 1 - 1e-9),
        "min_p": (1e-12, 1e-9, 1e-3, 0.05, 0.5, 1.0),
        "xtc_threshold": (1e-9, 1e-3, 0.1, 0.5),
        "repetition_penalty": (0.5, 1.2),
        "frequency_penalty": (-0.5, 0.5),
        "presence_penalty": (-0.5, 0.5),
        "logit_bias": (dict.fromkeys(range(0, vocab, 3), 0.5), {5: 3.0}),
        "banned_tokens": (tuple(range(0, vocab, 2)), (3,)),
        "no_repeat_ngram": (1, 3, 1000),
        "top_logprobs": (1, 20),
    }
    chosen = {name: rng.choice(values) for name, values in fields.items() if rng.random() < 0.2}
    chosen["xtc_probability"] = float("xtc_threshold" in chosen)
    return chosen | {"seed": rng.getrandbits(53)}


HISTORIES: dict[str, Callable[[int], NDArray[np.int64]]] = {
    "none": lambda vocab: np.empty(0, np.int64),
    "2,000 tokens": lambda vocab: np.random.default_rng(3).zipf(1.3, 2000) % vocab,
    "128,000 equal tokens": lambda vocab: np.full(128_000, 5),
    "every token": np.arange,
}


def median_time(call: Callable[[], Any], repeat: int = REPEAT) -> float:
    """Seconds of a call, the median of several."""
    times = []
    for _ in range(repeat):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return statistics.median(times)


def trial(rng: random.Random, vocab: int) -> tuple[float, str]:
    """(the cost of a random call in units of `np.max`, what was called)."""
    shape, history = rng.choice(list(SHAPES)), rng.choice([*["none"] * 4, *HISTORIES])
    fields = request(rng, vocab)
    row = SHAPES[shape](np.random.default_rng(rng.getrandbits(32)), vocab).astype(np.float32)
    batch = lc.Batch(vocab)
    batch.add(lc.Params(**fields), HISTORIES[history](vocab))
    name = rng.choice(["default", *lc.chain.PRESETS])
    chain = lc.Chain() if name == "default" else lc.Chain.preset(name)
    method = chain.sample_with_logprobs if "top_logprobs" in fields else chain.sample
    method(row, batch)
    ratio = median_time(lambda: method(row, batch)) / median_time(row.max, 15)
    shown = {k: v if isinstance(v, (int, float)) else f"{len(v)} tokens" for k, v in fields.items()}
    shown = {k: v for k, v in shown.items() if v}
    return ratio, f"{shape}; history {history}; {name}: {shown}"


def main(seconds: float, vocab: int) -> None:
    rng = random.Random(20)
    found: list[tuple[float, str]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(trial(rng, vocab))
    found.sort(reverse=True)
    over = sum(ratio > LIMIT for ratio, _ in found)
    print(f"{len(found)} calls at {vocab:,} logits; {over} cost more than {LIMIT:g} times np.max")
    for ratio, what in found[:10]:
        print(f"{ratio:8.1f}  {what}")


if __name__ == "__main__":
    arguments = [float(x) for x in sys.argv[1:]]
    main(arguments[0] if arguments else 60.0, int(arguments[1]) if len(arguments) > 1 else 128_256)
