"""The numeric contract: the same bits on every CPU, in any batch, with any number of threads.

Each test runs `tests/bits.py` in child processes, which prints a digest of a fixed set of chains.
"""

import os
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from child import run_python

BITS = Path(__file__).with_name("bits.py")

# A CPU name and what this machine must have to run code compiled for it.
CPUS = {
    "x86-64-v2": ["sse4.2"],
    "haswell": ["avx2", "fma"],
    "skylake-avx512": ["avx512f", "avx512dq", "avx512bw", "avx512vl"],
    "cortex-a72": ["neon"],
}
HOST = llvm.get_host_cpu_features()
RUNNABLE = [cpu for cpu, needed in CPUS.items() if all(HOST.get(feature) for feature in needed)]


def digest(*arguments, **environment):
    """What one run of the chains in a process of its own prints."""
    env = {**os.environ, "NUMBA_DISABLE_JIT": "0", **environment}
    return run_python(BITS, *arguments, env=env).stdout


@pytest.fixture(scope="module")
def expected():
    return digest("whole")


def test_the_digest_covers_tokens_logits_and_drafts(expected):
    lines = expected.splitlines()
    assert len(lines) == 10
    assert all(len(line.split()) == 5 for line in lines)
    assert len({line.split()[1] for line in lines}) == len(lines)
    followed = [place for line in lines for place in line.split()[4].split(",")[1::2]]
    assert 5 < followed.count("-1") < len(followed) - 5  # drafts are dropped, and kept


@pytest.mark.parametrize("cpu", RUNNABLE)
def test_equal_bits_when_compiled_for_another_cpu(cpu, expected):
    # Empty: what the name implies and no more; numba would take the host's features.
    assert digest("whole", NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="") == expected


@pytest.mark.parametrize("layout", ["alone", "backwards", "padded", "threads", "interpreted"])
def test_equal_bits_in_another_layout(layout, expected):
    environment = {"NUMBA_DISABLE_JIT": "1"} if layout == "interpreted" else {}
    ours = digest(layout, **environment)
    if layout == "interpreted":  # a subset: pure Python is slow
        assert ours
        assert set(ours.splitlines()) < set(expected.splitlines())
    else:
        assert ours == expected


def test_bounds_checked_kernels_give_the_same_bits(expected):
    assert digest("whole", NUMBA_BOUNDSCHECK="1") == expected


def test_this_machine_runs_code_of_another_cpu():
    assert RUNNABLE
