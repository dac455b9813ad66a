"""The draw: logits, a seed and a position in, a token out.

A race of independent exponential arrivals: token i arrives at e_i / exp(logit_i), and the first to
arrive is a draw from the softmax. The e_i are a function of (seed, position, i) alone. 64 tokens
share a block: its earliest arrival is exponential with rate 64 and belongs to a token chosen
uniformly; by memorylessness every other token of the block follows after an exponential delay of
its own. So a whole block is judged by one number. `docs/rng.md` has the details.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rng
from .numerics import F64, I64, U64, Row, kernel, log
from .order import largest
from .rows import Reading, Rows

_BLOCK = 64
# A score this far below the best cannot win, whatever the rounding of two logarithms.
_MARGIN = 1e-9


def sample(logits: Any, *, seed: Any, position: Any, dtype: str | None = None) -> Any:
    """Draw a token from softmax(logits); the same for the same row, seed and position, always.

    logits     (vocab,) or (rows, vocab); -inf is removed and never drawn
    seed       scalar or (rows,), any 64-bit integer
    position   scalar or (rows,), the number of tokens generated so far

    Returns an int for (vocab,), int64 (rows,) for (rows, vocab). Raises ValueError if a row holds
    NaN or +inf or no finite logit. Probabilities down to 2**-56 are drawn faithfully.

    >>> sample([0.0, 3.0, float("-inf")], seed=7, position=0)
    1
    """
    reading = Reading(logits, dtype=dtype)
    rows = reading.checked()
    seeds, positions = rng.keys(seed, position, len(rows))
    tokens = draw(rows, seeds, positions)
    return tokens if len(reading.shape) == 2 else int(tokens[0])


def draw(rows: Rows, seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.int64]:
    """A token for each row; -1 for one without a finite logit."""
    tokens = np.empty(len(rows), np.int64)
    race_rows(rows, seeds, positions, tokens)
    return tokens


@kernel
def race_rows(
    rows: Rows,
    seeds: NDArray[np.uint64],
    positions: NDArray[np.uint64],
    tokens: NDArray[np.int64],
) -> None:
    """The kernel over rows."""
    for r in range(rows.shape[0]):
        tokens[r] = race(rows[r], seeds[r], positions[r])


@kernel
def race(row: Row, seed: U64, position: U64) -> I64:
    """The token of the largest logit - log(arrival); of equal ones the lowest id."""
    winner, best = -1, -np.inf
    for start in range(0, row.size, _BLOCK):
        part = row[start : start + _BLOCK]
        top = np.float64(largest(part))
        if top == -np.inf:
            continue
        first, leader = earliest(seed, position, start // _BLOCK)
        bound = -log(first)  # nobody in the block arrives earlier
        if top + bound < best - _MARGIN:
            continue
        for j in range(part.size):
            logit = np.float64(part[j])
            if logit + bound < best - _MARGIN or logit == -np.inf:
                continue
            arrival = first if j == leader else first + delay(seed, position, start + j)
            score = logit - log(arrival)
            if score > best:
                winner, best = start + j, score
    return winner


@kernel
def earliest(seed: U64, position: U64, block: I64) -> tuple[float, int]:
    """(when the first token of a block arrives, which of its 64 tokens that is)."""
    high, low, which, _ = rng.words(seed, position, rng.DRAW_FIRST, block)
    return exponential(rng.unit(high, low)) / _BLOCK, int(which) % _BLOCK


@kernel
def delay(seed: U64, position: U64, token: I64) -> F64:
    """How long after its block's first a token arrives; one call to Philox serves four tokens."""
    word = rng.words(seed, position, rng.DRAW_DELAY, token // 4)[token % 4]
    return exponential((np.float64(word) + 0.5) * 2.0**-32)


@kernel
def exponential(u: F64) -> F64:
    """-log(1 - u), also where u is tiny."""
    if u < 2.0**-10:
        return u * (1.0 + u * (1.0 / 2.0 + u * (1.0 / 3.0 + u * (1.0 / 4.0 + u / 5.0))))
    return -log(1.0 - u)
