"""Rejection sampling: a draft is kept as often as its probabilities allow (arXiv:2211.17192)."""

import numpy as np

from .. import rng
from ..numeric.compile import kernel
from ..numeric.functions import F32, F64, I64, MASS_BITS, U64, Row, exp, log, total_mass
from ..numeric.order import largest
from ..numeric.simd import LANES, peak
from ..sample import race
from .walk import Walk

#: A row's largest logit, and the mass of the row in units of that one's.
Weighed = tuple[F32, F64]

_FAR = np.float32(-87.0)  # below it exp is subnormal: a truncated row took 4 times as long


class Rejection(Walk):
    """Each draft is kept with probability min(1, p / q); the first that is not is drawn again.

    Source: Leviathan et al., arXiv:2211.17192; Chen et al., arXiv:2302.01318.
    """

    @property
    def is_draw(self) -> bool:
        """Whether there is no draft, so that the token is the draw of its position."""
        return len(self.tokens) == len(self.drafts.tokens)

    def settle(self, row: Row) -> int:
        """The draft, or a token in its place."""
        depth = len(self.tokens)
        if self.is_draw:
            return super().settle(row)
        draft, proposed = self.drafts.tokens[depth], self.drafts.logits[depth]
        position = self.position + np.uint64(depth)
        return int(keep_or_redraw(row, draft, proposed, self.seed, position))


@kernel
def keep_or_redraw(row: Row, draft: I64, proposed: Row, seed: U64, position: U64) -> I64:
    """The draft, if its coin says so; else a token drawn from what is left of the row.

    One call to Philox serves both: two words are the coin, two the seed of that other draw.
    """
    p, q = weigh(row), weigh(proposed)
    high, low, own_high, own_low = rng.words(seed, position, rng.VERIFY, 0)
    coin = rng.unit(high, low)
    if row[draft] > -np.inf and coin * prob(proposed[draft], q) < prob(row[draft], p):
        return draft
    return redraw(row, p, proposed, q, rng.joined(own_high, own_low), position)


@kernel
def redraw(row: Row, p: Weighed, proposed: Row, q: Weighed, seed: U64, position: U64) -> I64:
    """A token drawn from max(p - q, 0)."""
    every = np.empty(0, np.int32)
    token = race(remainder(row, p, proposed, q), every, seed, position)
    # Rounding can leave nothing where the two rows are all but the same.
    return token if token >= 0 else race(row, every, seed, position)


@kernel
def remainder(row: Row, p: Weighed, proposed: Row, q: Weighed) -> Row:
    """The logits of max(p - q, 0): each is lowered by what the drafter proposes already."""
    left = row.copy()
    for start in range(0, row.size, LANES):
        stop = min(start + LANES, row.size)
        if stop - start == LANES and peak(row, start)[0] == -np.inf:
            continue  # as most blocks are after a truncation
        for i in range(start, stop):
            share = prob(proposed[i], q) / prob(row[i], p)
            share = share if proposed[i] > -np.inf else 0.0
            below = np.float64(row[i]) - p[0]  # from the best on, so that large logits lose nothing
            left[i] = below + log(1.0 - share) if share < 1.0 else -np.inf
    return left


@kernel
def weigh(row: Row) -> Weighed:
    """What `prob` needs to know of a row."""
    best = largest(row)
    return best, total_mass(row, best) * 2.0**-MASS_BITS


@kernel
def prob(logit: F32, weighed: Weighed) -> F64:
    """The probability of a logit of the weighed row."""
    best, total = weighed
    return np.float64(exp(max(np.float32(logit - best), _FAR))) / total
