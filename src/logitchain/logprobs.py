"""Log-probabilities: of every token, of the chosen one, of the best n."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .numerics import F32, F64, I64, MASS_BITS, Row, log, total_mass
from .order import kth_largest, largest
from .params import whole_number
from .rows import Reading, Rows, token_ids


def logprobs(logits: Any, *, dtype: str | None = None, out: Any = None) -> NDArray[np.float32]:
    """The natural logarithm of softmax(logits).

    logits   (vocab,) or (rows, vocab); -inf is removed and stays -inf

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a row holds NaN or
    +inf or no finite logit.

    >>> logprobs([0.0, 0.0, float("-inf")])
    array([-0.6931472, -0.6931472,       -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    normalise(reading.checked())
    return reading.result()


def token_logprobs(logits: Any, tokens: Any, *, dtype: str | None = None) -> Any:
    """The log-probability of one token per row, such as the one drawn.

    logits   (vocab,) or (rows, vocab)
    tokens   one token id, or (rows,) of them

    Returns a float for (vocab,), float32 (rows,) for (rows, vocab). Raises ValueError as `logprobs`
    does, and for a token outside the vocabulary.

    >>> round(token_logprobs([0.0, 0.0], 1), 4)
    -0.6931
    """
    reading = Reading(logits, dtype=dtype)
    rows = reading.checked()
    given = [tokens] if len(reading.shape) == 1 else tokens
    ids = token_ids("tokens", given, rows.shape[1])
    if len(ids) != len(rows):
        raise ValueError(f"tokens must be one per row ({len(rows)}), not {len(ids)}")
    chosen = np.empty(len(rows), np.float32)
    for r, (row, token) in enumerate(zip(rows, ids, strict=True)):
        chosen[r] = np.float64(row[token]) - log_normaliser(row)
    return chosen if len(reading.shape) == 2 else float(chosen[0])


def top_logprobs(
    logits: Any, n: int, *, dtype: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The n most probable tokens and their log-probabilities, best first; ties: lowest id first.

    logits   (vocab,) or (rows, vocab)
    n        in [0, vocab]; once the finite logits are used up, removed tokens follow with -inf

    Returns (ids int64, logprobs float32), each of shape (n,) or (rows, n). Raises ValueError as
    `logprobs` does, and if n is out of range.

    >>> top_logprobs([1.0, 3.0, 3.0], 2)[0]
    array([1, 2])
    """
    reading = Reading(logits, dtype=dtype)
    rows = reading.checked()
    n = whole_number("n", n, f"[0, {rows.shape[1]}]")
    ids = np.empty((len(rows), n), np.int64)
    values = np.empty((len(rows), n), np.float32)
    for r, row in enumerate(rows):
        ids[r] = first_of_order(row, n)
        values[r] = row[ids[r]].astype(np.float64) - log_normaliser(row)
    shape = (*reading.shape[:-1], n)
    return ids.reshape(shape), values.reshape(shape)


def first_of_order(row: Row, n: int) -> NDArray[np.int64]:
    """The ids of the first n tokens of the order."""
    cut = kth_largest(row, n)[0] if 0 < n < row.size else -np.inf
    ids = np.flatnonzero(row >= cut)
    if ids.size < n:  # fewer finite logits than asked for
        ids = np.arange(row.size)
    return ids[np.lexsort((ids, -row[ids]))][:n]


@kernel
def log_normaliser(row: Row) -> F64:
    """The logarithm of the sum of exp(logits)."""
    best = largest(row)
    return normaliser_of(best, total_mass(row, best))


@kernel
def normaliser_of(best: F32, total: I64) -> F64:
    """The same, given the row's largest logit and its mass."""
    return np.float64(best) + log(total * 2.0**-MASS_BITS)


@kernel
def normalise(rows: Rows) -> None:
    """The kernel, in place."""
    for r in range(rows.shape[0]):
        row = rows[r]
        normaliser = log_normaliser(row)
        for i in range(row.size):
            row[i] = np.float32(np.float64(row[i]) - normaliser)
