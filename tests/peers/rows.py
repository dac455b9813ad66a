"""Rows to compare on, and what it takes for two results to be the same."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from logitchain.conformance import drawn
from logitchain.conformance.known import mass_above as mass_above

Row = NDArray[np.float32]


def random_rows(count: int, vocabs: tuple[int, ...] = (8, 200, 5000, 32000)) -> Iterator[Row]:
    """The conformance kit's rows, from a seed and over vocabularies of these tests' own."""
    return drawn.random_rows(np.random.default_rng(20261123), count, vocabs)


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
