"""How cost grows: rows, threads, vocabulary, history."""

import numpy as np
import pytest
from chains import PENALTIES, REQUESTS, history, llama_cpp, ours
from rows import flat, peaked

import logitchain as lc

FIRST = REQUESTS["top_k 50, top_p, min_p, XTC"]
VOCAB = 128_256


def batch_of(rows):
    """Mixed requests, one a row."""
    batch = lc.Batch(VOCAB)
    for r in range(rows):
        mixed = FIRST | {"top_k": 20 + r % 50, "temperature": 0.5 + r % 7 / 10}
        batch.add(lc.Params(seed=r, **mixed), [r])
    return batch


@pytest.mark.parametrize("threads", [0, 1, 2])  # 0: np.max of the batch
@pytest.mark.parametrize("rows", [1, 4, 16, 64, 256])
def test_batch(over_rows, rows, threads):
    logits = np.tile(peaked(), (-(-rows // 150), 1))[:rows]
    batch, chain = batch_of(rows), lc.Chain(threads=max(threads, 1))

    def call(logits):
        return chain.sample(logits, batch) if threads else np.max(logits, axis=1)

    over_rows(call, [logits], rounds=30, table="batches", count=rows, threads=threads)


@pytest.mark.parametrize("sampler", ["logitchain", "np.max"])
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("vocab", [8_192, 32_768, 131_072, 262_144, 524_288, 1_048_576])
def test_vocabulary(over_rows, vocab, request_name, sampler):
    rows = peaked(vocab, max(3, 4_000_000 // vocab))
    call = ours(vocab, REQUESTS[request_name]) if sampler == "logitchain" else np.max
    over_rows(
        call,
        rows,
        rounds=60,
        table="vocabulary",
        vocab=vocab,
        request=request_name,
        sampler=sampler,
    )


@pytest.mark.parametrize("length", [0, 100, 1_000, 10_000, 100_000])
def test_history(over_rows, length):
    said = history(VOCAB, length)
    call = ours(VOCAB, FIRST | PENALTIES, said)
    distinct = len(set(said))
    over_rows(call, peaked(), table="history", length=length, distinct=distinct)


@pytest.mark.parametrize("sampler", ["logitchain", "llama.cpp"])
@pytest.mark.parametrize("length", [100, 2000, 20_000, 100_000])
def test_dry(over_rows, length, sampler):
    """A step over a history of this length: DRY, top_k, the draw."""
    request = {"temperature": 0.8, "top_k": 50, "dry_multiplier": 0.8}
    said = history(VOCAB, length)
    make = {"logitchain": ours, "llama.cpp": llama_cpp}[sampler]
    row = flat(count=1)
    over_rows(make(VOCAB, request, said), row, 101, table="dry", length=length, sampler=sampler)


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.95}, {"top_k": 50}], ids=str)
@pytest.mark.parametrize("scheme", ["no", "gumbel", "dual_key_gumbel", "sglang", "sbw"])
def test_watermark(over_rows, scheme, filters):
    """A step over a whole row, and over what a filter leaves, with each scheme and without."""
    mark = {} if scheme == "no" else {"watermark": {"scheme": scheme, "key": 42}}
    call = ours(VOCAB, {"temperature": 0.8, **filters, **mark}, history(VOCAB, 1000))
    request = next(iter(filters), "temperature")
    about = {"what": f"a row of 128,256 logits, {request}", "way": f"{scheme} watermark"}
    over_rows(call, flat(count=1), 101, table="features", **about)


@pytest.mark.parametrize("length", [0, 1_000, 100_000])
def test_append(benchmark, length):
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=0), history(VOCAB, length))
    benchmark.extra_info.update(table="append", length=length)
    benchmark.pedantic(batch.append, args=([5],), rounds=2000)


def test_overhead_of_a_call(benchmark):
    batch, chain = lc.Batch(64), lc.Chain()
    batch.add(lc.Params(seed=0, temperature=0.8))
    row = np.zeros((1, 64), np.float32)
    chain.sample(row, batch)
    benchmark.extra_info.update(table="overhead")
    benchmark.pedantic(chain.sample, args=(row, batch), rounds=5000)


def test_rows_that_join(benchmark):
    """1,024 rows with prompts of 1,000 tokens, one by one."""
    prompts = [np.arange(r, r + 1_000) for r in range(1_024)]

    def join():
        batch = lc.Batch(VOCAB)
        for prompt in prompts:
            batch.add(lc.Params(seed=0), prompt)

    benchmark.extra_info.update(table="rows", what="1,024 rows of 1,000 tokens join one by one")
    benchmark.pedantic(join, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("length", [3, 32_000])
def test_a_row_that_leaves(benchmark, length):
    """Beside 64 rows with histories of 32,000 tokens; the penalties of all are on."""
    batch, penalty = lc.Batch(VOCAB), lc.Params(seed=0, presence_penalty=0.5)
    for _ in range(64):
        batch.add(penalty, np.arange(32_000))

    def add():
        return tuple(batch.add(penalty, np.arange(length))), {}

    what = f"a row of {length:,} tokens leaves, beside 64 of 32,000"
    benchmark.extra_info.update(table="rows", what=what)
    benchmark.pedantic(batch.remove, setup=add, rounds=100, warmup_rounds=1)


@pytest.mark.parametrize("scope", ["prompt", "output"])
def test_a_long_history_joins(benchmark, scope):
    tokens = np.arange(1_000_000) % VOCAB
    given = (tokens, []) if scope == "prompt" else ([], tokens)

    def join():
        lc.Batch(VOCAB).add(lc.Params(seed=0, presence_penalty=0.5), *given)

    what = f"a row of a million {scope} tokens joins"
    benchmark.extra_info.update(table="rows", what=what)
    benchmark.pedantic(join, rounds=10, warmup_rounds=1)


WISHES = {
    "sample": None,
    "sample_with_logprobs": {},
    "details=True": {"details": True},
    "kept=512": {"kept": 512},
    "kept=True": {"kept": True},
    "kept=True, details=True": {"kept": True, "details": True},
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_kept(over_rows, request_name, rows, wish):
    """What a call costs that lists the kept sets beside the draw of what is processed."""
    logits = np.tile(peaked(), (-(-rows // 150), 1))[:rows]
    batch, chain = lc.Batch(VOCAB), lc.Chain()
    for r in range(rows):
        batch.add(lc.Params(seed=r, logprobs_of="processed", **REQUESTS[request_name]), [r])
    wishes = WISHES[wish]

    def call(logits):
        if wishes is None:
            return chain.sample(logits, batch)
        return chain.sample_with_logprobs(logits, batch, **wishes)

    about = {"what": f"{rows} x 128,256 logits in the cache, {request_name}", "way": wish}
    over_rows(call, [logits], rounds=30, table="features", **about)
