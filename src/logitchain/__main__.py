"""Every sampling control of an LLM request as a function over logits, and one chain."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import DIALECTS, PRESETS, Batch, Chain, Params, __version__
from .inputs.logits import DType
from .inputs.values import show
from .params import whole_number
from .warmup import kernels, warmup


def compile_ahead(options: argparse.Namespace) -> int:
    """Compile all kernels, with a line for each group."""
    started, count = time.perf_counter(), len(kernels())
    try:
        for number, (name, seconds) in enumerate(warmup(max(1, options.jobs)), 1):
            _say(f"{number:2}/{count} {name} {seconds:.1f} s")
    except RuntimeError as error:
        return _failed(str(error))
    _say(f"all kernels are ready after {time.perf_counter() - started:.1f} s")
    return 0


def conformance(options: argparse.Namespace) -> int:
    """Print how an engine compares: status 1 for a new difference, 2 without the engine."""
    from .conformance import check  # its modules are of no use to others

    try:
        report = check(options.engine, options.rows)
    except ModuleNotFoundError as error:
        return _failed(f"{options.engine} cannot be run here: {error}")
    _say(json.dumps(report.as_dict(), indent=1) if options.json else report)
    return 0 if report.ok else 1


def explain(options: argparse.Namespace) -> int:
    """Print what a chain does to a saved row of logits under a request body."""
    try:
        row, body = _row(options.logits, options.row), _json(options.request)
        if options.preset:
            chain = Chain.preset(options.preset, on_invalid="mark")
        else:
            chain = Chain.from_request(body, dialect=options.dialect, on_invalid="mark")
        params = Params.from_request(body, dialect=options.dialect)
        sample = whole_number("--sample", options.sample, f"[0, {params.n})")
        batch = Batch(vocab_size=len(row))
        tokens = [_json(path) if path else [] for path in (options.prompt, options.output)]
        (handle,) = batch.add(params.samples()[sample], *tokens)
        decode = _texts(options.vocab, len(row)).__getitem__ if options.vocab else None
        dtype: DType = "bfloat16" if options.bfloat16 else None
        explanation = chain.explain(row, batch, handle, decode, dtype=dtype)
        if options.plot:
            explanation.plot(options.plot)
        if options.json:
            _say(json.dumps(explanation.as_dict(options.token or None)))
        else:
            fates = [f"token {token}: {explanation.fate(token)}" for token in options.token]
            _say("\n".join([str(explanation), *fates]))
    except _CANNOT as error:
        return _failed(str(error) or type(error).__name__)
    return 0


#: What files that hold something else, or too much, may raise.
_CANNOT = (
    *(OSError, TypeError, ValueError, LookupError, ModuleNotFoundError),
    *(EOFError, MemoryError, RecursionError),
)


def _row(path: str, row: int) -> Any:
    """One row of the logits in a file: NumPy's format, or a JSON list."""
    if path.endswith(".npy"):
        with open(path, "rb") as file:
            saved: Any = np.lib.format.read_array(file, allow_pickle=False)
        if saved.ndim not in (1, 2):
            raise ValueError(f"logits must be one row or several, not of shape {saved.shape}")
        rows: Any = np.atleast_2d(saved)
    else:
        saved = _json(path)
        if not isinstance(saved, list):
            raise ValueError(f"logits must be a list of numbers, or of rows, not {show(saved)}")
        rows = saved if saved and isinstance(saved[0], list) else [saved]
    return rows[whole_number("--row", row, f"[0, {len(rows)})")]


def _texts(path: str, vocab_size: int) -> list[str]:
    texts = _json(path)
    if not isinstance(texts, list) or len(texts) != vocab_size:
        raise ValueError(f"--vocab must be a list of {vocab_size} texts")
    return list(map(str, texts))


def _json(path: str) -> Any:
    """The JSON in a file, or on the standard input for "-"."""
    if path == "-" and sys.stdin is None:
        raise ValueError("there is no standard input")
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _say(text: object) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # as of `| head`; the rest of the output goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(reason: str) -> int:
    print(f"logitchain: {reason}", file=sys.stderr)
    return 2


def count(text: str) -> int:
    """A number of rows or processes as it stands on the command line."""
    return whole_number("count", int(text), "[0, inf)")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    from .conformance.run import ENGINES  # its modules are of no use to others

    top = argparse.ArgumentParser(prog="logitchain", description=__doc__)
    top.add_argument("--version", action="version", version=f"logitchain {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    ahead = commands.add_parser("warmup", help="compile every kernel into the cache")
    ahead.set_defaults(run=compile_ahead)
    cores = os.cpu_count() or 1
    ahead.add_argument("--jobs", type=count, default=cores, help="how many processes compile")

    why = commands.add_parser("explain", help="show what each control does to a saved row")
    why.set_defaults(run=explain)
    why.add_argument("logits", help="a .npy file or a JSON list: one row, or several")
    why.add_argument("request", help='a request body as JSON, or "-" for the standard input')
    why.add_argument("--row", type=int, default=0, help="which row, if there are several")
    why.add_argument("--bfloat16", action="store_true", help="the .npy file has bits of bfloat16")
    why.add_argument("--sample", type=int, default=0, help="which sample of a request with n > 1")
    why.add_argument("--dialect", choices=DIALECTS, default="openai", help="whose body it is")
    why.add_argument("--preset", choices=PRESETS, help="another engine's order of the controls")
    why.add_argument("--prompt", metavar="FILE", help="the prompt's token ids, a JSON list")
    why.add_argument("--output", metavar="FILE", help="the token ids generated so far")
    why.add_argument("--vocab", metavar="FILE", help="the text of each token, a JSON list")
    why.add_argument("--token", type=int, action="append", default=[], help="tell its fate")
    why.add_argument("--json", action="store_true", help="all of it as JSON, not as a table")
    why.add_argument("--plot", metavar="FILE", help="draw a picture; needs matplotlib")

    against = commands.add_parser(
        "conformance",
        help="compare an installed engine's samplers with its preset",
        epilog="Status 0: all differences are known. 1: some are not. 2: the engine cannot be run.",
    )
    against.set_defaults(run=conformance)
    against.add_argument("engine", help="one that is installed", choices=ENGINES)
    against.add_argument("--rows", type=count, default=64, help="random rows for each control")
    against.add_argument("--json", action="store_true", help="all differences, as JSON")
    return top


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = parser().parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
