"""What a drafter proposes: a sequence of tokens, or several that are merged into a tree."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Rows, first_invalid, history_ids, stored, token_ids, why_invalid
from ..inputs.values import listed, show

Ids = NDArray[np.int64]

ROOT = -1  # the parent of a draft that comes first


class Drafts(NamedTuple):
    """The drafts of one sequence as nodes of a tree; a sequence of drafts is a tree too."""

    tokens: Ids  # (k,)
    parents: list[int]  # of each node
    children: dict[tuple[int, int], list[int]]  # by parent and token, ascending
    logits: Rows  # (k, vocab) what they were drawn from; no rows if that is not known

    def after(self, nodes: list[int], token: int) -> list[int]:
        """The nodes, ascending, that hold the token and follow one of the given nodes."""
        return sorted(x for node in nodes for x in self.children.get((node, token), ()))

    @property
    def depth(self) -> int:
        """How many drafts there are on the longest path."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent + 1] + 1)
        return max(depths)


def read_drafts(drafts: Any, proposed: Any, parents: Any, vocab: int, dtype: DType) -> Drafts:
    """The drafts of one sequence, checked; without `parents` each follows the one before."""
    tree = _tree(token_ids("drafts", drafts, vocab), parents)
    if proposed is None or not tree.tokens.size:
        return tree
    if tree.parents != _sequence(tree.tokens.size):
        raise ValueError("proposed must be None where drafts form a tree: see `parents`")
    try:
        given = stored(proposed, dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"proposed {error}") from None
    expect_shape("proposed logits", given.shape, (tree.tokens.size, vocab))
    rows = given.rows()
    check_rows("proposed logits", rows)
    for depth, token in enumerate(tree.tokens.tolist()):
        if rows[depth, token] == -np.inf:
            raise ValueError(f"proposed logits: row {depth}, draft {token} is -inf")
    return tree._replace(logits=rows)


def _tree(tokens: Ids, parents: Any) -> Drafts:
    places = _sequence(tokens.size)
    if parents is not None:
        places = history_ids("parents", parents).tolist()
        if len(places) != tokens.size:
            raise ValueError(f"parents must be one per draft ({tokens.size}), not {len(places)}")
        for node, parent in enumerate(places):
            if not ROOT <= parent < node:
                raise ValueError(f"parents[{node}] must be in [-1, {node}), not {show(parent)}")
    children: dict[tuple[int, int], list[int]] = {}
    for node, edge in enumerate(zip(places, tokens.tolist(), strict=True)):
        children.setdefault(edge, []).append(node)
    return Drafts(tokens, places, children, np.empty((0, 0), np.float32))


def _sequence(count: int) -> list[int]:
    """The parents of drafts of which each follows the one before."""
    return list(range(ROOT, count - 1))


def expect_shape(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Raise ValueError for rows of another shape."""
    if shape != expected:
        raise ValueError(f"{name} must have shape {expected} with these drafts, not {shape}")


def check_rows(name: str, rows: Rows, first: int = 0) -> None:
    """Raise ValueError for an invalid row; that of place 0 is called `first`."""
    bad = first_invalid(rows)
    if bad >= 0:
        raise ValueError(f"{name}: row {first + bad}, {why_invalid(rows[bad])}")


def draft_tree(sequences: Iterable[Sequence[int] | Ids]) -> tuple[Ids, Ids]:
    """Several sequences of drafts as one tree, in which they share what they begin with.

    sequences   token ids, as many sequences as one likes, of any length

    Returns `drafts` and `parents`, int64 (nodes,), as `verify` takes them: of each node its token,
    and the index of the node before it, -1 if there is none. Nodes come in the order in which the
    sequences name them, so a parent is before its children. Raises TypeError for what is no
    sequence of integers.

    >>> draft_tree([[5, 6, 7], [5, 8], [9]])
    (array([5, 6, 7, 8, 9]), array([-1,  0,  1,  0, -1]))
    """
    nodes: dict[tuple[int, int], int] = {}
    for sequence in listed("sequences", sequences, "sequences of token ids"):
        node = ROOT
        for token in history_ids("drafts", sequence).tolist():
            node = nodes.setdefault((node, token), len(nodes))
    edges = np.array(list(nodes), np.int64).reshape(-1, 2)
    return edges[:, 1].copy(), edges[:, 0].copy()


def accepted_drafts(
    tokens: Sequence[int] | Ids, drafts: Sequence[int] | Ids, parents: Any = None
) -> Ids:
    """Which drafts `verify` has kept: the nodes of a tree whose cache entries an engine keeps.

    tokens            what `verify` returned for one sequence: kept drafts, then a token of its own
    drafts, parents   what it was called with

    Returns int64 (len(tokens) - 1,): the index of the node of each kept draft, from the root on,
    each the parent of the next. Without `parents` they are 0, 1, 2 ... Where several nodes have
    equal tokens before them, it is the first path of the greatest length. Raises ValueError if the
    tokens are no path of the tree.

    >>> drafts, parents = draft_tree([[5, 6, 7], [5, 8], [9]])
    >>> accepted_drafts([5, 8, 3], drafts, parents)
    array([0, 3])
    """
    tree, nodes = _tree(history_ids("drafts", drafts), parents), [ROOT]
    kept = history_ids("tokens", tokens).tolist()[:-1]
    for place, token in enumerate(kept):
        nodes = tree.after(nodes, token)
        if not nodes:
            raise ValueError(f"tokens[{place}] must be a draft that follows, not {show(token)}")
    path = [nodes[0]]
    while path[-1] != ROOT:
        path.append(tree.parents[path[-1]])
    return np.array(path[-2::-1], np.int64)
