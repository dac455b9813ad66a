"""What a new process pays, and what a call allocates."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import logitchain as lc

FIRST_CALL = """
import time, numpy as np
started = time.perf_counter()
import logitchain as lc
batch = lc.Batch(1000)
batch.add(lc.Params(seed=0, temperature=0.8, top_p=0.9))
lc.Chain().sample(np.zeros((1, 1000), np.float32), batch)
"""
CODE = {
    "import numba": "import numba",
    "import logitchain": "import logitchain",
    "import and first call, warm cache": FIRST_CALL,
}


def child(code, **environment):
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | environment)


@pytest.mark.parametrize("what", CODE)
def test_start(benchmark, what):
    benchmark.extra_info.update(table="start", what=what)
    benchmark.pedantic(child, args=(CODE[what],), rounds=7, warmup_rounds=1)


def test_first_call(benchmark, tmp_path):
    """It compiles what the chain uses."""
    what = "import and first call, empty cache"
    benchmark.extra_info.update(table="start", what=what)
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    benchmark.pedantic(child, args=(FIRST_CALL,), kwargs=folder, rounds=1)


def test_warmup(benchmark, tmp_path):
    code = "from logitchain.__main__ import main; main(['warmup'])"
    benchmark.extra_info.update(table="start", what="compiling every kernel, empty cache")
    benchmark.pedantic(child, args=(code,), kwargs={"NUMBA_CACHE_DIR": str(tmp_path)}, rounds=1)


@pytest.mark.parametrize("rows", [1, 64])
def test_memory(benchmark, rows):
    """NumPy's memory that a second call takes on top, in bytes."""
    vocab = 128_256
    batch, chain = lc.Batch(vocab), lc.Chain()
    for r in range(rows):
        batch.add(lc.Params(seed=r, temperature=0.8, top_p=0.9))
    logits = np.zeros((rows, vocab), np.float32)
    chain.sample(logits, batch)
    tracemalloc.start()
    chain(logits, batch, out=logits)
    chain.sample(logits, batch)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    benchmark.extra_info.update(table="memory", rows=rows, bytes=most)
    benchmark.pedantic(chain.sample, args=(logits, batch), rounds=3)
