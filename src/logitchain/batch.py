"""The batch: one column per field and each row's token history, for requests side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rng
from .arrays import buffer, listed, one_of, show
from .blocks import block_count
from .controls.bans import allow, flat
from .controls.token_bitmask import ALL, Words, packed
from .history import Counts, History, Shelf, Table
from .numerics import MAX_VOCAB
from .params import FIELDS, Params, whole_number
from .plan import ASKED, NO_REPEAT, SCOPES, TOKEN_BITMASK, WIDTH, Requests, columns
from .rows import bias_arrays, phrase_arrays, token_ids

#: More tokens than any row says, and still an int64.
_MOST = 2**62

#: The fields of which a batch has a column.
NUMERIC = tuple(x for x in ASKED if x in FIELDS and isinstance(FIELDS[x].off, (int, float)))


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

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy: arrays that shared memory no longer do, until its rows are laid out anew."""
        self.__dict__.update(state)
        self._stack_again()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __getitem__(self, field: str) -> NDArray[Any]:
        """The column of a numeric field: one value per row, in order."""
        column = self._columns.asked[:, ASKED.index(one_of("field", field, NUMERIC))]
        return column.astype(np.int64) if FIELDS[field].integer else column

    @property
    def seeds(self) -> NDArray[np.uint64]:
        """Each row's seed, modulo 2**64."""
        return self._columns.key[:, 0]

    @property
    def positions(self) -> NDArray[np.uint64]:
        """How many tokens each row has generated."""
        return self._columns.key[:, 1]

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
        fixed = _fixed(params, self.vocab_size)
        words = _words(params, self.vocab_size)
        handles = list(range(self._next, self._next + params.n))
        for handle, seed in zip(handles, _seeds(params), strict=True):
            history = History(prompt, output)
            self._entries[handle] = _Entry(params, seed, history, fixed, words)
        self._next += params.n
        self.rows += handles
        self._stack()
        return handles

    def append(self, tokens: Sequence[int], rows: int | Iterable[int] | None = None) -> None:
        """Add one generated token to each row, or to each of `rows`, which may name a row again."""
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
        generated = entry.history.output.size
        for _ in range(whole_number("k", k, f"[0, {generated}]")):
            entry.history.pop()
        self._move([entry])

    def follow(self, row: int, output_tokens: Sequence[int]) -> None:
        """Make a row's generated tokens these, as an engine has them that keeps them itself.

        What they share with the row's own stays: a token more costs what `append` costs, and a look
        at the others.

        >>> batch = Batch(vocab_size=100)
        >>> (row,) = batch.add(Params(seed=7), output_tokens=[40, 50])
        >>> batch.follow(row, [40, 60, 70])
        >>> batch.output(row)
        [40, 60, 70]
        """
        entry = self._entry(row)
        tokens = token_ids("output_tokens", output_tokens, self.vocab_size)
        ours = entry.history.output
        size = min(ours.size, tokens.size)
        differs = np.flatnonzero(ours[:size] != tokens[:size])
        same = int(differs[0]) if differs.size else size
        for _ in range(ours.size - same):
            entry.history.pop()
        for token in tokens[same:].tolist():
            entry.history.append(token)
        self._move([entry])

    def reorder(self, rows: Sequence[int]) -> None:
        """List the rows in another order: that in which an engine has their logits.

        >>> batch = Batch(vocab_size=100)
        >>> first, second = batch.add(Params(n=2, seed=7))
        >>> batch.reorder([second, first])
        >>> batch.index(first)
        1
        """
        handles = _handles(rows)
        for handle in handles:
            self._entry(handle)
        if sorted(handles) != sorted(self.rows):
            raise ValueError(f"rows must be all of the batch's {len(self)}, not {show(handles)}")
        status = [self.status[self.index(handle)] for handle in handles]
        self.rows = [int(handle) for handle in handles]
        self._stack()
        self.status = status

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

    def set_mask(self, row: int, mask: Any, *, tail: str = "mask") -> None:
        """Set what `token_bitmask` lets a row say, from now on until it is set again.

        mask   int32 or uint32 words as `logitchain.token_bitmask` takes them, or None: all tokens
        tail   what becomes of tokens beyond the mask's last bit: "mask", "keep" or "error"
        """
        entry = self._entry(row)
        if mask is None:
            words = np.full(block_count(self.vocab_size), ALL)
        else:
            given = buffer("mask", mask)
            if given.ndim != 1:
                raise TypeError(f"mask must be the words of one row, not {show(mask)}")
            words = packed(given, self.vocab_size, tail)[0]
        if entry.words is None:
            entry.words = np.full((2, words.size), ALL)
            self._stack_again()
        entry.has_mask = mask is not None
        self._columns.asked[entry.place, TOKEN_BITMASK] = entry.has_mask
        self.requests.words[entry.place, 0] = words

    def has_mask(self, row: int) -> bool:
        """Whether a row has a token bitmask."""
        return self._entry(row).has_mask

    def params(self, row: int) -> Params:
        """The request of a row."""
        return self._entry(row).params

    def seed(self, row: int) -> int:
        """The seed that gives this row's tokens alone, whatever the request's n was."""
        return self._entry(row).seed

    def prompt(self, row: int) -> list[int]:
        """A row's prompt tokens."""
        return list(self._entry(row).history.prompt.tolist())

    def output(self, row: int) -> list[int]:
        """A row's generated tokens."""
        return list(self._entry(row).history.output.tolist())

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

    def _entry(self, row: int) -> "_Entry":
        if isinstance(row, (int, np.integer)) and row in self._entries:
            return self._entries[row]
        raise ValueError(f"row must be one of the batch's {len(self)} rows, not {show(row)}")

    def _stack(self) -> None:
        """Lay the rows out anew: they came, went, or have more to say than there was room for."""
        entries = [self._entries[handle] for handle in self.rows]
        for r, entry in enumerate(entries):
            entry.place = r
        table = np.zeros((len(entries), WIDTH), np.int64)
        self._columns = columns(table)
        for r, entry in enumerate(entries):
            self._columns.asked[r] = _asked(entry)
            self._columns.key[r] = entry.seed % 2**64, entry.history.output.size
        histories, fixed = [e.history for e in entries], [e.fixed for e in entries]
        self._shelf = Shelf(histories, fixed, self._columns.spans)
        words = _stacked(entries, block_count(self.vocab_size))
        self.requests = Requests(table, self._shelf.named, self._shelf.said, words)
        self.status = ["ok"] * len(entries)

    def _stack_again(self) -> None:
        """The same, of rows that go on."""
        status = self.status
        self._stack()
        self.status = status

    def _move(self, entries: Iterable["_Entry"]) -> None:
        """Take note that rows have said more, or less."""
        fits = True
        for entry in entries:
            history = entry.history
            self._columns.key[entry.place, 1] = history.size - history.prompt_size
            fits &= self._shelf.moved(entry.place)
        if not fits:
            self._stack_again()


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

    def __init__(
        self, params: Params, seed: int, history: History, fixed: list[Table], words: Words | None
    ) -> None:
        self.params, self.seed, self.history, self.fixed = params, seed, history, fixed
        self.words = words  # (2, blocks), its bitmask and its allowed tokens, if it has either
        self.place = 0
        self.has_mask = False


def _fixed(params: Params, vocab: int) -> list[Table]:
    """What a request names, as `history.FIXED` lists it."""
    biased, values = bias_arrays(params.logit_bias, vocab)
    bans = token_ids("banned_tokens", params.banned_tokens, vocab)
    ends = token_ids("eos_token", params.eos_token, vocab)
    bad, sizes = flat(phrase_arrays("bad_words", params.bad_words, vocab))
    pairs = (biased, values.view(np.int64)), (bans, bans), (ends, ends), (bad, sizes)
    return [np.stack([tokens, numbers, np.zeros_like(tokens)]) for tokens, numbers in pairs]


def _words(params: Params, vocab: int) -> Words | None:
    """Room for a bitmask, and a request's allowed tokens as one; None if there are none."""
    ids = token_ids("allowed_tokens", params.allowed_tokens, vocab)
    if not ids.size:
        return None
    words = np.full((2, block_count(vocab)), ALL)
    allow(words[1], ids)
    return words


def _stacked(entries: list[_Entry], blocks: int) -> Words:
    """The words of all rows, (rows, 2, blocks), in which each row's own are from now on."""
    if all(entry.words is None for entry in entries):
        return np.empty((0, 2, blocks), np.uint64)
    words = np.empty((len(entries), 2, blocks), np.uint64)
    for entry, own in zip(entries, words, strict=True):
        own[:] = ALL if entry.words is None else entry.words
        entry.words = own
    return words


def _asked(entry: _Entry) -> list[float]:
    """A row's columns: numbers, or of a list how long it is."""
    params = entry.params
    asked = [0.0 if name == "token_bitmask" else getattr(params, name) for name in ASKED]
    row = [_number(x) for x in asked]
    row[NO_REPEAT] *= row[NO_REPEAT] > 1.0  # 1 is off too: where that API has it, it is the default
    row[TOKEN_BITMASK] = entry.has_mask
    return row


def _number(value: Any) -> float:
    if isinstance(value, (tuple, Mapping)):
        return float(len(value))
    return float(min(value, _MOST) if isinstance(value, int) else value)
