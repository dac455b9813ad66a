"""The green list: a watermark that raises the logits of tokens which only a key can tell."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..inputs.logits import DType, Reading, token_lists
from ..inputs.values import show
from ..numeric.blocks import Ids
from ..numeric.compile import inlined, kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, I64, U64, Row, finite
from ..params import Watermark
from ..params.watermark import CONTEXT_WIDTH, DELTA, GREEN_BELOW, KEY
from .record import Control, Request

Longs = NDArray[np.int64]

_LOW, _HALF = np.int64(0xFFFFFFFF), np.int64(2**31)
_WORD, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_ZERO, _TWO, _THREE = np.uint64(0), np.uint64(2), np.uint64(3)
_MOST_WORD = np.uint64(2**31 - 1)


@in_standard_mode
def green_list(
    logits: Any, watermark: Any, tokens: Any, *, dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Raise the logits of the green tokens by the watermark's `delta`.

    logits      (vocab,) or (rows, vocab); -inf is removed, and stays so
    watermark   a `Watermark` of the scheme "sbw", or a mapping of its options
    tokens      the tokens generated so far, any 64-bit integers: one sequence for all rows, or one
                per row

    Which tokens are green is a function of the key, the last `context_width` - 1 tokens, and the
    token: a share `gamma` of the vocabulary. Returns a new float32 array of the same shape, or
    `out`. Raises ValueError for another scheme or an invalid row. Source: SBW (Ceppi and Sanchez,
    arXiv:2609.03844), in the form "selfhash" of vLLM's pull request 56859.

    >>> green_list([0.0, 0.0, 0.0, 0.0, 0.0], {"scheme": "sbw", "key": 7}, [1, 2, 3])
    array([0., 2., 0., 2., 0.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    mark = Watermark.checked("watermark", watermark)
    if mark is None or mark.keys_draw:
        given = show(mark and mark.scheme)
        raise ValueError(f"watermark.scheme must be one of green tokens, 'sbw', not {given}")
    room = np.empty((2, rows.shape[1]), np.int64)
    for row, output in zip(rows, token_lists(tokens, len(rows)), strict=True):
        n = list_green(mark.numbers, output, *room)
        raise_logits(row, room[0, :n], float(mark.delta or 0.0))
    return reading.result()


@inlined
def hash_token(token: I64) -> I64:
    """Bob Jenkins' hash of a 32-bit integer, of token + 1, so that token 0 is not 0."""
    i = _signed(token + 1)
    i = _signed(i - _signed(i << 6))
    i = i ^ (i >> 17)
    i = _signed(i - _signed(i << 9))
    i = i ^ _signed(i << 4)
    i = _signed(i - _signed(i << 3))
    i = i ^ _signed(i << 10)
    return i ^ (i >> 15)


@inlined
def _signed(x: I64) -> I64:
    """The low 32 bits as a signed integer."""
    return ((x & _LOW) ^ _HALF) - _HALF


@kernel
def context_factors(key: I64, context: Longs) -> Longs:
    """What a token's hash is multiplied by, for each token of the context but the first."""
    factors = np.empty(context.size - 1, np.int64)
    for j in range(factors.size):
        factors[j] = key * hash_token(context[j + 1])
    return factors


@kernel
def seed_of(key: I64, factors: Longs, token: I64) -> I64:
    """The seed of a token after a context: the least of the products, which wrap around."""
    hashed = hash_token(token)
    seed = key * hashed * hashed
    for factor in factors:
        seed = min(seed, factor * hashed)
    return seed


@inlined
def is_green(seed: I64, token: I64, below: U64) -> bool:
    """Whether 31 random bits of a token are below a number, a share of 2**31."""
    word, bits = np.uint64(token) & _WORD, np.uint64(seed)
    four = rng.philox4x32(word >> _TWO, _ZERO, _ZERO, _ZERO, bits & _WORD, bits >> _BITS)
    lane = word & _THREE  # in vectors there is a choice between words, but no index
    low = four[0] if lane == _ZERO else four[1]
    high = four[2] if lane == _TWO else four[3]
    return bool((low if lane < _TWO else high) & _MOST_WORD < below)


def green_share(numbers: Longs) -> float:
    """The probability that a token is green."""
    return int(numbers[GREEN_BELOW]) * 2.0**-31


@kernel
def list_green(numbers: Longs, history: Longs, tokens: Longs, seeds: Longs) -> I64:
    """List the green tokens of a vocabulary after a history; how many.

    tokens, seeds   (vocab,): the list, and scratch
    """
    width, key = numbers[CONTEXT_WIDTH], np.int64(numbers[KEY])
    context = np.full(width, np.int64(-1))
    for j in range(max(np.int64(0), width - history.size), width):
        context[j] = history[history.size - width + j]
    below = np.uint64(numbers[GREEN_BELOW])
    for token in range(seeds.size):  # one thing at a time, so that each loop runs in vectors
        tokens[token] = hash_token(np.int64(token))
        seeds[token] = key * tokens[token] * tokens[token]
    for factor in context_factors(key, context):
        for token in range(seeds.size):
            seeds[token] = min(seeds[token], factor * tokens[token])
    for token in range(seeds.size):
        seeds[token] = is_green(seeds[token], np.int64(token), below)
    n = np.int64(0)
    for token in range(seeds.size):
        tokens[n] = token
        n += seeds[token]
    return n


@kernel
def raise_logits(row: Row, places: Longs, delta: F64) -> None:
    """The kernel, in place."""
    for i in places:
        if row[i] > -np.inf:
            row[i] = finite(row[i] + delta)


@kernel
def _find(request: Request, tokens: Longs, numbers: Longs, room: Longs) -> I64:
    return list_green(request.tokens, request.history, tokens, room)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    delta = request.tokens[DELTA : DELTA + 1].view(np.float64)[0]
    raise_logits(row, request.places, delta)


CONTROL = Control(
    name="green_list",
    fields=("watermark",),
    kind="adjust",
    kernel=_apply,
    find=_find,
    tokens="watermark",
    options={"scope": "output"},
)
