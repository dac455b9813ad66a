"""Statistics of a whole row: exact integer sums, of which no order of summation changes a bit.

A statistic is summed piece by piece: over a row at once, or over its blocks one after the other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compile import kernel
from .functions import F32, F64, REMOVED, Row, total_mass

Sums = NDArray[np.int64]  # (MOST_SUMS,)
MOST_SUMS = 4

#: Distances are scaled so that the largest is in [2**29, 2**30): the biased exponents of the scale
#: and of the largest distance add up to this.
_EXPONENTS = np.int64(2 * 1023 + 29)
#: Squares are summed in two halves of so many bits.
_HALF = np.int64(30)


@kernel
def add_masses(piece: Row, best: F32, lowest: F32, sums: Sums) -> None:
    """Add the masses of a piece of a row, in units of 2**-42 of the best token's."""
    sums[0] += total_mass(piece, best)


@kernel
def add_distances(piece: Row, best: F32, lowest: F32, sums: Sums) -> None:
    """Add how many finite logits a piece of a row has, the sum of their distances from the best one
    and that of the squares, the high and the low halves each by itself.

    The distances are rounded to integers, in units by which the largest one has 30 bits.
    """
    scale = _scale(np.float64(best) - np.float64(lowest))
    count, total, high, low = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for i in range(piece.size):
        is_left = piece[i] > REMOVED
        distance = np.float64(best) - np.float64(piece[i] if is_left else best)
        rounded = np.int64(np.int32(distance * scale + 0.5))
        square = rounded * rounded
        count += is_left
        total += rounded
        high += square >> _HALF
        low += square & ((np.int64(1) << _HALF) - np.int64(1))
    sums[0] += count
    sums[1] += total
    sums[2] += high
    sums[3] += low


@kernel
def deviation(sums: Sums, best: F32, lowest: F32) -> F64:
    """The population's standard deviation of the finite logits, by the sums of their distances."""
    scale = _scale(np.float64(best) - np.float64(lowest))
    mean = sums[1] / sums[0]
    mean_square = (np.float64(sums[2]) * 2.0**30 + np.float64(sums[3])) / sums[0]
    return np.sqrt(max(mean_square - mean * mean, 0.0)) / scale


@kernel
def _scale(spread: F64) -> F64:
    """The power of two that takes the largest distance to 30 bits."""
    if spread == 0.0:
        return 1.0
    exponent = np.int64(np.float64(spread).view(np.int64) >> np.int64(52))
    return np.int64((_EXPONENTS - exponent) << np.int64(52)).view(np.float64)


@kernel
def least(piece: Row, best: F32) -> F32:
    """The least finite logit of a piece of a row whose largest one is `best`."""
    lowest = best
    for i in range(piece.size):
        lowest = min(lowest, piece[i] if piece[i] > REMOVED else best)
    return lowest


#: Of each statistic the kernel that adds a piece of a row to its sums. Its name is that of a field
#: of `Request`, and its number its place in here.
STATISTICS: dict[str, Callable[..., Any]] = {"mass": add_masses, "deviation": add_distances}
MASS, DEVIATION = range(2)
