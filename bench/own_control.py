"""What a control of one's own costs in a chain: `python bench/own_control.py`.

A record that does what `min_p` does, beside the built-in `min_p` and a Python callable, in the
chain temperature, top_k, the control. Times are medians in units of `np.max` of the same row.
"""

import statistics
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

import logitchain as lc
from logitchain.controls import min_p

OWN = replace(min_p.CONTROL, name="own_min_p", fields=[lc.Field("own", off=0.0, range="[0, 1]")])


@dataclass(frozen=True, kw_only=True)
class OwnParams(lc.Params):
    own: float = lc.field(0.0, "[0, 1]")


def callable_min_p(rows, batch):
    """The same in array code."""
    rows[rows < rows.max(axis=1, keepdims=True) + np.log(0.05)] = -np.inf


def medians(calls, repeat=401):
    """The median time of each call, all of them in turn, so that noise meets all alike."""
    times = [[] for _ in calls]
    for _ in range(repeat):
        for call, taken in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def main():
    for vocab in (49_152, 128_256):
        row = np.random.default_rng(0).normal(0, 2, (1, vocab)).astype(np.float32)
        calls = [row.max]
        for control, params in (
            ("min_p", lc.Params(temperature=0.8, top_k=50, min_p=0.05, seed=1)),
            (OWN, OwnParams(temperature=0.8, top_k=50, own=0.05, seed=1)),
            (callable_min_p, lc.Params(temperature=0.8, top_k=50, seed=1)),
        ):
            batch, chain = lc.Batch(vocab), lc.Chain(["temperature", "top_k", control])
            batch.add(params)
            calls.append(partial(chain.sample, row, batch))
        best, *taken = medians(calls)
        names = ("built-in min_p", "the same as a record", "a callable")
        for name, seconds in zip(names, taken, strict=True):
            print(f"{vocab:8,} logits  {name:22} {seconds / best:6.2f} x np.max")


if __name__ == "__main__":
    main()
