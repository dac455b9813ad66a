"""The token history of one row: prompt and output, and distinct tokens with their counts."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Table = NDArray[np.int64]  # (3, columns)
#: Distinct token ids and how often each occurs.
Counts = tuple[Ids, Ids]

_NO_COUNTS = np.empty((3, 0), np.int64)


@dataclass(slots=True)
class History:
    """The tokens of one row, any 64-bit integers: a prompt may hold ids that are no token.

    Where penalties read them, they are counted: a token has a column in `table` while it occurs at
    all, with its id, how often it is in the prompt, and how often in the output. So `append` and
    `pop` cost O(1) on average, and a penalty O(distinct tokens). Where DRY reads them, each token
    has a gap: how far before it the same token stands, so that DRY goes from one to the one before.
    The arrays grow by doubling. Neither call overwrites earlier entries of `tokens`, so that
    `tokens` and a size restore the row if it is interrupted.
    """

    tokens: Ids  # prompt and output in order, and then room
    prompt_size: int
    size: int
    table: Table  # in use as far as `columns` goes, and then room
    columns: dict[int, int] | None  # token id -> its column; None if the tokens are not counted
    gaps: Ids | None = None  # of each of `tokens`, 0 for none; None if they are not kept
    places: dict[int, int] = field(default_factory=dict)  # token id -> its last place, with gaps
    is_moved: bool = True  # whether an array was replaced since this was last set to False

    @classmethod
    def of(cls, prompt: Ids, output: Ids, is_counted: bool, has_gaps: bool) -> "History":
        """The history of a row that has generated `output` so far."""
        size = prompt.size + output.size
        tokens = np.empty(with_room(size), np.int64)
        tokens[: prompt.size], tokens[prompt.size : size] = prompt, output
        history = cls(tokens, prompt.size, size, _NO_COUNTS, None)
        if is_counted:
            ids, columns = np.unique(tokens[:size], return_inverse=True)
            history.table = np.zeros((3, with_room(ids.size)), np.int64)
            history.table[0, : ids.size] = ids
            parts = columns[: prompt.size], columns[prompt.size :]
            for line, part in zip(history.table[1:], parts, strict=True):
                line[: ids.size] = np.bincount(part, minlength=ids.size)
            history.columns = dict(zip(ids.tolist(), range(ids.size), strict=True))
        if has_gaps:
            order = np.argsort(tokens[:size], kind="stable")
            is_same = tokens[order[1:]] == tokens[order[:-1]]
            history.gaps = np.zeros(tokens.size, np.int64)
            history.gaps[order[1:]] = is_same * (order[1:] - order[:-1])
            history.places = dict(zip(tokens[:size].tolist(), range(size), strict=True))
        return history

    @property
    def prompt(self) -> Ids:
        """The tokens of the prompt."""
        return self.tokens[: self.prompt_size]

    @property
    def output(self) -> Ids:
        """The tokens generated so far."""
        return self.tokens[self.prompt_size : self.size]

    def copied(self) -> "History":
        """A history of the same tokens in memory of its own."""
        columns = None if self.columns is None else self.columns.copy()
        tokens, table = self.tokens.copy(), self.table.copy()
        copy = replace(self, tokens=tokens, table=table, columns=columns, is_moved=True)
        if self.gaps is not None:
            copy.gaps, copy.places = self.gaps.copy(), self.places.copy()
        return copy

    def append(self, token: int) -> None:
        """Add a generated token."""
        if self.columns is not None:
            column = self.columns.get(token)
            if column is None:
                column = len(self.columns)
                if column == self.table.shape[1]:
                    self.table, self.is_moved = _grown(self.table, column), True
                self.table[:, column] = token, 0, 0
                self.columns[token] = column
            self.table[2, column] += 1
        if self.size == self.tokens.size:
            self.tokens, self.is_moved = _grown(self.tokens, self.size), True
            if self.gaps is not None:
                self.gaps = _grown(self.gaps, self.size)
        if self.gaps is not None:
            self.gaps[self.size] = self.size - self.places.get(token, self.size)
            self.places[token] = self.size
        self.tokens[self.size] = token
        self.size += 1

    def pop(self) -> None:
        """Take back the last generated token."""
        self.size -= 1
        token = int(self.tokens[self.size])
        if self.gaps is not None:
            gap = int(self.gaps[self.size])
            self.places[token] = self.size - gap
            if not gap:
                del self.places[token]
        if self.columns is None:
            return
        column = self.columns[token]
        self.table[2, column] -= 1
        if not self.table[1:, column].any():  # the last column moves into the gap
            last = len(self.columns) - 1
            self.table[:, column] = self.table[:, last]
            self.columns[int(self.table[0, last])] = column
            del self.columns[token]

    def counts(self, scope: str) -> Counts:
        """The distinct tokens of a scope."""
        if self.columns is None:
            return self.recent(scope, self.size)
        ids, in_prompt, in_output = self.table[:, : len(self.columns)]
        counts = (scope != "output") * in_prompt + (scope != "prompt") * in_output
        return ids[counts > 0], counts[counts > 0]

    def recent(self, scope: str, window: int) -> Counts:
        """The distinct tokens among the last `window` of a scope."""
        first = self.prompt_size if scope == "output" else 0
        stop = self.prompt_size if scope == "prompt" else self.size
        return np.unique(self.tokens[max(first, stop - window) : stop], return_counts=True)


def with_room(used: int) -> int:
    """The capacity of an array with so many entries in use, so that it seldom grows."""
    return 2 * used + 16


def _grown(array: NDArray[np.int64], used: int) -> NDArray[np.int64]:
    bigger = np.zeros((*array.shape[:-1], with_room(used)), np.int64)
    bigger[..., :used] = array[..., :used]
    return bigger
