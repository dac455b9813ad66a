"""Cold starts, odd places, threads and forks: what happens around the kernels."""

import copy
import multiprocessing
import os
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
from child import run_python
from effort import effort
from logitchain.__main__ import main
from logitchain.fused import row
from logitchain.numeric import compile as jit
from logitchain.warmup import kernels

PACKAGE = Path(lc.__file__).parent
SMALL = "import logitchain as lc; print(lc.uniform(7, 0))"  # it compiles for a second
NUMBER = "0.9545971261687"
compiled_only = pytest.mark.skipif(jit.INTERPRETED, reason="there is nothing to compile")


def run(code, folder=None, *, errors=False, **environment):
    """What a child process prints, or writes to its standard error."""
    here = {"PYTHONPATH": str(folder)} if folder else {}
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "HOME")}
    done = run_python("-B", "-c", code, env=kept | here | environment)
    return (done.stderr if errors else done.stdout).strip()


@pytest.fixture
def sealed(tmp_path):
    """A copy of the package that nothing can be cached in: files stand where folders would go."""
    shutil.copytree(PACKAGE, tmp_path / "logitchain", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (tmp_path / "logitchain", tmp_path / "logitchain/controls"):
        (folder / "__pycache__").touch()
    return tmp_path


@compiled_only
def test_a_read_only_install_without_a_home_caches_in_a_folder_of_its_own(sealed, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    where = {"HOME": os.devnull, "TMPDIR": str(temporary)}
    assert run(SMALL, sealed, **where) == NUMBER
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*.nbc"))
    assert run(SMALL, sealed, **where) == NUMBER


@compiled_only
def test_a_temporary_folder_that_others_can_write_to_is_not_used(sealed, tmp_path):
    temporary = tmp_path / "temporary"
    folder = temporary / f"logitchain-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert run(SMALL, sealed, HOME=os.devnull, TMPDIR=str(temporary)) == NUMBER
    assert not list(folder.iterdir())


@compiled_only
def test_processes_start_at_once_on_an_empty_cache(tmp_path):
    count = effort(interpreted=1, quick=3, long=10)
    with ThreadPoolExecutor(count) as pool:
        cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
        printed = list(pool.map(lambda _: run(SMALL, PACKAGE.parent, **cache), range(count)))
    assert printed == [NUMBER] * count


@compiled_only
def test_a_change_of_a_file_that_kernels_share_is_noticed(tmp_path):
    """Its size and its time may be those of before, as after `rsync -a` or a checkout."""
    shutil.copytree(PACKAGE, tmp_path / "logitchain", ignore=shutil.ignore_patterns("__pycache__"))
    shared = tmp_path / "logitchain/numeric/functions.py"
    code = "import logitchain as lc; print(lc.min_p([0.0, -1.0], 0.4).tolist())"
    assert run(code, tmp_path) == "[0.0, -inf]"
    before = shared.stat()
    shared.write_text(shared.read_text().replace("SLACK = 2.0**-20", "SLACK = 2.0 ** -3"))
    os.utime(shared, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(code, tmp_path) == "[0.0, -1.0]"


@compiled_only
def test_checked_kernels_are_kept_apart(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    for checks in ("0", "1"):
        assert run(SMALL, PACKAGE.parent, NUMBA_BOUNDSCHECK=checks, **cache) == NUMBER
    assert len(list(tmp_path.iterdir())) == 2


@compiled_only
def test_the_first_compilation_is_logged_once(tmp_path):
    code = f"{SMALL}; lc.logit_bias([1.0, 2.0], {{1: 1.0}})"
    logged = "import logging; logging.basicConfig(format='%(levelname)s %(name)s %(message)s'); "
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    lines = run(logged + code, PACKAGE.parent, errors=True, **cache).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("WARNING logitchain compiling kernels")
    assert str(tmp_path) in lines[0]
    assert "python -m logitchain warmup" in lines[0]
    assert run(logged + code, PACKAGE.parent, errors=True, **cache) == ""


def test_import_prints_nothing_and_brings_no_engine():
    code = "import sys, logitchain; print({'torch', 'matplotlib', 'rich'} & {*sys.modules})"
    assert run(code, PACKAGE.parent) == "set()"


EVERYTHING = """
import numpy as np, logitchain as lc
from numba.core import event

class Compiled(event.Listener):
    names = []
    def on_start(self, started):
        self.names.append(started.data["dispatcher"].py_func.__qualname__)
    def on_end(self, ended):
        pass

event.register("numba:compile", Compiled())
bias, words = {"logit_bias": {1: 2.0}}, {"bad_words": [[3, 4]], "banned_tokens": [5]}
penalties = {"repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1}
cuts = {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.01, "top_n_sigma": 3.0}
rest = {"typical_p": 0.9, "top_a": 0.01, "epsilon_cutoff": 1e-4, "eta_cutoff": 1e-4, "tfs": 0.9}
rest |= {"dry_multiplier": 1.0, "dynatemp_range": 0.1}
rest |= {"p_less": True, "top_h": 0.9, "smoothing_factor": 0.1}
xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.01}
last = {"mirostat_tau": 5.0, "adaptive_target": 0.5}
ends = {"min_tokens": 9, "min_total_tokens": 20, "eos_token": [7]}
ends |= {"allowed_tokens": range(80), "no_repeat_ngram": 2}
ends |= {"reasoning_end": [9], "reasoning_budget": 5}
words |= {"forced_output_tokens": [7]}
ends |= {"banned_texts": lc.BannedTexts(["ab"], [b"a", b"b"])}
batch = lc.Batch(100)
nucleus = {"top_p": 0.3} | last
for n, fields in enumerate([{}, bias, words, penalties, cuts | rest, xtc, ends, nucleus]):
    (row,) = batch.add(lc.Params(seed=n, top_logprobs=2, **fields), [1, 2, 1])
batch.set_mask(row, np.full(4, -1, np.int32))
logits = np.random.default_rng(1).normal(0, 2, (8, 100))
for chain in (lc.Chain(), lc.Chain.preset("llama_cpp", threads=2)):
    for kind in (np.float16, np.float32, np.float64):
        for of in ("raw", "processed"):
            chain.sample_with_logprobs(logits.astype(kind), batch, of=of)
        chain.sample(logits.astype(kind), batch)
        chain(logits.astype(kind), batch)
    chain.explain(logits, batch, row)
    chain.verify(logits, batch, [[]] * 8)
print(Compiled.names)
"""


def test_warmup_compiles_every_kernel_and_says_so(capsys):
    assert main(["warmup", "--jobs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(kernels()) + 1
    assert lines[-1].startswith("all kernels are ready")
    if jit.CACHE is not None:
        cache = {"NUMBA_CACHE_DIR": str(jit.CACHE.parent)}
        assert run(EVERYTHING, PACKAGE.parent, **cache) == "[]"


def test_stages_and_controls_are_compiled_when_a_row_needs_them(monkeypatch):
    needed, really = [], row._compile

    def noted(program, which):
        needed.append(which)
        really(program, which)

    monkeypatch.setattr(row, "_compile", noted)
    chain, batch = lc.Chain(["repetition_penalty", "top_k", "xtc"]), lc.Batch(50)
    logits = np.zeros((1, 50), np.float32)
    first = batch.add(lc.Params(seed=0), [1])[0]
    for _ in range(2):
        chain.sample(logits, batch)
        assert needed == [row.DRAW]
    batch.remove(first)
    batch.add(lc.Params(seed=0, repetition_penalty=2.0, top_k=3), [1])
    chain.sample(logits, batch)
    stages = len(row.STAGES)
    assert needed == [row.DRAW, stages, stages + 1, row.CHANGE, row.TRUNCATE, row.RACE]


def test_rows_before_one_that_needs_more_are_done_once():
    """In place: applied twice, a penalty would count twice."""
    fields = [{"repetition_penalty": 2.0}, {}, {"top_k": 2}, {"logit_bias": {0: 1.0}}, {}]
    logits = np.tile(np.float32([1.0, 2.0, 3.0, 4.0]), (len(fields), 1))
    logits[1, 2], logits[4, 0] = np.nan, np.inf
    batch = lc.Batch(4)
    for asked in fields:
        batch.add(lc.Params(seed=0, **asked), [3])
    warm, cold = (lc.Chain(on_invalid="mark") for _ in range(2))
    warm(logits, batch)
    expected, tokens = warm(logits, batch), warm.sample(logits, batch)
    assert tokens[[1, 4]].tolist() == [-1, -1]
    assert expected[0].tolist() == [1.0, 2.0, 3.0, 2.0]
    assert_array_equal(lc.Chain(on_invalid="mark").sample(logits, batch), tokens)
    cold(logits, batch, out=logits)
    assert_array_equal(logits, expected)
    assert [status == "ok" for status in batch.status] == [True, False, True, True, False]


def test_an_interrupted_call_leaves_no_thread_at_work(monkeypatch):
    """A KeyboardInterrupt on the caller's thread, while others have rows to do."""
    caller, begun = threading.get_ident(), []
    logits, new_batch = workload(12)
    chain, batch = lc.Chain(threads=3), new_batch()
    really = chain._run_with_scratch

    def borrow(first, last, *rest):
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(0.05)
        begun.append(first)
        return really(first, last, *rest)

    monkeypatch.setattr("logitchain.chain._SHARE", 1)
    chain._run_with_scratch = borrow
    with pytest.raises(KeyboardInterrupt):
        chain.sample(logits, batch)
    done = len(begun)
    time.sleep(0.3)
    assert len(begun) == done <= 3
    del chain._run_with_scratch
    assert_array_equal(chain.sample(logits, batch), lc.Chain().sample(logits, batch))


ROWS, VOCAB = effort((4, 130), (40, 3000))


def workload(rows=ROWS, vocab=VOCAB):
    """(logits, a function that makes the same batch again)."""
    logits = np.random.default_rng(2).normal(0, 2, (rows, vocab)).astype(np.float32)

    def batch():
        made = lc.Batch(vocab)
        for r in range(rows):
            made.add(lc.Params(seed=r, temperature=0.8, top_p=0.9, top_k=r % 3 * 20), [r, r])
        return made

    return logits, batch


def test_callers_on_many_threads_share_a_chain():
    logits, batch = workload()
    chain = lc.Chain(threads=2)
    expected = lc.Chain().sample(logits, batch())
    ready = threading.Barrier(8)

    def call(_):
        mine = batch()
        ready.wait()
        return [chain.sample(logits, mine) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(call, range(8)):
            assert_array_equal(results, [expected] * 5)


def in_child(chain, queue):
    logits, batch = workload()
    queue.put(chain.sample(logits, batch()).tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_chain_goes_on_after_a_fork(threads):
    logits, batch = workload()
    chain = lc.Chain(threads=threads)
    expected = chain.sample(logits, batch()).tolist()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(chain, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0
    assert chain.sample(logits, batch()).tolist() == expected


def test_scratch_is_used_again():
    logits, batch = workload(rows=3)
    chain, mine = lc.Chain(), batch()
    chain.sample(logits, mine)
    (memory,) = chain._scratch[VOCAB]
    for _ in range(5):
        chain.sample(logits, mine)
    assert [id(kept) for kept in chain._scratch[VOCAB]] == [id(memory)]


def test_a_chain_that_was_used_can_be_copied_and_pickled():
    logits, batch = workload()
    chain = lc.Chain(threads=2)
    expected = chain.sample(logits, batch())
    for other in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert_array_equal(other.sample(logits, batch()), expected)


def test_an_error_on_a_thread_reaches_the_caller():
    logits, batch = workload(rows=4)
    logits[2, 7] = np.nan
    with pytest.raises(ValueError, match=r"^logits: row 2, token 7 is nan$"):
        lc.Chain(threads=3).sample(logits, batch())


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, None, "2"])
def test_threads_are_a_whole_number(threads):
    with pytest.raises((TypeError, ValueError), match=r"^threads must be"):
        lc.Chain(threads=threads)
