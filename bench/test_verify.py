"""Drafts of one row of 128,256 logits in the cache: four are verified, and all of them are kept."""

import numpy as np
import pytest
from chains import REQUESTS
from rows import peaked

import logitchain as lc

VOCAB, DRAFTS = 128_256, 4
WAYS = ("five draws", "drafts alone", "a tree of 8 drafts", "token", "block", "synthetic")


def call_of(way, request, row):
    """What is timed: the tokens of five positions, whose logits are alike."""
    chain, batch = lc.Chain(), lc.Batch(VOCAB)
    batch.add(lc.Params(seed=1, **request))
    logits, alone = np.stack([row] * (DRAFTS + 1)), [row[None].copy() for _ in range(DRAFTS + 1)]
    if way == "five draws":
        return lambda: [chain.sample(one, batch) for one in alone]
    drafts = lc.sample(
        np.stack([chain(row, batch)] * DRAFTS), seed=1, position=np.arange(DRAFTS)
    ).tolist()
    if way == "drafts alone":
        return lambda: chain.verify(logits, batch, [drafts])
    if way == "a tree of 8 drafts":
        others = [[*drafts[:depth], (drafts[depth] + 1) % VOCAB] for depth in range(DRAFTS)]
        nodes, parents = lc.draft_tree([drafts, *others])
        logits = np.stack([row] * (len(nodes) + 1))
        return lambda: chain.verify(logits, batch, [nodes], parents=[parents])
    proposed = [np.stack([chain(row, batch)] * DRAFTS)]
    acceptance = 1.0 if way == "synthetic" else None
    told = {"method": way, "acceptance": acceptance}
    return lambda: chain.verify(logits, batch, [drafts], proposed, **told)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("request_name", ["top_k 50, top_p, min_p, XTC", "top_p"])
def test_verify(benchmark, request_name, way):
    call = call_of(way, REQUESTS[request_name], peaked(VOCAB, 1)[0])
    what = f"5 tokens of a row of 128,256 logits in the cache, {request_name}"
    benchmark.extra_info.update(table="features", what=what, way=way)
    benchmark.pedantic(call, rounds=100, warmup_rounds=3)
