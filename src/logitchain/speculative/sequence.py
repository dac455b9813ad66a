"""Drafts of one sequence against logits that are processed already."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..inputs.logits import DType, first_invalid, stored
from ..numeric.float_mode import in_standard_mode
from .drafts import check_rows, expect_shape, read_drafts
from .methods import Method, read_method


@in_standard_mode
def verify(
    logits: Any,
    drafts: Sequence[int] | NDArray[np.int64],
    proposed: Any = None,
    *,
    seed: Any,
    position: Any,
    parents: Sequence[int] | NDArray[np.int64] | None = None,
    method: Method = "token",
    acceptance: float | Sequence[float] | None = None,
    dtype: DType = None,
) -> NDArray[np.int64]:
    """The next tokens of one sequence: those of its k drafts that are kept, and one more.

    logits           (k + 1, vocab) processed logits: before each draft, and after the last
    drafts           (k,) token ids; the first is for `position`
    proposed         (k, vocab) processed logits that the drafts were drawn from; None if they were
                     found in another way, or if no token may depend on them
    seed, position   as for `sample`
    parents          (k,) for a tree of drafts, as `draft_tree` makes it: of each draft the index of
                     the one before it, or -1 if it comes first. `logits` has the row before any
                     draft, and then for each draft the row after it; `proposed` must be None
    method           "token": with `proposed` the drafts are kept or dropped one after the other;
                     "block": all at once, which keeps more of them; needs `proposed`, of a drafter
                     that draws with `draft_seed`. "synthetic": for benchmarks, see `acceptance`
    acceptance       the probability with which a draft is kept if those before it are, whatever the
                     logits are; or one for each depth. The tokens are worth nothing

    Returns 1 to k + 1 token ids, int64, distributed as if each were drawn from its row. Without
    `proposed` they are the very tokens that `sample` draws from the rows at their positions; with
    it more drafts are kept. Raises ValueError if a row is invalid, unless it follows a draft
    that is not kept, or if a draft is outside the vocabulary or removed from what it was drawn
    from.

    >>> logits = [[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 9.0]]
    >>> verify(logits, [1, 0], seed=0, position=0)
    array([1, 1])
    >>> verify(logits, [1, 0], [[0.0, 2.0, 0.0], [1.0, 1.0, 0.0]], seed=0, position=0)
    array([1, 0, 2])
    >>> verify(logits, [0, 1], seed=0, position=0, parents=[-1, -1])
    array([1, 2])
    """
    given = stored(logits, dtype)
    vocab = given.shape[-1]
    tree = read_drafts(drafts, proposed, parents, vocab, dtype)
    expect_shape("logits", given.shape, (tree.tokens.size + 1, vocab))
    rows = given.rows()
    seeds, positions = rng.keys(seed, position, 1)
    walk_of = read_method(method, acceptance, proposed is not None, [tree])
    walk = walk_of(tree, seeds[0], positions[0])
    is_on = True
    while is_on:
        at = slice(walk.row, walk.row + 1)
        token = walk.settle_invalid() if first_invalid(rows[at]) >= 0 else walk.settle(rows[at][0])
        if token < 0:
            check_rows("logits", rows[at], at.start)
        is_on = walk.go(token)
    return np.array(walk.tokens, np.int64)
