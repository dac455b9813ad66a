"""Frequency penalty."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, Row, finite
from .penalty import Longs, penalise, penalty
from .record import Request


@in_standard_mode
def frequency_penalty(
    logits: Any, frequency_penalty: Any, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Subtract the penalty from the logits of `tokens`, as many times as each occurs.

    logits              (vocab,) or (rows, vocab); -inf is removed
    frequency_penalty   scalar or (rows,), finite, in logits; 0 is off
    tokens              the history, any 64-bit integers: one sequence for all rows, or one per row;
                        ids outside the vocabulary are skipped

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if the penalty is out
    of range or a row is invalid. Source: the OpenAI API.

    >>> frequency_penalty([2.0, -2.0, 1.0], 0.5, [0, 1, 1])
    array([ 1.5, -3. ,  1. ], dtype=float32)
    """
    return penalise(CONTROL, penalise_row, logits, frequency_penalty, tokens, dtype, out)


@kernel
def penalise_row(row: Row, ids: Longs, counts: Longs, penalty: F64) -> None:
    """The frequency penalty's kernel, in place."""
    for j in range(ids.size):
        i = ids[j]
        if row[i] > -np.inf:
            row[i] = finite(row[i] - penalty * counts[j])


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    penalise_row(row, request.places, request.counts, request.values[0])


CONTROL = penalty("frequency_penalty", _apply, scope="output")
