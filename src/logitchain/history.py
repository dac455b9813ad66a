"""What was said in each row: distinct tokens with their counts, prompt and output apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Table = NDArray[np.int64]  # (3, columns)
#: Distinct token ids and how often each occurs.
Counts = tuple[Ids, Ids]

#: Which tokens of a history count.
SCOPES = ("all", "prompt", "output")


class History:
    """One row's tokens.

    A token has a column in `table` while it occurs at all: its id, how often in the prompt, how
    often in the output. So appending and taking back cost O(1), and a penalty O(distinct tokens).
    """

    def __init__(self, prompt: Ids, output: Ids) -> None:
        """Tokens that were there before the first step."""
        self.prompt, self.output = prompt, list[int]()
        ids, counts = np.unique(prompt, return_counts=True)
        self.table = np.stack([ids, counts, np.zeros_like(counts)]).astype(np.int64)
        self.columns = {token: column for column, token in enumerate(ids.tolist())}
        for token in output.tolist():
            self.append(token)

    def append(self, token: int) -> None:
        """Add a generated token."""
        column = self.columns.get(token)
        if column is None:
            column = self.columns[token] = len(self.columns)
            if column == self.table.shape[1]:
                self.table = _with_room(self.table, column)
            self.table[:, column] = token, 0, 0
        self.table[2, column] += 1
        self.output.append(token)

    def pop(self) -> None:
        """Take back the last generated token."""
        column = self.columns[token := self.output.pop()]
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
        output = self.output[-window:] if window and scope != "prompt" else []
        rest = 0 if scope == "output" else window - len(output)
        prompt = self.prompt[-rest:] if rest else self.prompt[:0]
        return np.unique(np.append(prompt, np.array(output, np.int64)), return_counts=True)


class Shelf:
    """What the rows of a batch name, side by side in one array: their biases, then their histories.

    A bias has a column for each token: its id, the bits of its number. `spans[0]` says where each
    row's bias is, `spans[1]` where its history is.
    """

    def __init__(self, histories: Sequence[History], biases: Sequence[Table]) -> None:
        """Move the histories' tables in, each with room to grow."""
        self.histories = histories
        rooms = [2 * len(history.columns) + 16 for history in histories]
        sizes = [bias.shape[1] for bias in biases]
        ends = np.cumsum([0, *sizes, *rooms], dtype=np.int64)
        self.spans = np.stack([ends[:-1], ends[1:]], axis=1).reshape(2, len(histories), 2)
        self.table = np.zeros((3, int(ends[-1])), np.int64)
        for (start, stop), bias in zip(self.spans[0], biases, strict=True):
            self.table[:, start:stop] = bias
        for r, history in enumerate(histories):
            start, stop = self.spans[1, r]
            used = len(history.columns)
            self.table[:, start : start + used] = history.table[:, :used]
            history.table = self.table[:, start:stop]
            self.moved(r)

    def moved(self, r: int) -> bool:
        """Take note that a history changed; False if it has outgrown its place."""
        history = self.histories[r]
        self.spans[1, r, 1] = self.spans[1, r, 0] + len(history.columns)
        return history.table.base is self.table


def _with_room(table: Table, used: int) -> Table:
    bigger = np.zeros((3, 2 * used + 16), np.int64)
    bigger[:, :used] = table[:, :used]
    return bigger
