"""Which walk a call of `verify` asks for."""

from ..numeric.functions import U64
from .drafts import Drafts
from .rejection import Rejection
from .walk import Walk


def walk_of(drafts: Drafts, seed: U64, position: U64) -> Walk:
    """By rejection where it is known what the drafts were drawn from, or else by the draw."""
    kind = Rejection if len(drafts.logits) else Walk
    return kind(drafts, seed, position)
