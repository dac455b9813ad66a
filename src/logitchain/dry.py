"""DRY, "don't repeat yourself", as a function: as yet no chain applies it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs.logits import Reading, phrase_arrays, token_lists
from .numeric.compile import kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F64, I64, REMOVED, Row, finite, log
from .params import real_number, whole_number

Longs = NDArray[np.int64]

#: llama.cpp's logarithm of the largest float32; with bases up to the second it sets no cap.
_LARGEST, _NO_CAP = np.float32(88.7228391), np.float32(1.000001)


@in_standard_mode
def dry(
    logits: Any,
    tokens: Any,
    dry_multiplier: float,
    dry_base: float = 1.75,
    dry_allowed_length: int = 2,
    dry_window: int | None = None,
    dry_sequence_breakers: Iterable[Any] = (),
    *,
    dtype: str | None = None,
    out: Any = None,
) -> NDArray[np.float32]:
    """Lower the logits of tokens that would continue a repetition, the longer it is the more.

    logits                  (vocab,) or (rows, vocab); -inf is removed
    tokens                  the history, any 64-bit integers: one sequence for all rows, or one per
                            row; an id outside the vocabulary equals only itself
    dry_multiplier          in [0, inf), the penalty in logits of the shortest repetition that
                            counts; 0 is off
    dry_base                in [1, inf), by how much each further token multiplies it
    dry_allowed_length      >= 0, shorter repetitions do not count
    dry_window              only so many of the last tokens count; None for all
    dry_sequence_breakers   sequences of token ids: no repetition reaches back over one, and a
                            breaker of one token is never penalised

    If the last n tokens have occurred before, the token that followed them then loses
    `dry_multiplier * dry_base ** (n - dry_allowed_length)`, with the largest such n. As in
    llama.cpp, the exponent is at most 88.7228391 / log(dry_base), in float32. Returns a new float32
    array of the same shape as `logits`, or `out`. Raises ValueError if a parameter is out of range
    or a row is invalid. Source: p-e-w, text-generation-webui pull request 5677 (2024).

    >>> dry([0.0, 0.0, 0.0], [0, 1, 2, 0, 1], 0.8)
    array([ 0. ,  0. , -0.8], dtype=float32)
    """
    multiplier = real_number("dry_multiplier", dry_multiplier, "[0, inf)")
    base = real_number("dry_base", dry_base, "[1, inf)")
    allowed = min(whole_number("dry_allowed_length", dry_allowed_length, "[0, inf)"), 2**62)
    window = 2**62
    if dry_window is not None:
        window = min(whole_number("dry_window", dry_window, "[0, inf)"), window)
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    breakers = phrase_arrays("dry_sequence_breakers", dry_sequence_breakers, rows.shape[1])
    sizes = np.array([len(breaker) for breaker in breakers], np.int64)
    joined = np.concatenate([*breakers, np.empty(0, np.int64)])
    for row, history in zip(rows, token_lists(tokens, len(rows)), strict=True):
        if multiplier > 0.0:
            last = np.ascontiguousarray(history[max(0, history.size - window) :][::-1])
            penalise_row(row, last, joined, sizes, multiplier, base, np.int64(allowed))
    return reading.result()


@kernel
def penalise_row(
    row: Row,
    last: Longs,
    breakers: Longs,
    sizes: Longs,
    multiplier: F64,
    base: F64,
    allowed: I64,
) -> None:
    """The kernel, in place.

    last       the history, the latest token first
    breakers   the sequence breakers one after the other, of these sizes
    """
    limit = reach(last, breakers, sizes)
    if last.size <= allowed or limit < allowed:
        return
    longest = np.full(row.size, -1, np.int64)
    lengths = common_beginnings(last)
    for k in range(1, last.size):
        length, token = min(lengths[k], limit), last[k - 1]  # the token that came then
        if length >= allowed and 0 <= token < row.size:
            longest[token] = max(longest[token], length)
    start = np.int64(0)
    for size in sizes:
        if size == 1:
            longest[breakers[start]] = -1
        start += size
    most = largest_exponent(base)
    for i in range(row.size):
        if longest[i] >= 0 and row[i] > REMOVED:
            exponent = longest[i] - allowed
            if most > 0:
                exponent = min(exponent, most)
            row[i] = finite(np.float64(row[i]) - multiplier * power(base, exponent))


@kernel
def reach(last: Longs, breakers: Longs, sizes: Longs) -> I64:
    """How many of the latest tokens come after the last sequence breaker."""
    for i in range(last.size if sizes.size else 0):
        longest, start = np.int64(0), np.int64(0)
        for size in sizes:
            if size > longest and size <= i + 1:
                n = np.int64(0)
                while n < size and breakers[start + n] == last[i - n]:
                    n += 1
                longest = size if n == size else longest
            start += size
        if longest > 0:
            return i + 1 - longest
    return np.int64(last.size)


@kernel
def common_beginnings(tokens: Longs) -> Longs:
    """For each k how many tokens from k on equal those from the beginning on, in linear time."""
    lengths = np.zeros(tokens.size, np.int64)
    first, end = np.int64(0), np.int64(0)  # the stretch known to equal the beginning that ends last
    for k in range(1, tokens.size):
        n = min(lengths[k - first], end - k) if k < end else np.int64(0)
        while k + n < tokens.size and tokens[n] == tokens[k + n]:
            n += 1
        lengths[k] = n
        if k + n > end:
            first, end = np.int64(k), np.int64(k + n)
    return lengths


@kernel
def largest_exponent(base: F64) -> I64:
    """llama.cpp's cap of the exponent; 0 for none."""
    if np.float32(base) <= _NO_CAP:
        return np.int64(0)
    return np.int64(_LARGEST / np.float32(log(np.float64(np.float32(base)))))


@kernel
def power(base: F64, exponent: I64) -> F64:
    """A power by multiplications, the same on every CPU."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
