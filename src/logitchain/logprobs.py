"""Log-probabilities: of every token, of the chosen one, of the best n."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .inputs.logits import (
    DType,
    Reading,
    Rows,
    first_invalid,
    history_ids,
    stored,
    token_ids,
    why_invalid,
)
from .inputs.values import Integer, show
from .numeric.compile import inlined, kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F32, F64, I64, MASS_BITS, Row, finite, log, total_mass
from .numeric.order import largest
from .numeric.prefix import first_k
from .params import whole_number


@in_standard_mode
def logprobs(logits: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
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


@overload
def token_logprobs(logits: Any, tokens: Integer, *, dtype: DType = None) -> float: ...
@overload
def token_logprobs(logits: Any, tokens: Any, *, dtype: DType = None) -> NDArray[np.float32]: ...
@in_standard_mode
def token_logprobs(logits: Any, tokens: Any, *, dtype: DType = None) -> Any:
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
        chosen[r : r + 1] = row[token]
        subtract(chosen[r : r + 1], *normaliser(row))
    return chosen if len(reading.shape) == 2 else float(chosen[0])


@in_standard_mode
def top_logprobs(
    logits: Any, n: int, *, dtype: DType = None
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
        values[r] = row[ids[r]]
        subtract(values[r], *normaliser(row))
    shape = (*reading.shape[:-1], n)
    return ids.reshape(shape), values.reshape(shape)


@in_standard_mode
def kept_logprobs(
    trainer_logits: Any, kept_offsets: Any, kept_ids: Any, tokens: Any, *, dtype: DType = None
) -> NDArray[np.float32]:
    """The log-probability of each row's token among the tokens that were kept in its draw.

    trainer_logits   (rows, vocab), the new policy's logits, divided by the request's temperature;
                     (vocab,) for one row
    kept_offsets     (rows + 1,), as in `Sampled`: row r kept `kept_ids[kept_offsets[r]:]` up to
                     `kept_offsets[r + 1]`
    kept_ids         (all kept,) token ids, ascending within a row
    tokens           (rows,) the tokens drawn; -1 for a row that was marked, which has none kept

    Returns float32 (rows,), -inf for a row that was marked. For the same logits it is bit for bit
    the `logprobs` that `Chain.sample_with_logprobs(..., of="processed", kept=True)` recorded. With
    a set that was truncated it is too large: `docs/rollouts.md` says what to do. Rows without a
    token are not read. Raises ValueError for a token that is not in its row's set, which
    would hide a mismatch, and where rows, offsets and ids do not fit each other.

    >>> kept_logprobs([[1.0, 2.0, 2.0]], [0, 2], [1, 2], [2])
    array([-0.6931472], dtype=float32)
    """
    rows = stored(trainer_logits, dtype).rows()
    count, vocab = rows.shape
    ids = token_ids("kept_ids", kept_ids, vocab)
    ends = _offsets(kept_offsets, count, ids.size)
    drawn = history_ids("tokens", tokens)
    if drawn.size != count:
        raise ValueError(f"tokens must be one per row ({count}), not {drawn.size}")
    result = np.full(count, -np.inf, np.float32)
    for r, token in enumerate(drawn.tolist()):
        own = ids[ends[r] : ends[r + 1]]
        if (np.diff(own) <= 0).any():
            raise ValueError(f"kept_ids of row {r} must be ascending")
        if token == -1 and not own.size:
            continue
        place = int(np.searchsorted(own, token))
        if place == own.size or own[place] != token:
            raise ValueError(f"tokens: row {r}, token {token} is not in the row's kept set")
        if first_invalid(rows[r : r + 1]) >= 0:
            raise ValueError(f"trainer_logits: row {r}, {why_invalid(rows[r])}")
        left = rows[r, own]
        if left[place] > -np.inf:
            result[r] = left[place]
            subtract(result[r : r + 1], *normaliser(left))
    return result


def _offsets(kept_offsets: Any, rows: int, size: int) -> list[int]:
    """Where each row's kept tokens begin, and where the last row's end."""
    ends: list[int] = history_ids("kept_offsets", kept_offsets).tolist()
    if len(ends) != rows + 1:
        raise ValueError(f"kept_offsets must be one per row and one ({rows + 1}), not {len(ends)}")
    if ends[0] != 0 or ends[-1] != size or ends != sorted(ends):
        raise ValueError(f"kept_offsets must rise from 0 to {size}, not {show(ends)}")
    return ends


def first_of_order(row: Row, n: int) -> NDArray[np.int64]:
    """The ids of the first n tokens of the order."""
    cut = first_k(row, n)[0] if 0 < n < row.size else -np.inf
    ids = np.flatnonzero(row >= cut)
    if ids.size < n:  # fewer finite logits than asked for
        ids = np.arange(row.size)
    return ids[np.lexsort((ids, -row[ids]))][:n]


@kernel
def normaliser(row: Row) -> tuple[F32, F64]:
    """(the row's largest logit, the logarithm of the row's mass in units of that one's).

    Their sum would lose the second beside a large first.
    """
    best = largest(row)
    return best, log_of_mass(total_mass(row, best))


@inlined
def log_of_mass(total: I64) -> F64:
    """The logarithm of a mass."""
    return log(total * 2.0**-MASS_BITS)


@inlined
def logprob(logit: F32, best: F32, log_mass: F64) -> F32:
    """A token's log-probability, given its row's `normaliser`; finite if the logit is."""
    x = finite((np.float64(logit) - np.float64(best)) - log_mass)
    return x if logit > -np.inf else np.float32(-np.inf)


@kernel
def normalise(rows: Rows) -> None:
    """The kernel, in place."""
    for r in range(rows.shape[0]):
        row = rows[r]
        subtract(row, *normaliser(row))


@kernel
def subtract(logits: Row, best: F32, log_mass: F64) -> None:
    """Turn some logits of a row into log-probabilities, in place, given the row's `normaliser`."""
    for i in range(logits.size):
        logits[i] = logprob(logits[i], best, log_mass)
