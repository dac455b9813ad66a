"""Compiling ahead of the first request, for `logitchain warmup`."""

import doctest
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any

import logitchain

from .chain import Chain
from .fused.row import STAGES, compiled

#: Windows has no more handles to wait for.
_MOST_JOBS = 61


def kernels() -> dict[str, Callable[[], Any]]:
    """A call for each group of kernels, which compiles them.

    The kernels of a public function are compiled by the example in its docstring, those of a chain
    stage by stage.
    """
    public = {name: getattr(logitchain, name) for name in logitchain.__all__}
    return {
        **{
            name: partial(_run_example, name, f)
            for name, f in public.items()
            if inspect.isfunction(f)
        },
        **{f"chain: {f.__name__}": partial(compiled, n) for n, (f, _) in enumerate(STAGES)},
        "chain": Chain().warmup,
    }


def _run_example(name: str, function: Callable[..., Any]) -> None:
    if function.__doc__ is None:
        raise RuntimeError("warmup runs the examples in docstrings, which python -OO leaves out")
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder(recurse=False).find(function, name):
        runner.run(example, out=lambda text: None)


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
    with ProcessPoolExecutor(min(jobs, _MOST_JOBS), get_context("spawn"), _quiet) as pool:
        waiting = {pool.submit(timed, name): name for name in kernels()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    for name in kernels():  # two processes may have written one entry of the cache at a time
        timed(name)
