"""A pure function's parameter: one value for all rows, or one per row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.values import items
from .fields import real_number, whole_number
from .request import FIELDS


def column(name: str, value: Any, rows: int) -> NDArray[Any]:
    """A pure function's parameter, one value or one per row, as a checked column of `rows` values.

    Integers come as int64, all else as float64.
    """
    field = FIELDS[name]
    if not field.integer:
        return reals(name, value, field.domain, rows)
    shape, given = items(name, value)
    checked = [whole_number(name, x, field.domain) for x in given]
    # More than any vocabulary is as good as its size.
    return _per_row(name, shape, np.array([min(x, 2**62) for x in checked], np.int64), rows)


def reals(name: str, value: Any, interval: str, rows: int) -> NDArray[np.float64]:
    """Numbers in an interval, one value or one per row, as a column of `rows` values."""
    shape, given = items(name, value)
    checked = [real_number(name, x, interval) for x in given]
    return _per_row(name, shape, np.array(checked, np.float64), rows)


def _per_row(name: str, shape: tuple[int, ...], values: NDArray[Any], rows: int) -> NDArray[Any]:
    if shape not in ((), (rows,)):
        raise ValueError(f"{name} must be one value or one per row ({rows}), not {shape}")
    return np.full(rows, values)
