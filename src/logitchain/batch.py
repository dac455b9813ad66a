"""The batch: one column per field and each row's token history, for requests side by side."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from . import rng
from .controls import CONTROLS
from .controls.allowed_tokens import allow
from .controls.bad_words import flat
from .controls.dry import breaker_table
from .controls.min_tokens import endings
from .controls.reasoning import parts_of
from .controls.record import LISTS, Control, Scope, as_number
from .controls.token_bitmask import ALL, Tail, Words, packed
from .fused.tables import (
    ADDRESS,
    AFTER_A_STEP,
    CAPACITY,
    DISTINCT,
    GAPS,
    HISTORY,
    HISTORY_SIZE,
    LIST,
    LIST_COLUMNS,
    LOGPROBS_OF,
    NEXT,
    PENDING,
    POSITION,
    PROCESSED,
    PROMPT_SIZE,
    RAW,
    SCOPES,
    SEED,
    SIZE,
    STATES,
    VALUES,
    WIDTH,
    WORD,
    Requests,
)
from .history import Counts, History, Table, with_room
from .inputs.logits import history_ids, token_list
from .inputs.values import buffer, listed, one_of, show
from .numeric.blocks import block_count
from .numeric.functions import MAX_VOCAB
from .params import FIELDS, Bias, Params, Phrases, StopTokens, TokenIds, fields_of, whole_number
from .states import UNKNOWN, State, Trail, checked_state, columns_of, names_of_states, trail_of

#: The fields of which a batch has a column: numbers and flags, no lists and no objects.
NUMERIC = tuple(
    x
    for x in VALUES
    if x in FIELDS and not isinstance(FIELDS[x].off, Sized)
    if FIELDS[x].range or isinstance(FIELDS[x].off, bool)
)

#: A request's `logprobs_of` as its column has it; all else is the name of a control.
_STAGES = {"raw": RAW, "processed": PROCESSED}

_HAS_MASK, _NGRAM = VALUES.index("token_bitmask"), VALUES.index("no_repeat_ngram")

#: The names of the columns of a batch's table; "" where it is no request field.
_BASE = (*VALUES, *STATES, *[""] * (WIDTH - len(VALUES) - len(STATES)))

#: The controls that carry a state, that read how often each token of the history occurs, and that
#: read the gaps between equal tokens.
_CARRYING = [control for control in CONTROLS if control.state]
_COUNTING = [control for control in CONTROLS if control.tokens == "history"]
_FINDING = [control for control in CONTROLS if control.find is not None and control.window]


class Batch:
    """Rows of different requests, in the order of their logits.

    A row is named by its handle, an integer that stays its own while rows come and go; `rows` lists
    the handles in order, which is that of the rows of logits, of `status`, `seeds` and `positions`,
    and of the tokens that a chain draws. Its position, the number of tokens it has generated, keys
    its draws. A batch is used by one thread at a time. `vocab_size` is as it was given.

    A call that raises has either no effect or its full effect, even if a KeyboardInterrupt ends it.
    Copies, deep or not, are independent batches.

    >>> batch = Batch(vocab_size=100)
    >>> rows = batch.add(Params(n=2, seed=7), prompt_tokens=[1, 2, 3])
    >>> batch.append([40, 50])
    >>> batch.output(rows[1]), batch.positions.tolist()
    ([50], [1, 1])
    """

    def __init__(self, vocab_size: int) -> None:
        """An empty batch over token ids 0 .. vocab_size - 1."""
        #: How many tokens there are.
        self.vocab_size = whole_number("vocab_size", vocab_size, f"[1, {MAX_VOCAB}]")
        #: The callable of a chain that is running on this batch and the frame that called it.
        self.running: tuple[str, FrameType] | None = None
        self._state = _State([], [], [], {}, np.empty((0, WIDTH), np.int64), 0)

    def __getstate__(self) -> dict[str, Any]:
        """What `copy` and `pickle` copy: the rows, in memory of their own."""
        state = self._settled()
        rows = [row.copied() for row in state.entries]
        own = (rows, state.table.copy(), [*state.status], state.following, state.names)
        return {**self.__dict__, "_state": own, "running": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the addresses of this batch's own memory."""
        self.__dict__.update(state)
        rows, table, status, following, names = state["_state"]
        for line, row in zip(table, rows, strict=True):
            row.write_addresses(line)
        handles = [row.handle for row in rows]
        places = dict(zip(handles, range(len(rows)), strict=True))
        carries = any(row.trail for row in rows)
        self._state = _State(
            handles, status, rows, places, table, following, names, carries=carries
        )

    def __repr__(self) -> str:
        """How large it is."""
        count = len(self)
        return f"<Batch of {count} row{'s' * (count != 1)}, vocab_size {self.vocab_size}>"

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._state.rows)

    def __getitem__(self, field: str) -> NDArray[Any]:
        """The column of a numeric field: one value per row, in order.

        A field that is None is NaN, and so is one of a subclass of `Params` in the rows of requests
        that lack it.
        """
        state = self._state
        further = (name for name in state.names[len(_BASE) :] if not name.startswith(NEXT))
        names = (*NUMERIC, *further)
        place = state.names.index(one_of("field", field, names))
        column = self.requests.table[:, place].view(np.float64)
        is_integer = field in FIELDS and FIELDS[field].integer and FIELDS[field].off is not None
        return column.astype(np.int64) if is_integer else column

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `requests.table`, "" where it is no request field."""
        return self._state.names

    @property
    def rows(self) -> list[int]:
        """The handles of the rows, in the order of their logits; not to be written to."""
        return self._state.rows

    @property
    def status(self) -> list[str]:
        """Of each row, in order, "ok" or the reason why the last call of a chain marked it.

        A marked row has the token -1, which `append` refuses: remove the row first.

        >>> from logitchain import Chain
        >>> batch = Batch(vocab_size=2)
        >>> rows = batch.add(Params(n=2, seed=7, temperature=0))
        >>> tokens = Chain(on_invalid="mark").sample([[0.0, 1.0], [0.0, np.nan]], batch)
        >>> tokens, batch.status
        (array([ 1, -1]), ['ok', 'token 1 is nan'])
        >>> batch.remove([row for row, status in zip(rows, batch.status) if status != "ok"])
        >>> batch.append(tokens[tokens >= 0])
        """
        return self._state.status

    @status.setter
    def status(self, status: list[str]) -> None:
        self._state.status = status

    @property
    def seeds(self) -> NDArray[np.uint64]:
        """(rows,): each row's seed, modulo 2**64."""
        return self._state.table[:, SEED].astype(np.uint64)

    @property
    def positions(self) -> NDArray[np.uint64]:
        """(rows,): how many tokens each row has generated."""
        return self._settled().table[:, POSITION].astype(np.uint64)

    @property
    def requests(self) -> Requests:
        """The rows as the kernels read them."""
        state = self._settled()
        return Requests(state.table, state.entries)

    def add(
        self,
        params: Params,
        prompt_tokens: Sequence[int] = (),
        output_tokens: Sequence[int] = (),
        state: Mapping[str, float] | None = None,
        *,
        generated_before: int = 0,
    ) -> list[int]:
        """Add the `params.n` rows of a request at the end; their handles.

        Sample 0 has the request's seed, the others seeds derived from it, unless the request names
        each. A row that was removed continues where it was, given its own seed, its prompt, the
        tokens it had generated as `output_tokens` and its `state`, if one of its controls has one.

        Both histories are sequences of any 64-bit integers: multimodal prompts hold ids that are no
        token of the vocabulary. Penalties skip these; to `no_repeat_ngram` and `bad_words` each is
        a token that equals only itself.

        >>> batch = Batch(vocab_size=100)
        >>> (row,) = batch.add(Params(seed=7), prompt_tokens=[1, 1_000_000, -200])
        >>> batch.prompt(row)
        [1, 1000000, -200]

        An answer may have several turns, between which it reads tokens that it did not generate,
        such as the result of a tool. For each turn the row is removed and added again, with all
        tokens so far in their order as the prompt, and `generated_before`, how many of these it has
        generated: its position goes on from there. To the controls it is then what it would be if
        the client had sent the result in another request.

        >>> generated, result = [40, 50], [7, 8, 9]
        >>> batch.remove(row)
        >>> (row,) = batch.add(Params(seed=7), [1, *generated, *result], generated_before=2)
        >>> batch.positions.tolist(), batch.output(row)
        ([2], [])
        """
        self._check_may_change()
        if not isinstance(params, Params):
            raise TypeError(f"params must be a Params, not {show(params)}")
        params.check_vocabulary(self.vocab_size)
        prompt = history_ids("prompt_tokens", prompt_tokens)
        output = history_ids("output_tokens", output_tokens)
        start = whole_number("generated_before", generated_before, f"[0, {2**62}]")
        known = checked_state(state, self._state.names)
        lists, words = _lists(params), _words(params, self.vocab_size)
        history = History.of(prompt, output, _any_on(_COUNTING, params), _any_on(_FINDING, params))
        before, added, trail = self._settled(), [], None
        names = before.names
        if known or _any_on(_CARRYING, params) or columns_of(names).size > len(STATES) // 2:
            trail = trail_of(output.size, known, names)
        for handle, seed in enumerate(rng.sample_seeds(params.seed, params.n), before.following):
            row = _Row(handle, params, seed, lists, history, words, trail, start)
            added.append(row if params.n == 1 else row.copied())
        self._state = _joined(before, added)
        return [row.handle for row in added]

    def append(
        self, tokens: Sequence[int] | NDArray[Any], rows: int | Iterable[int] | None = None
    ) -> None:
        """Add one generated token to each row, or to each of `rows`, which may name a row again.

        tokens   one token id per row, in the order of `rows`
        rows     handles; all rows of the batch if None

        Each was drawn, so it must be in the vocabulary: the -1 of a row that a chain has marked is
        an error; see `status`. The state of a control follows a token that a chain has drawn for
        the row, and no other; see `Chain.carry`.
        """
        self._check_may_change()
        entries = [*self._settled().entries] if rows is None else self._find(rows)
        ids = token_list("tokens", tokens, self.vocab_size)
        if len(ids) != len(entries):
            raise ValueError(f"tokens must be one per row ({len(entries)}), not {len(ids)}")
        sizes = [row.history.size for row in entries]
        states = self._states_after(entries, sizes, ids)
        self._change(_Change(entries, sizes, entries, ids, states))

    def rollback(self, row: int, k: int) -> None:
        """Take back a row's last `k` generated tokens.

        Position, history and state are as they were before them. Raises ValueError if the row has
        generated fewer.
        """
        self._check_may_change()
        entry = self._entry(row)
        generated = entry.history.size - entry.history.prompt_size
        size = entry.history.size - whole_number("k", k, f"[0, {generated}]")
        if size == entry.history.size:
            return
        self._change(_Change([entry], [size], [], [], [] if self._state.carries else None))

    def state(self, row: int) -> dict[str, float]:
        """What the controls of a row carry from token to token, by name: `add` takes it again.

        Plain numbers, as JSON has them. Empty without a control that has a state, and where none is
        known: before the first token, or after tokens that were added without a state.

        >>> from logitchain import Chain
        >>> batch = Batch(vocab_size=4)
        >>> (row,) = batch.add(Params(mirostat_tau=2.0, seed=7))
        >>> batch.append(Chain().sample([[1.0, 0.0, 0.0, 0.0]], batch))
        >>> {name: round(number, 3) for name, number in batch.state(row).items()}
        {'mirostat_mu': 3.948}
        """
        entry = self._entry(row)
        return entry.trail.last(self._state.names) if entry.trail else {}

    def follow(self, row: int, output_tokens: Sequence[int]) -> None:
        """Replace a row's generated tokens by those that an engine keeps.

        They may be any 64-bit integers, as in `add`. What they share with the row's own stays: a
        token more costs what `append` costs, and a comparison for each of the others. States follow
        as in `append`.

        >>> batch = Batch(vocab_size=100)
        >>> (row,) = batch.add(Params(seed=7), output_tokens=[40, 50])
        >>> batch.follow(row, [40, 60, 70])
        >>> batch.output(row)
        [40, 60, 70]
        """
        self._check_may_change()
        entry = self._entry(row)
        tokens = history_ids("output_tokens", output_tokens)
        ours = entry.history.output
        size = min(ours.size, tokens.size)
        differs = np.flatnonzero(ours[:size] != tokens[:size])
        same = int(differs[0]) if differs.size else size
        added = tokens[same:].tolist()
        kept = entry.history.prompt_size + same
        if not added and kept == entry.history.size:
            return
        growing = [entry] * len(added)
        states = self._states_after(growing, [kept] * len(added), added)
        self._change(_Change([entry], [kept], growing, added, states))

    def reorder(self, rows: Sequence[int]) -> None:
        """List the rows in another order: that in which an engine has their logits.

        >>> batch = Batch(vocab_size=100)
        >>> first, second = batch.add(Params(n=2, seed=7))
        >>> batch.reorder([second, first])
        >>> batch.index(first)
        1
        """
        self._check_may_change()
        entries = self._find(rows)
        handles = [row.handle for row in entries]
        if sorted(handles) != sorted(self.rows):
            raise ValueError(f"rows must be all of the batch's {len(self)}, not {show(handles)}")
        if handles != self.rows:
            self._state = _selected(self._state, handles)

    def remove(self, rows: int | Iterable[int]) -> None:
        """Remove a row or several, given by their handles; the others keep their order.

        To add a row again later, read its `seed`, `prompt`, `output` and `state` before.
        """
        self._check_may_change()
        handles = [row.handle for row in self._find(rows, ordered=False)]
        gone = set(handles)
        if len(gone) != len(handles):
            raise ValueError(f"rows must be distinct, not {show(handles)}")
        if gone:
            self._state = _selected(self._state, [x for x in self.rows if x not in gone])

    def set_mask(self, row: int, mask: Any, *, tail: Tail = "mask") -> None:
        """Set what `token_bitmask` lets a row say, from now on until it is set again.

        mask   (words,), int32 or uint32: token i is bit i % 32 of word i // 32, and 1 is allowed;
               or None, which allows all tokens
        tail   what becomes of tokens beyond the mask's last bit: "mask", "keep" or "error"

        The words are copied, so the caller may write the next mask into the same array. Raises
        TypeError for words of another type or shape, ValueError for a `tail` that does not fit.

        >>> from logitchain import Chain
        >>> batch = Batch(vocab_size=3)
        >>> (row,) = batch.add(Params(temperature=0))
        >>> batch.set_mask(row, np.array([0b011], np.int32))
        >>> Chain().sample([1.0, 2.0, 3.0], batch)
        array([1])
        """
        self._check_may_change()
        entry = self._entry(row)
        if mask is None:
            one_of("tail", tail, get_args(Tail))
        else:
            given = buffer("mask", mask)
            if given.ndim != 1:
                kind = f"{given.dtype} {given.shape}"
                raise TypeError(f"mask must be int32 or uint32 words of shape (words,), not {kind}")
            words = packed(given, self.vocab_size, tail)[0]
            own = np.full((2, words.size), ALL) if entry.words is None else entry.words
            if entry.words is None:
                self._state.entries[self.index(row)] = entry._replace(words=own)
            own[0] = words
            self._state.table[self.index(row), WORD] = own.ctypes.data
        # Written last: this value alone decides whether the kernels apply the mask.
        self._state.table[self.index(row), _HAS_MASK] = np.float64(mask is not None).view(np.int64)

    def has_mask(self, row: int) -> bool:
        """Whether a row has a token bitmask."""
        return bool(self._state.table[self.index(row), _HAS_MASK])

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
        return self._state.places[self._entry(row).handle]

    # ---- what the controls read, by a row's place in the order

    def counts(self, r: int, scope: Scope = "output", window: int | None = None) -> Counts:
        """The distinct tokens of the r-th row's history and their counts, two int64 arrays.

        Raises ValueError or TypeError for an `r` that is no place in the order. The tokens may be
        any 64-bit integers, as in `add`.

        scope    "all", "prompt" or "output"
        window   of these, the last so many only
        """
        handle = self.rows[whole_number("r", r, f"[0, {len(self)})")]
        history = self._entry(handle).history
        one_of("scope", scope, SCOPES)
        if window is None:
            return history.counts(scope)
        return history.recent(scope, whole_number("window", window, "[0, inf)"))

    @contextmanager
    def trial(self) -> Iterator["Batch"]:
        """A batch of the same rows that may be appended to; after it this one is as it was.

        The two share their memory, so this one is not used meanwhile.
        """
        state = self._settled()
        rows = list(state.entries)
        sizes = [row.history.size for row in rows]
        trial = object.__new__(type(self))
        trial.__dict__.update(self.__dict__)
        trial._state = replace(state)
        state.pending = _Change(rows, sizes, [], [], [] if state.carries else None)
        yield trial
        for row, size in zip(rows, sizes, strict=True):
            if row.trail is not None:  # `append` finds the states again, one after the other
                tokens = row.history.tokens[size : row.history.size].tolist()
                states = row.trail.states[size - row.history.prompt_size :]
                row.trail.ahead = list(zip(states, tokens, states[1:], strict=False))
        if trial._state.table is state.table:  # else a change was interrupted: see `_settled`
            _apply(state.pending, state)
            state.pending = None

    @property
    def has_states(self) -> bool:
        """Whether a row carries a state."""
        return self._state.carries

    def forget_draws(self) -> None:
        """Let the states be as they are after the tokens so far, before a chain draws anew."""
        state = self._settled()
        for place in np.flatnonzero(state.table[:, PENDING] >= 0).tolist():
            trail = state.entries[place].trail
            if trail is not None:
                trail.write(state.table[place], state.names)

    def keep_states(self, names: Sequence[str]) -> None:
        """Have columns for states of these names, as `Chain.states` has them.

        A chain sees to this when it first runs on the batch. It is needed before `add` gets a state
        of a control of your own.
        """
        state = self._settled()
        kept = names_of_states(state.names)
        missing = [name for name in dict.fromkeys(names) if name not in kept]
        for name in missing:
            if name in state.names:
                raise ValueError(f"a state must not have the name of a request field, {show(name)}")
        if missing:
            self._state = _widened(state, [x for name in missing for x in (name, NEXT + name)])

    def _entry(self, row: Any) -> "_Row":
        if isinstance(row, (int, np.integer)) and not isinstance(row, bool):
            state = self._settled()
            place = state.places.get(int(row))
            if place is not None:
                return state.entries[place]
        raise ValueError(f"row must be one of the batch's {len(self)} rows, not {show(row)}")

    def _check_may_change(self) -> None:
        if self.running is not None and _is_called_by(self.running[1]):
            raise ValueError(f"batch must not change while {self.running[0]} runs on its rows")

    def _find(self, rows: Any, *, ordered: bool = True) -> list["_Row"]:
        if isinstance(rows, (int, np.integer)):
            return [self._entry(rows)]
        handles = listed("rows", rows, "handles of the batch", ordered=ordered)
        return [self._entry(row) for row in handles]

    def _change(self, change: "_Change") -> None:
        """Change histories. Once the change is pending it counts, whatever happens then."""
        state = self._state
        state.pending = change
        _apply(change, state)
        state.pending = None

    def _states_after(
        self, rows: list["_Row"], sizes: list[int], tokens: list[int]
    ) -> list[State | None] | None:
        """The state after each token that is appended to a row of this size, if the row has one.

        After a token that a chain has drawn, or a trial found, it is what follows from it; after
        any other token it is as before. None if no row has a state.
        """
        if not self._state.carries:
            return None
        states: list[State | None] = []
        latest: dict[int, State] = {}
        for row, size, token in zip(rows, sizes, tokens, strict=True):
            after = None
            if row.trail is not None and row.handle in latest:
                after = latest[row.handle] = row.trail.found(latest[row.handle], token)
            elif row.trail is not None:
                line = self._state.table[self._state.places[row.handle]]
                generated = size - row.history.prompt_size
                after = row.trail.drawn(generated, token, line, self._state.names)
                latest[row.handle] = after
            states.append(after)
        return states

    def _settled(self) -> "_State":
        """The state, after what is left to do of a change that was interrupted."""
        state = self._state
        if state.pending is None:
            return state
        table, entries = state.table.copy(), state.entries.copy()
        for row, output, trail in state.pending.outputs():
            kept = row.history.columns is not None, row.history.gaps is not None
            history = History.of(row.history.prompt, output, *kept)
            place = state.places[row.handle]
            entries[place] = entries[place]._replace(history=history, trail=trail)
            entries[place].write_addresses(table[place])
            if trail is not None:
                trail.write(table[place], state.names)
        self._state = replace(state, table=table, memory=None, entries=entries, pending=None)
        return self._state


def _is_called_by(frame: FrameType) -> bool:
    """Whether a frame is among the callers; one that an interrupt has left behind is not."""
    caller = sys._getframe()
    while caller is not None and caller is not frame:
        caller = caller.f_back  # type: ignore[assignment]
    return caller is frame


class _Row(NamedTuple):
    """One row: its request, its seed and its history, all in memory of its own."""

    handle: int
    params: Params
    seed: int
    lists: dict[int, Table]  # by place in `LISTS`, those of the request
    history: History
    words: Words | None  # (2, blocks) its bitmask and its allowed tokens, if it has either
    trail: Trail | None  # the states of its controls, if one of them carries a state
    start: int  # its position before its output: tokens that it generated in earlier turns

    def copied(self) -> "_Row":
        """A copy of the row, in memory of its own."""
        return self._replace(
            history=self.history.copied(),
            words=None if self.words is None else self.words.copy(),
            trail=None if self.trail is None else self.trail.copied(),
        )

    def write_addresses(self, line: NDArray[np.int64]) -> None:
        """Fill in where the row's memory is, in its line of the table."""
        for place, tokens in self.lists.items():
            first = LIST + LIST_COLUMNS * place
            line[first + ADDRESS] = tokens.ctypes.data
            line[first + SIZE] = line[first + CAPACITY] = tokens.shape[1]
        line[WORD] = 0 if self.words is None else self.words.ctypes.data
        self.history.is_moved = True
        self.measure(line)

    def measure(self, line: NDArray[np.int64]) -> None:
        """Fill in how long the history is, and if it has moved, where it is."""
        history = self.history
        line[POSITION] = self.start + history.size - history.prompt_size
        line[HISTORY_SIZE] = history.size
        if history.columns is not None:
            line[DISTINCT + SIZE] = len(history.columns)
        if history.is_moved:
            line[DISTINCT + ADDRESS] = history.table.ctypes.data
            line[DISTINCT + CAPACITY] = history.table.shape[1]
            line[HISTORY], line[PROMPT_SIZE] = history.tokens.ctypes.data, history.prompt_size
            line[GAPS] = 0 if history.gaps is None else history.gaps.ctypes.data
            history.is_moved = False


class _Change(NamedTuple):
    """A change of histories: rows are cut to sizes, and then tokens appended, each to its row.

    A row may be listed again. While a change is applied, only these lists and what the rows have in
    `tokens` up to their sizes can be relied on.
    """

    rows: list[_Row]  # all that change
    sizes: list[int]
    growing: list[_Row]
    tokens: list[int]
    states: list[State | None] | None  # after each of `tokens`, if the row has one; None: none has

    def outputs(self) -> Iterator[tuple[_Row, Table, Trail | None]]:
        """Each row with its output and its states after the change."""
        outputs: dict[int, tuple[_Row, list[int], list[State]]] = {}
        for row, size in zip(self.rows, self.sizes, strict=True):
            start = row.history.prompt_size
            states = row.trail.states[: size - start + 1] if row.trail else []
            outputs[row.handle] = row, row.history.tokens[start:size].tolist(), states
        afters = self.states or [None] * len(self.tokens)
        for row, token, after in zip(self.growing, self.tokens, afters, strict=True):
            outputs[row.handle][1].append(token)
            if after is not None:
                outputs[row.handle][2].append(after)
        for row, output, states in outputs.values():
            trail = replace(row.trail, states=states) if row.trail else None
            yield row, np.array(output, np.int64), trail


def _apply(change: _Change, state: "_State") -> None:
    """Apply a change in place."""
    for row, size in zip(change.rows, change.sizes, strict=True):
        while row.history.size > size:
            row.history.pop()
    for row, token in zip(change.growing, change.tokens, strict=True):
        row.history.append(token)
    for row in change.rows:
        row.measure(state.table[state.places[row.handle]])
    if change.states is not None:
        _apply_states(change, change.states, state)


def _apply_states(change: _Change, states: list[State | None], state: "_State") -> None:
    for row, size in zip(change.rows, change.sizes, strict=True):
        if row.trail is not None:
            del row.trail.states[size - row.history.prompt_size + 1 :]
    for row, after in zip(change.growing, states, strict=True):
        if row.trail is not None and after is not None:
            row.trail.states.append(after)
    for row in change.rows:
        if row.trail is not None:
            row.trail.write(state.table[state.places[row.handle]], state.names)


@dataclass(slots=True)
class _State:
    """What a batch holds. It is replaced as a whole, so that one assignment commits."""

    rows: list[int]
    status: list[str]
    entries: list[_Row]  # in order
    places: dict[int, int]  # of each handle its place in the order
    table: NDArray[np.int64]  # (rows, WIDTH or more)
    following: int  # the next handle
    names: tuple[str, ...] = _BASE  # of the columns of the table
    memory: NDArray[np.int64] | None = None  # the table, and room for more rows
    pending: _Change | None = None  # a change that counts, and may be half applied
    carries: bool = False  # whether a row has a trail


def _joined(state: _State, added: list[_Row]) -> _State:
    """The state with further rows at the end; the old one stays as it is."""
    names = (*state.names, *_further_fields(added, state.names))
    count, total, memory = len(state.rows), len(state.rows) + len(added), state.memory
    if memory is None or len(memory) < total or memory.shape[1] < len(names):
        memory = np.zeros((with_room(total), len(names)), np.int64)
        memory[:count, : state.table.shape[1]] = state.table
        memory[:count, state.table.shape[1] :] = np.float64(np.nan).view(np.int64)
    for row, line in zip(added, memory[count:], strict=False):
        _fill(line, row, names)
    handles = [row.handle for row in added]
    return _State(
        [*state.rows, *handles],
        [*state.status, *["ok"] * len(added)],
        [*state.entries, *added],
        {**state.places, **dict(zip(handles, range(count, total), strict=True))},
        memory[:total],
        state.following + len(added),
        names,
        memory,
        carries=state.carries or any(row.trail for row in added),
    )


def _widened(state: _State, names: Sequence[str]) -> _State:
    """The state with further columns, each NaN in all rows: all rows have a trail then."""
    count, old = state.table.shape
    table = np.full((count, old + len(names)), UNKNOWN, np.int64)
    table[:, :old] = state.table
    entries = [
        row if row.trail else row._replace(trail=trail_of(row.history.output.size, {}, state.names))
        for row in state.entries
    ]
    names, carries = (*state.names, *names), len(entries) > 0
    return replace(state, table=table, entries=entries, names=names, memory=None, carries=carries)


def _selected(state: _State, handles: list[int]) -> _State:
    """The state with the selected rows, in the given order."""
    places = [state.places[handle] for handle in handles]
    entries = [state.entries[place] for place in places]
    return replace(
        state,
        rows=handles,
        status=[state.status[place] for place in places],
        entries=entries,
        places=dict(zip(handles, range(len(handles)), strict=True)),
        table=state.table[places],
        memory=None,
        carries=any(row.trail for row in entries),
    )


def _further_fields(rows: Sequence[_Row], names: tuple[str, ...]) -> list[str]:
    """The numeric fields of the rows' kinds of `Params` that have no column yet."""
    kinds = dict.fromkeys(type(row.params) for row in rows)
    fields = (fields_of(kind).values() for kind in kinds if kind is not Params)
    numeric = (x for some in fields for x in some if type(x.off) in (int, float))
    return list(dict.fromkeys(x.name for x in numeric if x.name not in (*FIELDS, *names)))


def _fill(line: NDArray[np.int64], row: _Row, names: tuple[str, ...]) -> None:
    """Write a new row's line of the table: its request's values, its seed and its addresses."""
    values = [as_number(getattr(row.params, name, 0)) for name in VALUES]
    values[_NGRAM] *= values[_NGRAM] > 1.0  # 1 is off too: where that API has it, it is the default
    values[LOGPROBS_OF] = _STAGES.get(row.params.logprobs_of, AFTER_A_STEP)
    line[:] = 0
    line[: len(VALUES)] = np.array(values).view(np.int64)
    line[SEED] = np.uint64(row.seed % 2**64).view(np.int64)
    own = [float(getattr(row.params, name, np.nan)) for name in names[WIDTH:]]
    line[WIDTH:] = np.array(own, np.float64).view(np.int64)
    line[len(VALUES) : len(VALUES) + len(STATES)] = UNKNOWN
    line[PENDING] = -1
    row.write_addresses(line)
    if row.trail is not None:
        row.trail.write(line, names)


def _lists(params: Params) -> dict[int, Table]:
    """The lists of a request, by place in `LISTS`: of each token a number, and 0."""
    bias, texts = Bias.checked("logit_bias", params.logit_bias), params.banned_texts
    bans, ends, forced, exempt, never_banned = (
        TokenIds.checked("tokens", given)
        for given in (
            *(params.banned_tokens, params.eos_token, params.forced_output_tokens),
            *(params.penalty_exempt, params.ngram_exempt),
        )
    )
    bad_words = Phrases.checked("bad_words", params.bad_words)
    breakers = Phrases.checked("dry_sequence_breakers", params.dry_sequence_breakers)
    stops = StopTokens.checked("stop_tokens", params.stop_tokens)
    mark: Any = params.watermark
    # What is given for each list, and what makes it: of most lists a request has nothing.
    lists: dict[str, tuple[Any, Callable[[], tuple[NDArray[Any], NDArray[Any]]]]] = {
        "logit_bias": (bias, lambda: (bias.all_tokens.array, bias.values_array.view(np.int64))),
        "banned_tokens": (bans, lambda: (bans.array, bans.array)),
        "eos_token": (ends, lambda: (ends.array, ends.array)),
        "bad_words": (bad_words, lambda: flat(bad_words)),
        "dry_sequence_breakers": (breakers, lambda: breaker_table(breakers)),
        "banned_texts": (texts, lambda: texts.tables),
        "stop_tokens": (ends or stops, lambda: endings(ends.array, stops)),
        "forced_output_tokens": (forced, lambda: (forced.array, forced.array)),
        "reasoning_end": (params.reasoning_end, lambda: parts_of(params)),
        "watermark": (mark, lambda: (mark.numbers, mark.numbers)),
        # Kernels search these, so they are sorted.
        "penalty_exempt": (exempt, lambda: (np.unique(exempt.array),) * 2),
        "ngram_exempt": (
            exempt or never_banned,
            lambda: (np.union1d(exempt.array, never_banned.array),) * 2,
        ),
    }
    made = {name: make() for name, (given, make) in lists.items() if given}
    return {
        LISTS.index(name): np.stack([tokens, numbers, np.zeros_like(tokens)])
        for name, (tokens, numbers) in made.items()
    }


def _any_on(controls: list[Control], params: Params) -> bool:
    """Whether a request switches on one of the controls."""
    return any(control.is_on(params) for control in controls)


def _words(params: Params, vocab: int) -> Words | None:
    """Room for a bitmask, and a request's allowed tokens as one; None if there are none."""
    ids = TokenIds.checked("allowed_tokens", params.allowed_tokens)
    if not ids:
        return None
    words = np.full((2, block_count(vocab)), ALL)
    allow(words[1], ids.array)
    return words
