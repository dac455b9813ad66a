"""The mass of a whole row, top_p on it, and the draw over it.

A row is estimated before it is weighed: if both ends of the bound say the same, that is the answer.
"""

import numpy as np

from ..controls import temperature, top_p
from ..numeric.blocks import Blocks, copy, fetch
from ..numeric.compile import kernel, spliced
from ..numeric.functions import F32, F64, I64, MASS_BITS, MOST, Row, exp, mass, total_mass
from ..numeric.order import at_least, float_to_key, keep_first, key_to_float, largest, nth_equal
from ..numeric.simd import LANES, count_bits, lowest_bit, reaching
from ..sample import MARGIN, arrivals, block_contest, contest
from .tables import OPTION, Floor, Task

_INF = np.float32(np.inf)
_SURELY = 1.0 - 2.0 * top_p.ESTIMATE_ERROR
#: So many tokens of a block are scored one by one: more of them in vectors.
_FEW = 6
NO_TOKEN = np.int64(0)
NEVER = np.int64(MOST)
#: With a larger top_p so many races are worth their time: three of four end with a token of a
#: nucleus of 0.4, and each takes a quarter of the time of a search for its end.
_LIKELY, _RACES = 0.4, 2


@kernel
def weigh(
    blocks: Blocks,
    divisor: F64,
    tops: Row,
    value: F32,
    token: I64,
    enough: I64,
    exactly: bool,
) -> tuple[I64, I64, I64]:
    """(the row's mass at least, at most; the mass of the tokens before one in the order).

    divisor     the temperature, after which the blocks' largest logits are `tops`
    value       the token's logit; +inf if it does not matter
    enough      a mass with which to stop
    exactly     whether blocks without tokens before that one are weighed too, or only estimated
    """
    row, changed, is_changed, peaks, _ = blocks
    top = largest(tops)
    high, low = temperature.factors(divisor)
    above = key_to_float(np.int32(float_to_key(value) + 1))
    total, before, estimate = np.int64(0), np.int64(0), 0.0
    exactly |= abs(top) > top_p.ESTIMABLE
    for b in range(tops.size):
        place = np.uint64(b * LANES)
        if tops[b] == -_INF:
            continue
        if tops[b] < value and not exactly:
            if is_changed[b]:
                share = top_p.estimate_block(changed, place, peaks[b], divisor)
            else:
                share = top_p.estimate_block(row, place, peaks[b], divisor)
            estimate += share * np.float64(exp(tops[b] - top)) * 2.0**MASS_BITS
            if total + estimate * _SURELY > enough:
                return enough + 1, enough + 1, before
            continue
        bar = value if (b + 1) * LANES <= token else above
        if is_changed[b]:
            masses = top_p.weigh_block(changed, place, high, low, top, bar)
        else:
            masses = top_p.weigh_block(row, place, high, low, top, bar)
        total += masses[0]
        before += masses[1]
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
def total(blocks: Blocks, divisor: F64, tops: Row) -> I64:
    """The row's mass; `tops` are the blocks' largest logits after a temperature `divisor`."""
    row, changed, is_changed, _, _ = blocks
    top, mass = largest(tops), np.int64(0)
    high, low = temperature.factors(divisor)
    for b in range(tops.size):
        place = np.uint64(b * LANES)
        if tops[b] == -_INF:
            continue
        if is_changed[b]:
            mass += top_p.total_of_block(changed, place, high, low, top)
        else:
            mass += top_p.total_of_block(row, place, high, low, top)
    return mass


@kernel
def truncate_by_mass(blocks: Blocks, task: Task, s: I64, divisor: F64, row: Row) -> None:
    """top_p on survivors, where others are left that have a part in the row's mass."""
    p, all_ties = task.values[s, 0], task.table[task.steps[s], OPTION] != 0
    tops = blocks.peaks.copy()
    temperature.scale_ordinary(tops, divisor)
    best = largest(row)
    left = total_mass(row, best)
    enough = top_p.enough(left, p)
    for exactly in (False, True):
        low, high, _ = weigh(blocks, divisor, tops, _INF, NO_TOKEN, enough, exactly)
        value, equals, reached = top_p.nucleus(row, best, left, top_p.target(low, p))
        if exactly or top_p.target(high, p) <= reached:
            keep_first(row, value, row.size if all_ties else equals)
            return


@kernel
def draw_of_all(blocks: Blocks, task: Task, floor: Floor) -> I64:
    """The draw where nothing removes tokens."""
    tops = blocks.peaks.copy()
    temperature.scale_ordinary(tops, floor.divisor_before)
    final = floor.divisor if floor.divisor_before == 1.0 else 1.0
    return race_before(blocks, task, floor.divisor_before, final, tops, -_INF, NO_TOKEN)


@kernel
def draw_of_nucleus(blocks: Blocks, task: Task, floor: Floor) -> I64:
    """The draw where nothing but one top_p removes tokens.

    Who wins among all tokens wins among the nucleus too, if it is in there. If it is not, neither
    is any token behind it in the order, and the tokens before it race. After some races, or before
    any if the nucleus is small, its end is searched.
    """
    divisor, final = floor.divisor_before, floor.divisor if floor.divisor_before == 1.0 else 1.0
    tops = blocks.peaks.copy()
    temperature.scale_ordinary(tops, divisor)
    limit, limit_token = -_INF, NO_TOKEN
    for _ in range(_RACES if task.values[floor.measures, 0] > _LIKELY else 0):
        winner = race_before(blocks, task, divisor, final, tops, limit, limit_token)
        limit = logit_of(blocks, winner, divisor)
        if is_before_end(blocks, task, floor, tops, limit, winner):
            return winner
        limit_token = NO_TOKEN if keeps_ties(task, floor) else winner
    limit, limit_token = nucleus_end(blocks, task, floor, tops)
    return race_before(blocks, task, divisor, final, tops, limit, limit_token)


@spliced
def logit_of(blocks: Blocks, token: I64, divisor: F64) -> F32:
    """A token's logit after a temperature."""
    fetch(blocks, token // LANES)
    return temperature.product(blocks.buffer[token % LANES], *temperature.factors(divisor))


@kernel
def race_before(
    blocks: Blocks, task: Task, divisor: F64, final: F64, tops: Row, limit: F32, limit_token: I64
) -> I64:
    """The winner of the race among the tokens that come before one in the order.

    divisor   the temperature after which the blocks' largest logits are `tops`, and at which the
              order counts; `final` is the temperature after it
    limit     the bound's logit; -inf for a race among all
    """
    final_tops = tops.copy()
    temperature.scale_ordinary(final_tops, final)
    best = np.float64(largest(final_tops))
    before, after = temperature.factors(divisor), temperature.factors(final)
    buffer, came = blocks.buffer, arrivals(task.seed, task.position, np.arange(tops.size))
    bound = final_tops - best + came.noise
    likeliest = int(np.argmax(bound))
    winner, score = -1, -np.inf
    for turn in range(-1, tops.size):  # the likeliest block first: its score rules out most others
        b = likeliest if turn < 0 else turn
        is_behind = tops[b] < limit or (tops[b] == limit and b * LANES >= limit_token)
        if turn == likeliest or is_behind or bound[b] < score - MARGIN:
            continue
        fetch(blocks, b)
        for j in range(LANES):
            x = temperature.product(buffer[j], *before)
            is_left = x > limit or (x == limit and b * LANES + j < limit_token)
            buffer[j] = temperature.product(x, *after) if is_left else -_INF
        bits = reaching(buffer, 0, at_least(score - MARGIN - came.noise[b], best))
        if count_bits(bits) > _FEW:
            mine, token = block_contest(buffer, NO_TOKEN, came, b, task.seed, task.position, best)
            if mine > score or (mine == score and token < winner):
                winner, score = token, mine
            continue
        while bits:
            j = lowest_bit(bits)
            token, x = b * LANES + j, np.float64(buffer[j]) - best
            mine = contest(x, token, came, b, task.seed, task.position, score)
            if mine > score or (mine == score and token < winner):
                winner, score = token, mine
            bits &= bits - np.uint64(1)
    return winner


@kernel
def is_before_end(
    blocks: Blocks, task: Task, floor: Floor, tops: Row, value: F32, token: I64
) -> bool:
    """Whether a token, whose logit is `value`, comes before the end of the nucleus."""
    p, divisor = task.values[floor.measures, 0], floor.divisor_before
    last = np.int64(0) if keeps_ties(task, floor) else token
    for exactly in (False, True):
        low, high, before = weigh(blocks, divisor, tops, value, last, NEVER, exactly)
        if before < top_p.target(low, p):
            return True
        if before >= top_p.target(high, p):
            return False
    return False


@spliced
def keeps_ties(task: Task, floor: Floor) -> bool:
    """Whether the equals of the nucleus's last token belong to it."""
    return bool(task.table[task.steps[floor.measures], OPTION] != 0)


@kernel
def nucleus_end(blocks: Blocks, task: Task, floor: Floor, tops: Row) -> tuple[F32, I64]:
    """(value, id): the nucleus is every token with a larger logit, or with this one and a lower id.

    With all equals kept, the id is beyond the vocabulary.
    """
    row, p = task.scratch.values, task.values[floor.measures, 0]
    copy(blocks, row)
    temperature.scale_ordinary(row, floor.divisor_before)
    best = largest(tops)
    total = total_mass(row, best)
    value, equals, _ = top_p.nucleus(row, best, total, top_p.target(total, p))
    if keeps_ties(task, floor):
        return value, row.size
    return value, nth_equal(row, value, equals) + 1
