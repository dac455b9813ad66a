"""Logits to time on: real ones from the demo's model, and two made-up shapes."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build" / "real_logits.npy"
PROMPTS = (
    "Write a story about a whale.",
    "Explain what a hash table is, with code.",
    "List ten cities and the rivers that run through them.",
)
COUNT = 150  # rows of each shape: together more than a cache holds

Rows = NDArray[np.float32]


@cache
def real() -> Rows:
    """(rows, 49152): every step of three answers of SmolLM2-135M-Instruct."""
    if not KEPT.exists():
        sys.path.insert(0, str(ROOT / "docs/examples"))
        import engine
        from smollm2 import Model

        print("taking real logits from the model ...", flush=True)
        model, rows = Model.load(), []
        for prompt in PROMPTS:
            body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 60, "seed": 5}
            rows += engine.answer(model, body).logits
        KEPT.parent.mkdir(exist_ok=True)
        np.save(KEPT, np.stack(rows).astype(np.float32))
    return np.load(KEPT)[:COUNT]


@cache
def peaked(vocab: int = 128_256, count: int = COUNT) -> Rows:
    """Normal logits with a dozen tokens far above the others, as a model is sure of a few."""
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 2, (count, vocab)).astype(np.float32)
    for row in rows:
        row[rng.integers(vocab, size=12)] += rng.uniform(4, 14, 12)
    return rows


@cache
def flat(vocab: int = 128_256, count: int = COUNT) -> Rows:
    """Normal logits, sigma 1.5."""
    return np.random.default_rng(2).normal(0, 1.5, (count, vocab)).astype(np.float32)


SHAPES = {"real 49,152": real, "peaked 128,256": peaked, "flat 128,256": flat}
