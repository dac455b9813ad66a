"""Token bitmask: what a grammar allows, one bit for each token.

Packed as xgrammar, llguidance and outlines-core pack it: words of 32 bits, least significant bit
first, 1 is allowed. All masks are words of 64 bits in here, one for each block of 64 logits.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..inputs.values import buffer, native, one_of
from ..numeric.blocks import Ids, block_count
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import I64, Row
from ..numeric.simd import LANES, peak, remove
from ..params import Field
from .record import Control, Request

Words = NDArray[np.uint64]  # (blocks,) bit j of word b: whether token 64 * b + j may stay

#: What becomes of tokens that a mask is too short for.
Tail = Literal["mask", "keep", "error"]

ALL = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


@in_standard_mode
def token_bitmask(
    logits: Any, mask: Any, *, tail: Tail = "mask", dtype: DType = None, out: Any = None
) -> NDArray[np.float32]:
    """Remove every token whose bit in `mask` is 0.

    logits   (vocab,) or (rows, vocab); -inf is removed
    mask     (words,) for all rows or (rows, words), int32 or uint32: token i is bit i % 32 of word
             i // 32; bits beyond the vocabulary are ignored
    tail     tokens beyond the mask's last bit: "mask" removes them, "keep" leaves them, and with
             "error" there may be none

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if the mask does not
    go with the rows, or a row is invalid, before or after. Source: the packing of xgrammar,
    llguidance and outlines-core.

    >>> token_bitmask([1.0, 2.0, 3.0], np.array([0b101], np.int32))
    array([  1., -inf,   3.], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    mask = buffer("mask", mask)
    words = packed(mask, rows.shape[1], tail)
    if mask.ndim == 2 and len(words) != len(rows):
        raise ValueError(f"mask must be one or one per row ({len(rows)}), not {len(words)}")
    return masked(reading, lambda r: words[r % len(words)])


def masked(reading: Reading, words_of: Callable[[int], Words]) -> NDArray[np.float32]:
    """What every mask does: its result from the words of each row."""
    for r, row in enumerate(reading.rows):
        if not apply_and_check(row, words_of(r)):
            raise reading.invalid(r)
    return reading.write()


def masked_by(reading: Reading, clear: Callable[[int, Words], None]) -> NDArray[np.float32]:
    """Mask each row by the bits that are left after `clear(r, words)`."""

    def words_of(r: int) -> Words:
        words = np.full(block_count(reading.shape[-1]), ALL)
        clear(r, words)
        return words

    return masked(reading, words_of)


def packed(mask: Any, vocab: int, tail: Tail = "mask") -> Words:
    """A caller's mask or masks as words for a vocabulary, (masks, blocks)."""
    one_of("tail", tail, get_args(Tail))
    given = native(buffer("mask", mask))
    if given.dtype not in (np.int32, np.uint32) or given.ndim not in (1, 2):
        raise TypeError(f"mask must be int32 or uint32 words, not {given.dtype} {given.shape}")
    bits, used = 32 * given.shape[-1], -(-vocab // 32)
    if bits < vocab and tail == "error":
        raise ValueError(f"mask must have a bit for each of {vocab} tokens, not {bits}")
    masks = given[None] if given.ndim == 1 else given
    if given.flags.carray and masks.shape[1] == 2 * block_count(vocab):
        words = masks.view("<u8")
        if words.flags.aligned:  # 2 us sooner than a copy
            return words.astype(np.uint64, copy=False)
    masks = masks[:, :used]
    halves = np.zeros((len(masks), 2 * block_count(vocab)), np.uint32)
    halves[:, : masks.shape[1]] = masks.view(np.uint32) if masks.size else 0
    if tail == "keep":
        halves[:, masks.shape[1] :] = 2**32 - 1
    return halves.astype("<u4", copy=False).view("<u8").astype(np.uint64, copy=False)


@kernel
def apply_and_check(row: Row, words: Words) -> bool:
    """The kernel on a whole row, in place, in one pass; whether the row was fit and still is.

    It stops before it changes a block with NaN or +inf.
    """
    best = -np.inf
    for b in range(row.size // LANES):
        largest, has_nan = peak(row, b * LANES)
        if has_nan or largest == np.inf:
            return False
        if words[b] != ALL:
            remove(row, b * LANES, words[b])
        if best == -np.inf:  # one finite logit is enough
            best = peak(row, b * LANES)[0]
    for i in range(row.size // LANES * LANES, row.size):
        if not row[i] < np.inf:
            return False
        if not is_allowed(words, i):
            row[i] = -np.inf
        best = max(best, row[i])
    return bool(best > -np.inf)


@kernel
def apply(row: Row, ids: Ids, words: Words) -> None:
    """Apply a mask to a valid row, or if `ids` is not empty to the candidates with these ids."""
    for i in range(ids.size):
        if not is_allowed(words, ids[i]):
            row[i] = -np.inf
    if ids.size:
        return
    whole = row.size // LANES
    for b in range(whole):
        if words[b] != ALL:
            remove(row, b * LANES, words[b])
    for i in range(whole * LANES, row.size):
        if not is_allowed(words, i):
            row[i] = -np.inf


@kernel
def is_allowed(words: Words, token: I64) -> bool:
    """A token's bit."""
    return bool(words[token // LANES] >> np.uint64(token % LANES) & _ONE)


@kernel
def set_bit(words: Words, token: I64) -> None:
    """Let a token stay."""
    words[token // LANES] |= _ONE << np.uint64(token % LANES)


@kernel
def keep_bit(words: Words, token: I64) -> None:
    """Clear all bits but a token's, which stays as it is."""
    place = token // LANES
    kept = words[place] & _ONE << np.uint64(token % LANES)
    words[:] = np.uint64(0)
    words[place] = kept


@kernel
def apply_allowed(row: Row, ids: Ids, request: Request) -> None:
    """Clear the bits of the tokens that the row's own mask does not have."""
    words, allowed = request.words, request.allowed
    for b in range(words.size):
        words[b] &= allowed[b]


CONTROL = Control(
    name="token_bitmask",
    fields=(Field("token_bitmask", off=0.0),),  # no field of a request: `Batch.set_mask` sets it
    kind="mask",
    kernel=apply_allowed,
    tokens="token_bitmask",
)
