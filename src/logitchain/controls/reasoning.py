"""Reasoning: how long a block of it may and must be, and an end that is forced.

Everything follows from the tokens so far, so that nothing has to be carried from one to the next.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading, history_ids, token_lists
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, I64, U64, Row
from ..numeric.order import place_of
from ..numeric.simd import LANES
from ..params import Params
from .bad_words import follows
from .banned_tokens import ban
from .no_repeat_ngram import fallbacks
from .record import Control, Request, Values
from .repetition import pattern_size, sizes_of
from .token_bitmask import Words, keep_bit, masked_by

Longs = NDArray[np.int64]

#: The parts of the list that the kernel reads: sequences, token ids, numbers of the detection.
START, END, FORCED, LINE_ENDS, EOS, LOOP = range(6)
_PARTS = 6


@in_standard_mode
def reasoning(
    logits: Any,
    reasoning_budget: int | None,
    prompt_tokens: Any,
    output_tokens: Any,
    *,
    reasoning_end: Sequence[int],
    reasoning_start: Sequence[int] = (),
    reasoning_message: Sequence[int] = (),
    min_reasoning: int = 0,
    reasoning_grace: int = 0,
    reasoning_line_ends: Sequence[int] = (),
    reasoning_per_block: bool = False,
    repetition_detection: Any = None,
    eos_token: Any = (),
    dtype: DType = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Hold reasoning to a number of tokens: force its end, or remove the token that ends it.

    logits                 (vocab,) or (rows, vocab); -inf is removed
    reasoning_budget       how many tokens of reasoning an answer may have; None is off
    prompt_tokens          the prompt, any 64-bit integers: one sequence for all rows, or one per
                           row
    output_tokens          the answer so far, in the same form
    reasoning_end          the token ids that end a block of reasoning
    reasoning_start        the token ids that begin one; without them the answer begins in one
    reasoning_message      token ids that are forced before `reasoning_end`
    min_reasoning          how many tokens a block must have
    reasoning_grace        how many tokens to wait for the end of a line, once the budget is spent
    reasoning_line_ends    the token ids that end a line
    reasoning_per_block    whether each block has the whole budget
    repetition_detection   which loops end a block, if its `action` is "end_reasoning"
    eos_token              token ids that a block without its minimum is kept from, too

    Returns a new float32 array of the same shape, or `out`. Raises ValueError if a parameter is out
    of range or contradicts another, or a row is invalid, before or after. Source: the budgets of
    llama.cpp and vLLM; the minimum is that of Muennighoff et al., "s1: Simple test-time scaling",
    arXiv:2501.19393.

    >>> reasoning([1.0, 2.0, 3.0], 2, [], [1, 1], reasoning_end=[0])
    array([  1., -inf, -inf], dtype=float32)
    """
    params = Params(
        reasoning_budget=reasoning_budget,
        reasoning_start=reasoning_start,
        reasoning_end=reasoning_end,
        reasoning_message=reasoning_message,
        min_reasoning=min_reasoning,
        reasoning_grace=reasoning_grace,
        reasoning_line_ends=reasoning_line_ends,
        reasoning_per_block=reasoning_per_block,
        repetition_detection=repetition_detection,
        eos_token=eos_token,
    )
    reading = Reading(logits, out, dtype)
    rows = reading.rows
    params.check_vocabulary(rows.shape[1])
    parts = parts_of(params)
    prompts = token_lists(prompt_tokens, len(rows), name="prompt_tokens")
    outputs = token_lists(output_tokens, len(rows), name="output_tokens")
    budget = np.nan if params.reasoning_budget is None else min(params.reasoning_budget, 2**62)
    counts = min(params.min_reasoning, 2**62), min(params.reasoning_grace, 2**62)

    def clear(r: int, words: Words) -> None:
        if params.reasoning_end:
            history = np.concatenate([prompts[r], outputs[r]])
            settings = budget, *counts, params.reasoning_per_block
            hold(words, history, prompts[r].size, *settings, *parts)

    return masked_by(reading, clear)


def is_reasoning(
    params: Params,
    prompt_tokens: Sequence[int] | Longs,
    output_tokens: Sequence[int] | Longs = (),
) -> bool:
    """Whether the next token of an answer belongs to its reasoning.

    params          the request: its `reasoning_start` and `reasoning_end`, without which there is
                    no reasoning
    prompt_tokens   the prompt, which may have begun a block
    output_tokens   the answer so far; both are any 64-bit integers

    Raises TypeError if `params` are none, or a token is no integer.

    >>> params = Params(reasoning_start=[1], reasoning_end=[2])
    >>> is_reasoning(params, [7, 1]), is_reasoning(params, [7, 1], [8, 2])
    (True, False)
    """
    if not isinstance(params, Params):
        raise TypeError(f"params must be a Params, not {type(params).__name__}")
    prompt = history_ids("prompt_tokens", prompt_tokens)
    history = np.concatenate([prompt, history_ids("output_tokens", output_tokens)])
    start, end = (np.asarray(x, np.int64) for x in (params.reasoning_start, params.reasoning_end))
    return bool(end.size and present_block(history, prompt.size, start, end) >= 0)


def parts_of(params: Params) -> tuple[Longs, Longs]:
    """What the kernel reads of a request, as one list: (numbers, ends).

    numbers   the parts, one after the other; the tokens that end a line are ascending
    ends      where each part ends, and then 0
    """
    detection = params.repetition_detection
    is_acted_on = detection is not None and detection.action == "end_reasoning"
    parts = [
        params.reasoning_start,
        params.reasoning_end,
        (*params.reasoning_message, *params.reasoning_end),
        sorted(set(params.reasoning_line_ends)),
        params.eos_token,
        sizes_of(detection) if is_acted_on and detection is not None else (),
    ]
    sizes = np.cumsum([*map(len, parts)])
    size = max(int(sizes[-1]), _PARTS)
    numbers, ends = np.zeros((2, size), np.int64)
    numbers[: sizes[-1]] = np.concatenate([np.asarray(part, np.int64) for part in parts])
    ends[:_PARTS] = sizes
    return numbers, ends


@kernel
def hold(
    words: Words,
    history: Longs,
    prompt_size: I64,
    budget: F64,
    least: I64,
    grace: I64,
    per_block: bool,
    numbers: Longs,
    ends: Longs,
) -> None:
    """Clear the bits of the tokens that may not come next.

    budget          NaN for none
    numbers, ends   as `parts_of` gives them
    """
    start, end = part(START, numbers, ends), part(END, numbers, ends)
    forced, loop = part(FORCED, numbers, ends), part(LOOP, numbers, ends)
    if start.size == 0:  # the prompt says nothing then
        history, prompt_size = history[prompt_size:], np.int64(0)
    first = present_block(history, prompt_size, start, end)
    if first < 0:
        return
    place = np.int64(-1)  # in the forced sequence
    if history.size - prompt_size >= budget:
        left = np.int64(budget)
        if not per_block:
            left -= min(left, spent_before(history, prompt_size, first, start, end))
        cut = first_forced(history, first, first + left, grace, part(LINE_ENDS, numbers, ends))
        if cut >= 0:
            place = progress(forced, fallbacks(forced), history[cut:])
    if loop.size:
        place = max(place, progress_after_loop(forced, history[first:], loop))
    if place >= 0:
        keep_bit(words, forced[place])
    elif history.size - first < least:
        begun = end.size - 1
        if begun <= history.size and follows(end, begun, history, begun):
            ban(words, end[begun:])
        ban(words, part(EOS, numbers, ends))


@kernel
def part(which: I64, numbers: Longs, ends: Longs) -> Longs:
    """One of the parts of the list."""
    return numbers[ends[which - 1] if which else 0 : ends[which]]


# ---- blocks


@kernel
def present_block(history: Longs, prompt_size: I64, start: Longs, end: Longs) -> I64:
    """Where in the answer the block begins that the next token belongs to; -1 if to none."""
    if start.size == 0:
        is_open = last_marker(history, prompt_size, history.size, start, end) == 0
        return prompt_size if is_open else np.int64(-1)
    marker = last_marker(history, np.int64(0), np.int64(history.size), start, end)
    return max(marker, prompt_size) if marker > 0 else np.int64(-1)


@kernel
def last_marker(history: Longs, first: I64, size: I64, start: Longs, end: Longs) -> I64:
    """The last place after `first`, up to `size`, where a start or end sequence is complete.

    It is negative for an end sequence, and 0 if there is no such place. Where both are complete,
    the longer one counts. Blocks of tokens in which neither has its last token are skipped.
    """
    closing = end[end.size - 1]
    opening = start[start.size - 1] if start.size else closing
    place = np.int64(size)
    while place > first:
        low = max(first, place - LANES)
        if not _holds(history[low:place], opening, closing):
            place = low
        while place > low:
            token = history[place - 1]
            opens = token == opening and start.size > 0 and _ends_with(history, place, start)
            closes = token == closing and _ends_with(history, place, end)
            if opens and closes:
                opens = start.size > end.size
            if opens or closes:
                return place if opens else -place
            place -= 1
    return np.int64(0)


@kernel
def _holds(tokens: Longs, one: I64, other: I64) -> bool:
    """Whether one of two tokens is among some; without an early end it is found in vectors."""
    found = False
    for i in range(tokens.size):  # over the tokens themselves it takes 4 times as long
        found |= (tokens[i] == one) | (tokens[i] == other)
    return found


@kernel
def _ends_with(history: Longs, size: I64, sequence: Longs) -> bool:
    """Whether so many of the tokens end with a sequence."""
    n = sequence.size
    return n <= size and follows(sequence, n, history[:size], n)


@kernel
def spent_before(history: Longs, prompt_size: I64, first: I64, start: Longs, end: Longs) -> I64:
    """How many tokens of reasoning the answer has in the blocks before the one at `first`."""
    spent, place, size = np.int64(0), first, start.size
    while place > prompt_size:
        begin, marker = place - size, last_marker(history, prompt_size, place - 1, start, end)
        if marker == 0 and begin > prompt_size:  # it may have begun in the prompt
            is_open = last_marker(history, np.int64(0), prompt_size, start, end) > 0
            spent += is_open * (begin - prompt_size)
        elif marker > 0:
            spent += max(begin - marker, 0)
        place, size = abs(marker), start.size if marker > 0 else end.size
    return spent


# ---- the end


@kernel
def first_forced(history: Longs, first: I64, spent: I64, grace: I64, line_ends: Longs) -> I64:
    """Where the forced sequence begins, if a block's budget is spent at a place; -1: not yet."""
    if history.size < spent:
        return np.int64(-1)
    if spent == first:  # there is no line to wait for
        return spent
    wait = min(grace, history.size - spent)
    for place in range(spent, spent + wait):
        if _is_among(line_ends, history[place - 1]):
            return np.int64(place)
    last = spent + wait
    is_over = wait == grace or _is_among(line_ends, history[last - 1])
    return last if is_over else np.int64(-1)


@kernel
def _is_among(ascending: Longs, token: I64) -> bool:
    """Whether a token is in a list."""
    place = place_of(token, ascending)
    return bool(place < ascending.size and ascending[place] == token)


@kernel
def progress(sequence: Longs, fallback: Longs, tokens: Longs) -> I64:
    """How many tokens of a sequence are there: the most that the tokens end with, short of all."""
    size = np.int64(0)
    for token in tokens[max(0, tokens.size - (sequence.size - 1)) :]:
        while size >= 0 and sequence[size] != token:
            size = fallback[size]
        size += 1
    return size


@kernel
def progress_after_loop(forced: Longs, tokens: Longs, loop: Longs) -> I64:
    """The same, if the tokens before these end in a loop; -1 if they do not."""
    fallback = fallbacks(forced)
    size = progress(forced, fallback, tokens)
    while size >= 0 and pattern_size(tokens[: tokens.size - size], loop[0], loop[1], loop[2]) == 0:
        size = fallback[size]
    return size


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    budget, least, grace, per_block = request.values[1:5]
    hold(
        request.words,
        request.history,
        request.prompt_size,
        budget,
        np.int64(least),
        np.int64(grace),
        per_block != 0.0,
        request.tokens,
        request.numbers,
    )


@kernel
def _idle(values: Values, seed: U64, position: U64) -> bool:
    """Without a budget, a minimum and a loop that ends the reasoning there is nothing to do."""
    ends_loops = values[5] == 1.0
    return bool(np.isnan(values[1]) and values[2] == 0.0 and not ends_loops)


CONTROL = Control(
    name="reasoning",
    fields=(
        *("reasoning_end", "reasoning_budget", "min_reasoning", "reasoning_grace"),
        *("reasoning_per_block", "repetition_detection"),
        *("reasoning_start", "reasoning_message", "reasoning_line_ends"),
    ),
    kind="mask",
    kernel=_apply,
    idle=_idle,
    tokens="reasoning_end",
)
