"""The best tokens of a row and their log-probabilities, beside the draw."""

import numpy as np
from numpy.typing import NDArray

from ..controls import top_k
from ..logprobs import log_of_mass, normaliser, subtract
from ..numeric.blocks import Blocks, Ids, fetch, gather
from ..numeric.compile import kernel
from ..numeric.functions import F32, F64, I64, Row
from ..numeric.order import NO_CUT, at_least, float_to_key, key_to_float, largest
from ..numeric.prefix import first_k, floor_of_top
from ..numeric.simd import LANES, lowest_bit, reaching
from ..sample import EVERY
from .nucleus import total
from .tables import Drawn

Longs = NDArray[np.int64]

_START = np.int64(0)  # a literal 0 would compile the callee once more
_NONE = np.float32(-np.inf)
_32 = np.int64(32)

#: To insert a token takes time proportional to the list's length: a longer list is sorted instead.
_INSERTED = 64


@kernel
def list_best(values: Row, ids: Ids, drawn: Drawn, r: I64, n: I64) -> tuple[F32, F64]:
    """Fill in the n best tokens and their log-probabilities, in order, as far as there are any.

    Returns the `normaliser` of these logits: of the tokens `ids`, or of all with `ids` empty.
    """
    best, log_mass = normaliser(values)
    end = 1 + min(n, drawn.tokens.shape[1] - 1)
    tokens, logits = drawn.tokens[r, 1:end], drawn.logprobs[r, 1:end]
    tokens[:], logits[:] = -1, _NONE
    if tokens.size > _INSERTED:
        sort_best(values, ids, tokens, logits)
    elif tokens.size:
        floor = floor_of_top(values, tokens.size)
        whole = values.size // LANES * LANES
        for start in range(0, whole, LANES):
            insert_block(values, start, start, ids, floor, tokens, logits)
        for i in range(whole, values.size):
            insert(values[i], int(ids[i]) if ids.size else i, tokens, logits)
    subtract(logits, best, log_mass)
    return best, log_mass


@kernel
def list_best_as_given(blocks: Blocks, drawn: Drawn, r: I64, n: I64) -> tuple[F32, F64]:
    """Fill in the n best tokens of the unprocessed row. Returns its `normaliser`."""
    best, log_mass = largest(blocks.peaks), log_of_mass(total(blocks, 1.0, blocks.peaks))
    end = 1 + min(n, drawn.tokens.shape[1] - 1)
    tokens, logits = drawn.tokens[r, 1:end], drawn.logprobs[r, 1:end]
    tokens[:], logits[:] = -1, _NONE
    if tokens.size:
        floor = at_least(top_k.floor(blocks.peaks, tokens.size))
    if tokens.size > _INSERTED:
        size = blocks.peaks.size * LANES
        values, ids = np.empty(size, np.float32), np.empty(size, np.int32)
        found = gather(blocks, floor, values, ids)
        sort_best(values[:found], ids[:found], tokens, logits)
    elif tokens.size:
        for b in range(blocks.peaks.size):
            if blocks.peaks[b] >= floor:
                fetch(blocks, b)
                insert_block(blocks.buffer, _START, b * LANES, EVERY, floor, tokens, logits)
    subtract(logits, best, log_mass)
    return best, log_mass


@kernel
def sort_best(values: Row, ids: Ids, tokens: Longs, logits: Row) -> None:
    """Fill in the list of the best by sorting those that belong to it."""
    bar, equals = at_least(NO_CUT), np.int64(values.size)
    if tokens.size < values.size:
        bar, equals = first_k(values, tokens.size)
    codes, n = np.empty(min(tokens.size, values.size), np.int64), 0
    for i in range(values.size):
        if values[i] > bar or (values[i] == bar and equals > 0):
            equals -= values[i] == bar
            codes[n] = -(np.int64(float_to_key(values[i])) << _32) + i  # best first, then lowest id
            n += 1
    codes = np.sort(codes[:n])
    for j in range(n):
        i = codes[j] & np.int64(2**32 - 1)
        tokens[j], logits[j] = ids[i] if ids.size else i, values[i]


@kernel
def insert_block(
    row: Row, start: I64, first: I64, ids: Ids, floor: F32, tokens: Longs, logits: Row
) -> None:
    """Insert a block's logits that reach a floor into the list of the best.

    The block begins with the token `first`, unless there are `ids`.
    """
    above_last = key_to_float(np.int32(float_to_key(logits[-1]) + 1))  # an equal one comes too late
    bits = reaching(row, start, max(floor, above_last))
    while bits:
        j = lowest_bit(bits)
        insert(row[start + j], int(ids[start + j]) if ids.size else first + j, tokens, logits)
        bits &= bits - np.uint64(1)


@kernel
def insert(logit: F32, token: I64, tokens: Longs, logits: Row) -> None:
    """Insert a token into the list of the best, by descending logit, if it is one of them."""
    if logit > logits[-1]:
        place = tokens.size - 1
        while place > 0 and logits[place - 1] < logit:  # an equal one has the lower id
            tokens[place], logits[place] = tokens[place - 1], logits[place - 1]
            place -= 1
        tokens[place], logits[place] = token, logit
