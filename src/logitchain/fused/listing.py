"""The best tokens of a row and their log-probabilities, beside the draw."""

import numpy as np
from numpy.typing import NDArray

from ..controls import top_k
from ..logprobs import log_of_mass, normaliser, subtract
from ..numeric.blocks import Blocks, Ids, fetch
from ..numeric.compile import kernel
from ..numeric.functions import F32, F64, I64, REMOVED, Row
from ..numeric.order import at_least, float_to_key, key_to_float, largest
from ..numeric.prefix import floor_of_top
from ..numeric.simd import LANES, lowest_bit, reaching
from ..sample import EVERY
from .nucleus import total
from .tables import Drawn

Longs = NDArray[np.int64]

_START = np.int64(0)


@kernel
def list_best(values: Row, ids: Ids, drawn: Drawn, r: I64) -> tuple[F32, F64]:
    """Fill in the best tokens and their log-probabilities, in order, as far as there are any.

    Returns the `normaliser` of these logits: of the tokens `ids`, or of all with `ids` empty.
    """
    best, log_mass = normaliser(values)
    tokens, logits = drawn.tokens[r, 1:], drawn.logprobs[r, 1:]
    if tokens.size == 0:
        return best, log_mass
    floor, found = floor_of_top(values, tokens.size), np.int64(0)
    whole = values.size // LANES * LANES
    for start in range(0, whole, LANES):
        found = list_block(values, start, start, ids, floor, tokens, logits, found)
    for i in range(whole, values.size):
        if values[i] > REMOVED:
            found = insert(values[i], int(ids[i]) if ids.size else i, tokens, logits, found)
    subtract(logits[:found], best, log_mass)
    return best, log_mass


@kernel
def list_best_as_given(blocks: Blocks, drawn: Drawn, r: I64) -> tuple[F32, F64]:
    """Fill in the best tokens of the unprocessed row. Returns its `normaliser`."""
    best, log_mass = largest(blocks.peaks), log_of_mass(total(blocks, 1.0, blocks.peaks))
    tokens, logits = drawn.tokens[r, 1:], drawn.logprobs[r, 1:]
    if tokens.size:
        floor, found = at_least(top_k.floor(blocks.peaks, tokens.size)), np.int64(0)
        for b in range(blocks.peaks.size):
            if blocks.peaks[b] >= floor:
                fetch(blocks, b)
                first = b * LANES
                found = list_block(
                    blocks.buffer, _START, first, EVERY, floor, tokens, logits, found
                )
        subtract(logits[:found], best, log_mass)
    return best, log_mass


@kernel
def list_block(
    row: Row, start: I64, first: I64, ids: Ids, floor: F32, tokens: Longs, logits: Row, found: I64
) -> I64:
    """Insert the logits of a block of 64 that are among the best into the list of the best.

    The block begins with the token `first`, unless there are `ids`. Returns the list's length.
    """
    bar = floor
    if found == tokens.size:  # an equal one comes too late
        bar = max(floor, key_to_float(np.int32(float_to_key(logits[-1]) + 1)))
    bits = reaching(row, start, bar)
    while bits:
        j = lowest_bit(bits)
        token = int(ids[start + j]) if ids.size else first + j
        found = insert(row[start + j], token, tokens, logits, found)
        bits &= bits - np.uint64(1)
    return found


@kernel
def insert(logit: F32, token: I64, tokens: Longs, logits: Row, found: I64) -> I64:
    """Insert a token into the list of the best, by descending logit. Returns the list's length."""
    if found == tokens.size and logit <= logits[-1]:
        return found
    place = min(found, tokens.size - 1)
    while place > 0 and logits[place - 1] < logit:  # an equal one has the lower id
        tokens[place], logits[place] = tokens[place - 1], logits[place - 1]
        place -= 1
    tokens[place], logits[place] = token, logit
    return min(found + 1, tokens.size)
