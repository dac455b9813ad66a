"""The fast path: a chain needs only the tokens of a row that can still matter.

Look at the row once, block by block. The controls that change the order (a bias, the penalties)
name few tokens: only the blocks of these are copied and changed. Each truncation that follows knows
a floor, a logit under which nothing survives it: only the tokens above the highest floor are
gathered. On these few, or on a whole row that has no floor, the controls' own kernels run, and then
the draw.
`docs/design.md` has the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import (
    Blocks,
    Ids,
    convert_and_look,
    copy,
    fetch,
    from_bits,
    gather,
    look,
    look_again,
    make_own,
    mask,
)
from .controls import bans, logit_bias, min_p, penalties, temperature, token_bitmask, top_k, top_p
from .controls import xtc as xtc_control
from .jit import borrowed, kernel
from .lanes import LANES
from .logprobs import log_normaliser, normaliser_of
from .numerics import F32, F64, I64, MASS_BITS, Row, exp
from .numerics import mass as mass_of
from .order import NO_CUT, at_least, float_to_key, key_to_float, largest
from .plan import (
    ALLOWED,
    BAD,
    BANNED,
    BANS,
    BIAS,
    BIASES,
    COUNTS,
    ENDS,
    FREQUENCY,
    MIN_P,
    MIN_TOKENS,
    NO_REPEAT,
    NOTHING,
    OFF,
    OUTPUT,
    OUTPUT_ONLY,
    PROCESSED,
    PROMPT,
    PROMPT_ONLY,
    RAW,
    REPETITION,
    TEMPERATURE,
    THRESHOLD,
    TOKEN_BITMASK,
    TOP_K,
    TOP_P,
    XTC,
    Drawn,
    Requests,
    Scratch,
    Steps,
    Task,
    columns_of,
    lay_out,
)
from .rows import FLOAT32, Rows, Stored
from .sample import EVERY, MARGIN, arrivals, block_contest, race

Longs = NDArray[np.int64]

_NO_MARKS = np.empty(0, np.bool_)
_INF = np.float32(np.inf)
_SURELY = 1.0 - 2.0 * top_p.ESTIMATE_ERROR
#: More than the mass of any row, and a float64.
NEVER = np.int64(2**63 - 2**10)


def run(
    first: int,
    last: int,
    given: Stored,
    steps: Steps,
    requests: Requests,
    memory: NDArray[np.uint8],
    out: Rows,
    drawn: Drawn,
) -> int:
    """Apply the steps to some of the rows given: fill in `out`, or draw if `out` has no rows.

    Returns how many rows are not fit: these get the token -1, the others a token or 0, and `out`
    keeps what it has. `out` may be where the rows are.
    """
    # Of a tuple as an argument numba finds out the type anew at each call, which took 7 us.
    kind, wide, narrow, _ = given
    arrays: Any = (*steps, *requests, memory, out, *drawn)
    return int(_run(first, last, kind, wide, narrow, *arrays))


@kernel
def _run(
    first: I64,
    last: I64,
    kind: I64,
    wide: Rows,
    narrow: NDArray[np.uint16],
    table: Longs,
    marks: NDArray[np.bool_],
    columns: Longs,
    named: Longs,
    said: Longs,
    words: NDArray[np.uint64],
    memory: NDArray[np.uint8],
    out: Rows,
    of: I64,
    tokens: Longs,
    logprobs: Rows,
) -> I64:
    given = Given(kind, borrowed(wide), borrowed(narrow))
    steps = Steps(borrowed(table), borrowed(marks))
    requests = Requests(borrowed(columns), borrowed(named), borrowed(said), borrowed(words))
    drawn = Drawn(of, borrowed(tokens), borrowed(logprobs))
    vocab = wide.shape[1] if kind == FLOAT32 else narrow.shape[1]
    here = lay_out(borrowed(memory), vocab)
    todo = np.empty_like(table)
    unfit = 0
    for r in range(first, last):
        unfit += not run_row(r, given, steps, requests, here, todo, borrowed(out), drawn)
    return unfit


class Given(NamedTuple):
    """The rows as they came."""

    kind: Any
    wide: Rows
    narrow: NDArray[np.uint16]


@kernel
def run_row(
    r: I64,
    given: Given,
    steps: Steps,
    requests: Requests,
    here: Scratch,
    todo: Longs,
    out: Rows,
    drawn: Drawn,
) -> bool:
    """One row; whether it is fit."""
    task = prepare(r, steps, requests, here, todo)
    if given.kind == FLOAT32:
        blocks = Blocks(given.wide[r], here.own, here.is_own, here.peaks, here.buffer)
        is_fit = look(blocks)
    else:
        blocks = Blocks(here.own[:0], here.own, here.is_own, here.peaks, here.buffer)
        is_fit = convert_and_look(given.kind, given.narrow[r], blocks)
    if not is_fit:
        drawn.tokens[r, 0] = -1
        return False
    values, ids = here.values, here.ids
    normaliser = 0.0
    if drawn.of == RAW:
        total, _, _ = weigh(blocks, 1.0, blocks.peaks, _INF, 0, NEVER, True)
        normaliser = normaliser_of(largest(blocks.peaks), total)
        n = gather(
            blocks, at_least(top_k.floor(blocks.peaks, drawn.tokens.shape[1] - 1)), values, ids
        )
        list_best(values[:n], ids[:n], normaliser, drawn, r)
    draws = out.shape[0] == 0
    whole = values if draws else out[r]
    n, token = survive(blocks, task, values, ids, whole, draws and drawn.of != PROCESSED)
    left = ids[:n] if 0 <= n < ids.size else ids[:0]
    if draws and n > 0:
        token = race(whole[:n], left, task.seed, task.position)
    drawn.tokens[r, 0] = token
    if drawn.of != NOTHING and token >= 0:
        if drawn.of == PROCESSED:
            normaliser = log_normaliser(whole[:n])
            list_best(whole[:n], left, normaliser, drawn, r)
            logit = whole[np.searchsorted(left, token) if left.size else token]
        elif given.kind == FLOAT32:
            logit = given.wide[r, token]
        else:
            logit = from_bits(given.kind, given.narrow[r, token])
        drawn.logprobs[r, 0] = np.float64(logit) - normaliser
    if not draws and 0 < n < ids.size:
        for i in range(ids.size):
            whole[i] = -np.inf
        for i in range(n):
            whole[left[i]] = values[i]
    return token >= 0


@kernel
def prepare(r: I64, steps: Steps, requests: Requests, here: Scratch, todo: Longs) -> Task:
    """A row's work: the steps that do something to it, and what they read."""
    asked, key, spans = columns_of(requests.columns[r])
    n = choose(steps.table, asked, key, todo)
    given_words = requests.words[r] if requests.words.shape[0] else requests.words[:, 0]
    return Task(
        todo[:n],
        asked,
        key[0],
        key[1],
        spans,
        requests.named,
        requests.said,
        given_words,
        steps.marks,
        here.words,
        here.longs,
    )


@kernel
def list_best(values: Row, ids: Ids, normaliser: F64, drawn: Drawn, r: I64) -> None:
    """Fill in the best tokens and their log-probabilities, in order, as far as there are any."""
    last, last_id = _INF, -1
    for place in range(1, drawn.tokens.shape[1]):
        best, best_id = -_INF, -1
        for i in range(values.size):
            token = int(ids[i]) if ids.size else i
            comes_later = values[i] < last or (values[i] == last and token > last_id)
            if comes_later and values[i] > best:
                best, best_id = values[i], token
        if best_id < 0:
            return
        drawn.tokens[r, place], drawn.logprobs[r, place] = best_id, np.float64(best) - normaliser
        last, last_id = best, best_id


@kernel
def choose(
    table: NDArray[np.int64],
    asked: NDArray[np.float64],
    key: NDArray[np.uint64],
    todo: NDArray[np.int64],
) -> I64:
    """List the steps that do something to a row; how many."""
    n = 0
    for s in range(table.shape[0]):
        control = table[s, 0]
        is_off = asked[control] == OFF[control]
        if control == XTC and not is_off:
            coin = xtc_control.comes_up(key[0], key[1], asked[XTC])
            is_off = asked[THRESHOLD] == 0.0 or not coin
        if not is_off:
            for i in range(3):
                todo[n, i] = table[s, i]
            n += 1
    return n


@kernel
def survive(
    blocks: Blocks, task: Task, values: Row, ids: Ids, whole: Row, draws: bool
) -> tuple[int, int]:
    """(how many tokens are left to consider, 0): they are in `values` and `ids`, or if it is all of
    them in `whole`; (0, -1) if none is left; (-1, token) if the draw is decided without them.

    Of those to consider, the removed ones have -inf.
    """
    lead = change_order(blocks, task)
    best = largest(blocks.peaks)
    if best == -np.inf:
        return 0, -1
    steps = task.table.shape[0]
    floor = highest_floor(task, lead, blocks.peaks, best, ids.size)
    if floor.is_loose and draws:
        return -1, draw_first(blocks, task, floor, best)
    if floor.logit > NO_CUT:
        n = gather(blocks, at_least(floor.logit), values, ids)
    else:
        n = ids.size
        copy(blocks, whole)
    if n < ids.size:
        row, left = values[:n], ids[:n]
    else:
        row, left = whole, EVERY
        if floor.logit > NO_CUT:
            for i in range(n):
                whole[i] = values[i]
    for s in range(lead, steps):
        if s == floor.weighs and n < ids.size:
            truncate_by_mass(blocks, task, s, floor.heat_before, best, row)
        else:
            apply(task, s, row, left)
        if task.table[s, 0] <= BIAS and largest(row) == -np.inf:
            return 0, -1
    return n, 0


# ---- controls that mask, or change the order


@kernel
def change_order(blocks: Blocks, task: Task) -> I64:
    """Apply the masks, biases and penalties that the chain begins with; how many steps they are."""
    lead, is_changed = 0, False
    while lead < task.table.shape[0] and task.table[lead, 0] < TEMPERATURE:
        if task.table[lead, 0] < BIAS:
            task.words[:] = token_bitmask.ALL
            while lead < task.table.shape[0] and task.table[lead, 0] < BIAS:
                limit(task, lead)
                lead += 1
            mask(blocks, task.words)
        else:
            if lead == 0 or not names_the_same(task, lead, lead - 1):
                make_own(blocks, named_by(task, lead))
            apply(task, lead, blocks.own, EVERY)
            is_changed = True
            lead += 1
    if is_changed:
        look_again(blocks)
    return lead


@kernel
def limit(task: Task, s: I64) -> None:
    """Clear the bits of the tokens that a step's control removes."""
    control, scope, _ = task.table[s]
    words = task.words
    if control == TOKEN_BITMASK:
        words &= task.given_words[0]
    elif control == ALLOWED:
        words &= task.given_words[1]
    elif control == BANNED:
        bans.ban(words, listed(task, BANS)[0])
    elif control == MIN_TOKENS:
        if said(task, OUTPUT_ONLY).size < task.asked[MIN_TOKENS]:
            bans.ban(words, listed(task, ENDS)[0])
    elif control == NO_REPEAT:
        bans.ban_repeats(words, said(task, scope), np.int64(task.asked[NO_REPEAT]))
    else:
        bad = listed(task, BAD)
        bans.ban_phrases(words, bad[0], bad[1], said(task, scope))


@kernel
def listed(task: Task, kind: I64) -> NDArray[np.int64]:
    """Tokens that a row names, with their numbers."""
    return task.named[:, task.spans[kind, 0] : task.spans[kind, 1]]


@kernel
def said(task: Task, scope: I64) -> NDArray[np.int64]:
    """The tokens of a scope, in order."""
    first = task.spans[OUTPUT if scope == OUTPUT_ONLY else PROMPT, 0]
    return task.said[first : task.spans[PROMPT if scope == PROMPT_ONLY else OUTPUT, 1]]


@kernel
def last_said(task: Task, scope: I64, window: I64) -> NDArray[np.int64]:
    """The last of these."""
    tokens = said(task, scope)
    return tokens[max(0, tokens.size - window) :]


@kernel
def named_by(task: Task, s: I64) -> Any:
    """The tokens that a bias or a penalty may change."""
    control, scope, window = task.table[s]
    if window >= 0:
        return last_said(task, scope, window)
    return listed(task, BIASES if control == BIAS else COUNTS)[0]


@kernel
def names_the_same(task: Task, s: I64, other: I64) -> bool:
    """Whether two steps are penalties on the same tokens."""
    a, b = task.table[s], task.table[other]
    return bool(a[0] > BIAS and b[0] > BIAS and a[2] == b[2] and (a[2] < 0 or a[1] == b[1]))


@kernel
def find(task: Task, s: I64, ids: Ids) -> I64:
    """Where among the survivors the tokens are that a step names, and their counts or biases; how
    many.
    """
    control, scope, window = task.table[s]
    places, counts = task.longs[0], task.longs[1]
    if window >= 0:
        n = count(last_said(task, scope, window), places, counts, task.longs[2])
    else:
        named = listed(task, BIASES if control == BIAS else COUNTS)
        n = 0
        for j in range(named.shape[1]):
            number = named[1, j]
            if control != BIAS:
                number = (scope != OUTPUT_ONLY) * number + (scope != PROMPT_ONLY) * named[2, j]
                if number == 0:
                    continue
            places[n], counts[n] = named[0, j], number
            n += 1
    if not ids.size:
        return n
    left = 0
    for j in range(n):
        place = np.searchsorted(ids, places[j])
        if place < ids.size and ids[place] == places[j]:
            places[left], counts[left] = place, counts[j]
            left += 1
    return left


@kernel
def count(tokens: Longs, distinct: Longs, counts: Longs, by_token: Longs) -> I64:
    """Fill in the distinct tokens and how often each occurs; how many. `by_token` is scratch."""
    for i in range(tokens.size):
        by_token[tokens[i]] = 0
    n = 0
    for i in range(tokens.size):
        if by_token[tokens[i]] == 0:
            distinct[n] = tokens[i]
            n += 1
        by_token[tokens[i]] += 1
    for j in range(n):
        counts[j] = by_token[distinct[j]]
    return n


# ---- floors


class Floor(NamedTuple):
    """What is known of a row's survivors before any is looked at."""

    logit: Any  # nothing under it survives; NO_CUT if nothing is known
    weighs: Any  # the step, a top_p, that needs the mass of all tokens; or -1
    heat_before: Any  # the temperature before that step
    heat: Any  # the temperature at the end
    is_loose: Any  # whether no other step removes anything: then the draw may come first


@kernel
def highest_floor(task: Task, lead: I64, peaks: Row, best: F32, vocab: I64) -> Floor:
    """From step `lead` on, as long as each control keeps the order and removes from its end, what
    one of them removes is lost, whatever the others do.

    But top_p looks at the mass of all that is left: if nothing is removed yet it weighs the whole
    row, otherwise the floors end with it.
    """
    logit, weighs, heat_before, heat, is_loose = NO_CUT, -1, 1.0, 1.0, True
    for s in range(lead, task.table.shape[0]):
        control = task.table[s, 0]
        asked = task.asked[control]
        if control == TEMPERATURE and asked > 0.0 and heat == 1.0:
            heat = asked
        elif control == TOP_P and is_loose and weighs < 0:
            weighs, heat_before = s, heat
            logit = top_p.floor(best, heat, asked, vocab)
        else:
            is_loose = False
            if control == TEMPERATURE and asked == 0.0:
                logit = temperature.floor(best)
            elif control == TOP_K:
                logit = max(logit, top_k.floor(peaks, np.int64(asked)))
            elif control == MIN_P:
                logit = max(logit, min_p.floor(best, heat, asked))
            else:
                break
    # Rounding can make logits equal: the floor is lowered, or given up where that is not enough.
    is_safe = 2.0**-20 <= heat <= 2.0**20 and abs(best) < 2.0**100
    if is_safe and abs(logit) < 2.0**100:
        logit -= 2.0**-18 * (abs(logit) + abs(best)) + 2.0**-100
    else:
        logit = NO_CUT
    return Floor(logit, weighs, heat_before, heat, is_loose and is_safe)


# ---- the mass of a whole row


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
            before += mass_of(x - top)
    if estimate == 0.0:
        return total, total, before
    # Each mass is rounded down; a total as float64 is off by 512 at most.
    error = estimate * top_p.ESTIMATE_ERROR + tops.size * LANES + 512.0
    high_total = min(np.float64(total) + estimate + error, np.float64(NEVER))
    return total + np.int64(max(estimate - error, 0.0)), np.int64(high_total), before


@kernel
def truncate_by_mass(blocks: Blocks, task: Task, s: I64, heat: F64, best: F32, row: Row) -> None:
    """top_p on survivors, where others are left that have a part in the row's mass."""
    p, all_ties, masses = task.asked[TOP_P], task.table[s, 1] != 0, task.longs[2]
    tops = blocks.peaks.copy()
    temperature.scale_below(tops, heat, best)
    own = top_p.weigh(row, masses)
    enough = top_p.enough(own, p)
    low, high, _ = weigh(blocks, heat, tops, _INF, 0, enough, False)
    if not top_p.agree(row, masses, own, top_p.target(low, p), top_p.target(high, p)):
        low, _, _ = weigh(blocks, heat, tops, _INF, 0, enough, True)
    top_p.keep(row, masses, own, top_p.target(low, p), all_ties)


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
    limit, limit_token = -_INF, 0
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
            mine, token = block_contest(buffer, 0, came, b, task.seed, task.position)
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


# ---- one step


@kernel
def apply(task: Task, s: I64, row: Row, ids: Ids) -> None:
    """A step's own kernel on one row of survivors, in place; with `ids` empty, on a whole row."""
    control, option, source = task.table[s]
    asked = task.asked[control]
    if control < BIAS:
        task.words[:] = token_bitmask.ALL
        limit(task, s)
        token_bitmask.apply(row, ids, task.words)
    elif control < TEMPERATURE:
        n = find(task, s, ids)
        places, counts = task.longs[0, :n], task.longs[1, :n]
        if control == BIAS:
            values = np.empty(n)
            for j in range(n):
                values[j] = np.int64(counts[j]).view(np.float64)
            logit_bias.add(row, places, values)
        elif control == REPETITION:
            penalties.repeat(row, places, counts, asked)
        elif control == FREQUENCY:
            penalties.be_frequent(row, places, counts, asked)
        else:
            penalties.be_present(row, places, counts, asked)
    elif control == TEMPERATURE:
        temperature.scale(row, asked)
    elif control == TOP_K:
        top_k.truncate(row, np.int64(asked), option != 0)
    elif control == TOP_P:
        top_p.truncate(row, asked, option != 0, task.longs[2])
    elif control == MIN_P:
        min_p.truncate(row, asked)
    else:
        marks = _NO_MARKS
        if source >= 0:
            marks = task.marks[source][: row.size].copy()
            for i in range(ids.size):
                marks[i] = task.marks[source, ids[i]]
        xtc_control.exclude_top(row, task.asked[THRESHOLD], marks, option)
