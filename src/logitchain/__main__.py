"""`python -m logitchain warmup` compiles every kernel ahead of the first request;
`python -m logitchain conformance ENGINE` holds an installed engine's samplers against its preset.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import (
    Batch,
    Chain,
    Params,
    allowed_tokens,
    bad_words,
    banned_tokens,
    frequency_penalty,
    logit_bias,
    logprobs,
    min_p,
    min_tokens,
    no_repeat_ngram,
    presence_penalty,
    repetition_penalty,
    sample,
    temperature,
    token_bitmask,
    token_logprobs,
    top_k,
    top_logprobs,
    top_n_sigma,
    top_p,
    uniform,
    verify,
    xtc,
)
from .params import whole_number
from .presets import PRESETS


def kernels() -> dict[str, Callable[[], Any]]:
    """A call for each group of kernels, which compiles them."""
    row = np.linspace(0, 1, 100, dtype=np.float32)
    batch = Batch(row.size)
    batch.add(Params(seed=0), [1])
    return {
        "sample": lambda: sample(row, seed=0, position=0),
        "temperature": lambda: temperature(row, 0.5),
        "top_n_sigma": lambda: top_n_sigma(row, 1.0),
        "top_k": lambda: top_k(row, 5),
        "top_p": lambda: top_p(row, 0.5),
        "min_p": lambda: min_p(row, 0.5),
        "xtc": lambda: xtc(row, 0.5, 1.0, seed=0, position=0),
        "repetition_penalty": lambda: repetition_penalty(row, 1.5, [1]),
        "presence_penalty": lambda: presence_penalty(row, 1.5, [1]),
        "frequency_penalty": lambda: frequency_penalty(row, 1.5, [1]),
        "logit_bias": lambda: logit_bias(row, {1: 1.0}),
        "token_bitmask": lambda: token_bitmask(row, np.full(4, -1, np.int32)),
        "allowed_tokens": lambda: allowed_tokens(row, [1]),
        "banned_tokens": lambda: banned_tokens(row, [1]),
        "min_tokens": lambda: min_tokens(row, 1, [1], position=0),
        "no_repeat_ngram": lambda: no_repeat_ngram(row, 2, [1, 2, 1]),
        "bad_words": lambda: bad_words(row, [[1]], [1]),
        "logprobs": lambda: (logprobs(row), token_logprobs(row, 1), top_logprobs(row, 2)),
        "uniform": lambda: uniform(0, 0),
        "verify": lambda: verify([row, row], [1], [row], seed=0, position=0),
        "chain": lambda: Chain().sample(row, batch),
    }


def warmup() -> None:
    """Compile all kernels into numba's cache, with a line for each group."""
    started = time.perf_counter()
    groups = kernels()
    for number, (name, call) in enumerate(groups.items(), 1):
        print(f"{number:2}/{len(groups)} {name} ...", end=" ", flush=True)
        before = time.perf_counter()
        call()
        print(f"{time.perf_counter() - before:.1f} s", flush=True)
    print(f"all kernels are ready after {time.perf_counter() - started:.1f} s")


def conformance(engine: str, rows: int, as_json: bool) -> int:
    """Print how an engine compares; 1 if it does otherwise than we know, 2 if it is not there."""
    from .conformance import check  # its modules are of no use to others

    try:
        report = check(engine, rows)
    except ModuleNotFoundError as error:
        print(f"{engine} cannot be run here: {error}", file=sys.stderr)
        return 2
    try:
        print(json.dumps(report.as_dict(), indent=1) if as_json else report, flush=True)
    except BrokenPipeError:  # as of `| head`; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if report.ok else 1


def row_count(text: str) -> int:
    """A number of rows as it stands on the command line."""
    return whole_number("rows", int(text), "[0, inf)")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m logitchain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("warmup", help="compile every kernel into the cache")
    against = commands.add_parser(
        "conformance",
        help="hold an engine against its preset",
        epilog="Status 0: all differences are known. 1: not so. 2: the engine cannot be run here.",
    )
    against.add_argument("engine", help="one that is installed", choices=PRESETS)
    against.add_argument("--rows", type=row_count, default=64, help="random rows for each control")
    against.add_argument("--json", action="store_true", help="all differences, as JSON")
    options = parser.parse_args(arguments)
    if options.command == "conformance":
        return conformance(options.engine, options.rows, options.json)
    warmup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
