"""What a call is to tell of a row beside its token: kept set, named tokens, rank, entropy, mass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..logprobs import log_of_mass, logprob, normaliser
from ..numeric.blocks import FLOAT32, Ids, convert
from ..numeric.compile import at, kernel, spliced
from ..numeric.functions import F32, F64, I64, Row, mass, total_mass
from ..numeric.order import NO_CUT, at_least, largest, place_of
from ..numeric.prefix import first_k
from ..numeric.simd import LANES, lowest_bit, reaching
from ..numeric.statistics import MOST_SUMS, add_surprises, entropy
from ..sample import EVERY
from .step import logit_of
from .tables import (
    ARENA,
    ARENA_SIZE,
    ENTROPY_OF,
    IS_TRUNCATED,
    KEPT_MASS,
    LISTED,
    MOST_KEPT,
    NAMED,
    NAMED_LOGPROBS,
    NAMED_SIZE,
    PROCESSED,
    RANK,
    RAW,
    RAW_KIND,
    RAW_ROW,
    RAW_SIZE,
    REPORT_OF,
    REPORT_WIDTH,
    WANTS,
    WANTS_MASS,
    WANTS_RANK,
    Drawn,
)

Longs = NDArray[np.int64]


@spliced
def line_of(drawn: Drawn, r: I64) -> Any:
    """A row's line of the report."""
    return at(drawn.report + 8 * REPORT_WIDTH * r, REPORT_WIDTH, np.int64)


@kernel
def report_row(left: Row, ids: Ids, drawn: Drawn, r: I64) -> I64:
    """Fill in a row's line of the report, once its token is known.

    left   the logits of the tokens `ids` that are left, or with `ids` empty of all tokens; not read
           where only the unprocessed row matters
    """
    line, token = line_of(drawn, r), drawn.tokens[r, 0]
    is_raw = line[REPORT_OF] == RAW and (line[WANTS] & WANTS_RANK != 0 or line[NAMED_SIZE] > 0)
    raw = left[:0]
    if is_raw or line[WANTS] & WANTS_MASS != 0:
        raw = _unprocessed(line)
    if is_raw:
        _describe(raw, EVERY, token, line)
    elif line[REPORT_OF] == PROCESSED:
        _describe(left, ids, token, line)
    if line[WANTS] & WANTS_MASS != 0:
        line.view(np.float64)[KEPT_MASS] = _kept_mass(left, ids, raw)
    if line[MOST_KEPT] > 0:
        _keep(left, ids, line)
    return np.int64(0)


@kernel
def _unprocessed(line: Longs) -> Any:
    """The row as it came, as float32."""
    if line[RAW_KIND] == FLOAT32:
        return at(line[RAW_ROW], line[RAW_SIZE], np.float32)
    row = np.empty(line[RAW_SIZE], np.float32)
    convert(line[RAW_KIND], at(line[RAW_ROW], line[RAW_SIZE], np.uint16), row)
    return row


@kernel
def _describe(row: Row, ids: Ids, token: I64, line: Longs) -> None:
    """The token's rank and the row's entropy; the log-probabilities of the named tokens."""
    best, numbers = largest(row), line.view(np.float64)
    if line[WANTS] & WANTS_RANK != 0:
        sums = np.zeros(MOST_SUMS, np.int64)
        add_surprises(row, best, best, sums)
        numbers[ENTROPY_OF] = entropy(sums)
        line[RANK] = _rank(row, ids, token)
    if line[NAMED_SIZE] > 0:
        log_mass = log_of_mass(total_mass(row, best))
        named = at(line[NAMED], line[NAMED_SIZE], np.int64)
        logprobs = at(line[NAMED_LOGPROBS], line[NAMED_SIZE], np.float32)
        for j in range(named.size):
            logprobs[j] = logprob(logit_of(named[j], row, ids), best, log_mass)


@kernel
def _rank(row: Row, ids: Ids, token: I64) -> I64:
    """A token's place in the order, from 1 on."""
    logit, before, equals = logit_of(token, row, ids), np.int32(0), np.int32(0)
    for i in range(row.size):
        before = np.int32(before + np.int32(row[i] > logit))
    for i in range(place_of(token, ids) if ids.size else token):
        equals = np.int32(equals + np.int32(row[i] == logit))
    return np.int64(1) + before + equals


@kernel
def _kept_mass(left: Row, ids: Ids, raw: Row) -> F64:
    """The probability in the unprocessed row of the tokens that are left."""
    best, kept = largest(raw), np.int64(0)
    for i in range(left.size):
        logit = raw[ids[i] if ids.size else i]
        kept += mass(np.float32(logit - best)) if left[i] > -np.inf else np.int64(0)
    return kept / total_mass(raw, best)


@kernel
def _keep(left: Row, ids: Ids, line: Longs) -> None:
    """Add the kept tokens and their log-probabilities to the arena, ids ascending.

    The arena is how many tokens it has (int64), the ids (int32) and their log-probabilities.
    """
    arena, size = line[ARENA], line[ARENA_SIZE]
    used = at(arena, np.int64(1), np.int64)
    kept_ids, logprobs = at(arena + 8, size, np.int32), at(arena + 8 + 4 * size, size, np.float32)
    count, bar, equals = np.int32(0), at_least(NO_CUT), np.int64(left.size)
    for i in range(left.size):
        count = np.int32(count + np.int32(left[i] > -np.inf))
    line[IS_TRUNCATED] = count > line[MOST_KEPT]
    if line[IS_TRUNCATED] != 0:
        bar, equals = first_k(left, line[MOST_KEPT])
    best, log_mass = normaliser(left)
    first = n = used[0]
    for start in range(0, left.size, LANES):
        bits = _reaching(left, start, bar)
        while bits:
            i = start + lowest_bit(bits)
            equals -= left[i] == bar
            if left[i] > bar or equals >= 0:
                kept_ids[n] = ids[i] if ids.size else i
                logprobs[n] = logprob(left[i], best, log_mass)
                n += 1
            bits &= bits - np.uint64(1)
    line[LISTED], used[0] = n - first, n


@kernel
def _reaching(row: Row, start: I64, floor: F32) -> Any:
    """Which of up to 64 logits from `start` on are at least `floor`."""
    if start + LANES <= row.size:
        return reaching(row, start, floor)
    bits = np.uint64(0)
    for i in range(start, row.size):
        bits |= np.uint64(row[i] >= floor) << np.uint64(i - start)
    return bits
