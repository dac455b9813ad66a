"""A row as the fast path reads it: blocks of 64 logits, each known by its largest.

A block is where the caller stored it, in any of three formats, unless a control that changes the order
has touched it: then it is a copy of our own.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lanes import LANES, lowest_bit, peak, reaching
from .numerics import F32, I64, Row, kernel
from .order import largest, scan
from .rows import BFLOAT16, FLOAT32

Ids = NDArray[np.int32]

#: How many logits are converted at a time.
READ = 1024


class Source(NamedTuple):
    """One row as the caller stored it: `wide` or `narrow`, by its kind; the other is empty."""

    kind: Any
    wide: Row
    narrow: NDArray[np.uint16]
    vocab: Any


class Blocks(NamedTuple):
    """What is known of one row, in memory that the next row uses again."""

    peaks: Row  # (blocks,) each block's largest logit
    own: Row  # (vocab,) the blocks that were changed
    is_own: NDArray[np.bool_]  # (blocks,) which those are
    buffer: Row  # (READ,) logits converted to float32


def block_count(vocab: int) -> int:
    """How many blocks a row has."""
    return -(-vocab // LANES)


@kernel
def look(source: Source, blocks: Blocks) -> bool:
    """Find each block's largest logit, and whether the row is fit: one pass over it."""
    blocks.is_own[:] = False
    has_nan = False
    for start in range(0, source.vocab, READ):
        part = read(source, start, min(start + READ, source.vocab), blocks.buffer)
        b = start // LANES
        for i in range(0, part.size - LANES + 1, LANES):
            blocks.peaks[b], nan = peak(part, i)
            has_nan |= nan
            b += 1
        rest = part[part.size // LANES * LANES :]
        if rest.size:
            blocks.peaks[b] = largest(rest)
            for i in range(rest.size):
                has_nan |= bool(np.isnan(rest[i]))
    return scan(blocks.peaks)[1] and not has_nan


@kernel
def read(source: Source, start: I64, stop: I64, buffer: Row) -> Row:
    """Part of a row as float32: where it is, or converted in the buffer."""
    if source.kind == FLOAT32:
        return source.wide[start:stop]
    bits = source.narrow[start:stop]
    part = buffer[: stop - start]
    if source.kind == BFLOAT16:
        for i in range(part.size):
            part[i] = np.uint32(np.uint32(bits[i]) << np.uint32(16)).view(np.float32)
    else:
        for i in range(part.size):
            part[i] = from_float16(np.uint32(bits[i]))
    return part


@kernel
def from_float16(bits: Any) -> F32:
    """A float16's bits as float32, exactly.

    They move to their places; a product makes good the exponent's offset, and subnormals with it.
    """
    sign = np.uint32(np.uint32(bits & np.uint32(0x8000)) << np.uint32(16))
    rest = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
    scaled = np.float32(rest.view(np.float32) * np.float32(2.0**112))
    bits32 = scaled.view(np.uint32)
    if bits32 >= np.uint32(0x47800000):  # 65536: it was infinity or NaN
        bits32 = np.uint32(rest | np.uint32(0x7F800000))
    return np.uint32(bits32 | sign).view(np.float32)


@kernel
def block(source: Source, blocks: Blocks, b: I64) -> Row:
    """The logits of one block."""
    start, stop = b * LANES, min(b * LANES + LANES, source.vocab)
    if blocks.is_own[b]:
        return blocks.own[start:stop]
    return read(source, start, stop, blocks.buffer)


@kernel
def make_own(source: Source, blocks: Blocks, b: I64) -> None:
    """Copy a block before it is changed."""
    if not blocks.is_own[b]:
        part = block(source, blocks, b)
        blocks.own[b * LANES : b * LANES + part.size] = part
        blocks.is_own[b] = True


@kernel
def look_again(source: Source, blocks: Blocks) -> None:
    """Find the largest logits of the blocks that were changed."""
    for b in range(blocks.peaks.size):
        if blocks.is_own[b]:
            blocks.peaks[b] = largest(block(source, blocks, b))


@kernel
def gather(source: Source, blocks: Blocks, floor: F32, values: Row, ids: Ids) -> I64:
    """Collect the tokens that reach the floor, ids ascending; how many they are."""
    n = 0
    for b in range(blocks.peaks.size):
        if blocks.peaks[b] < floor:
            continue
        part = block(source, blocks, b)
        if part.size == LANES:
            bits = reaching(part, 0, floor)
            while bits:
                j = lowest_bit(bits)
                values[n], ids[n] = part[j], b * LANES + j
                n += 1
                bits &= bits - np.uint64(1)
        else:
            for j in range(part.size):
                if part[j] >= floor:
                    values[n], ids[n] = part[j], b * LANES + j
                    n += 1
    return n


@kernel
def copy(source: Source, blocks: Blocks, row: Row) -> None:
    """The whole row."""
    for start in range(0, source.vocab, READ):
        stop = min(start + READ, source.vocab)
        row[start:stop] = read(source, start, stop, blocks.buffer)
    for b in range(blocks.is_own.size):
        if blocks.is_own[b]:
            start, stop = b * LANES, min(b * LANES + LANES, source.vocab)
            row[start:stop] = blocks.own[start:stop]
