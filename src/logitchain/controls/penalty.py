"""What the three penalties have in common: they change the logits of the tokens so far."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, token_lists
from ..params import column
from .record import Control, Scope

Longs = NDArray[np.int64]


def penalty(name: str, kernel: Callable[..., Any], scope: Scope) -> Control:
    """The record of a penalty, whose field has its name; `scope` is its default scope."""
    return Control(
        name=name,
        fields=(name, "penalty_window"),
        kind="adjust",
        kernel=kernel,
        tokens="history",
        window="penalty_window",
        exempt="penalty_exempt",
        options={"scope": scope, "window": None},
        keeps_one=True,
    )


def penalise(
    control: Control,
    kernel: Callable[..., Any],
    logits: Any,
    value: Any,
    tokens: Any,
    dtype: DType,
    out: Any,
) -> NDArray[np.float32]:
    """The pure function of a penalty; `kernel` gets a row, tokens, counts and the value."""
    field = control.fields[0]
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    penalties = column(field.name, value, len(rows))
    for row, one, ids in zip(rows, penalties, token_lists(tokens, len(rows)), strict=True):
        if one != field.off:
            ids = ids[(ids >= 0) & (ids < row.size)]
            kernel(row, *np.unique(ids, return_counts=True), one)
    return reading.result()
