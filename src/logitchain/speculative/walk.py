"""The way through a tree of drafts: at each node a token is settled on; its child is the next."""

import numpy as np

from ..numeric.functions import U64, Row
from ..sample import EVERY, race
from .drafts import ROOT, Drafts


class Walk:
    """The tokens of one sequence so far, and where they lead among its drafts.

    Here each token is the draw of its position, whatever the drafts are, so the tokens are those
    without drafts. Nodes whose tokens and whose ancestors' tokens are equal are one place: all of
    them are followed, and the logits after the first are read.
    """

    def __init__(self, drafts: Drafts, seed: U64, position: U64) -> None:
        """At the root; `position` is that of the first token."""
        self.drafts, self.seed, self.position = drafts, seed, np.uint64(position)
        self.tokens: list[int] = []
        self.sources: list[int] = []  # of each token, the row of logits that it comes from
        self.nodes = [ROOT]

    @property
    def row(self) -> int:
        """Which of the sequence's rows of logits the next token comes from."""
        return self.nodes[0] + 1

    @property
    def is_draw(self) -> bool:
        """Whether the next token is the draw of its position, as `sample` gives it."""
        return True

    def settle(self, row: Row) -> int:
        """The token that comes from this processed row."""
        return int(race(row, EVERY, self.seed, self.position + np.uint64(len(self.tokens))))

    def settle_invalid(self) -> int:
        """The token where the row is invalid: -1."""
        return -1

    def go(self, token: int) -> bool:
        """Take a token that was settled on; whether it is a draft, so that another follows."""
        self.take(token)
        nodes = self.drafts.after(self.nodes, token)
        self.nodes = nodes or self.nodes
        return bool(nodes)

    def take(self, token: int) -> None:
        """Add a token that comes from this row."""
        self.sources.append(self.row)
        self.tokens.append(token)
