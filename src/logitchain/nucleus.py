"""The mass of a whole row, top_p on it, and the draw over it.

A row is estimated before it is weighed: if both ends of the bound say the same, that is the answer.
"""

import numpy as np

from .blocks import Blocks, fetch
from .controls import temperature, top_p
from .jit import kernel
from .lanes import LANES
from .numerics import F32, F64, I64, MASS_BITS, Row, exp, mass
from .order import float_to_key, key_to_float, largest
from .plan import TOP_P, Floor, Task
from .sample import MARGIN, arrivals, block_contest

_INF = np.float32(np.inf)
_SURELY = 1.0 - 2.0 * top_p.ESTIMATE_ERROR
NO_TOKEN = np.int64(0)
#: More than the mass of any row, and a float64.
NEVER = np.int64(2**63 - 2**10)


@kernel
def weigh(
    blocks: Blocks,
    heat: F64,
    tops: Row,
    value: F32,
    token: I64,
    enough: I64,
    exactly: bool,
) -> tuple[I64, I64, I64]:
    """(the row's mass at least, at most; the mass of the tokens before one in the order).

    heat        the temperature, after which the blocks' largest logits are `tops`
    value       the token's logit; +inf if it does not matter
    enough      a mass with which to stop
    exactly     whether blocks without tokens before that one are weighed too, or only estimated
    """
    row, own, is_own, peaks, _ = blocks
    top = largest(tops)
    high, low = temperature.factors(heat)
    above = key_to_float(np.int32(float_to_key(value) + 1))
    total, before, estimate = np.int64(0), np.int64(0), 0.0
    exactly |= abs(top) > top_p.ESTIMABLE
    for b in range(tops.size):
        place = np.uint64(b * LANES)
        if tops[b] == -_INF:
            continue
        if tops[b] < value and not exactly:
            if is_own[b]:
                share = top_p.estimate_block(own, place, peaks[b], heat)
            else:
                share = top_p.estimate_block(row, place, peaks[b], heat)
            estimate += share * np.float64(exp(tops[b] - top)) * 2.0**MASS_BITS
            if total + estimate * _SURELY > enough:
                return enough + 1, enough + 1, before
            continue
        bar = value if (b + 1) * LANES <= token else above
        if is_own[b]:
            here = top_p.weigh_block(own, place, high, low, top, bar)
        else:
            here = top_p.weigh_block(row, place, high, low, top, bar)
        total += here[0]
        before += here[1]
        if total > enough:
            return total, total, before
    b = token // LANES  # in the token's own block, its equals before it
    fetch(blocks, b)
    for j in range(token - b * LANES):
        x = temperature.product(blocks.buffer[j], high, low)
        if x == value:
            before += mass(x - top)
    if estimate == 0.0:
        return total, total, before
    # Each mass is rounded down; a total as float64 is off by 512 at most.
    error = estimate * top_p.ESTIMATE_ERROR + tops.size * LANES + 512.0
    high_total = min(np.float64(total) + estimate + error, np.float64(NEVER))
    return total + np.int64(max(estimate - error, 0.0)), np.int64(high_total), before


@kernel
def truncate_by_mass(blocks: Blocks, task: Task, s: I64, heat: F64, best: F32, row: Row) -> None:
    """top_p on survivors, where others are left that have a part in the row's mass."""
    p, all_ties, masses = task.asked[TOP_P], task.table[s, 1] != 0, task.here.masses
    tops = blocks.peaks.copy()
    temperature.scale_below(tops, heat, best)
    own = top_p.weigh(row, masses)
    enough = top_p.enough(own, p)
    for exactly in (False, True):
        low, high, _ = weigh(blocks, heat, tops, _INF, NO_TOKEN, enough, exactly)
        if exactly or top_p.agree(row, masses, own, top_p.target(low, p), top_p.target(high, p)):
            top_p.keep(row, masses, own, top_p.target(low, p), all_ties)
            return


@kernel
def draw_first(blocks: Blocks, task: Task, floor: Floor, best: F32) -> I64:
    """The draw where nothing removes tokens, or nothing but one top_p.

    Who wins among all tokens wins among the nucleus, if it is in there. If not, then neither is any
    that comes after it in the order, and the others race again.
    """
    tops = blocks.peaks.copy()
    top = temperature.scale_below(tops, floor.heat_before, best)
    heat_after = floor.heat if floor.heat_before == 1.0 else 1.0
    final_tops = tops.copy()
    temperature.scale_below(final_tops, heat_after, top)
    before, after = temperature.factors(floor.heat_before), temperature.factors(heat_after)
    buffer, came = blocks.buffer, arrivals(task.seed, task.position, np.arange(tops.size))
    bound = final_tops + came.noise
    favourite = int(np.argmax(bound))
    limit, limit_token, start = -_INF, 0, np.int64(0)
    while True:
        winner, score = -1, -np.inf
        for turn in range(-1, tops.size):  # the favourite's score is one that few can reach
            b = favourite if turn < 0 else turn
            if turn == favourite or tops[b] < limit or bound[b] < score - MARGIN:
                continue
            fetch(blocks, b)
            for j in range(LANES):
                x = temperature.product(buffer[j], *before)
                is_left = x > limit or (x == limit and b * LANES + j < limit_token)
                buffer[j] = temperature.product(x, *after) if is_left else -_INF
            mine, token = block_contest(buffer, start, came, b, task.seed, task.position)
            if mine > score or (mine == score and token < winner):
                winner, score = token, mine
        if floor.weighs < 0:
            return winner
        fetch(blocks, winner // LANES)
        limit = temperature.product(buffer[winner % LANES], *before)
        limit_token = 0 if task.table[floor.weighs, 1] != 0 else winner
        if is_before(blocks, task, floor.heat_before, tops, limit, limit_token):
            return winner


@kernel
def is_before(blocks: Blocks, task: Task, heat: F64, tops: Row, value: F32, token: I64) -> bool:
    """Whether a token comes before the end of the nucleus."""
    p = task.asked[TOP_P]
    for exactly in (False, True):
        low, high, before = weigh(blocks, heat, tops, value, token, NEVER, exactly)
        if before < top_p.target(low, p):
            return True
        if before >= top_p.target(high, p):
            return False
    return False
