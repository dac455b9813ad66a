"""The batch: one column per field and each row's token history, for requests side by side."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rng
from .arrays import listed, one_of, show
from .numerics import MAX_VOCAB
from .params import FIELDS, Params, whole_number
from .rows import bias_arrays, token_ids

Counts = tuple[NDArray[np.int64], NDArray[np.int64]]  # distinct token ids, how often each occurs

SCOPES = ("all", "prompt", "output")


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
        return self._columns[field]

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
        bias = bias_arrays(params.logit_bias, self.vocab_size)
        handles = list(range(self._next, self._next + params.n))
        for handle, seed in zip(handles, _seeds(params), strict=True):
            history = _History(prompt, output)
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
        self._move()

    def rollback(self, row: int, k: int) -> None:
        """Take back a row's last `k` generated tokens."""
        history = self._entry(row).history
        generated = len(history.output)
        for _ in range(whole_number("k", k, f"[0, {generated}]")):
            history.pop()
        self._move()

    def remove(self, rows: int | Iterable[int]) -> None:
        """Remove a row or several; the others keep their order."""
        gone = _handles(rows)
        for handle in gone:
            self._entry(handle)
        if len(set(gone)) != len(gone):
            raise ValueError(f"rows must be distinct, not {show(gone)}")
        for handle in gone:
            del self._entries[handle]
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
        return self._entries[self.rows[r]].history.counts(scope, window)

    def biases(self) -> Iterator[tuple[int, tuple[NDArray[np.int64], NDArray[np.float64]]]]:
        """Of each row with a logit bias: its place and its token ids and numbers."""
        for r, handle in enumerate(self.rows):
            if self._entries[handle].bias[0].size:
                yield r, self._entries[handle].bias

    def _entry(self, row: int) -> "_Entry":
        if isinstance(row, (int, np.integer)) and row in self._entries:
            return self._entries[row]
        raise ValueError(f"row must be one of the batch's {len(self)} rows, not {show(row)}")

    def _stack(self) -> None:
        entries = [self._entries[handle] for handle in self.rows]
        self._columns = {
            name: np.array(
                [getattr(entry.params, name) for entry in entries],
                np.int64 if FIELDS[name].integer else np.float64,
            )
            for name in COLUMNS
        }
        self.seeds = np.array([entry.seed % 2**64 for entry in entries], np.uint64)
        self.status = ["ok"] * len(entries)
        self._move()

    def _move(self) -> None:
        lengths = [len(self._entries[handle].history.output) for handle in self.rows]
        self.positions = np.array(lengths, np.uint64)


COLUMNS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "xtc_probability",
    "xtc_threshold",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
)


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
    """One row: its request, its seed, what was said."""

    def __init__(self, params: Params, seed: int, history: "_History", bias: Any) -> None:
        self.params, self.seed, self.history, self.bias = params, seed, history, bias


class _History:
    """A row's tokens, and the distinct ones with their counts in prompt and output apart.

    A token has a slot in three parallel arrays while it occurs at all, so that appending and taking
    back cost O(1) and a penalty O(distinct tokens).
    """

    def __init__(self, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> None:
        self.prompt, self.output = prompt, list[int]()
        self.ids, counts = np.unique(prompt, return_counts=True)
        self.in_prompt = counts.astype(np.int64)
        self.in_output = np.zeros_like(self.in_prompt)
        self.slots = {token: slot for slot, token in enumerate(self.ids.tolist())}
        for token in output.tolist():
            self.append(token)

    def append(self, token: int) -> None:
        slot = self.slots.setdefault(token, len(self.slots))
        if slot == self.ids.size:
            self._grow()
        if slot == len(self.slots) - 1 and self.in_prompt[slot] + self.in_output[slot] == 0:
            self.ids[slot] = token
        self.in_output[slot] += 1
        self.output.append(token)

    def pop(self) -> None:
        slot = self.slots[token := self.output.pop()]
        self.in_output[slot] -= 1
        if self.in_prompt[slot] + self.in_output[slot] == 0:  # the last slot moves into the gap
            last = len(self.slots) - 1
            self.slots[int(self.ids[last])] = slot
            for column in (self.ids, self.in_prompt, self.in_output):
                column[slot] = column[last]
                column[last] = 0
            del self.slots[token]

    def counts(self, scope: str, window: int | None) -> Counts:
        one_of("scope", scope, SCOPES)
        if window is not None:
            return self._recent(scope, whole_number("window", window, "[0, inf)"))
        used = len(self.slots)
        counts = np.zeros(used, np.int64)
        if scope != "output":
            counts += self.in_prompt[:used]
        if scope != "prompt":
            counts += self.in_output[:used]
        occurs = counts > 0
        return self.ids[:used][occurs], counts[occurs]

    def _recent(self, scope: str, window: int) -> Counts:
        output = self.output[-window:] if window and scope != "prompt" else []
        rest = 0 if scope == "output" else window - len(output)
        prompt = self.prompt[-rest:] if rest else self.prompt[:0]
        return np.unique(np.append(prompt, np.array(output, np.int64)), return_counts=True)

    def _grow(self) -> None:
        for name in ("ids", "in_prompt", "in_output"):
            old = getattr(self, name)
            bigger = np.zeros(max(16, 2 * old.size), np.int64)
            bigger[: old.size] = old
            setattr(self, name, bigger)
