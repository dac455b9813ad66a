"""One row on the fast path: look, change, find the floor, gather, apply, draw.

This is the outline. Its stages are compiled when a row first needs them, each by itself, and so are
the controls: what no request asks for is not compiled.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import typeof
from numpy.typing import NDArray

from ..controls.record import ADJUST, MOST_FIELDS, call_update
from ..inputs.logits import Rows, Stored
from ..logprobs import logprob, normaliser
from ..numeric.blocks import FLOAT32, Blocks, convert_and_look, from_bits, look
from ..numeric.compile import address_of, at, borrowed, caller_of, kernel, part, spliced
from ..numeric.float_mode import restore_mode, standard_mode
from ..numeric.functions import F64, I64, Row
from ..numeric.order import largest
from ..params.watermark import SBW, SCHEME
from ..sample import race
from ..watermark.draw import keyed_race
from ..watermark.noise import NO_MARK, NO_NOISE, Noise, noise_of
from .candidates import change_order, highest_floor, truncate
from .listing import list_best, list_best_as_given
from .nucleus import draw_of_all, draw_of_nucleus
from .report import line_of, report_row
from .step import choose, listed, logit_of
from .tables import (
    COLUMNS,
    FIELD_COUNT,
    FLAGS,
    FOLLOWS_BEFORE,
    GIVEN,
    HISTORY,
    HISTORY_SIZE,
    KIND,
    MOST_KEPT,
    PENDING,
    PROCESSED,
    PROMPT_SIZE,
    RAW,
    REPORT_OF,
    SEED,
    STATE_COUNT,
    TOP_LOGPROBS,
    UPDATE,
    WANTS,
    WANTS_MASS,
    WATERMARK_LIST,
    Drawn,
    Floor,
    Program,
    Requests,
    Scratch,
    Steps,
    Task,
    lay_out,
)

Longs = NDArray[np.int64]


# ---- the stages, called by address

STAGES: list[tuple[Callable[..., Any], Any]] = []


def _stage(function: Callable[..., Any], result: Any, *arguments: Any) -> tuple[int, Any]:
    """(a stage's place in `STAGES`, what calls it by address); its types are from examples."""
    signature = typeof(result)(*map(typeof, arguments))  # type: ignore[no-untyped-call]
    STAGES.append((function, signature))
    return len(STAGES) - 1, caller_of(signature)


_longs, _row, _ids = np.empty((1, 1), np.int64), np.empty(1, np.float32), np.empty(1, np.int32)
_flags, _words = np.empty((1, 1), np.bool_), np.empty(1, np.uint64)
_room = Scratch(
    *(_longs[0], _longs[0], _longs[0], _row, _row),
    *(_ids, _words, _row, _row, _flags[0]),
)
_blocks = Blocks(_row, _row, _flags[0], _row, _row)
_key = np.uint64(0), np.uint64(0)
_task = Task(_longs, _longs[0], np.empty((1, 1)), *_key, _longs[0], _flags, _room)
_floor = Floor(0.0, 0, 0.0, 0.0, True)
_drawn = Drawn(0, 0, _longs, np.empty((1, 1), np.float32))
_normaliser = np.float32(0.0), 0.0

CONVERT, _convert = _stage(convert_and_look, True, 0, np.empty(1, np.uint16), _blocks)
LIST_GIVEN, _list_given = _stage(list_best_as_given, _normaliser, _blocks, _drawn, 0, 0)
CHANGE, _change = _stage(change_order, 0, _blocks, _task)
DRAW, _draw = _stage(draw_of_all, 0, _blocks, _task, _floor)
DRAW_OF_NUCLEUS, _ = _stage(draw_of_nucleus, 0, _blocks, _task, _floor)
TRUNCATE, _truncate = _stage(truncate, 0, _blocks, _task, _row, 0, _floor)


@kernel
def carry(blocks: Blocks, task: Task, whole: Row, stages: Longs) -> I64:
    """Write the states of a row that follow from its token, which is in `task.line`.

    Each step that has a state asks for the token's log-probability before it or after it. The row
    as it stood there is what the same chain gives if it ends there.
    """
    first, line = np.int64(0), task.line.view(np.float64)
    while task.table[task.steps[first], KIND] <= ADJUST:
        first += 1
    for s in range(first, task.steps.size):
        step, state = task.table[task.steps[s]], np.empty(MOST_FIELDS)
        if step[UPDATE] != 0:
            steps = s if step[FLAGS] & FOLLOWS_BEFORE else s + 1
            logprob = _logprob_after(steps, first, blocks, task, whole, stages)
            known = step[FIELD_COUNT] - step[STATE_COUNT]
            state[: step[STATE_COUNT]] = task.values[s, known : step[FIELD_COUNT]]
            if logprob > -np.inf:  # or else the token comes from elsewhere, and the state stays
                call_update(step[UPDATE], task.values[s], logprob, state)
            for j in range(step[STATE_COUNT]):
                line[step[COLUMNS + known + j] + 1] = state[j]
    return np.int64(0)


@kernel
def _logprob_after(
    steps: I64, first: I64, blocks: Blocks, task: Task, whole: Row, stages: Longs
) -> F64:
    """The log-probability of the row's token after so many steps, the first of which are done."""
    best = largest(blocks.peaks)
    part_of = Task(
        task.table,
        task.steps[:steps],
        task.values[:steps],
        task.seed,
        task.position,
        task.line,
        task.marks,
        task.scratch,
    )
    floor = highest_floor(part_of, first, blocks.peaks, best, whole.size)
    n = _truncate(stages[TRUNCATE], blocks, part_of, whole, first, floor)
    left, ids = whole[:n], task.scratch.ids[: n if n < whole.size else 0]
    top, log_mass = normaliser(left)
    return np.float64(logprob(logit_of(task.line[PENDING], left, ids), top, log_mass))


CARRY, _carry = _stage(carry, 0, _blocks, _task, _row, _longs[0])
RACE, _race = _stage(race, 0, _row, _ids, *_key)
NOISE, _noise = _stage(noise_of, NO_NOISE, _longs[0], _longs[0], 0, *_key)
KEYED_RACE, _keyed_race = _stage(keyed_race, 0, _row, _ids, NO_NOISE)
LIST_LEFT, _list_left = _stage(list_best, _normaliser, _row, _ids, _drawn, 0, 0)
REPORT, _report = _stage(report_row, 0, _row, _ids, _drawn, 0)

#: Results of `run_row`. A number >= 0 is that of a missing stage, or len(STAGES) + s for the
#: control of step s.
INVALID, VALID = -2, -1
_NOTHING_NEEDED = np.int64(VALID)


def run(
    first: int,
    last: int,
    given: Stored,
    program: Program,
    requests: Requests,
    memory: NDArray[np.uint8],
    out: Rows,
    drawn: Drawn,
) -> int:
    """Apply the steps to some of the rows given: fill in `out`, or draw if `out` has no rows.

    Returns how many rows are invalid: their token is -1, and their part of `out` is undefined. The
    others get a token, or 0. `out` may be where the rows are.
    """
    # numba infers the type of a tuple argument anew at each call, which took 7 us.
    kind, wide, narrow, _ = given
    arrays: Any = (*program.steps, requests.table, memory, out, *drawn)
    row = first
    while (result := int(_run(row, last, kind, wide, narrow, *arrays))) < 0:
        done, which = divmod(-1 - result, len(STAGES) + len(program.controls))
        row += done
        _compile(program, which)
    return result if row == first else int(np.count_nonzero(drawn.tokens[first:last, 0] < 0))


def _compile(program: Program, which: int) -> None:
    """Compile a stage, or beyond the stages a step's control, and enter its address."""
    if which < len(STAGES):
        program.steps.stages[which] = compiled(which)
    else:
        program.compile(which - len(STAGES))


def compiled(stage: int) -> int:
    """The address of a stage."""
    function, signature = STAGES[stage]
    return address_of(function.__name__, function, signature)


@kernel
def _run(
    first: I64,
    last: I64,
    kind: I64,
    wide: Rows,
    narrow: NDArray[np.uint16],
    table: Longs,
    marks: NDArray[np.bool_],
    stages: Longs,
    lines: Longs,
    memory: NDArray[np.uint8],
    out: Rows,
    of: I64,
    report: I64,
    tokens: Longs,
    logprobs: Rows,
) -> I64:
    """How many rows are invalid; or a negative code for the first unfinished row and what it is
    missing: -1 - (rows done * (stages + steps) + the number of the stage or control).
    """
    given = Given(kind, borrowed(wide), borrowed(narrow))
    steps = Steps(borrowed(table), borrowed(marks), borrowed(stages))
    drawn = Drawn(of, report, borrowed(tokens), borrowed(logprobs))
    vocab = wide.shape[1] if kind == FLOAT32 else narrow.shape[1]
    scratch = lay_out(borrowed(memory), vocab)
    chosen = Chosen(
        np.empty(table.shape[0], np.int64), np.empty((table.shape[0] + 1, MOST_FIELDS), np.float64)
    )
    invalid, r = np.int64(0), first
    mode = standard_mode()
    while r < last and invalid >= 0:
        result = run_row(r, given, steps, borrowed(lines), scratch, chosen, borrowed(out), drawn)
        if result <= VALID:
            invalid += result == INVALID
        else:
            invalid = -1 - ((r - first) * (stages.size + table.shape[0]) + result)
        r += 1
    restore_mode(mode)
    return invalid


class Given(NamedTuple):
    """The unprocessed rows."""

    kind: Any
    wide: Rows
    narrow: NDArray[np.uint16]


class Chosen(NamedTuple):
    """Room for the steps that do something to a row, and the values of their fields."""

    steps: Longs  # (steps,)
    values: NDArray[np.float64]  # (steps + 1, MOST_FIELDS)


@spliced
def run_row(
    r: I64,
    given: Given,
    steps: Steps,
    lines: Longs,
    scratch: Scratch,
    chosen: Chosen,
    out: Rows,
    drawn: Drawn,
) -> I64:
    """Run the steps on one row. Returns VALID or INVALID, or which stage or control it needs."""
    line, stages = lines[r], steps.stages
    key = part(line, SEED, 2, np.uint64)
    values = part(line, 0, line.size, np.float64)
    n = choose(steps.table, values, key[0], key[1], chosen.steps, chosen.values)
    needs = _NOTHING_NEEDED if n >= 0 else stages.size - 1 - n
    n = max(n, 0)
    task = Task(
        steps.table,
        chosen.steps[:n],
        chosen.values[:n],
        key[0],
        key[1],
        line,
        steps.marks,
        scratch,
    )
    draws = out.shape[0] == 0
    noise, noise_needs = NO_NOISE, _NOTHING_NEEDED
    if draws and drawn.of < GIVEN:
        noise, noise_needs = own_noise(task, stages)
    needs = needs if needs != VALID else noise_needs
    token, is_fit = -1, False
    row = given.wide[r] if given.kind == FLOAT32 else scratch.changed[:0]
    blocks = Blocks(row, scratch.changed, scratch.is_changed, scratch.peaks, scratch.buffer)
    if given.kind == FLOAT32:
        is_fit = look(blocks)
    elif stages[CONVERT] == 0:
        needs = np.int64(CONVERT)
    else:
        is_fit = _convert(stages[CONVERT], given.kind, given.narrow[r], blocks)
    if is_fit and needs == VALID:
        best, log_mass = np.float32(0.0), 0.0
        of, is_given, needs_left = drawn.of % GIVEN, drawn.of >= GIVEN, False
        if drawn.report != 0:
            wanted = line_of(drawn, r)
            of = wanted[REPORT_OF]
            needs_left = wanted[MOST_KEPT] > 0 or wanted[WANTS] & WANTS_MASS != 0
        most = np.int64(values[TOP_LOGPROBS])
        if of == RAW and stages[LIST_GIVEN] == 0:
            needs = np.int64(LIST_GIVEN)
        elif of == RAW:
            best, log_mass = _list_given(stages[LIST_GIVEN], blocks, drawn, r, most)
        whole = scratch.values if draws else out[r]
        may_draw_first = draws and of != PROCESSED and not is_given and not needs_left
        may_draw_first = may_draw_first and noise.scheme == NO_MARK
        if needs == VALID:
            n, token, needs = survive(blocks, task, stages, whole, may_draw_first)
        left = scratch.ids[:n] if 0 <= n < scratch.ids.size else scratch.ids[:0]
        if is_given:
            token = drawn.tokens[r, 0] if n > 0 else token
        elif draws and n > 0 and needs == VALID:
            race_stage = np.int64(RACE if noise.scheme == NO_MARK else KEYED_RACE)
            if stages[race_stage] == 0:
                needs = race_stage
            elif noise.scheme == NO_MARK:
                token = _race(stages[RACE], whole[:n], left, task.seed, task.position)
            else:
                token = _keyed_race(stages[KEYED_RACE], whole[:n], left, noise)
        if of == PROCESSED and token >= 0 and needs == VALID:
            if stages[LIST_LEFT] == 0:
                needs = np.int64(LIST_LEFT)
            else:
                best, log_mass = _list_left(stages[LIST_LEFT], whole[:n], left, drawn, r, most)
        if of <= PROCESSED and token >= 0 and needs == VALID:
            if of == PROCESSED:
                logit = logit_of(token, whole[:n], left)
            elif given.kind == FLOAT32:
                logit = given.wide[r, token]
            else:
                logit = from_bits(given.kind, given.narrow[r, token])
            drawn.logprobs[r, 0] = logprob(logit, best, log_mass)
        if left.size and not draws and needs == VALID:
            whole[:] = -np.inf
            for i in range(n):
                whole[left[i]] = scratch.values[i]
        carries = draws and token >= 0 and has_state(task)
        if carries and (stages[CARRY] == 0 or stages[TRUNCATE] == 0):
            needs = np.int64(CARRY if stages[CARRY] == 0 else TRUNCATE)
        if drawn.report != 0 and token >= 0 and needs == VALID:  # once: it adds to an arena
            if stages[REPORT] == 0:
                needs = np.int64(REPORT)
            else:
                drawn.tokens[r, 0] = token
                _report(stages[REPORT], whole[: max(n, 0)], left, drawn, r)
        if carries and needs == VALID:
            line[PENDING] = token
            _carry(stages[CARRY], blocks, task, whole, stages)
    if drawn.of < GIVEN:
        drawn.tokens[r, 0] = token
    if needs == VALID and token < 0:
        needs = np.int64(INVALID)
    return needs


@spliced
def own_noise(task: Task, stages: Longs) -> tuple[Noise, I64]:
    """(the noise of a row's draw, VALID or the stage that has to be compiled first)."""
    line, numbers = task.line, listed(task, WATERMARK_LIST, 0)
    noise, needs = NO_NOISE, _NOTHING_NEEDED
    if numbers.size and numbers[SCHEME] != SBW:
        if stages[NOISE] == 0:
            needs = np.int64(NOISE)
        else:
            history = at(line[HISTORY], line[HISTORY_SIZE], np.int64)
            arguments = numbers, history, line[PROMPT_SIZE], task.seed, task.position
            noise = _noise(stages[NOISE], *arguments)
    return noise, needs


@spliced
def has_state(task: Task) -> bool:
    """Whether a step of the row carries a state to the next token."""
    found = False
    for s in task.steps:
        found |= task.table[s, UPDATE] != 0
    return found


@spliced
def survive(
    blocks: Blocks, task: Task, stages: Longs, whole: Row, draws: bool
) -> tuple[I64, I64, I64]:
    """(n, token, missing): the candidates of a row, or its token.

    n > 0     n candidates, in the scratch, or in `whole` if n is its size; removed ones are -inf
    n = 0     no token is left, and `token` is -1
    n < 0     `token` is already drawn
    missing   VALID, or the stage that has to be compiled first
    """
    n, token, next_step, needs = np.int64(0), np.int64(-1), np.int64(0), _NOTHING_NEEDED
    if task.steps.size and task.table[task.steps[0], KIND] <= ADJUST:
        if stages[CHANGE] == 0:
            needs = np.int64(CHANGE)
        else:
            next_step = _change(stages[CHANGE], blocks, task)
    best = largest(blocks.peaks)
    if best > -np.inf and needs == VALID:
        floor = highest_floor(task, next_step, blocks.peaks, best, whole.size)
        if floor.can_draw_first and draws:
            draw = np.int64(DRAW if floor.measures < 0 else DRAW_OF_NUCLEUS)
            if stages[draw] == 0:
                needs = draw
            else:
                n, token = np.int64(-1), _draw(stages[draw], blocks, task, floor)
        elif stages[TRUNCATE] == 0:
            needs = np.int64(TRUNCATE)
        else:
            n = _truncate(stages[TRUNCATE], blocks, task, whole, next_step, floor)
            token = np.int64(0 if n > 0 else -1)
    return n, token, needs
