"""Repetition penalty."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, ONE_BITS, Row, finite
from .penalty import Longs, penalise, penalty
from .record import Request

_ONE = np.int64(ONE_BITS)


@in_standard_mode
def repetition_penalty(
    logits: Any, repetition_penalty: Any, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Divide the positive logits of `tokens` by the penalty and multiply the negative ones by it.

    logits               (vocab,) or (rows, vocab); -inf is removed
    repetition_penalty   scalar or (rows,), a factor in (0, inf); 1 is off
    tokens               the history, any 64-bit integers: one sequence for all rows, or one per
                         row; ids outside the vocabulary are skipped, and how often a token occurs
                         makes no difference

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if the penalty is out
    of range or a row is invalid. Source: Keskar et al., "CTRL", arXiv:1909.05858.

    >>> repetition_penalty([2.0, -2.0, 1.0], 2, [0, 1, 1])
    array([ 1., -4.,  1.], dtype=float32)
    """
    return penalise(CONTROL, penalise_row, logits, repetition_penalty, tokens, dtype, out)


@kernel
def penalise_row(row: Row, ids: Longs, counts: Longs, penalty: F64) -> None:
    """The repetition penalty's kernel, in place; `ids` are distinct, none has a count of 0."""
    other = np.float64(penalty).view(np.int64)
    for i in ids:
        x = np.float64(row[i])
        if x > -np.inf:
            # Of a choice by sign LLVM makes a branch, mispredicted half the time: 10 ns a token.
            differs = (_ONE ^ other) & (np.float64(x).view(np.int64) >> np.int64(63))
            factor, divisor = np.int64(_ONE ^ differs), np.int64(other ^ differs)
            row[i] = finite(x * factor.view(np.float64) / divisor.view(np.float64))


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    penalise_row(row, request.places, request.counts, request.values[0])


CONTROL = penalty("repetition_penalty", _apply, scope="all")
