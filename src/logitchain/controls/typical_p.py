"""Locally typical sampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, REMOVED, Row, mass
from ..numeric.order import largest
from ..numeric.prefix import prefix_end
from ..numeric.statistics import MOST_SUMS, add_surprises
from .record import Control, Request
from .top_p import target

#: Deviations from the entropy are compared in units of 2**-20, and no mass lies beyond 64.
_UNIT, _FARTHEST = 2.0**20, 64.0
#: The search for the last deviation has two steps: its upper bits, and then its lower ones.
_BITS = np.int64(13)
_BUCKETS = 2**13 + 1


@in_standard_mode
def typical_p(
    logits: Any, typical_p: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Keep the tokens whose information is nearest to the entropy, until they reach `typical_p`.

    The information of a token is -log q in nats; its distance to the entropy of the row is rounded
    to a multiple of 2**-20. Of equal distances the larger logits come first, and of equal logits
    the lower ids. The token that crosses `typical_p` is kept. The most probable token may go.

    logits      (vocab,) or (rows, vocab); -inf is removed
    typical_p   scalar or (rows,), a probability in (0, 1]; 1 is off

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if `typical_p` is out
    of range or a row is invalid. Source: Meister et al., "Locally Typical Sampling", 2022.

    >>> typical_p(np.log([0.4, 0.2, 0.2, 0.2]), 0.5)
    array([     -inf, -1.609438, -1.609438, -1.609438], dtype=float32)
    """
    return each_row(truncate, "typical_p", typical_p, logits, dtype, out)


@kernel
def truncate(row: Row, p: F64) -> None:
    """The kernel, in place."""
    if p >= 1.0:
        return
    best, sums = largest(row), np.zeros(MOST_SUMS, np.int64)
    add_surprises(row, best, best, sums)
    goal, deviations = target(sums[0], p), np.empty(row.size, np.int32)
    _deviate(row, best, sums[1] / sums[0], deviations)
    upper, before = _bucket_at(row, best, deviations, np.int64(-1), goal)
    last, more = _bucket_at(row, best, deviations, upper, goal - before)
    # Tokens of the last deviation: those with the largest logits stay.
    ends, left = np.full(row.size, REMOVED, np.float32), np.int64(0)
    for i in range(row.size):
        if deviations[i] == last:
            ends[i] = row[i]
            left += mass(row[i] - best)
    value, equals, _ = prefix_end(ends, best, left, goal - before - more)
    for i in range(row.size):
        stays = deviations[i] < last
        if deviations[i] == last:
            is_equal = row[i] == value
            equals -= is_equal
            stays = row[i] > value or (is_equal and equals >= 0)
        row[i] = row[i] if stays else REMOVED


@kernel
def _deviate(row: Row, best: F32, typical: F64, deviations: NDArray[np.int32]) -> None:
    """How far each token's information is from the entropy, in units of 2**-20.

    typical   the distance to the best logit of a token whose information is the entropy
    """
    for i in range(row.size):
        distance = abs((np.float64(best) - np.float64(row[i])) - typical)
        deviations[i] = np.int32(min(distance, _FARTHEST) * _UNIT + 0.5)


@kernel
def _bucket_at(
    row: Row, best: F32, deviations: NDArray[np.int32], upper: I64, goal: I64
) -> tuple[I64, I64]:
    """(the bucket of deviations in which the mass reaches a goal, the mass of those before it).

    upper   -1: a bucket is all deviations with the same upper bits; or else the upper bits of the
            deviations that count, each of which is a bucket
    """
    masses = np.zeros(_BUCKETS, np.int64)
    for i in range(row.size):
        bits = deviations[i] >> _BITS
        if upper < 0:
            masses[bits] += mass(row[i] - best)
        elif bits == upper:
            masses[deviations[i] - (upper << _BITS)] += mass(row[i] - best)
    before, bucket = np.int64(0), np.int64(0)
    while bucket < _BUCKETS - 1 and before + masses[bucket] < goal:
        before += masses[bucket]
        bucket += 1
    return bucket if upper < 0 else (upper << _BITS) + bucket, before


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, request.values[0])


CONTROL = Control(
    name="typical_p", fields=("typical_p",), kind="free", kernel=_apply, keeps_one=True
)
