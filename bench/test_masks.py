"""A token bitmask: by itself beside llguidance's own, and in a chain."""

import itertools

import numpy as np
import pytest
from chains import REQUESTS, SEEDS
from rows import flat

import logitchain as lc

CHAIN = REQUESTS["top_p, min_p"]
#: The share of the vocabulary that a mask allows.
SHARES = (0.001, 0.5, 0.99)


def bitmask(vocab, share):
    """(words,) int32, each token allowed with this probability."""
    bits = np.random.default_rng(4).random((vocab // 32, 32)) < share
    words = (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    return words.view(np.int32)


def in_place(mask):
    return lambda row: lc.token_bitmask(row, mask, out=row)


def llguidance(mask):
    import llguidance.numpy as peer

    return lambda row: peer.apply_token_bitmask_inplace(row[None], mask[None])


def in_a_chain(mask):
    chain, batches = lc.Chain(), []
    for seed in range(SEEDS):
        batch = lc.Batch(mask.size * 32)
        (row,) = batch.add(lc.Params(seed=seed, **CHAIN))
        batch.set_mask(row, mask)
        batches.append(batch)
    endless = itertools.cycle(batches)
    return lambda logits: chain.sample(logits[None], next(endless))


def without(mask):
    call = in_a_chain(mask)
    return call if (mask == -1).all() else without(np.full_like(mask, -1))


WAYS = {
    "np.max": lambda mask: np.max,
    "`lc.token_bitmask`, in place": in_place,
    "llguidance's, in place": llguidance,
    "a chain with it": in_a_chain,
    "the chain without": without,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("vocab", [49_152, 128_256])
def test_mask(over_rows, vocab, share, way):
    call = WAYS[way](bitmask(vocab, share))
    over_rows(call, flat(vocab).copy(), table="masks", vocab=vocab, share=share, way=way)
