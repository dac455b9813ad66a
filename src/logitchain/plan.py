"""What the kernels are told, as arrays: a chain's steps, a batch's requests, scratch for a row.

A control has a number, its place in `NAMES`: a step says it, and a request's value for it is in the
column of that number.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import Ids, block_count
from .jit import part, spliced
from .lanes import LANES
from .numerics import I64, Row

#: The named controls, in the default order: those that mask, those that change the order, and then
#: those that keep it and remove from one of its ends.
NAMES = (
    "token_bitmask",
    "allowed_tokens",
    "banned_tokens",
    "min_tokens",
    "no_repeat_ngram",
    "bad_words",
    "logit_bias",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "xtc",
)
TOKEN_BITMASK, ALLOWED, BANNED, MIN_TOKENS, NO_REPEAT, BAD_WORDS = range(6)
MASKS = NAMES[:6]
BIAS, REPETITION, FREQUENCY, PRESENCE = range(6, 10)
TEMPERATURE, TOP_K, TOP_P, MIN_P, XTC = range(10, 15)

#: The columns of what a row's request asks: a number, or of a list how long it is.
ASKED = (*NAMES[:XTC], "xtc_probability", "xtc_threshold", "n")
THRESHOLD = XTC + 1
OFF = tuple(float(name in ("repetition_penalty", "temperature", "top_p")) for name in ASKED)

#: What a row has in `Requests.named`: its bias, the counts of its history, and token lists ...
BIASES, COUNTS, BANS, ENDS, BAD = map(np.int64, range(5))
#: ... and in `Requests.said`.
PROMPT, OUTPUT = map(np.int64, (5, 6))
KINDS = 7

#: Which tokens of a history count, as a step has it.
SCOPES = ("all", "prompt", "output")
PROMPT_ONLY, OUTPUT_ONLY = map(np.int64, (1, 2))


class Steps(NamedTuple):
    """A chain's named controls."""

    table: NDArray[np.int64]  # (steps, 3) each one's control; option; window or marks, -1 for none
    marks: NDArray[np.bool_]  # (protections, vocab)


class Requests(NamedTuple):
    """A batch's rows."""

    columns: NDArray[np.int64]  # (rows, WIDTH) each row's `Columns`, side by side
    named: NDArray[np.int64]  # (3, n) tokens; each with its bias as bits, or counts, or a number
    said: NDArray[np.int64]  # (n,) the rows' prompts and outputs, in order
    words: NDArray[np.uint64]  # (rows or 0, 2, blocks) token bitmask and allowed tokens, bit by bit


class Columns(NamedTuple):
    """A row, or all rows: each array has an axis less then."""

    asked: NDArray[np.float64]  # (rows, ASKED)
    key: NDArray[np.uint64]  # (rows, 2) seed and position
    spans: NDArray[np.int64]  # (rows, KINDS, 2) from where to where a row has each kind


_A = len(ASKED)
WIDTH = _A + 2 + 2 * KINDS


def columns(table: NDArray[np.int64]) -> Columns:
    """The columns of a table of rows (rows, WIDTH), in place."""
    spans = table[:, _A + 2 :].reshape(len(table), KINDS, 2)
    return Columns(table[:, :_A].view(np.float64), table[:, _A : _A + 2].view(np.uint64), spans)


@spliced
def columns_of(table: NDArray[np.int64], r: I64) -> Columns:
    """The same of one row, its spans one after the other."""
    row = table[r]
    return Columns(
        part(row, 0, _A, np.float64),
        part(row, _A, 2, np.uint64),
        part(row, _A + 2, 2 * KINDS, np.int64),
    )


class Scratch(NamedTuple):
    """Memory for one row, used again for the next."""

    places: NDArray[np.int64]  # (blocks * 64,) where named tokens are
    counts: NDArray[np.int64]  # (blocks * 64,) how often each occurs, or its bias
    masses: NDArray[np.int64]  # (blocks * 64,)
    own: Row  # (blocks * 64,) blocks that had to be changed
    values: Row  # (vocab,) the survivors' logits
    ids: Ids  # (vocab,) which tokens survive, ascending
    words: NDArray[np.uint64]  # (blocks,) a mask
    peaks: Row  # (blocks,)
    buffer: Row  # (64,) a block
    is_own: NDArray[np.bool_]  # (blocks,)


def scratch(vocab: int) -> NDArray[np.uint8]:
    """Scratch for rows of this length, in one piece: each array that a call has costs 80 ns."""
    number = block_count(vocab)
    return np.empty(36 * number * LANES + 13 * number + 4 * LANES, np.uint8)


@spliced
def lay_out(memory: NDArray[np.uint8], vocab: I64) -> Scratch:
    """What is where in there."""
    number = (vocab + LANES - 1) // LANES
    whole = number * LANES
    rest = 36 * whole
    return Scratch(
        part(memory, 0, whole, np.int64),
        part(memory, 8 * whole, whole, np.int64),
        part(memory, 16 * whole, whole, np.int64),
        part(memory, 24 * whole, whole, np.float32),
        part(memory, 28 * whole, vocab, np.float32),
        part(memory, 32 * whole, vocab, np.int32),
        part(memory, rest, number, np.uint64),
        part(memory, rest + 8 * number, number, np.float32),
        part(memory, rest + 12 * number, LANES, np.float32),
        part(memory, rest + 12 * number + 4 * LANES, number, np.bool_),
    )


class Drawn(NamedTuple):
    """What a call fills in, a row each: the token drawn and then, with the log-probabilities of
    all, the n best tokens, best first.
    """

    of: int  # NOTHING, RAW or PROCESSED: which row the log-probabilities are of
    tokens: NDArray[np.int64]  # (rows, 1 + n); -1 where there is none
    logprobs: NDArray[np.float32]  # (rows, 1 + n); -inf there; (0, 1) if they are not wanted


NOTHING, RAW, PROCESSED = range(3)
_NO_LOGPROBS = np.empty((0, 1), np.float32)


def drawn(rows: int) -> Drawn:
    """Room for tokens."""
    return Drawn(NOTHING, np.empty((rows, 1), np.int64), _NO_LOGPROBS)


def drawn_with_logprobs(of: int, rows: int, n: int) -> Drawn:
    """Room for tokens and log-probabilities."""
    shape = rows, 1 + n
    return Drawn(of, np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))


#: In the place of rows to fill in, where tokens are drawn.
NO_ROWS = np.empty((0, 0), np.float32)


class Task(NamedTuple):
    """One row's work."""

    table: NDArray[np.int64]  # (steps, 3) the steps that do something to this row
    asked: NDArray[np.float64]
    seed: Any
    position: Any
    spans: NDArray[np.int64]
    named: NDArray[np.int64]
    said: NDArray[np.int64]
    given_words: NDArray[np.uint64]  # (2, blocks), or nothing
    marks: NDArray[np.bool_]
    here: Scratch


class Floor(NamedTuple):
    """What is known of a row's survivors before any is looked at."""

    logit: Any  # nothing under it survives; NO_CUT if nothing is known
    weighs: Any  # the step, a top_p, that needs the mass of all tokens; or -1
    heat_before: Any  # the temperature before that step
    heat: Any  # the temperature at the end
    is_loose: Any  # whether no other step removes anything: then the draw may come first
