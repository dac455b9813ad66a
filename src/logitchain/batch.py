"""The batch: one column per field and each row's token history, for requests side by side."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rng
from .arrays import listed, one_of, show
from .history import SCOPES, Counts, History, Shelf, Table
from .numerics import MAX_VOCAB
from .params import FIELDS, Params, whole_number
from .rows import bias_arrays, token_ids
from .survivors import ASKED, Requests

PENALTIES = slice(1, 4)  # their places in ASKED
PENALTIES_OFF = [FIELDS[name].off for name in ASKED[PENALTIES]]


class Batch:
    """Rows of different requests, in the order of their logits.

    A row is named by its handle, an integer that stays its own while rows come and go; `rows` lists
    the handles in order. Its position, the number of tokens it has generated, keys its draws.

    >>> batch = Batch(vocab_size=100)
    >>> rows = batch.add(Params(n=2, seed=7), prompt_tokens=[1, 2, 3])
    >>> batch.append([40, 50])
    >>> batch.output(rows[1]), batch.positions.tolist()
    ([50], [1, 1])
    """

    def __init__(self, vocab_size: int) -> None:
        """An empty batch over token ids 0 .. vocab_size - 1."""
        self.vocab_size = whole_number("vocab_size", vocab_size, f"[1, {MAX_VOCAB}]")
        self.rows: list[int] = []
        #: "ok", or why the row got no token when a chain last marked it.
        self.status: list[str] = []
        self._entries: dict[int, _Entry] = {}
        self._next = 0
        self._stack()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __getitem__(self, field: str) -> NDArray[Any]:
        """The column of a numeric field: one value per row, in order."""
        column = self._requests.asked[:, ASKED.index(field)]
        return column.astype(np.int64) if FIELDS[field].integer else column

    @property
    def seeds(self) -> NDArray[np.uint64]:
        """Each row's seed, modulo 2**64."""
        return self._requests.keys[:, 0]

    @property
    def positions(self) -> NDArray[np.uint64]:
        """How many tokens each row has generated."""
        return self._requests.keys[:, 1]

    def add(
        self,
        params: Params,
        prompt_tokens: Sequence[int] = (),
        output_tokens: Sequence[int] = (),
    ) -> list[int]:
        """Add the `params.n` rows of a request at the end; their handles.

        Sample 0 has the request's seed, the others seeds derived from it, unless the request names
        each. A row that was removed continues where it was, given its own seed, its prompt and the
        tokens it had generated as `output_tokens`.
        """
        if not isinstance(params, Params):
            raise TypeError(f"params must be a Params, not {show(params)}")
        if params.top_k > self.vocab_size:
            raise ValueError(f"top_k must be in [0, {self.vocab_size}], not {params.top_k}")
        prompt = token_ids("prompt_tokens", prompt_tokens, self.vocab_size)
        output = token_ids("output_tokens", output_tokens, self.vocab_size)
        token_ids("eos_token", params.eos_token, self.vocab_size)
        ids, values = bias_arrays(params.logit_bias, self.vocab_size)
        bias = np.stack([ids, values.view(np.int64), np.zeros_like(ids)])
        handles = list(range(self._next, self._next + params.n))
        for handle, seed in zip(handles, _seeds(params), strict=True):
            history = History(prompt, output)
            self._entries[handle] = _Entry(params, seed, history, bias)
        self._next += params.n
        self.rows += handles
        self._stack()
        return handles

    def append(self, tokens: Sequence[int], rows: int | Iterable[int] | None = None) -> None:
        """Add one generated token to each row, or to each of `rows`."""
        handles = self.rows if rows is None else _handles(rows)
        ids = token_ids("tokens", tokens, self.vocab_size).tolist()
        if len(ids) != len(handles):
            raise ValueError(f"tokens must be one per row ({len(handles)}), not {len(ids)}")
        entries = [self._entry(handle) for handle in handles]
        for entry, token in zip(entries, ids, strict=True):
            entry.history.append(token)
        self._move(entries)

    def rollback(self, row: int, k: int) -> None:
        """Take back a row's last `k` generated tokens."""
        entry = self._entry(row)
        generated = len(entry.history.output)
        for _ in range(whole_number("k", k, f"[0, {generated}]")):
            entry.history.pop()
        self._move([entry])

    def remove(self, rows: int | Iterable[int]) -> None:
        """Remove a row or several; the others keep their order."""
        gone = _handles(rows)
        for handle in gone:
            self._entry(handle)
        if len(set(gone)) != len(gone):
            raise ValueError(f"rows must be distinct, not {show(gone)}")
        for handle in gone:
            del self._entries[handle]
        if gone:
            self.rows = [handle for handle in self.rows if handle in self._entries]
            self._stack()

    def params(self, row: int) -> Params:
        """The request of a row."""
        return self._entry(row).params

    def seed(self, row: int) -> int:
        """The seed that gives this row's tokens alone, whatever the request's n was."""
        return self._entry(row).seed

    def prompt(self, row: int) -> list[int]:
        """A row's prompt tokens."""
        return [int(token) for token in self._entry(row).history.prompt]

    def output(self, row: int) -> list[int]:
        """A row's generated tokens."""
        return list(self._entry(row).history.output)

    def index(self, row: int) -> int:
        """Where a row stands in the order: which row of the logits is its own."""
        self._entry(row)
        return self.rows.index(row)

    # ---- what the controls read, by a row's place in the order

    def counts(self, r: int, scope: str = "output", window: int | None = None) -> Counts:
        """The r-th row's distinct tokens and their counts.

        scope    "all", "prompt" or "output"
        window   of these, the last so many only
        """
        history = self._entries[self.rows[r]].history
        one_of("scope", scope, SCOPES)
        if window is None:
            return history.counts(scope)
        return history.recent(scope, whole_number("window", window, "[0, inf)"))

    def requests(self, windows: Sequence[tuple[str, int]] = ()) -> Requests:
        """All rows as arrays; after the whole histories, as many more of their last tokens."""
        if not windows:
            return self._requests
        tables, spans = [self._shelf.table], [*self._shelf.spans]
        start = self._shelf.table.shape[1]
        for scope, window in windows:
            spans.append(np.zeros_like(spans[0]))
            for r, history in enumerate(self._shelf.histories):
                if (self._requests.asked[r, PENALTIES] != PENALTIES_OFF).any():
                    ids, counts = history.recent(scope, window)
                    tables.append(np.stack([ids, counts, np.zeros_like(ids)]))
                    spans[-1][r] = start, start + ids.size
                    start += ids.size
        return self._requests._replace(named=np.concatenate(tables, axis=1), spans=np.stack(spans))

    def _entry(self, row: int) -> "_Entry":
        if isinstance(row, (int, np.integer)) and row in self._entries:
            return self._entries[row]
        raise ValueError(f"row must be one of the batch's {len(self)} rows, not {show(row)}")

    def _stack(self) -> None:
        """Lay the rows out anew: they came, went, or have more to say than there was room for."""
        entries = [self._entries[handle] for handle in self.rows]
        for r, entry in enumerate(entries):
            entry.place = r
        self._shelf = Shelf([entry.history for entry in entries], [entry.bias for entry in entries])
        asked = [[float(getattr(entry.params, name)) for name in ASKED] for entry in entries]
        keys = [(entry.seed % 2**64, len(entry.history.output)) for entry in entries]
        self._requests = Requests(
            asked=np.array(asked, np.float64).reshape(len(entries), len(ASKED)),
            keys=np.array(keys, np.uint64).reshape(len(entries), 2),
            named=self._shelf.table,
            spans=self._shelf.spans,
        )
        self.status = ["ok"] * len(entries)

    def _move(self, entries: Iterable["_Entry"]) -> None:
        """Take note that rows have said more, or less."""
        fits = True
        for entry in entries:
            self._requests.keys[entry.place, 1] = len(entry.history.output)
            fits &= self._shelf.moved(entry.place)
        if not fits:
            status = self.status
            self._stack()
            self.status = status


def _handles(rows: Any) -> list[Any]:
    if isinstance(rows, (int, np.integer)):
        return [rows]
    return listed("rows", rows, "handles of the batch")


def _seeds(params: Params) -> list[int]:
    if isinstance(params.seed, tuple):
        return list(params.seed)
    first = rng.fresh_seed() if params.seed is None else params.seed
    return [rng.child_seed(first, sample) for sample in range(params.n)]


class _Entry:
    """One row: its request, its seed, what was said, its place in the order."""

    def __init__(self, params: Params, seed: int, history: History, bias: Table) -> None:
        self.params, self.seed, self.history, self.bias = params, seed, history, bias
        self.place = 0
