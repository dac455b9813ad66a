"""XTC, exclude top choices."""

from collections.abc import Iterable, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..inputs.logits import DType, Reading, token_ids
from ..inputs.values import one_of, sequence
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import (
    F32,
    F64,
    FLT_MAX,
    I64,
    MASS_BITS,
    REMOVED,
    SLACK,
    U64,
    Row,
    log,
    one_unless_nan,
    total_mass,
)
from ..numeric.order import at_least, float_to_key, key_to_float, largest, last_equal
from ..params import FIELDS, column
from .record import CHOICES, Control, Protected, Request, Values

#: What becomes of protected tokens: "skip" the control if one would go, make them "exempt" from
#: going, or "exclude" them from those that qualify.
PROTECTIONS = CHOICES["protected"]


@in_standard_mode
def xtc(
    logits: Any,
    xtc_threshold: Any,
    xtc_probability: Any,
    *,
    seed: Any,
    position: Any,
    protected_ids: Iterable[int] = (),
    protected: Protected = "skip",
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """With a probability, remove all tokens that reach the threshold but the least of them.

    logits            (vocab,) or (rows, vocab); -inf is removed
    xtc_threshold     scalar or (rows,), a probability in [0, 1] that a token must reach; at 0 every
                      finite one does
    xtc_probability   scalar or (rows,), how often a row is changed, in [0, 1]; 0 is off
    seed, position    scalars or (rows,), as for `sample`; the coin has a stream of its own
    protected_ids     token ids, such as newline and end of text, and what becomes of them:
    protected         "skip": if one of them would go, none goes; "exempt": they stay, others go;
                      "exclude": they neither qualify nor go

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a parameter is out
    of range or a row is invalid. Source: p-e-w, text-generation-webui pull request 6335 (2024).

    >>> xtc(np.log([0.5, 0.3, 0.2]), 0.25, 1, seed=0, position=0)
    array([      -inf, -1.2039728, -1.609438 ], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    threshold = column("xtc_threshold", xtc_threshold, len(rows))
    probability = column("xtc_probability", xtc_probability, len(rows))
    seeds, positions = rng.keys(seed, position, len(rows))
    marks, mode = protection(protected_ids, protected, rows.shape[1])
    keys = zip(seeds, positions, probability, strict=True)
    for row, share, key in zip(rows, threshold, keys, strict=True):
        if comes_up(*key):
            exclude_top(row, share, marks, mode)
    return reading.result()


def protection(ids: Iterable[int], mode: str, vocab: int) -> tuple[NDArray[np.bool_], int]:
    """Which tokens are protected, as a mask of the vocabulary or an empty one, and how."""
    one_of("protected", mode, PROTECTIONS)
    protected = token_ids("protected_ids", _sequence(ids), vocab)
    marks = np.zeros(vocab if len(protected) else 0, np.bool_)
    marks[protected] = True
    return marks, PROTECTIONS.index(mode)


def protected_tokens(ids: Any) -> tuple[int, ...]:
    """Protected token ids, checked as far as they can be before the vocabulary is known."""
    checked: tuple[int, ...] = FIELDS["eos_token"].check("protected_ids", _sequence(ids))
    return checked


def _sequence(ids: Any) -> Any:
    return list(ids) if isinstance(ids, (Set, range)) else sequence("protected_ids", ids)


@kernel
def comes_up(seed: U64, position: U64, probability: F64) -> bool:
    """The coin of this seed and position."""
    return bool(rng.uniform_at(seed, position, rng.XTC, 0) < probability)


@kernel
def exclude_top(row: Row, threshold: F64, marks: NDArray[np.bool_], mode: I64) -> None:
    """Remove the tokens of one row that reach the threshold, but the last of them in the order.

    `marks` are the protected ones, empty if there are none.
    """
    value = np.float32(-FLT_MAX)
    if threshold > 0.0:
        best = largest(row)
        share = threshold * (1.0 - SLACK) * total_mass(row, best)
        value = at_least(log(share * 2.0**-MASS_BITS), np.float64(best))
    last = _last_qualifying(row, value, marks if mode == 2 else marks[:0])
    if mode == 0:
        for i in range(marks.size):
            if marks[i] and row[i] >= value and i != last:
                return
    if last < 0:
        return
    stays, one = row[last], one_unless_nan(value)
    if marks.size:
        for i in range(row.size):
            row[i] = REMOVED if row[i] >= value and not marks[i] else row[i] * one
    else:
        for i in range(row.size):
            row[i] = REMOVED if row[i] >= value else row[i] * one
    row[last] = stays


@kernel
def _last_qualifying(row: Row, value: F32, excluded: NDArray[np.bool_]) -> I64:
    """The last token of the order that reaches a logit; -1 if none does."""
    least = np.int32(2**31 - 1)  # a key: the least of integers is found in vectors
    if excluded.size:
        for i in range(row.size):
            if row[i] >= value and not excluded[i]:
                least = min(least, float_to_key(row[i]))
    else:
        for i in range(row.size):
            key = float_to_key(row[i])
            least = min(least, key if row[i] >= value else np.int32(2**31 - 1))
    if least == np.int32(2**31 - 1):
        return -1
    if not excluded.size:
        return last_equal(row, key_to_float(least))
    for i in range(row.size - 1, -1, -1):
        if float_to_key(row[i]) == least and not excluded[i]:
            return i
    return -1


@kernel
def _idle(values: Values, seed: U64, position: U64) -> bool:
    return not comes_up(seed, position, values[0])


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    exclude_top(row, request.values[1], request.protected, request.option)


CONTROL = Control(
    name="xtc",
    fields=("xtc_probability", "xtc_threshold"),
    switches=("xtc_probability", "xtc_threshold"),
    kind="free",
    kernel=_apply,
    idle=_idle,
    options={"protected_ids": (), "protected": "skip"},
    keeps_one=True,
)
