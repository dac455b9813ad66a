"""Drafts that are kept by a coin, whatever the logits are: for benchmarks of engines."""

from collections.abc import Sequence

import numpy as np

from .. import rng
from ..numeric.functions import U64
from .drafts import Drafts
from .walk import Walk


class Synthetic(Walk):
    """At each depth the first draft is kept with a given probability; the draws are made as always.

    acceptance   the probability at each depth, if the drafts before are kept
    children     the first of each node
    """

    def __init__(
        self, drafts: Drafts, seed: U64, position: U64, acceptance: Sequence[float]
    ) -> None:
        """At the root."""
        super().__init__(drafts, seed, position)
        self.acceptance = acceptance
        last = len(drafts.parents) - 1
        self.children = {x: last - i for i, x in enumerate(reversed(drafts.parents))}

    def go(self, token: int) -> bool:
        """Take the first draft here instead of the token, if its coin says so; whether it does."""
        depth = len(self.tokens)
        children = [self.children[node] for node in self.nodes if node in self.children]
        if token >= 0 and children:
            position = self.position + np.uint64(depth)
            coin = rng.uniform_at(self.seed, position, rng.VERIFY, 0)
            if coin < self.acceptance[depth]:
                return super().go(int(self.drafts.tokens[min(children)]))
        self.take(token)
        return False
