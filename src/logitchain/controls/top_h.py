"""Top-h truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, each_row
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, MASS_BITS, SLACK, Row, log, mass
from ..numeric.order import keep_first
from ..numeric.prefix import first_k
from .record import Control, Request

#: Only so many of the first tokens of the order can stay, as in transformers.
_MOST = 100


@in_standard_mode
def top_h(logits: Any, top_h: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the most probable tokens while their part of the entropy is at most `top_h` of it.

    logits   (vocab,) or (rows, vocab); -inf is removed
    top_h    scalar or (rows,), a share in (0, 1); there is no off value

    The 100 most probable tokens count, with probabilities q that sum to 1. The part of a token in
    their entropy is `-q * log(q)`. A token stays while the sum up to it is at most `top_h` times
    the entropy; the first always stays. Returns a new float32 array of the same shape, or `out`.
    Raises ValueError if `top_h` is out of range or a row is invalid. Source: Potraghloo et al.,
    "Top-H Decoding", arXiv:2509.02510.

    >>> top_h(np.log([0.4, 0.3, 0.2, 0.1]), 0.7)
    array([-0.91629076, -1.2039728 ,        -inf,        -inf], dtype=float32)
    """
    return each_row(truncate, "top_h", top_h, logits, dtype, out)


@kernel
def truncate(row: Row, share: F64) -> None:
    """The kernel, in place."""
    value, equals = first_k(row, np.int64(_MOST))
    first, n = np.empty(_MOST, np.float32), np.int64(0)
    for i in range(row.size):
        if n < _MOST and row[i] > value:
            first[n] = row[i]
            n += 1
    for i in range(row.size):
        if n < _MOST and equals > 0 and row[i] == value:
            first[n] = value
            n += 1
            equals -= 1
    last, count = _last(np.sort(first[:n]), share)
    keep_first(row, last, count)


@kernel
def _last(ascending: Row, share: F64) -> tuple[F32, I64]:
    """(the least logit that stays, how many of its equals do)."""
    n, total = ascending.size, np.int64(0)
    best = ascending[n - 1]
    for i in range(n):
        total += mass(ascending[i] - best)
    offset, entropy, parts = log(total * 2.0**-MASS_BITS), 0.0, np.zeros(n, np.float64)
    for i in range(n):
        x = ascending[n - 1 - i]
        weight = mass(x - best)  # of a token without mass the distance may be infinite
        parts[i] = weight * (offset + (np.float64(best) - np.float64(x))) if weight > 0 else 0.0
        entropy += parts[i]
    most, sum_so_far, last, equals = share * (1.0 + SLACK) * entropy, 0.0, best, np.int64(0)
    for i in range(n):
        sum_so_far += parts[i]
        if i > 0 and (sum_so_far > most or entropy == 0.0):  # 0: all others have no mass
            break
        equals = equals + 1 if ascending[n - 1 - i] == last else np.int64(1)
        last = ascending[n - 1 - i]
    return last, equals


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    truncate(row, request.values[0])


CONTROL = Control(name="top_h", fields=("top_h",), kind="cut", kernel=_apply)
