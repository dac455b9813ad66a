"""Block verification: the drafts are kept or dropped as one block (arXiv:2403.10444)."""

import numpy as np

from .. import rng
from ..numeric.compile import kernel
from ..numeric.functions import F64, I64, U64, Row
from ..numeric.simd import LANES, peak
from .drafts import Drafts
from .rejection import Weighed, prob, redraw, weigh
from .walk import Walk

_UNIT = 2.0**62  # sums of probabilities are integers in units of 1 / this: they have no order
_LEAST = 2.0**-600  # a ratio below it keeps no draft, and would leave nothing of a probability


class Block(Walk):
    """The longest beginning of the drafts whose coin says so is kept.

    ratio   of the drafts so far: r = min(1, r p / q) from draft to draft, 1 before the first. A
            beginning is kept, or a longer one, with this probability
    kept    the longest beginning so far that is kept if no longer one is
    rest    the processed row after it, and its ratio

    All coins are keyed by the position of the block's first draft: those of positions after the
    last token of this call have been looked at, and the next call has others.
    Source: Sun et al., arXiv:2403.10444, algorithm 2.
    """

    def __init__(self, drafts: Drafts, seed: U64, position: U64) -> None:
        """At the first draft."""
        super().__init__(drafts, seed, position)
        self.ratio, self.kept, self.is_over = 1.0, 0, False
        self.rest = np.empty(0, np.float32), 1.0

    @property
    def is_draw(self) -> bool:
        """Whether all drafts are kept, so that the token is the draw of its position."""
        return self.kept == len(self.drafts.tokens)

    def settle(self, row: Row) -> int:
        """The next draft, or where no longer beginning can be kept the token after the kept."""
        depth = len(self.tokens)
        if self.is_draw:
            return super().settle(row)
        draft, proposed = self.drafts.tokens[depth], self.drafts.logits[depth]
        chance, following = judge(row, draft, proposed, self.ratio)
        if self._coin(depth) < chance:
            self.kept, self.rest = depth, (row.copy(), self.ratio)
        self.ratio = following
        if depth + 1 == len(self.drafts.tokens) and self._coin(depth + 1) < self.ratio:
            self.kept = depth + 1
        if self.ratio < _LEAST or (depth + 1 == len(self.drafts.tokens) and not self.is_draw):
            return self._end()
        return int(draft)

    def settle_invalid(self) -> int:
        """An invalid row ends the block: -1 if the drafts before it are kept."""
        depth = len(self.tokens)
        if self.is_draw or self._coin(depth) < self.ratio:
            self.is_over = True
            return -1
        return self._end()

    def go(self, token: int) -> bool:
        """Take a token; after the end none is a draft."""
        if self.is_over:
            self.take(token)
            return False
        return super().go(token)

    def _coin(self, count: int) -> float:
        """The coin of the first `count` drafts; none is below 0, which keeps no draft at least."""
        if count == 0:
            return 0.0
        return float(rng.uniform_at(self.seed, self.position, rng.VERIFY, count - 1))

    def _end(self) -> int:
        """Go back to the kept drafts; the token after them."""
        self.is_over = True
        self.tokens, self.sources = self.tokens[: self.kept], self.sources[: self.kept]
        self.nodes = [self.kept - 1]
        row, ratio = self.rest
        proposed = self.drafts.logits[self.kept]
        return int(draw_rest(row, proposed, ratio, self.seed, self.position, self.kept))


@kernel
def judge(row: Row, draft: I64, proposed: Row, ratio: F64) -> tuple[F64, F64]:
    """(the chance to keep the drafts before this one if no more are kept, the ratio after it).

    With s = sum max(ratio p - q, 0) the chance is s / (s + 1 - ratio), and 1 where the ratio is 1.
    """
    p, q = weigh_by(row, ratio), weigh(proposed)
    following = 0.0
    if row[draft] > -np.inf:
        following = min(1.0, prob(row[draft], p) / prob(proposed[draft], q))
    if ratio == 1.0:
        return 1.0, following
    left = excess(row, p, proposed, q)
    return left / (left + (1.0 - ratio)), following


@kernel
def weigh_by(row: Row, ratio: F64) -> Weighed:
    """`weigh` such that each probability is multiplied by the ratio."""
    best, total = weigh(row)
    return best, total / ratio


@kernel
def excess(row: Row, p: Weighed, proposed: Row, q: Weighed) -> F64:
    """The sum of max(p - q, 0)."""
    total = np.int64(0)
    for start in range(0, row.size, LANES):
        stop = min(start + LANES, row.size)
        if stop - start == LANES and peak(row, start)[0] == -np.inf:
            continue  # as most blocks are after a truncation
        for i in range(start, stop):
            share = prob(proposed[i], q) if proposed[i] > -np.inf else 0.0
            more = max(prob(row[i], p) - share, 0.0) if row[i] > -np.inf else 0.0
            total += np.int64(more * _UNIT)
    return np.float64(total) / _UNIT


@kernel
def draw_rest(row: Row, proposed: Row, ratio: F64, seed: U64, first: U64, kept: I64) -> I64:
    """The token after the kept drafts: a draw from max(ratio p - q, 0).

    The words that hold its seed are next to the coin of the draft that is dropped.
    """
    _, _, high, low = rng.words(seed, first, rng.VERIFY, kept)
    p, q = weigh_by(row, ratio), weigh(proposed)
    return redraw(row, p, proposed, q, rng.joined(high, low), first + np.uint64(kept))
