"""One step of a chain on one row: the control's own kernel, with what its request and history say.

The row is a whole one, or some of its tokens with their ids: a kernel does not know which.
"""

import numpy as np
from numpy.typing import NDArray

from ..controls import token_bitmask
from ..controls.record import ADJUST, MASK, Request, call_find, call_idle, call_kernel
from ..numeric.blocks import Blocks, Ids, copy_blocks_with
from ..numeric.compile import at, kernel, spliced
from ..numeric.functions import F32, F64, I64, REMOVED, U64, Row
from ..numeric.order import place_of
from ..numeric.statistics import Statistics, unknown
from ..sample import EVERY
from .tables import (
    ADDRESS,
    CAPACITY,
    COLUMNS,
    DISTINCT,
    EVERY_TOKEN,
    EXEMPT,
    FIELD_COUNT,
    FIND,
    FLAGS,
    GAPS,
    HISTORY,
    HISTORY_LIST,
    HISTORY_SIZE,
    IDLE,
    KERNEL,
    KIND,
    LIST,
    LIST_COLUMNS,
    LIST_OF,
    MARKS,
    OFF,
    OPTION,
    OUTPUT_ONLY,
    PROMPT_ONLY,
    PROMPT_SIZE,
    REPLACED,
    SIZE,
    SWITCH,
    WINDOW,
    WINDOW_FIELD,
    WORD,
    WORDS_OF,
    Task,
)

Longs = NDArray[np.int64]


@kernel
def choose(
    table: Longs,
    columns: NDArray[np.float64],
    seed: U64,
    position: U64,
    steps: Longs,
    values: NDArray[np.float64],
) -> I64:
    """List the steps that do something to a row, and the values of their fields; how many.

    A negative number says that step -1 - n has to be compiled first.
    """
    n = 0
    for s in range(table.shape[0]):
        is_on, j = True, REPLACED
        while is_on and j < table.shape[1]:
            value, off = _value(columns, table[s, j], table[s, j + 1])
            is_on = value == off or np.isnan(value)
            j += 2
        j = 0
        while is_on and j < table[s, FIELD_COUNT]:
            value, off = _value(columns, table[s, COLUMNS + j], table[s, OFF + j])
            is_off = value == off or np.isnan(value)
            is_on = not (is_off and table[s, FLAGS] & (SWITCH << j))
            values[n, j] = value
            j += 1
        if is_on and table[s, KERNEL] == 0:
            return -1 - s
        if is_on and table[s, IDLE] != 0:
            is_on = not call_idle(table[s, IDLE], values[n], seed, position)
        if is_on:
            steps[n] = s
            n += 1
    return n


@kernel
def _value(columns: NDArray[np.float64], column: I64, off: I64) -> tuple[F64, F64]:
    """The value of a field in a row of the batch's table, which may lack it, and its off value."""
    value, off_value = columns[column] if column >= 0 else np.nan, np.int64(off).view(np.float64)
    return (off_value if np.isnan(value) else value), off_value


@kernel
def apply(task: Task, s: I64, row: Row, ids: Ids, known: Statistics) -> None:
    """A step's own kernel on one row of survivors, in place; with `ids` empty, on a whole row.

    known   the statistics of the row that the control reads
    """
    step = task.table[task.steps[s]]
    if step[KIND] == MASK:
        task.scratch.words[:] = token_bitmask.ALL
        clear_bits(task, s)
        token_bitmask.apply(row, ids, task.scratch.words)
        return
    n = find(task, s, ids) if step[KIND] == ADJUST else np.int64(0)
    marks = task.scratch.is_changed[:0]
    if step[MARKS] >= 0:
        marks = task.marks[step[MARKS]][: row.size].copy()
        for i in range(ids.size):
            marks[i] = task.marks[step[MARKS], ids[i]]
    call_kernel(step[KERNEL], row, ids, request_of(task, s, n, marks, known))


@kernel
def adjust(blocks: Blocks, task: Task, s: I64) -> None:
    """Apply an adjustment to copies of the blocks that hold its tokens."""
    step, n = task.table[task.steps[s]], find(task, s, EVERY)
    if s == 0 or not names_the_same(task, s, s - 1):
        copy_blocks_with(blocks, task.scratch.places[:n])
    request = request_of(task, s, n, task.scratch.is_changed[:0], unknown())
    call_kernel(step[KERNEL], blocks.changed, EVERY, request)


@kernel
def clear_bits(task: Task, s: I64) -> None:
    """Let a mask clear the bits of the tokens that it removes."""
    step, words = task.table[task.steps[s]], task.scratch.words
    exempt = listed(task, step[EXEMPT], 0)
    for j in range(exempt.size):
        task.scratch.counts[j] = token_bitmask.is_allowed(words, exempt[j])
    request = request_of(task, s, np.int64(0), task.scratch.is_changed[:0], unknown())
    call_kernel(step[KERNEL], task.scratch.values[:0], task.scratch.ids[:0], request)
    for j in range(exempt.size):
        if task.scratch.counts[j] != 0:
            token_bitmask.set_bit(words, exempt[j])


@spliced
def request_of(
    task: Task, s: I64, found: I64, marks: NDArray[np.bool_], known: Statistics
) -> Request:
    """What a step's kernel reads."""
    step = task.table[task.steps[s]]
    source, blocks = step[LIST_OF], task.scratch.words.size
    has_words = step[WORDS_OF] >= 0
    words = task.line[WORD] + 8 * blocks * step[WORDS_OF] if has_words else np.int64(0)
    first, last = span(task, step[OPTION], reach_of(task, s))
    gaps = at(task.line[GAPS], last if task.line[GAPS] != 0 else 0, np.int64)
    return Request(
        task.values[s],
        step[OPTION],
        task.seed,
        task.position,
        at(task.line[HISTORY], last, np.int64)[first:],
        min(max(task.line[PROMPT_SIZE] - first, np.int64(0)), last - first),
        gaps[first:],
        listed(task, source, 0),
        listed(task, source, 1),
        task.scratch.places[:found],
        task.scratch.counts[:found],
        marks,
        task.scratch.words,
        at(words, blocks if has_words else 0, np.uint64),
        known.mass,
        known.deviation,
        known.entropy,
        known.squares,
    )


@spliced
def window_of(task: Task, s: I64) -> I64:
    """How many of the last tokens count: as the request says, or else the chain; -1 for all."""
    step = task.table[task.steps[s]]
    window = step[WINDOW]
    if step[WINDOW_FIELD] >= 0 and not np.isnan(task.values[s, step[WINDOW_FIELD]]):
        window = np.int64(task.values[s, step[WINDOW_FIELD]])
    return window


@spliced
def reach_of(task: Task, s: I64) -> I64:
    """The same as a number of tokens."""
    window = window_of(task, s)
    return window if window >= 0 else np.int64(2**62)


@spliced
def listed(task: Task, source: I64, number: I64) -> Longs:
    """A row of one of the lists in `LISTS`: the tokens, or one of the two numbers of each."""
    first = LIST + LIST_COLUMNS * max(source, 0)
    size = task.line[first + SIZE] if source >= 0 else np.int64(0)
    start = task.line[first + ADDRESS] + 8 * number * task.line[first + CAPACITY]
    tokens: Longs = at(start, size, np.int64)
    return tokens


@spliced
def span(task: Task, scope: I64, window: I64) -> tuple[I64, I64]:
    """Where the last `window` tokens of a scope begin in the history, and where they end."""
    prompt_size = task.line[PROMPT_SIZE]
    first = prompt_size if scope == OUTPUT_ONLY else np.int64(0)
    last = prompt_size if scope == PROMPT_ONLY else task.line[HISTORY_SIZE]
    return max(first, last - min(window, last)), last


@spliced
def latest_tokens(task: Task, scope: I64, window: I64) -> NDArray[np.int64]:
    """The last `window` tokens of a scope, in order."""
    first, last = span(task, scope, window)
    tokens: Longs = at(task.line[HISTORY], last, np.int64)
    return tokens[first:]


@spliced
def is_counted(task: Task, step: Longs) -> bool:
    """Whether a list of tokens is there: the history's may not be counted."""
    return bool(step[LIST_OF] != HISTORY_LIST or task.line[DISTINCT + CAPACITY] > 0)


@spliced
def names_the_same(task: Task, s: I64, other: I64) -> bool:
    """Whether every token that a step adjusts is also adjusted by step `other`."""
    a, b = task.table[task.steps[s]], task.table[task.steps[other]]
    is_same = a[KIND] == b[KIND] and a[LIST_OF] == b[LIST_OF] and a[EXEMPT] == b[EXEMPT]
    window = window_of(task, s)
    is_same &= a[FIND] == 0 and b[FIND] == 0 and window == window_of(task, other)
    names_all = window < 0 and b[OPTION] == EVERY_TOKEN
    return bool(is_same and (names_all or a[OPTION] == b[OPTION]))


@kernel
def find(task: Task, s: I64, ids: Ids) -> I64:
    """Write the places of a step's tokens in the row, and their counts or biases, to the scratch.

    Returns how many they are. Tokens that are not in the vocabulary or in the row are skipped.
    """
    step = task.table[task.steps[s]]
    scope, window = step[OPTION], window_of(task, s)
    if window < 0 and not is_counted(task, step):
        window = np.int64(2**62)
    places, counts, vocab = task.scratch.places, task.scratch.counts, task.scratch.values.size
    if step[FIND] != 0:
        request = request_of(task, s, np.int64(0), task.scratch.is_changed[:0], unknown())
        room = places[:vocab], counts[:vocab], task.scratch.masses[:vocab]
        n = call_find(step[FIND], request, *room)
    elif window >= 0:
        n = count(latest_tokens(task, scope, window), places, counts, task.scratch.masses[:vocab])
    else:
        tokens, numbers = listed(task, step[LIST_OF], 0), listed(task, step[LIST_OF], 1)
        in_output = listed(task, step[LIST_OF], 2)
        n = 0
        for j in range(tokens.size):
            number = numbers[j]
            if step[LIST_OF] == HISTORY_LIST:
                number = (scope != OUTPUT_ONLY) * number + (scope != PROMPT_ONLY) * in_output[j]
                if number == 0 or not 0 <= tokens[j] < vocab:
                    continue
            places[n], counts[n] = tokens[j], number
            n += 1
    if step[EXEMPT] >= 0:
        n = drop(listed(task, step[EXEMPT], 0), places, counts, n)
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
def drop(exempt: Longs, places: Longs, counts: Longs, n: I64) -> I64:
    """Leave out the tokens that are among some, ascending, from the first n; how many stay."""
    left = np.int64(0)
    for j in range(n):
        place = place_of(places[j], exempt)
        if place == exempt.size or exempt[place] != places[j]:
            places[left], counts[left] = places[j], counts[j]
            left += 1
    return left


@kernel
def logit_of(token: I64, row: Row, ids: Ids) -> F32:
    """A token's logit, in a row of the tokens `ids` or of all; -inf if it is not in there."""
    place = place_of(token, ids) if ids.size else token
    return row[place] if not ids.size or (place < ids.size and ids[place] == token) else REMOVED


@kernel
def count(tokens: Longs, distinct: Longs, counts: Longs, by_token: Longs) -> I64:
    """Fill in the distinct tokens of the vocabulary and how often each occurs; how many.

    `by_token` is scratch, (vocab,).
    """
    for token in tokens:
        if 0 <= token < by_token.size:
            by_token[token] = 0
    n = 0
    for token in tokens:
        if 0 <= token < by_token.size:
            if by_token[token] == 0:
                distinct[n] = token
                n += 1
            by_token[token] += 1
    for j in range(n):
        counts[j] = by_token[distinct[j]]
    return n
