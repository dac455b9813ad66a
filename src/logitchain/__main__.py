"""`python -m logitchain warmup` compiles every kernel ahead of the first request;
`python -m logitchain conformance ENGINE` holds an installed engine's samplers against its preset.
"""

import argparse
import json
import os
import sys
import time

from .params import whole_number
from .warmup import kernels, warmup


def compile_ahead(jobs: int) -> None:
    """Compile all kernels, with a line for each group."""
    started, count = time.perf_counter(), len(kernels())
    for number, (name, seconds) in enumerate(warmup(jobs), 1):
        print(f"{number:2}/{count} {name} {seconds:.1f} s", flush=True)
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


def count(text: str) -> int:
    """A number of rows or processes as it stands on the command line."""
    return whole_number("count", int(text), "[0, inf)")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from .conformance.run import ENGINES  # its modules are of no use to others

    parser = argparse.ArgumentParser(prog="python -m logitchain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ahead = commands.add_parser("warmup", help="compile every kernel into the cache")
    ahead.add_argument(
        "--jobs", type=count, default=os.cpu_count() or 1, help="how many processes compile"
    )
    against = commands.add_parser(
        "conformance",
        help="hold an engine against its preset",
        epilog="Status 0: all differences are known. 1: not so. 2: the engine cannot be run here.",
    )
    against.add_argument("engine", help="one that is installed", choices=ENGINES)
    against.add_argument("--rows", type=count, default=64, help="random rows for each control")
    against.add_argument("--json", action="store_true", help="all differences, as JSON")
    options = parser.parse_args(arguments)
    if options.command == "conformance":
        return conformance(options.engine, options.rows, options.json)
    compile_ahead(max(1, options.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
