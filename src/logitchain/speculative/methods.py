"""How drafts may be verified, and the walk of a call that asks for it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from ..inputs.values import items, one_of
from ..numeric.functions import U64
from ..params import real_number
from .block import Block
from .drafts import Drafts
from .rejection import Rejection
from .synthetic import Synthetic
from .walk import Walk

#: One draft after the other, all as a block, or for benchmarks by a coin.
Method = Literal["token", "block", "synthetic"]

#: The walk through the drafts of one sequence, given its seed and its position.
WalkOf = Callable[[Drafts, U64, U64], Walk]


def read_method(method: Any, acceptance: Any, is_proposed: bool, trees: Sequence[Drafts]) -> WalkOf:
    """The walks that a call asks for, checked that it says what they need."""
    name = one_of("method", method, get_args(Method))
    if name == "synthetic":
        rates = _rates(acceptance, max((tree.depth for tree in trees), default=0))
        return lambda drafts, seed, position: Synthetic(drafts, seed, position, rates)
    if acceptance is not None:
        raise ValueError("acceptance must be None unless method is 'synthetic'")
    if name == "block" and not is_proposed and any(tree.tokens.size for tree in trees):
        raise ValueError("proposed must be given if method is 'block'")
    kind = Block if name == "block" else Rejection
    return lambda drafts, *key: (kind if len(drafts.logits) else Walk)(drafts, *key)


def _rates(acceptance: Any, depth: int) -> list[float]:
    """The rate of acceptance at each depth."""
    shape, given = items("acceptance", acceptance)
    rates = [real_number("acceptance", rate, "[0, 1]") for rate in given]
    if not shape:
        return rates * depth
    if len(shape) > 1 or len(rates) < depth:
        raise ValueError(f"acceptance must be one rate or one per depth ({depth}), not {shape}")
    return rates
