"""Whether drawn tokens fit the probabilities that they should have."""

import numpy as np


def softmax(row):
    weights = np.exp(np.asarray(row, np.float64) - np.max(row))
    return weights / weights.sum()


def assert_fits(tokens, probs):
    """Chi-square against the probabilities; five sigma, rare tokens put together."""
    counts = np.bincount(tokens, minlength=probs.size)
    assert not counts[probs == 0].any()
    rare = probs * tokens.size < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(probs[~rare], probs[rare].sum()) * tokens.size
    used = expected > 0
    chi2 = ((observed - expected)[used] ** 2 / expected[used]).sum()
    freedom = used.sum() - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5
