"""Statistics of a whole row: exact integer sums, of which no order of summation changes a bit.

A statistic is summed piece by piece: over a row at once, or over its blocks one after the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compile import kernel, spliced
from .functions import (
    CHUNK,
    F32,
    F64,
    HALF,
    MASS_BITS,
    MASS_FLOOR,
    REMOVED,
    Row,
    halves,
    join,
    log,
    scaled_mass,
    total_mass,
)

Sums = NDArray[np.int64]  # (MOST_SUMS,)
MOST_SUMS = 4

#: Distances are scaled so that the largest is in [2**29, 2**30): the biased exponents of the scale
#: and of the largest distance add up to this.
_EXPONENTS = np.int64(2 * 1023 + 29)
#: Squares of distances are summed in two halves of so many bits.
_HALF = np.int64(30)
_HALF_UNIT = np.float32(2.0**-HALF)


class Statistics(NamedTuple):
    """The statistics of all tokens of a row that are left; 0 for one that is not asked for."""

    mass: Any  # int64: the sum of their masses, in units of 2**-42 of the best one's
    deviation: Any  # float64: the standard deviation of their logits
    entropy: Any  # float64: the entropy of their probabilities, in nats
    squares: Any  # float64: the sum of the squares of their probabilities


@spliced
def unknown() -> Statistics:
    """The statistics of a row of which none is asked for."""
    return Statistics(np.int64(0), 0.0, 0.0, 0.0)


@kernel
def add_masses(piece: Row, best: F32, lowest: F32, sums: Sums) -> None:
    """Add the masses of a piece of a row, in units of 2**-42 of the best token's."""
    sums[0] += total_mass(piece, best)


@kernel
def add_surprises(piece: Row, best: F32, lowest: F32, sums: Sums) -> None:
    """Add the masses of a piece of a row, and each mass times its logit's distance to the best."""
    for start in range(0, piece.size, CHUNK):
        part = piece[start : start + CHUNK]
        highs, lows, more_highs, more_lows = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
        for i in range(part.size):
            x = max(part[i] - best, MASS_FLOOR)
            scaled = scaled_mass(x)
            high, low = halves(scaled)
            more_high, more_low = halves(-x * scaled)
            highs, lows = np.int32(highs + high), np.int32(lows + low)
            more_highs = np.int32(more_highs + more_high)
            more_lows = np.int32(more_lows + more_low)
        sums[0] += join(highs, lows)
        sums[1] += join(more_highs, more_lows)


@kernel
def add_squares(piece: Row, best: F32, lowest: F32, sums: Sums) -> None:
    """Add the masses of a piece of a row, and their squares."""
    for start in range(0, piece.size, CHUNK):
        part = piece[start : start + CHUNK]
        highs, lows, more_highs, more_lows = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
        for i in range(part.size):
            scaled = scaled_mass(part[i] - best)
            high, low = halves(scaled)
            more_high, more_low = halves(scaled * scaled * _HALF_UNIT)
            highs, lows = np.int32(highs + high), np.int32(lows + low)
            more_highs = np.int32(more_highs + more_high)
            more_lows = np.int32(more_lows + more_low)
        sums[0] += join(highs, lows)
        sums[1] += join(more_highs, more_lows)


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


@spliced
def entropy(sums: Sums) -> F64:
    """The entropy in nats, from the sums of `add_surprises`."""
    return log(sums[0] * 2.0**-MASS_BITS) + sums[1] / sums[0]


@spliced
def squares(sums: Sums) -> F64:
    """The sum of the squared probabilities, from the sums of `add_squares`."""
    return sums[1] / sums[0] / (sums[0] * 2.0**-MASS_BITS)


#: For each statistic the kernel that adds a piece of a row to its sums. The name is a field of
#: `Request`, and the number of a statistic is its index here. The first sum of `entropy` and of
#: `squares` is the mass.
STATISTICS: dict[str, Callable[..., Any]] = {
    "mass": add_masses,
    "deviation": add_distances,
    "entropy": add_surprises,
    "squares": add_squares,
}
MASS, DEVIATION, ENTROPY, SQUARES = range(4)


@spliced
def statistics_of(
    sums: NDArray[np.int64], asked: NDArray[np.int64], best: F32, lowest: F32
) -> Statistics:
    """The statistics by their sums (statistics, MOST_SUMS); of one that is not asked for 0."""
    mass = max(sums[MASS, 0], sums[ENTROPY, 0], sums[SQUARES, 0])
    spread, nats, collisions = 0.0, 0.0, 0.0
    if asked[DEVIATION] != 0:
        spread = deviation(sums[DEVIATION], best, lowest)
    if asked[ENTROPY] != 0:
        nats = entropy(sums[ENTROPY])
    if asked[SQUARES] != 0:
        collisions = squares(sums[SQUARES])
    return Statistics(mass, spread, nats, collisions)
