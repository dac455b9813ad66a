"""Top-p truncation, the nucleus."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Ties, each_row, keeps_all_ties
from ..numeric.blocks import Ids
from ..numeric.compile import kernel, spliced
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import (
    F32,
    F64,
    FLT_MAX,
    I64,
    MOST,
    ROUND,
    SLACK,
    U64,
    Row,
    fma,
    join,
    log,
    mass_halves,
    total_mass,
)
from ..numeric.order import keep_first, largest
from ..numeric.prefix import prefix_end
from ..numeric.simd import LANES
from .record import Control, Request, Values
from .temperature import product


@in_standard_mode
def top_p(
    logits: Any, top_p: Any, *, ties: Ties = "first", dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the most probable tokens until their probabilities reach `top_p`.

    The token that crosses `top_p` is kept, the next one is not; of equal ones the lowest ids stay.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_p    scalar or (rows,), a probability in (0, 1]; 1 is off
    ties     "first", or "all" to keep every equal of the last one kept

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `top_p` is out of
    range or a row is invalid. Source: Holtzman et al., "The Curious Case of Neural Text
    Degeneration", arXiv:1904.09751.

    >>> top_p(np.log([0.5, 0.3, 0.2]), 0.6)
    array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    return each_row(truncate, "top_p", top_p, logits, dtype, out, keeps_all_ties(ties))


@kernel
def truncate(row: Row, p: F64, all_ties: bool) -> None:
    """The kernel, in place."""
    if p < 1.0:
        best = largest(row)
        _keep_nucleus(row, p, all_ties, best, total_mass(row, best))


@spliced
def _keep_nucleus(row: Row, p: F64, all_ties: bool, best: F32, total: I64) -> None:
    value, equals, _ = nucleus(row, best, total, target(total, p))
    keep_first(row, value, row.size if all_ties else equals)


@kernel
def target(total: I64, p: F64) -> I64:
    """The mass at which the nucleus of a row with this total is complete."""
    return max(math.ceil(total * (p - SLACK)), 1)


@spliced
def nucleus(row: Row, best: F32, mass: I64, target: I64) -> tuple[F32, I64, I64]:
    """(the least logit of the nucleus, how many of its equals are in it, the mass that it reaches).

    mass     the mass of the row
    target   the mass at which the nucleus is complete; where the row has less, all is kept
    """
    end = np.float32(-FLT_MAX), np.int64(row.size), np.int64(MOST)
    if target <= mass:
        end = prefix_end(row, best, mass, target)
    return end


@kernel
def enough(mass: I64, p: F64) -> I64:
    """A total mass of a row beyond which its nucleus has more than this mass."""
    return np.int64(min(mass / max(p - SLACK, 2.0**-20) + 2048.0, float(MOST)))


@kernel
def weigh_block(row: Row, start: U64, high: F32, low: F32, top: F32, bar: F32) -> tuple[int, int]:
    """(the mass of a block of the row, that of its tokens which reach a bar).

    high, low   the temperature's factors
    top         the row's largest logit after scaling
    """
    highs, lows, highs_over, lows_over = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(LANES):
        x = product(row[start + np.uint64(i)], high, low)  # unsigned: it cannot be negative
        upper, lower = mass_halves(x - top)
        highs, lows = np.int32(highs + upper), np.int32(lows + lower)
        highs_over = np.int32(highs_over + (upper if x >= bar else np.int32(0)))
        lows_over = np.int32(lows_over + (lower if x >= bar else np.int32(0)))
    return join(highs, lows), join(highs_over, lows_over)


@kernel
def total_of_block(row: Row, start: U64, high: F32, low: F32, top: F32) -> I64:
    """The mass of a block of the row."""
    highs, lows = np.int32(0), np.int32(0)
    for i in range(LANES):
        upper, lower = mass_halves(product(row[start + np.uint64(i)], high, low) - top)
        highs, lows = np.int32(highs + upper), np.int32(lows + lower)
    return join(highs, lows)


#: How far off an estimate may be, as a share of it: twice what its parts add up to.
ESTIMATE_ERROR = 2.0**-12
#: Beyond this logit the rounding of logits alone would be more.
ESTIMABLE = np.float32(256.0)

# Minimax for 2**f on |f| <= 1/2, relative error 2**-13.7.
_C = np.array([0.99992807, 0.69326099, 0.24261112, 0.05517167], np.float32)
_C0, _C1, _C2, _C3 = _C
_LOWEST = np.float32(-40.0)
_24 = np.int32(24 << 23)


@kernel
def estimate_block(row: Row, start: U64, peak: F32, divisor: F64) -> F64:
    """About the mass of a block, relative to its largest logit's; in half the time."""
    rate = np.float32(1.4426950408889634 / divisor)
    total = np.int32(0)
    for i in range(LANES):
        t = max((row[start + np.uint64(i)] - peak) * rate, _LOWEST)
        shifted = t + ROUND
        f = t - (shifted - ROUND)
        p = fma(f, fma(f, fma(f, _C3, _C2), _C1), _C0)
        exponent = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
        bits = np.int32(np.int32(np.float32(p).view(np.int32) + exponent) + _24)
        total = np.int32(total + np.int32(bits.view(np.float32)))
    return total * 2.0**-24


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    # All tokens below it together have less than 1 - p.
    share = (1.0 - values[0] + SLACK) / vocab_size / 4.0
    return np.float64(best) + temperature * log(share)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    _keep_nucleus(row, request.values[0], request.option != 0, largest(row), request.mass)


CONTROL = Control(
    name="top_p",
    fields=("top_p",),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("mass",),
    options={"ties": "first"},
    keeps_share=True,
)
