"""The list of the best tokens beside a draw, where few of a row's blocks are looked at."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc


@pytest.mark.parametrize("of", ["raw", "processed"])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 20])
@pytest.mark.parametrize("vocab", [384, 389])
def test_the_best_tokens_are_those_of_top_logprobs(vocab, n, of):
    """Six blocks, of which as many peaks as tokens are wanted decide what is looked at."""
    rng = np.random.default_rng(vocab + n)
    rows = np.float32(
        [rng.normal(0, 2, vocab), rng.integers(-3, 4, vocab), rng.normal(0, 2, vocab)]
    )
    rows[2, 64:128] += 10  # all of the best in one block
    batch = lc.Batch(vocab)
    for seed in range(3):
        batch.add(lc.Params(seed=seed, top_logprobs=n, logit_bias={70: 5.0, 300: -np.inf}))
    chain = lc.Chain()
    for _ in range(2):  # the first compiles its stages on the way
        drawn = chain.sample_with_logprobs(rows, batch, of=of)
        ids, logprobs = lc.top_logprobs(rows if of == "raw" else chain(rows, batch), n)
        assert_array_equal(drawn.top_ids, ids)
        assert_array_equal(drawn.top_logprobs, logprobs)


@pytest.mark.parametrize("of", ["raw", "processed"])
def test_where_fewer_tokens_are_left_the_list_ends_with_none(of):
    row = np.full(200, -np.inf, np.float32)
    row[[3, 130, 199]] = 1.0, 2.0, 1.0
    batch = lc.Batch(200)
    batch.add(lc.Params(seed=0, top_logprobs=5))
    drawn = lc.Chain().sample_with_logprobs(row, batch, of=of)
    assert drawn.top_ids.tolist() == [[130, 3, 199, -1, -1]]
    assert np.isneginf(drawn.top_logprobs[0]).tolist() == [False] * 3 + [True] * 2
