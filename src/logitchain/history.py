"""What was said in each row: distinct tokens with their counts, prompt and output apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .plan import BAD, BANS, BIASES, COUNTS, ENDS, OUTPUT, PROMPT

Ids = NDArray[np.int64]
Table = NDArray[np.int64]  # (3, columns)
#: Distinct token ids and how often each occurs.
Counts = tuple[Ids, Ids]

#: What a row names from its first step to its last.
FIXED = (BIASES, BANS, ENDS, BAD)


class History:
    """One row's tokens.

    A token has a column in `table` while it occurs at all: its id, how often in the prompt, how
    often in the output. So appending and taking back cost O(1), and a penalty O(distinct tokens).
    """

    def __init__(self, prompt: Ids, output: Ids) -> None:
        """Tokens that were there before the first step."""
        self.said, self.prompt_size, self.size = prompt.copy(), prompt.size, prompt.size
        ids, counts = np.unique(prompt, return_counts=True)
        self.table = np.stack([ids, counts, np.zeros_like(counts)]).astype(np.int64)
        self.columns = {token: column for column, token in enumerate(ids.tolist())}
        for token in output.tolist():
            self.append(token)

    @property
    def prompt(self) -> Ids:
        """The tokens of the prompt."""
        return self.said[: self.prompt_size]

    @property
    def output(self) -> Ids:
        """The tokens generated so far."""
        return self.said[self.prompt_size : self.size]

    def append(self, token: int) -> None:
        """Add a generated token."""
        column = self.columns.get(token)
        if column is None:
            column = self.columns[token] = len(self.columns)
            if column == self.table.shape[1]:
                self.table = _with_room(self.table, column)
            self.table[:, column] = token, 0, 0
        self.table[2, column] += 1
        if self.size == self.said.size:
            self.said = _with_room(self.said, self.size)
        self.said[self.size] = token
        self.size += 1

    def pop(self) -> None:
        """Take back the last generated token."""
        self.size -= 1
        token = int(self.said[self.size])
        column = self.columns[token]
        self.table[2, column] -= 1
        if not self.table[1:, column].any():  # the last column moves into the gap
            last = len(self.columns) - 1
            self.table[:, column] = self.table[:, last]
            self.columns[int(self.table[0, last])] = column
            del self.columns[token]

    def counts(self, scope: str) -> Counts:
        """The distinct tokens of a scope."""
        ids, in_prompt, in_output = self.table[:, : len(self.columns)]
        counts = (scope != "output") * in_prompt + (scope != "prompt") * in_output
        return ids[counts > 0], counts[counts > 0]

    def recent(self, scope: str, window: int) -> Counts:
        """The same of the last `window` tokens of a scope."""
        first = self.prompt_size if scope == "output" else 0
        stop = self.prompt_size if scope == "prompt" else self.size
        return np.unique(self.said[max(first, stop - window) : stop], return_counts=True)


class Shelf:
    """What the rows of a batch name, side by side in two arrays: `named`, with a few numbers for
    each token, and `said`, token after token. `spans` says where a row has what.
    """

    def __init__(
        self,
        histories: Sequence[History],
        fixed: Sequence[Sequence[Table]],
        spans: NDArray[np.int64],
    ) -> None:
        """Move the histories' arrays in, each with room to grow, after what never changes.

        spans   (rows, KINDS, 2), to be filled in
        """
        self.histories, self.spans = histories, spans
        tables, said = [np.empty((3, 0), np.int64)], [np.empty(0, np.int64)]
        at = first = 0
        for places, history, row in zip(spans, histories, fixed, strict=True):
            own = [*row, _with_room(history.table, len(history.columns))]
            for kind, table in zip((*FIXED, COUNTS), own, strict=True):
                places[kind] = at, at + table.shape[1]
                at += table.shape[1]
            tables += own
            said.append(_with_room(history.said, history.size))
            places[PROMPT] = first, first + said[-1].size
            first += said[-1].size
        self.named, self.said = np.concatenate(tables, axis=1), np.concatenate(said)
        for r, history in enumerate(histories):
            (start, stop), (first, end) = self.spans[r, COUNTS], self.spans[r, PROMPT]
            history.table, history.said = self.named[:, start:stop], self.said[first:end]
            self.spans[r, PROMPT, 1] = self.spans[r, OUTPUT, 0] = first + history.prompt_size
            self.moved(r)

    def moved(self, r: int) -> bool:
        """Take note that a history changed; False if it has outgrown its place."""
        history, spans = self.histories[r], self.spans[r]
        spans[COUNTS, 1] = spans[COUNTS, 0] + len(history.columns)
        spans[OUTPUT, 1] = spans[PROMPT, 0] + history.size
        return history.table.base is self.named and history.said.base is self.said


def _with_room(array: NDArray[np.int64], used: int) -> NDArray[np.int64]:
    """The part of an array that is used, and as much again for what comes."""
    bigger = np.zeros((*array.shape[:-1], 2 * used + 16), np.int64)
    bigger[..., :used] = array[..., :used]
    return bigger
