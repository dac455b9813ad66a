"""One step of a chain on one row: the control's own kernel, with what its request and history say.

The row is a whole one, or some of its tokens with their ids: a kernel does not know which.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Ids
from .controls import bans, logit_bias, min_p, penalties, temperature, token_bitmask, top_k, top_p
from .controls import xtc as xtc_control
from .jit import kernel, spliced
from .numerics import I64, Row
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
    OFF,
    OUTPUT,
    OUTPUT_ONLY,
    PROMPT,
    PROMPT_ONLY,
    REPETITION,
    TEMPERATURE,
    THRESHOLD,
    TOKEN_BITMASK,
    TOP_K,
    TOP_P,
    XTC,
    Task,
)

Longs = NDArray[np.int64]


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
def apply(task: Task, s: I64, row: Row, ids: Ids) -> None:
    """A step's own kernel on one row of survivors, in place; with `ids` empty, on a whole row."""
    control, option, source = task.table[s]
    asked = task.asked[control]
    if control < BIAS:
        task.here.words[:] = token_bitmask.ALL
        limit(task, s)
        token_bitmask.apply(row, ids, task.here.words)
    elif control < TEMPERATURE:
        n = find(task, s, ids)
        places, counts = task.here.places[:n], task.here.counts[:n]
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
        top_p.truncate(row, asked, option != 0, task.here.masses)
    elif control == MIN_P:
        min_p.truncate(row, asked)
    else:
        marks = np.zeros(0, np.bool_)
        if source >= 0:
            marks = task.marks[source][: row.size].copy()
            for i in range(ids.size):
                marks[i] = task.marks[source, ids[i]]
        xtc_control.exclude_top(row, task.asked[THRESHOLD], marks, option)


@kernel
def limit(task: Task, s: I64) -> None:
    """Clear the bits of the tokens that a step's control removes."""
    control, scope, _ = task.table[s]
    words = task.here.words
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


@spliced
def listed(task: Task, kind: I64) -> NDArray[np.int64]:
    """(3, n) tokens that a row names, and two numbers of each."""
    return task.named[:, task.spans[2 * kind] : task.spans[2 * kind + 1]]


@spliced
def said(task: Task, scope: I64) -> NDArray[np.int64]:
    """The tokens of a scope, in order."""
    first = task.spans[2 * (OUTPUT if scope == OUTPUT_ONLY else PROMPT)]
    last = task.spans[2 * (PROMPT if scope == PROMPT_ONLY else OUTPUT) + 1]
    return task.said[first:last]


@spliced
def last_said(task: Task, scope: I64, window: I64) -> NDArray[np.int64]:
    """The last of these."""
    tokens = said(task, scope)
    return tokens[max(0, tokens.size - window) :]


@spliced
def named_by(task: Task, s: I64) -> Any:
    """The tokens that a bias or a penalty may change."""
    control, scope, window = task.table[s]
    tokens = listed(task, BIASES if control == BIAS else COUNTS)[0]
    if window >= 0:
        tokens = last_said(task, scope, window)
    return tokens


@spliced
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
    places, counts = task.here.places, task.here.counts
    if window >= 0:
        n = count(last_said(task, scope, window), places, counts, task.here.masses)
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
        place = place_of(places[j], ids)
        if place < ids.size and ids[place] == places[j]:
            places[left], counts[left] = place, counts[j]
            left += 1
    return left


@kernel
def place_of(token: I64, ids: Ids) -> I64:
    """The place of the first id that is not below a token."""
    low, high = 0, ids.size
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low


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
