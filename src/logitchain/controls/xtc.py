"""XTC, exclude top choices. Source: p-e-w, text-generation-webui pull request 6335 (2024)."""

from collections.abc import Iterable, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..arrays import one_of
from ..jit import kernel
from ..numerics import F64, I64, MASS_BITS, SLACK, U64, Row, log, total_mass
from ..order import NO_CUT, at_least, largest
from ..params import column
from ..rows import Reading, token_ids

#: What becomes of protected tokens: "skip" the control if one would go, make them "exempt" from
#: going, or "exclude" them from those that qualify.
PROTECTIONS = ("skip", "exempt", "exclude")


def xtc(
    logits: Any,
    xtc_threshold: Any,
    xtc_probability: Any,
    *,
    seed: Any,
    position: Any,
    protected_ids: Iterable[int] = (),
    protected: str = "skip",
    dtype: str | None = None,
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
    of range or a row is not fit to use.

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
    given = list(ids) if isinstance(ids, (Set, range)) else ids
    protected = token_ids("protected_ids", given, vocab)
    marks = np.zeros(vocab if len(protected) else 0, np.bool_)
    marks[protected] = True
    return marks, PROTECTIONS.index(mode)


@kernel
def comes_up(seed: U64, position: U64, probability: F64) -> bool:
    """The coin of this seed and position."""
    return bool(rng.uniform_at(seed, position, rng.XTC, 0) < probability)


@kernel
def exclude_top(row: Row, threshold: F64, marks: NDArray[np.bool_], mode: I64) -> None:
    """Remove the tokens of one row that reach the threshold, but the last of them in the order.

    `marks` are the protected ones, empty if there are none.
    """
    cut = NO_CUT
    if threshold > 0.0:
        best = largest(row)
        share = threshold * (1.0 - SLACK) * total_mass(row, best)
        cut = best + log(share * 2.0**-MASS_BITS)
    value = at_least(cut)
    last = -1
    for i in range(row.size):
        is_marked = marks.size > 0 and marks[i]
        qualifies = row[i] >= value and not (mode == 2 and is_marked)
        if qualifies and (last < 0 or row[i] <= row[last]):
            last = i
    if mode == 0:
        for i in range(marks.size):
            if marks[i] and row[i] >= value and i != last:
                return
    for i in range(row.size):
        is_marked = marks.size > 0 and marks[i]
        if row[i] >= value and i != last and not is_marked:
            row[i] = -np.inf
