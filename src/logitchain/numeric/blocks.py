"""A row as the fast path reads it: blocks of 64 logits, each known by its largest.

A block is read from the caller's row, or from a private copy if it was changed, is incomplete or
was converted to float32. A block whose peak is -inf is empty: what it holds does not count.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compile import inlined, kernel, spliced
from .functions import F32, I64, U64, Row
from .order import scan
from .simd import LANES, count_bits, lowest_bit, move, peak, reaching, remove

Ids = NDArray[np.int32]

#: How a row is stored: float32, or the 16 bits of the two smaller formats.
FLOAT32, BFLOAT16, FLOAT16 = range(3)

_ALL = np.uint64(2**64 - 1)
_READ = 1024  # logits that are converted at a time


class Blocks(NamedTuple):
    """One row, and what is known of it, in memory that the next row uses again."""

    row: Row  # (vocab,) as the caller stored it
    changed: Row  # (blocks * 64,) copies of blocks: changed, converted, or filled up with -inf
    is_changed: NDArray[np.bool_]  # (blocks,) which blocks were copied
    peaks: Row  # (blocks,) each block's largest logit
    buffer: Row  # (64,) a block


def block_count(vocab: int) -> int:
    """How many blocks a row has."""
    return -(-vocab // LANES)


@kernel
def look(blocks: Blocks) -> bool:
    """Find each block's largest logit and whether the row is valid, in one pass."""
    row, changed, is_changed, peaks, _ = blocks
    is_changed[:] = False
    whole = row.size // LANES * LANES
    if whole < row.size:
        for i in range(LANES):
            changed[whole + i] = row[whole + i] if whole + i < row.size else -np.inf
        is_changed[-1] = True
    has_nan = find_peaks(row[:whole], peaks) | find_peaks(changed[whole:], peaks[whole // LANES :])
    return scan(peaks)[1] and not has_nan


@kernel
def convert_and_look(kind: I64, bits: NDArray[np.uint16], blocks: Blocks) -> bool:
    """Convert a 16-bit row to float32 in `changed`, and do as `look` does, in one pass."""
    _, changed, is_changed, peaks, _ = blocks
    is_changed[:] = True
    changed[bits.size :] = -np.inf
    has_nan = False
    for start in range(0, bits.size, _READ):
        convert(kind, bits[start : start + _READ], changed[start : start + _READ])
        has_nan |= find_peaks(changed[start : start + _READ], peaks[start // LANES :])
    return scan(peaks)[1] and not has_nan


@kernel
def find_peaks(row: Row, peaks: Row) -> bool:
    """Fill in each block's largest logit. Returns whether there is a NaN.

    The length of the row is a multiple of 64.
    """
    has_nan = False
    for b in range(row.size // LANES):
        peaks[b], nan = peak(row, b * LANES)
        has_nan |= nan
    return has_nan


@kernel
def convert(kind: I64, bits: NDArray[np.uint16], part: Row) -> None:
    """Bits of a smaller format as float32, exactly."""
    for i in range(bits.size):
        part[i] = from_bits(kind, bits[i])


@inlined
def from_bits(kind: I64, bits: U64) -> F32:
    """One logit of a smaller format."""
    if kind == BFLOAT16:
        return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)
    return from_float16(np.uint32(bits))


@inlined
def from_float16(bits: U64) -> F32:
    """A float16's bits as float32.

    They move to their places; a product makes good the exponent's offset, and subnormals with it.
    """
    sign = np.uint32(np.uint32(bits & np.uint32(0x8000)) << np.uint32(16))
    rest = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
    scaled = np.float32(rest.view(np.float32) * np.float32(2.0**112))
    magnitude = scaled.view(np.uint32)
    if magnitude >= np.uint32(0x47800000):  # 65536: it was infinity or NaN
        magnitude = np.uint32(rest | np.uint32(0x7F800000))
    return np.uint32(magnitude | sign).view(np.float32)


@spliced
def fetch(blocks: Blocks, b: I64) -> None:
    """Copy a block into the buffer: a slice would be shorter to write, and slower to have."""
    if blocks.is_changed[b]:
        move(blocks.changed, b * LANES, blocks.buffer, 0)
    else:
        move(blocks.row, b * LANES, blocks.buffer, 0)


@kernel
def copy_blocks_with(blocks: Blocks, tokens: NDArray[np.int64]) -> None:
    """Copy the blocks that hold the tokens, before they change; ids beyond them are skipped."""
    row, changed, is_changed, _, _ = blocks
    if tokens.size > row.size // 8:  # most blocks hold some, and to look for them takes longer
        for b in range(row.size // LANES):
            if not is_changed[b]:
                move(row, b * LANES, changed, b * LANES)
        is_changed[:] = True
        return
    for i in range(tokens.size):
        b = tokens[i] // LANES
        if 0 <= b < is_changed.size and not is_changed[b]:
            move(row, b * LANES, changed, b * LANES)
            is_changed[b] = True


@kernel
def mask(blocks: Blocks, words: NDArray[np.uint64]) -> None:
    """Remove the tokens whose bits are 0, from copies of their blocks."""
    row, changed, is_changed, peaks, _ = blocks
    for b in range(is_changed.size):
        if words[b] == 0:
            peaks[b] = -np.inf
        elif words[b] != _ALL and peaks[b] > -np.inf:
            if not is_changed[b]:
                move(row, b * LANES, changed, b * LANES)
                is_changed[b] = True
            remove(changed, b * LANES, words[b])
            peaks[b] = peak(changed, b * LANES)[0]


@kernel
def look_again(blocks: Blocks) -> None:
    """Find the largest logits of the blocks that were changed."""
    _, changed, is_changed, peaks, _ = blocks
    for b in range(peaks.size):
        if is_changed[b] and peaks[b] > -np.inf:
            peaks[b] = peak(changed, b * LANES)[0]


@kernel
def are_many(blocks: Blocks, floor: F32) -> bool:
    """Whether half of the tokens reach the floor."""
    n = 0
    for b in range(blocks.peaks.size):
        if blocks.peaks[b] >= floor and 2 * n < (LANES * blocks.peaks.size):
            fetch(blocks, b)
            n += count_bits(reaching(blocks.buffer, 0, floor))
    return bool(2 * n >= (LANES * blocks.peaks.size))


@kernel
def gather(blocks: Blocks, floor: F32, values: Row, ids: Ids) -> I64:
    """Collect the tokens that reach the floor, ids ascending; how many they are."""
    n = 0
    for b in range(blocks.peaks.size):
        if blocks.peaks[b] < floor:
            continue
        fetch(blocks, b)
        bits = reaching(blocks.buffer, 0, floor)
        if bits == _ALL:  # one by one they take six times as long
            move(blocks.buffer, 0, values, n)
            for j in range(LANES):
                ids[n + j] = b * LANES + j
            n += LANES
            bits = np.uint64(0)
        while bits:
            j = lowest_bit(bits)
            values[n], ids[n] = blocks.buffer[j], b * LANES + j
            n += 1
            bits &= bits - np.uint64(1)
    return n


@kernel
def copy(blocks: Blocks, row: Row) -> None:
    """Copy the whole row, as it is by now, into `row`."""
    whole = row.size // LANES * LANES
    for b in range(row.size // LANES):
        if blocks.is_changed[b]:
            move(blocks.changed, b * LANES, row, b * LANES)
        else:
            move(blocks.row, b * LANES, row, b * LANES)
        if blocks.peaks[b] == -np.inf:
            remove(row, b * LANES, np.uint64(0))
    is_empty = blocks.peaks[-1] == -np.inf
    for i in range(whole, row.size):
        row[i] = -np.inf if is_empty else blocks.changed[i]
