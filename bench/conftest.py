"""How everything here is timed: once per row, each time another row, as an engine meets them."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

SLOW = 5e-3  # seconds; what takes longer is timed on fewer rows


@pytest.fixture
def over_rows(benchmark):
    """Time a function of one row (or batch) over many of them."""

    def run(function, rows, rounds=None, **about):
        import time

        for warm in range(3):
            function(rows[warm % len(rows)])
        started = time.perf_counter()
        function(rows[0])
        rounds = rounds or (20 if time.perf_counter() - started > SLOW else max(len(rows), 100))
        endless = itertools.cycle(rows)
        benchmark.extra_info.update(about)
        benchmark.pedantic(function, setup=lambda: ((next(endless),), {}), rounds=rounds)

    return run
