"""Rows to compare on, and what it takes for two results to be the same."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]


def random_rows(count: int, vocabs: tuple[int, ...] = (8, 200, 5000, 32000)) -> Iterator[Row]:
    """Rows without ties: normal ones of three widths and peaked ones, over several vocabularies."""
    rng = np.random.default_rng(20261123)
    for number in range(count):
        vocab = vocabs[number % len(vocabs)]
        sigma = (1, 3, 8)[number // len(vocabs) % 3]
        row = rng.normal(0, sigma, vocab)
        if number % 2:  # as a model is sure of a few tokens
            row[rng.integers(vocab, size=3)] += rng.uniform(4, 12, 3) + row.max()
        row = row.astype(np.float32)
        _, first = np.unique(row, return_index=True)
        tied = np.setdiff1d(np.arange(vocab), first)
        row[tied] = -40 - np.arange(tied.size)  # far below, each for itself
        yield row


def mass_above(row: Row) -> NDArray[np.float64]:
    """For each token the mass of those before it in the order."""
    weights = np.exp(row.astype(np.float64) - row.max())
    q = weights / weights.sum()
    order = np.argsort(-row, kind="stable")
    above = np.empty_like(q)
    above[order] = np.cumsum(q[order]) - q[order]
    return above


def assert_same_kept(
    ours: Row,
    theirs: Row,
    *,
    boundary: NDArray[np.bool_] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> None:
    """The same tokens are left, but for those at a boundary, with the same logits."""
    left, expected = np.isfinite(ours), np.isfinite(theirs)
    differs = left != expected
    if boundary is not None:
        differs &= ~boundary
    if differs.any():
        token = int(np.flatnonzero(differs)[0])
        raise AssertionError(
            f"token {token} ({ours[token]} here, {theirs[token]} there); {differs.sum()} tokens "
            f"differ, {left.sum()} left here and {expected.sum()} there"
        )
    both = left & expected
    assert both.any()
    np.testing.assert_allclose(ours[both], theirs[both], rtol=rtol, atol=atol)
