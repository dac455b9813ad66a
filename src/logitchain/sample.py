"""The draw: logits, a seed and a position in, a token out.

A race of independent exponential arrivals: token i arrives at e_i / exp(logit_i), and the first to
arrive is a draw from the softmax. The e_i are a function of (seed, position, i) alone. 64 tokens
share a block: its earliest arrival is exponential with rate 64 and belongs to a token chosen
uniformly; by memorylessness every other token of the block follows after an exponential delay of
its own. So a whole block is judged by one number. `docs/rng.md` has the details.
"""

from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from . import rng
from .inputs.logits import DType, OneRow, Reading, Rows, SomeRows, SomeShape
from .numeric.compile import INTERPRETED, inlined, kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F64, I64, U64, Row, log
from .numeric.order import largest
from .numeric.simd import LANES, peak

# A score this far below the best cannot win, whatever the rounding of two logarithms.
MARGIN = 1e-9

#: Stands for the ids of a whole row.
EVERY = np.empty(0, np.int32)


@overload
def sample(logits: SomeShape, *, seed: Any, position: Any, dtype: DType = None) -> Any: ...
@overload
def sample(logits: OneRow, *, seed: Any, position: Any, dtype: DType = None) -> int: ...
@overload
def sample(
    logits: SomeRows, *, seed: Any, position: Any, dtype: DType = None
) -> NDArray[np.int64]: ...
@overload
def sample(logits: Any, *, seed: Any, position: Any, dtype: DType = None) -> Any: ...
@in_standard_mode
def sample(logits: Any, *, seed: Any, position: Any, dtype: DType = None) -> Any:
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
    return np.array(
        [race(row, EVERY, *key) for row, *key in zip(rows, seeds, positions, strict=True)], np.int64
    )


class Arrivals(NamedTuple):
    """The first arrivals of some blocks."""

    first: NDArray[np.float64]  # when the block's earliest token arrives
    leader: NDArray[np.int64]  # which of its 64 tokens that is
    noise: NDArray[np.float64]  # -log(first): logit + noise bounds the scores of the block


@kernel
def race(values: Row, ids: NDArray[np.int32], seed: U64, position: U64) -> I64:
    """The token of the largest logit - log(arrival); of equal ones the lowest id.

    Logits count from the best on: beside a large one, the noise would be rounded off.

    values   logits of the tokens `ids`, which ascend; or of all tokens, with `ids` empty
    """
    size = values.size if ids.size else (values.size + LANES - 1) // LANES
    block, start, tops = np.empty(size, np.int64), np.empty(size + 1, np.int64), np.empty(size)
    blocks = _list_blocks(values, ids, block, start, tops)
    start[blocks] = values.size
    best = np.max(tops[:blocks])
    if best == -np.inf:
        return -1
    came = arrivals(seed, position, block[:blocks])
    bound = tops[:blocks] - best + came.noise
    likeliest = int(np.argmax(bound))
    winner, highest = -1, -np.inf
    for turn in range(-1, blocks):  # the likeliest block first: its score rules out most others
        b = likeliest if turn < 0 else turn
        if turn == likeliest or bound[b] < highest - MARGIN:
            continue
        if not (INTERPRETED or ids.size) and start[b] + LANES <= values.size:
            score, token = block_contest(values, start[b], came, b, seed, position, best)
            if score > highest or (score == highest and token < winner):
                winner, highest = token, score
            continue
        for i in range(start[b], start[b + 1]):
            token = int(ids[i]) if ids.size else i
            x = np.float64(values[i]) - best
            score = contest(x, token, came, b, seed, position, highest)
            if score > highest or (score == highest and token < winner):
                winner, highest = token, score
    return winner


@kernel
def contest(
    x: F64, token: I64, came: Arrivals, b: I64, seed: U64, position: U64, highest: F64
) -> F64:
    """A token's score, given its logit less the row's best; -inf if it cannot reach `highest`."""
    if x == -np.inf or x + came.noise[b] < highest - MARGIN:
        return -np.inf
    arrival = came.first[b]
    if token % LANES != came.leader[b]:
        arrival += delay(seed, position, token)
    return x - log(arrival)


@kernel
def block_contest(
    row: Row, start: I64, came: Arrivals, b: I64, seed: U64, position: U64, best: F64
) -> tuple[F64, I64]:
    """(the best score of block b, whose it is); its 64 logits are in the row from `start` on.

    All are scored, in vectors: in the time of seven one by one. `best` is the largest logit of all.
    """
    scores = np.empty(LANES)
    for i in range(LANES // 4):
        words = rng.words(seed, position, rng.DRAW_DELAY, b * (LANES // 4) + i)
        for k in range(4):
            scores[4 * i + k] = words[k]
    for j in range(LANES):
        scores[j] = came.first[b] + exponential((scores[j] + 0.5) * 2.0**-32)
    scores[came.leader[b]] = came.first[b]
    for j in range(LANES):
        scores[j] = np.float64(row[start + j]) - best - log(scores[j])
    first = int(np.argmax(scores))
    return scores[first], b * LANES + first


@kernel
def _list_blocks(
    values: Row,
    ids: NDArray[np.int32],
    block: NDArray[np.int64],
    start: NDArray[np.int64],
    top: NDArray[np.float64],
) -> I64:
    """Fill in each block's number, where its tokens start and their largest logit; how many."""
    if not ids.size:
        for b in range(block.size):
            block[b], start[b] = b, b * LANES
        whole = values.size // LANES
        for b in range(whole):
            top[b] = peak(values, b * LANES)[0]
        if whole < block.size:
            top[whole] = largest(values[whole * LANES :])
        return block.size
    blocks = 0
    for i in range(ids.size):
        number = ids[i] // LANES
        if blocks and block[blocks - 1] == number:
            top[blocks - 1] = max(top[blocks - 1], values[i])
        else:
            block[blocks], start[blocks], top[blocks] = number, i, values[i]
            blocks += 1
    return blocks


@kernel
def arrivals(seed: U64, position: U64, block: NDArray[np.int64]) -> Arrivals:
    """`earliest` of each block; in two loops, which then run in vectors."""
    first, leader = np.empty(block.size), np.empty(block.size, np.int64)
    noise = np.empty(block.size)
    for b in range(block.size):
        first[b], leader[b] = _leading(seed, position, block[b])
    for b in range(block.size):
        first[b] = exponential(first[b]) / LANES
        noise[b] = -log(first[b])
    return Arrivals(first, leader, noise)


@kernel
def earliest(seed: U64, position: U64, block: I64) -> tuple[float, int]:
    """(when the first token of a block arrives, which of its 64 tokens that is)."""
    u, leader = _leading(seed, position, block)
    return exponential(u) / LANES, leader


@inlined
def _leading(seed: U64, position: U64, block: I64) -> tuple[F64, I64]:
    high, low, which, _ = rng.words(seed, position, rng.DRAW_FIRST, block)
    return rng.unit(high, low), np.int64(which % np.uint64(LANES))


@kernel
def delay(seed: U64, position: U64, token: I64) -> F64:
    """How long after its block's first a token arrives; one call to Philox serves four tokens."""
    word = rng.words(seed, position, rng.DRAW_DELAY, token // 4)[token % 4]
    return exponential((np.float64(word) + 0.5) * 2.0**-32)


@kernel
def arrival_times(tokens: NDArray[np.int64], seed: U64, position: U64) -> NDArray[np.float64]:
    """When each token would arrive if its logit were 0."""
    times = np.empty(tokens.size)
    for j in range(tokens.size):
        times[j], leader = earliest(seed, position, tokens[j] // LANES)
        if tokens[j] % LANES != leader:
            times[j] += delay(seed, position, tokens[j])
    return times


@kernel
def exponential(u: F64) -> F64:
    """-log(1 - u), also where u is tiny."""
    if u < 2.0**-10:
        return u * (1.0 + u * (1.0 / 2.0 + u * (1.0 / 3.0 + u * (1.0 / 4.0 + u / 5.0))))
    return -log(1.0 - u)
