"""A row in blocks of 64, as the fast path reads it."""

import numpy as np

from logitchain.numeric.blocks import Blocks, block_count, look
from logitchain.numeric.simd import LANES


def blocks_of(row, copied=()):
    """The row in blocks, of which some are copies that a control has made."""
    count = block_count(row.size)
    changed, is_changed = np.zeros(LANES * count, np.float32), np.zeros(count, np.bool_)
    blocks = Blocks(
        row.copy(), changed, is_changed, np.empty(count, np.float32), np.empty(LANES, np.float32)
    )
    assert look(blocks)
    for b in copied:
        place = slice(LANES * b, LANES * b + LANES)
        changed[place], is_changed[b] = row[place], True
        blocks.row[place] = np.nan  # it must not be looked at
    return blocks
