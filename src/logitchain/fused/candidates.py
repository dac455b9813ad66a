"""From the blocks of a row to the few tokens that can still matter: change, find the floor, gather,
apply.
"""

import numpy as np
from numpy.typing import NDArray

from ..controls import temperature, token_bitmask
from ..controls.record import ADJUST, CUT, MASK, call_add, call_floor
from ..numeric.blocks import (
    Blocks,
    are_many,
    copy,
    fetch,
    gather,
    look_again,
    mask,
)
from ..numeric.compile import kernel, spliced
from ..numeric.functions import F32, F64, I64, Row
from ..numeric.order import NO_CUT, at_least, largest
from ..numeric.statistics import DEVIATION, MOST_SUMS, Statistics, least, statistics_of, unknown
from ..sample import EVERY
from .nucleus import truncate_by_mass
from .step import adjust, apply, clear_bits
from .tables import (
    ADD,
    DIVIDES,
    FLAGS,
    FLOOR,
    KEEPS_SHARE,
    KIND,
    MAY_EMPTY,
    MEASURES,
    OPTION,
    Floor,
    Task,
)

Longs = NDArray[np.int64]

# ---- controls that mask, or change the order


@kernel
def change_order(blocks: Blocks, task: Task) -> I64:
    """Apply the masks, biases and penalties that the chain begins with; how many steps they are."""
    next_step, is_changed = np.int64(0), False  # for a literal 0 all callees are compiled again
    while next_step < task.steps.size and task.table[task.steps[next_step], KIND] <= ADJUST:
        if task.table[task.steps[next_step], KIND] == MASK:
            task.scratch.words[:] = token_bitmask.ALL
            while next_step < task.steps.size and task.table[task.steps[next_step], KIND] == MASK:
                clear_bits(task, next_step)
                next_step += 1
            mask(blocks, task.scratch.words)
        else:
            adjust(blocks, task, next_step)
            is_changed = True
            next_step += 1
    if is_changed:
        look_again(blocks)
    return next_step


# ---- floors


@spliced
def highest_floor(task: Task, next_step: I64, peaks: Row, best: F32, vocab: I64) -> Floor:
    """The highest of the floors of the steps from `next_step` on that keep the order and remove
    from its end: a token that one of them removes is lost, whatever the others do.

    The first step that needs a statistic uses that of the whole row if nothing was removed before
    it; otherwise the search for floors stops there.
    """
    logit, measures, divisor_before, divisor, can_draw_first = NO_CUT, -1, 1.0, 1.0, True
    for s in range(next_step, task.steps.size):
        step, values = task.table[task.steps[s]], task.values[s]
        kind, flags = step[KIND], step[FLAGS]
        if flags & DIVIDES and values[0] > 0.0 and divisor == 1.0:
            divisor = values[0]
            continue
        if flags & MEASURES and kind == CUT and can_draw_first and measures < 0:
            measures, divisor_before = s, divisor
            can_draw_first = flags & KEEPS_SHARE != 0
        else:
            can_draw_first = False
            is_cut = kind == CUT or (flags & DIVIDES and values[0] == 0.0)
            if not is_cut or flags & MEASURES or step[FLOOR] == 0:
                break
        if step[FLOOR] != 0:
            logit = max(logit, call_floor(step[FLOOR], best, divisor, peaks, values, vocab))
    # Rounding can make logits equal: the floor is lowered, or given up where that is not enough.
    is_safe = temperature.is_ordinary(divisor) and abs(best) < 2.0**100
    if is_safe and abs(logit) < 2.0**100:
        logit -= 2.0**-18 * (abs(logit) + abs(best)) + 2.0**-100 * max(1.0, divisor)
    else:
        logit = NO_CUT
    return Floor(logit, measures, divisor_before, divisor, can_draw_first and is_safe)


# ---- the tokens that are left


@kernel
def truncate(blocks: Blocks, task: Task, whole: Row, next_step: I64, floor: Floor) -> I64:
    """Gather the tokens that reach the floor, and apply the steps from `next_step` on to them.

    Returns the number of candidates, or 0 if all are removed.
    """
    values, ids, n = task.scratch.values, task.scratch.ids, whole.size
    bar = at_least(floor.logit)
    if floor.logit > NO_CUT and not are_many(blocks, bar):
        n = gather(blocks, bar, values, ids)
    if n < whole.size:
        row, left = values[:n], ids[:n]
    else:  # of a whole row more of the work runs in vectors
        row, left = whole, EVERY
        copy(blocks, whole)
    for s in range(next_step, task.steps.size):
        flags, known = task.table[task.steps[s], FLAGS], unknown()
        are_some = s == floor.measures and n < whole.size  # the others count as well
        if are_some and flags & KEEPS_SHARE:
            truncate_by_mass(blocks, task, s, floor.divisor_before, row)
        else:
            if flags & MEASURES:
                add = task.table[task.steps[s], ADD:OPTION]
                known = measure(blocks, floor.divisor_before, add, row, are_some)
            apply(task, s, row, left, known)
        if flags & MAY_EMPTY and largest(row) == -np.inf:
            n = 0
            break
    return n


@kernel
def measure(blocks: Blocks, divisor: F64, add: Longs, row: Row, are_some: bool) -> Statistics:
    """The statistics of all tokens that are left, as far as they are asked for.

    add        the addresses of what adds up each statistic, 0 if it is not asked for
    row        the tokens, or if `are_some` a part of them, after a temperature `divisor`
    """
    sums = np.zeros((add.size, MOST_SUMS), np.int64)
    best, number = largest(row), blocks.peaks.size if are_some else np.int64(0)
    lowest, factors = best, temperature.factors(divisor)
    needs_lowest = add[DEVIATION] != 0
    if needs_lowest and not are_some:
        lowest = least(row, best)
    for b in range(number if needs_lowest else 0):
        if blocks.peaks[b] > -np.inf:
            fetch(blocks, b)
            below = least(blocks.buffer, blocks.peaks[b])
            lowest = min(lowest, temperature.product(below, *factors))
    for i in range(add.size):
        if add[i] != 0 and not are_some:
            call_add(add[i], row, best, lowest, sums[i])
    for b in range(number):
        if fetch_scaled(blocks, b, factors):
            for i in range(add.size):
                if add[i] != 0:
                    call_add(add[i], blocks.buffer, best, lowest, sums[i])
    return statistics_of(sums, add, best, lowest)


@kernel
def fetch_scaled(blocks: Blocks, b: I64, factors: tuple[F32, F32]) -> bool:
    """Copy a block into the buffer, after a temperature; whether it has tokens that are left."""
    if blocks.peaks[b] == -np.inf:
        return False
    fetch(blocks, b)
    for j in range(blocks.buffer.size):
        blocks.buffer[j] = temperature.product(blocks.buffer[j], *factors)
    return True
