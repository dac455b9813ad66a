"""What the kernels read, as arrays: a chain's steps, a batch's requests, scratch for a row."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..controls import CONTROLS
from ..controls.record import CHOICES, LISTS, MOST_FIELDS, Control
from ..numeric.blocks import Ids, block_count
from ..numeric.compile import part, spliced
from ..numeric.functions import I64, Row
from ..numeric.simd import LANES
from ..numeric.statistics import STATISTICS

#: Begins the names of columns that no request field can have.
NEXT = "next "

#: The numeric columns of the batch's table: the controls' fields, of lists the length; and what a
#: request wants to know of its tokens, `logprobs_of` as RAW, PROCESSED or AFTER_A_STEP.
VALUES = (
    *dict.fromkeys(field.name for control in CONTROLS for field in control.fields),
    *("n", "top_logprobs", "logprob_token_ids", "logprobs_of"),
)
TOP_LOGPROBS, NAMED_TOKENS, LOGPROBS_OF = range(len(VALUES) - 3, len(VALUES))

#: The columns of the controls' states: each number, and what it will be after the token drawn last.
STATES = tuple(x for control in CONTROLS for name in control.state for x in (name, NEXT + name))

#: The place of the history in `LISTS`: the list of its distinct tokens and their counts.
HISTORY_LIST = LISTS.index("history")
#: The place of the numbers of a row's watermark.
WATERMARK_LIST = LISTS.index("watermark")

#: Which tokens of a history count, as a step's option has it.
SCOPES = CHOICES["scope"]
EVERY_TOKEN, PROMPT_ONLY, OUTPUT_ONLY = map(np.int64, range(3))

#: The columns of a step: its control's kind and flags, the addresses of its functions, ...
KIND, FLAGS, KERNEL, FLOOR, IDLE, FIND, UPDATE, ADD = range(8)
NOT_COMPILED = (0, 0, 0, 0, 0, *(0 for _ in STATISTICS))
#: ... its options, the row of `Steps.marks` and of `Requests.words`, its list, the list of tokens
#: that it leaves alone, which of its fields is its window, ...
OPTION = ADD + len(STATISTICS)
WINDOW, MARKS, WORDS_OF, LIST_OF, EXEMPT, WINDOW_FIELD = range(OPTION + 1, OPTION + 7)
#: ... and of its fields and its state: how many both are, and the state alone, where in the batch's
#: table they are, their off values.
FIELD_COUNT, STATE_COUNT, COLUMNS = OPTION + 7, OPTION + 8, OPTION + 9
OFF = COLUMNS + MOST_FIELDS
#: From REPLACED on, for each control that replaces this one in the chain: the column of the field
#: that switches it on, and the off value.
REPLACED = OFF + MOST_FIELDS

#: Flags: the control divides by its first field; reads a statistic of the row; keeps a share of its
#: mass; may remove the last token; its state follows the row before it. From SWITCH on, a bit for
#: each field that switches it off.
DIVIDES, MEASURES, KEEPS_SHARE, MAY_EMPTY, FOLLOWS_BEFORE, SWITCH = 1, 2, 4, 8, 16, 32


class Steps(NamedTuple):
    """A chain's controls, and what is compiled so far."""

    table: NDArray[np.int64]  # (steps, columns); a KERNEL of 0: the control is not compiled
    marks: NDArray[np.bool_]  # (protections, vocab)
    stages: NDArray[np.int64]  # the addresses of the stages of `row.py`; 0: not compiled


class Program(NamedTuple):
    """A chain's controls, which are compiled when a row first needs them."""

    steps: Steps
    controls: tuple[Control, ...]

    def compile(self, s: int) -> None:
        """Compile the control of a step."""
        self.steps.table[s, KERNEL:OPTION] = self.controls[s].compiled()

    def only(self, which: slice) -> "Program":
        """Some of the steps."""
        some = self.steps._replace(table=self.steps.table[which])
        return Program(some, self.controls[which])


_A = len(VALUES) + len(STATES)

#: The columns of a row in the batch's table: the values, the states, the seed and the position, ...
SEED, POSITION = _A, _A + 1
#: ... for each list in `LISTS` the address, size and capacity of an array (3, capacity). A column
#: of that array is a token and two numbers: the bits of its bias and 0; or, for the distinct tokens
#: of a history, how often the token occurs in the prompt and in the output, ...
LIST, LIST_COLUMNS = _A + 2, 3
ADDRESS, SIZE, CAPACITY = range(3)
DISTINCT = LIST + LIST_COLUMNS * HISTORY_LIST
#: ... the history's address, the prompt's size and the whole size, the address of the gaps, 0 if
#: they are not kept, ...
HISTORY = LIST + LIST_COLUMNS * len(LISTS)
PROMPT_SIZE, HISTORY_SIZE, GAPS = range(HISTORY + 1, HISTORY + 4)
#: ... the token that was drawn last, if a state depends on it, or else -1, ...
PENDING = HISTORY + 4
#: ... and the address of its words, (2, blocks), 0 if it has none. Further fields, and further
#: states in pairs as those of `STATES`, may follow.
WORD = HISTORY + 5
WIDTH = WORD + 1


class Requests(NamedTuple):
    """A batch's rows."""

    table: NDArray[np.int64]  # (rows, WIDTH or more)
    owners: Any  # keeps alive what the table has addresses of

    def of(self, which: slice) -> "Requests":
        """Some of the rows."""
        return self._replace(table=self.table[which])


class Scratch(NamedTuple):
    """Memory for one row, used again for the next."""

    places: NDArray[np.int64]  # (blocks * 64,) where named tokens are
    counts: NDArray[np.int64]  # (blocks * 64,) how often each occurs, or its bias
    masses: NDArray[np.int64]  # (blocks * 64,)
    changed: Row  # (blocks * 64,) blocks that had to be changed
    values: Row  # (vocab,) the survivors' logits
    ids: Ids  # (vocab,) which tokens survive, ascending
    words: NDArray[np.uint64]  # (blocks,) a mask
    peaks: Row  # (blocks,)
    buffer: Row  # (64,) a block
    is_changed: NDArray[np.bool_]  # (blocks,)


def scratch(vocab: int) -> NDArray[np.uint8]:
    """Scratch for rows of this length, in one piece: each array that a call has costs 80 ns."""
    number = block_count(vocab)
    return np.empty(36 * number * LANES + 13 * number + 4 * LANES, np.uint8)


@spliced
def lay_out(memory: NDArray[np.uint8], vocab: I64) -> Scratch:
    """The arrays of a row's scratch, as views of its memory."""
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
    """The output of a call: for each row the token drawn and the n best tokens, best first, and
    the log-probabilities of all of them.
    """

    of: int  # NOTHING, RAW or PROCESSED: which row the log-probabilities are of; + GIVEN
    report: int  # the address of the call's report (rows, REPORT_WIDTH), 0 if it has none
    tokens: NDArray[np.int64]  # (rows, 1 + n); -1 past the last token
    logprobs: NDArray[np.float32]  # (rows, 1 + n); -inf past it; (0, 1) if not requested


#: AFTER_A_STEP: of the row that some of the steps leave, for which those run once more.
RAW, PROCESSED, AFTER_A_STEP, NOTHING = range(4)
#: Added to these: the tokens are given, and are not drawn.
GIVEN = 4
_NO_LOGPROBS = np.empty((0, 1), np.float32)

#: The columns of a report. What is wanted: of which row; rank, entropy, kept mass (WANTS); the
#: addresses of named tokens and of their log-probabilities, and how many they are; how the
#: unprocessed row is stored, where, and how long it is; how many kept tokens to list at most, the
#: address of an arena that has room for them, and for how many, ...
REPORT_OF, WANTS, NAMED, NAMED_LOGPROBS, NAMED_SIZE = range(5)
RAW_KIND, RAW_ROW, RAW_SIZE, MOST_KEPT, ARENA, ARENA_SIZE = range(5, 11)
#: ... and what was found: how many kept tokens are listed, and whether more were kept; the rank;
#: as float64 the entropy and the kept mass.
LISTED, IS_TRUNCATED, RANK, ENTROPY_OF, KEPT_MASS = range(11, 16)
REPORT_WIDTH = 16
#: What a row's WANTS may ask for: rank and entropy, kept mass.
WANTS_RANK, WANTS_MASS = 1, 2


def drawn(rows: int) -> Drawn:
    """Room for tokens."""
    return Drawn(NOTHING, 0, np.empty((rows, 1), np.int64), _NO_LOGPROBS)


def given_tokens(tokens: NDArray[np.int64]) -> Drawn:
    """Tokens (rows,) that were drawn elsewhere; of a row with a negative one nothing is read."""
    return Drawn(NOTHING + GIVEN, 0, np.maximum(tokens, 0).reshape(-1, 1), _NO_LOGPROBS)


def drawn_with_logprobs(of: int, rows: int, n: int) -> Drawn:
    """Room for tokens and log-probabilities."""
    shape = rows, 1 + n
    return Drawn(of, 0, np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))


#: In the place of rows to fill in, where tokens are drawn.
NO_ROWS = np.empty((0, 0), np.float32)


class Task(NamedTuple):
    """Everything that the fused path needs for one row."""

    table: NDArray[np.int64]  # (chain's steps, columns)
    steps: NDArray[np.int64]  # (steps,) the rows of `table` that change this row
    values: NDArray[np.float64]  # (steps, MOST_FIELDS) the values of each one's fields
    seed: Any
    position: Any
    line: NDArray[np.int64]  # (WIDTH or more,) the row of the batch's table
    marks: NDArray[np.bool_]
    scratch: Scratch


class Floor(NamedTuple):
    """Bounds on the survivors of a row, from the peaks of its blocks alone."""

    logit: Any  # nothing under it survives; NO_CUT if nothing is known
    measures: Any  # the first step that needs a statistic of all tokens of the row; or -1
    divisor_before: Any  # the temperature before that step
    divisor: Any  # the temperature at the end
    can_draw_first: Any  # whether no other step removes anything: then the draw may come first
