"""What a chain tells of the tokens that it draws: log-probabilities, kept sets, ranks."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batch import Batch
from .fused.tables import (
    ARENA,
    ARENA_SIZE,
    ENTROPY_OF,
    GIVEN,
    IS_TRUNCATED,
    KEPT_MASS,
    LISTED,
    LOGPROBS_OF,
    MOST_KEPT,
    NAMED,
    NAMED_LOGPROBS,
    NAMED_SIZE,
    NOTHING,
    PROCESSED,
    RANK,
    RAW,
    RAW_KIND,
    RAW_ROW,
    RAW_SIZE,
    REPORT_OF,
    REPORT_WIDTH,
    TOP_LOGPROBS,
    WANTS,
    WANTS_MASS,
    WANTS_RANK,
    Drawn,
    drawn_with_logprobs,
)
from .inputs.logits import Stored
from .numeric.blocks import FLOAT32
from .params import TokenIds, whole_number
from .presets import Part

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

#: A row on its way through a chain: after so many parts, and so many controls of the next one.
Place = tuple[int, int]
PLACES: dict[str, Place] = {"raw": (0, 0), "processed": (-1, -1)}  # -1: all

_NO_LONGS, _NO_IDS = np.empty(0, np.int64), np.empty(0, np.int32)
_NO_FLOATS, _NO_FLAGS = np.empty(0, np.float32), np.empty(0, np.bool_)
_NO_LINES = np.empty((0, REPORT_WIDTH), np.int64)


class Sampled(NamedTuple):
    """Tokens and what is known of them, as `Chain.sample_with_logprobs` returns them.

    tokens           int64 (rows,): the tokens; -1 for a row that was marked
    logprobs         float32 (rows,): the log-probability of each; -inf for a row that was marked
    top_ids          int64 (rows, n): the best tokens, best first, as many as the row's request asks
                     for; -1 behind them, and where fewer are left. n is the most that any asks for
    top_logprobs     float32 (rows, n): their log-probabilities; -inf where `top_ids` is -1
    named_logprobs   for each row float32: the log-probabilities of its request's
                     `logprob_token_ids`, in their order; -inf for a token that was removed

    With `kept`, and otherwise of size 0:

    kept_offsets     int64 (rows + 1,): the kept tokens of row r are those from `kept_offsets[r]` up
                     to `kept_offsets[r + 1]`; a row that was marked has none
    kept_ids         int32 (all kept,): the tokens that could have been drawn, ascending in a row
    kept_logprobs    float32 (all kept,): their log-probabilities in the processed row
    kept_truncated   bool (rows,): whether more tokens were kept than are listed; then the best are
                     listed, and their log-probabilities are still over all

    With `details`, and otherwise of size 0:

    ranks            int64 (rows,): the place of the token in the order, 1 for the best; 0 for a row
                     that was marked
    entropy          float32 (rows,): the entropy in nats of the row that `logprobs` are of
    kept_mass        float32 (rows,): the probability of all kept tokens in the unprocessed row
    """

    tokens: Longs
    logprobs: Floats
    top_ids: Longs
    top_logprobs: Floats
    named_logprobs: Sequence[Floats] = ()
    kept_offsets: Longs = _NO_LONGS
    kept_ids: NDArray[np.int32] = _NO_IDS
    kept_logprobs: Floats = _NO_FLOATS
    kept_truncated: NDArray[np.bool_] = _NO_FLAGS
    ranks: Longs = _NO_LONGS
    entropy: Floats = _NO_FLOATS
    kept_mass: Floats = _NO_FLOATS

    def kept_set(self, r: int) -> tuple[NDArray[np.int32], Floats]:
        """(ids, log-probabilities) of the kept tokens of a row; none without `kept`."""
        if not self.kept_offsets.size:
            return _NO_IDS, _NO_FLOATS
        row = slice(self.kept_offsets[r], self.kept_offsets[r + 1])
        return self.kept_ids[row], self.kept_logprobs[row]

    def rows(self) -> Iterator[tuple[int, float, tuple[list[Any], ...]]]:
        """Each row's part, as `Choice.append` takes it: token, logprob, top."""
        named = [(part.tolist(),) if part.size else () for part in self.named_logprobs]
        best = zip(self.top_ids.tolist(), self.top_logprobs.tolist(), strict=True)
        top = ((*pair, *more) for pair, more in zip(best, named, strict=True))
        return zip(self.tokens.tolist(), self.logprobs.tolist(), top, strict=True)


def joined(rows: Sequence[tuple[Sampled, int]]) -> Sampled:
    """One result of several: of each the row with a number."""

    def column(name: str) -> NDArray[Any]:
        columns = [getattr(sampled, name) for sampled, _ in rows]
        if columns[0].ndim == 1 and not columns[0].size:  # it was not asked for
            return np.asarray(columns[0])
        return np.stack([part[r] for part, (_, r) in zip(columns, rows, strict=True)])

    sets = [sampled.kept_set(r) for sampled, r in rows]
    ends = np.cumsum([0, *(ids.size for ids, _ in sets)], dtype=np.int64)
    return Sampled(
        *(column("tokens"), column("logprobs"), column("top_ids"), column("top_logprobs")),
        named_logprobs=[sampled.named_logprobs[r] for sampled, r in rows],
        kept_offsets=ends if rows[0][0].kept_offsets.size else _NO_LONGS,
        kept_ids=np.concatenate([ids for ids, _ in sets]),
        kept_logprobs=np.concatenate([logprobs for _, logprobs in sets]),
        kept_truncated=column("kept_truncated"),
        ranks=column("ranks"),
        entropy=column("entropy"),
        kept_mass=column("kept_mass"),
    )


class Report:
    """What a call is to find out of its rows beside their tokens, and room for it."""

    def __init__(
        self,
        given: Stored,
        batch: Batch,
        parts: Sequence[Part],
        places: Sequence[Place],
        kept: bool | int,
        details: bool,
        tokens: Longs | None,
    ) -> None:
        """Of the rows of a batch.

        places   of which row each row's log-probabilities are, or one for all
        tokens   (rows,) the tokens, if they are given; negative for a row without one
        """
        count, vocab = len(batch), given.shape[-1]
        self.most_kept, self._details, self._tokens = _most_kept(kept, vocab), details, tokens
        self._arenas: dict[int, tuple[NDArray[np.int32], Floats]] = {}
        kinds = [_kind(place, parts) for place in places]
        self._later: list[tuple[int, Place]] = []
        if NOTHING in kinds:
            each = zip(range(count), cycle(places), cycle(kinds), strict=False)
            self._later = [(r, place) for r, place, kind in each if kind == NOTHING]
        self._saved: dict[int, Stored] = {}

        wishes, n = batch.requests.table[:, TOP_LOGPROBS:LOGPROBS_OF], 0
        self._lines, self._named = _NO_LINES, [_NO_FLOATS] * count
        if wishes.any():
            wishes = wishes.view(np.float64)
            n = min(int(wishes[:, 0].max()), vocab)
            sizes = wishes[:, 1].astype(np.int64)
            self._named = np.split(np.full(sizes.sum(), -np.inf, np.float32), np.cumsum(sizes)[:-1])
        self.drawn = drawn_with_logprobs(kinds[0] + GIVEN * (tokens is not None), count, n)
        if tokens is not None:
            self.drawn.tokens[:, 0] = np.maximum(tokens, 0)
        if self.most_kept or details or len({*kinds}) > 1 or any(x.size for x in self._named):
            self._fill(given, batch, kinds)

    def _fill(self, given: Stored, batch: Batch, kinds: list[int]) -> None:
        """Fill in what is wanted of each row."""
        self._lines = lines = np.zeros((len(batch), REPORT_WIDTH), np.int64)
        vocab = given.shape[-1]
        self.drawn = self.drawn._replace(report=lines.ctypes.data)
        lines[:, REPORT_OF], lines[:, WANTS] = kinds, (WANTS_RANK + WANTS_MASS) * self._details
        read: NDArray[Any] = given.wide if given.kind == FLOAT32 else given.narrow
        lines[:, RAW_KIND], lines[:, RAW_SIZE] = given.kind, vocab
        lines[:, RAW_ROW] = read.ctypes.data + np.arange(len(lines)) * vocab * read.itemsize
        lines[:, MOST_KEPT] = self.most_kept
        for line, row, named in zip(lines, batch.rows, self._named, strict=True):
            if named.size:
                ids = TokenIds.checked("", batch.params(row).logprob_token_ids).array
                where = ids.ctypes.data, named.ctypes.data, named.size
                line[[NAMED, NAMED_LOGPROBS, NAMED_SIZE]] = where

    # ---- kept sets, which share an arena for each share of rows

    def arena(self, first: int, last: int) -> Longs:
        """Memory for the kept tokens of some rows; `take` copies what they used of it."""
        size = (last - first) * self.most_kept
        memory = np.empty(1 + size, np.int64)
        memory[0] = 0
        self._lines[first:last, [ARENA, ARENA_SIZE]] = memory.ctypes.data, size
        return memory

    def take(self, first: int, memory: Longs) -> None:
        """Copy the kept tokens of the rows from `first` on out of their arena."""
        used, size = int(memory[0]), memory.size - 1
        ids, logprobs = memory[1:].view(np.int32), memory[1:].view(np.float32)
        self._arenas[first] = ids[:used].copy(), logprobs[size : size + used].copy()

    # ---- rows that the last pass does not have: the steps up to there run again, one row at a time

    def save(self, p: int, given: Stored) -> None:
        """Keep the rows before a part that are needed later; after a callable they will change."""
        for r, place in self._later:
            if place[0] == p:
                one = given.only(r)
                self._saved[r] = one._replace(wide=one.wide.copy()) if p else one

    def later(self) -> Iterator[tuple[int, Place, Stored, Drawn]]:
        """Each of these rows, its place, what its steps begin with, and room for the result."""
        for r, place in self._later:
            if self.tokens[r] >= 0:
                report = 0
                if len(self._lines):
                    line = self._lines[r]
                    line[REPORT_OF], line[MOST_KEPT] = PROCESSED, 0
                    line[WANTS] &= WANTS_RANK
                    report = line.ctypes.data
                _, _, tokens, logprobs = self.drawn
                row = slice(r, r + 1)
                room = Drawn(PROCESSED + GIVEN, report, tokens[row], logprobs[row])
                yield r, place, self._saved[r], room

    # ---- the result

    @property
    def tokens(self) -> Longs:
        """(rows,): the tokens, -1 for a row without one."""
        return self.drawn.tokens[:, 0] if self._tokens is None else self._tokens

    def sampled(self) -> Sampled:
        """What was found."""
        tokens, top, logprobs = self.tokens.copy(), self.drawn.tokens[:, 1:], self.drawn.logprobs
        marked = tokens < 0
        if marked.any():
            top[marked], logprobs[marked] = -1, -np.inf
            for r in np.flatnonzero(marked).tolist():
                self._named[r][:] = -np.inf
        result = Sampled(tokens, logprobs[:, 0], top, logprobs[:, 1:], self._named)
        if self.most_kept:
            listed = self._lines[:, LISTED]
            ids, kept_logprobs = (np.concatenate(x) for x in zip(*self._in_order(), strict=True))
            if marked.any():  # of a row that a callable's part has marked some may be listed
                stays = np.repeat(~marked, listed)
                ids, kept_logprobs = ids[stays], kept_logprobs[stays]
            ends = np.cumsum(np.where(marked, 0, listed), dtype=np.int64)
            result = result._replace(
                kept_offsets=np.concatenate([np.zeros(1, np.int64), ends]),
                kept_ids=ids,
                kept_logprobs=kept_logprobs,
                kept_truncated=(self._lines[:, IS_TRUNCATED] != 0) & ~marked,
            )
        if self._details:
            numbers = self._lines.view(np.float64)
            result = result._replace(
                ranks=np.where(marked, 0, self._lines[:, RANK]),
                entropy=np.where(marked, np.nan, numbers[:, ENTROPY_OF]).astype(np.float32),
                kept_mass=np.where(marked, 0.0, numbers[:, KEPT_MASS]).astype(np.float32),
            )
        return result

    def _in_order(self) -> list[tuple[NDArray[np.int32], Floats]]:
        """The kept tokens of all shares, in the order of the rows."""
        return [self._arenas[first] for first in sorted(self._arenas)] or [(_NO_IDS, _NO_FLOATS)]


def _kind(place: Place, parts: Sequence[Part]) -> int:
    """RAW or PROCESSED if the pass that draws has the row of a place, or NOTHING."""
    if place == PLACES["raw"] and len(parts) == 1:
        return RAW
    at_end = len(parts) - 1, len(parts[-1].program.controls)
    return PROCESSED if place in (PLACES["processed"], at_end) else NOTHING


def _most_kept(kept: bool | int, vocab: int) -> int:
    """How many kept tokens of a row to list at most."""
    if kept is None or isinstance(kept, (bool, np.bool_)):
        return vocab if kept else 0
    return min(whole_number("kept", kept, "[1, inf)"), vocab)
