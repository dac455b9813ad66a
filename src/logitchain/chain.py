"""The chain: controls in order; it applies them, samples with them, explains them."""

from __future__ import annotations  # help() shows the names of long types

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from . import html
from .batch import Batch
from .dialects import DialectName
from .explain import Explanation, explain
from .fused.row import STAGES, compiled, run
from .fused.tables import (
    LOGPROBS_OF,
    NO_ROWS,
    Drawn,
    Program,
    Requests,
    drawn,
    given_tokens,
    scratch,
)
from .inputs.logits import (
    NO_NARROW,
    DType,
    Stored,
    first_invalid,
    floats,
    history_ids,
    lies_across,
    stored,
    token_ids,
    why_invalid,
    writeable,
)
from .inputs.values import listed, of_field, one_of, show
from .numeric.blocks import FLOAT32
from .numeric.float_mode import in_standard_mode
from .numeric.functions import Row
from .orders import order_of
from .params import Params, whole_number
from .presets import (
    DEFAULT_ORDER,
    PRESETS,
    Call,
    Entry,
    Part,
    PresetName,
    arrange,
    as_entry,
    as_step,
    cells,
    shown,
)
from .sampled import PLACES, Place, Report, Sampled
from .speculative.methods import Method
from .speculative.rows import tell_rows, verify_rows

Rows = NDArray[np.float32]  # (rows, vocab), C-contiguous

#: How many logits a thread takes at a time: to take some costs 10 us, to wake a thread 60.
_SHARE = 2**20

Policy = Literal["raise", "mark"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


class Chain:
    """Controls in order.

    order        of each control its name, or a `Control` of your own; or either of them with
                 options, as in ("top_k", {"ties": "all"}); or a step of another chain; or
                 a callable (rows, batch) -> None of your own. By default `DEFAULT_ORDER`, which has
                 every control: masks, bias, penalties, temperature, filters, XTC
    on_invalid   what to do with a row that has NaN or +inf, or no finite logit left: "raise" a
                 ValueError that names row, token and control, or "mark" it: its token is -1, its
                 processed logits are -inf, and `batch.status` says why
    threads      how many threads share the rows of a call

    A callable gets the rows of the whole batch, float32 (rows, vocab), as the controls before it
    leave them, and changes them in place: `rows[r]` is the row of the handle `batch.rows[r]`, and
    holds zeros if the row has been marked. It may not bring a removed token back, return a value or
    change the batch: each is an error that names it, whatever `on_invalid` says.

    The chain keeps these as attributes, `order` as `steps`, a tuple that another chain takes;
    `states` has the names of the numbers that its controls carry from token to token.

    Several threads may call one chain at once, each with a batch of its own. Raises ValueError for
    a name or an option's value that it does not know.

    >>> from logitchain import Batch, Params
    >>> batch = Batch(vocab_size=4)
    >>> rows = batch.add(Params(temperature=0.5, top_k=2, seed=1))
    >>> Chain()([[1.0, 2.0, 3.0, 0.0]], batch)
    array([[-inf,   4.,   6., -inf]], dtype=float32)
    """

    def __init__(
        self,
        order: Sequence[Entry] = DEFAULT_ORDER,
        *,
        on_invalid: Policy = "raise",
        threads: int = 1,
    ) -> None:
        """A chain of the controls in `order`."""
        if isinstance(order, Mapping):  # of which a list would have the keys alone
            raise TypeError(f"order must be a sequence of controls, not {show(order)}")
        #: Its controls and callables in order. Chains with equal steps do the same.
        self.steps = tuple(map(as_step, listed("order", order, "a sequence of controls")))
        controls = [step.control for step in self.steps if step.control is not None]
        self.states = tuple(name for control in controls for name in control.state)
        #: "raise" or "mark", unless a call says otherwise.
        self.on_invalid = one_of("on_invalid", on_invalid, POLICIES)
        #: How many threads share the rows of a call.
        self.threads = whole_number("threads", threads, "[1, inf)")
        self._parts: dict[tuple[Any, ...], list[Part]] = {}
        self._scratch: dict[int, list[NDArray[np.uint8]]] = {}
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: the chain, without its scratch and threads."""
        steps = tuple(map(as_entry, self.steps))
        return {**self.__dict__, "steps": steps, "_parts": {}, "_scratch": {}, "_pool": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Look the controls up again: their kernels are those of this process."""
        self.__dict__.update(state, steps=tuple(map(as_step, state["steps"])))

    def __repr__(self) -> str:
        """The order, with the options that are not the defaults."""
        order = f"[{', '.join(map(shown, self.steps))}]"
        policy = f", on_invalid={self.on_invalid!r}" if self.on_invalid != "raise" else ""
        threads = f", threads={self.threads}" if self.threads > 1 else ""
        return f"Chain({order}{policy}{threads})"

    def _repr_html_(self) -> str:
        """The order as a table, for notebooks."""
        header = "control", "kind", "request fields", "options"
        return html.table("Chain", header, [cells(step) for step in self.steps])

    @classmethod
    def preset(cls, name: PresetName, *, on_invalid: Policy = "raise", threads: int = 1) -> Chain:
        """The order of another engine: one of `PRESETS`. Its `steps` can be part of another chain.

        >>> [step.name for step in Chain.preset("vllm").steps][-3:]
        ['min_p', 'top_k', 'top_p']
        """
        order = PRESETS[one_of("preset", name, PRESETS)]
        return cls(order, on_invalid=on_invalid, threads=threads)

    @classmethod
    def from_request(
        cls,
        body: Mapping[str, Any],
        *,
        dialect: DialectName = "openai",
        on_invalid: Policy = "raise",
        threads: int = 1,
    ) -> Chain:
        """The controls in the order that a request body asks for, where its engine lets it ask.

        body      as `json.loads` gives it; only the fields that concern the order are read
        dialect   the engine whose body it is, as for `Params.from_request`

        These fields are `samplers` and `mirostat` (llama_cpp), `sampler_order`, `mirostat` and
        `mirostat_mode` (koboldcpp), `sampler_priority`, `temperature_last`, `adaptive_target` and
        `mirostat_mode` (text_generation_webui), and `temperature_last` (exllamav2, exllamav3).
        Without them it is the engine's preset, for "openai" the default order. Masks and all else
        that a body cannot name keep their places; a sampler that logitchain lacks is left out.

        All rows of a batch share a chain. An engine that lets each request choose keeps one chain
        and one batch per order: chains with equal `steps` are the same. Raises ValueError or
        TypeError, naming the field, for a value that the field cannot have.

        >>> body = {"samplers": ["top_k", "temperature"], "top_k": 40}
        >>> chain = Chain.from_request(body, dialect="llama_cpp")
        >>> [step.name for step in chain.steps][-4:]
        ['logit_bias', 'top_k', 'temperature', 'dynamic_temperature']
        """
        return cls(order_of(body, dialect), on_invalid=on_invalid, threads=threads)

    def warmup(self) -> None:
        """Compile the stages of the fast path and the controls, which otherwise wait for a request.

        What is compiled is kept on disk: the first time it takes half a minute. An engine calls
        this before it serves, so that no step has to wait for the compiler.

        >>> Chain(["temperature", "top_k"]).warmup()
        """
        for stage in range(len(STAGES)):
            compiled(stage)
        for step in self.steps:
            if step.control is not None:
                step.control.compiled()
        batch = Batch(vocab_size=1)
        batch.add(Params(seed=0))
        Chain([]).sample([0.0], batch)

    def __call__(
        self,
        logits: Any,
        batch: Batch,
        *,
        until: str | None = None,
        on_invalid: Policy | None = None,
        dtype: DType = None,
        out: Any = None,
    ) -> Rows:
        """The processed logits: the composition of the controls.

        logits   (rows, vocab), row r being the r-th of `batch.rows`; (vocab,) for a batch of one
        until    the name of the last control to apply, for a look at what comes between
        out      float32 array for the result; it may be `logits`

        Returns float32 of the same shape. Raises ValueError if a row is invalid, unless
        `on_invalid` says otherwise; what `out` holds is undefined then.
        """
        given = _open(logits, batch, dtype)
        names = [step.name for step in self.steps]
        count = len(names) if until is None else names.index(one_of("until", until, names)) + 1
        result = np.empty(given.shape, np.float32) if out is None else writeable(out, given.shape)
        in_place = result.flags.c_contiguous and (out is None or not lies_across(result, given))
        rows = result.reshape(len(batch), batch.vocab_size) if in_place else _like(batch)
        parts = self._compiled(batch, 0, count)
        for r, status in enumerate(self._run(given, batch, parts, on_invalid, rows)[1]):
            if status != "ok":
                rows[r] = -np.inf
        if not in_place:
            result[...] = rows.reshape(given.shape)
        return result if out is None else out

    def sample(
        self,
        logits: Any,
        batch: Batch,
        *,
        on_invalid: Policy | None = None,
        dtype: DType = None,
    ) -> NDArray[np.int64]:
        """A token for each row: `logitchain.sample` of the processed logits, bit for bit.

        The token of row r depends on its logits, its request, its seed and its position alone, and
        on the state of `mirostat` or `adaptive_p` if the request has one of these. The
        batch does not move on until its `append` is called.
        """
        given = _open(logits, batch, dtype)
        parts = self._compiled(batch, 0, len(self.steps))
        return self._run(given, batch, parts, on_invalid, NO_ROWS)[0]

    def sample_with_logprobs(
        self,
        logits: Any,
        batch: Batch,
        *,
        of: str | None = None,
        kept: bool | int = False,
        details: bool = False,
        on_invalid: Policy | None = None,
        dtype: DType = None,
    ) -> Sampled:
        """A token for each row, as `sample` draws it, and what is to be known of it.

        of        the row that the log-probabilities are of: "raw", the logits as they came;
                  "processed", `chain(logits, batch)`, which the token is drawn from; or the name of
                  a step, `chain(logits, batch, until=of)`. By default each request's `logprobs_of`
        kept      whether to list each row's kept tokens; or how many of a row at most, the best
        details   whether to find the token's rank, the entropy of the row and the mass of the
                  tokens that are kept

        All comes from the same pass over the row; a row that asks for a step's row has the steps up
        to that one run again. A request lists as many tokens as its `top_logprobs`. Raises
        ValueError for a step that the chain lacks, or a `kept` below 1.

        >>> from logitchain import Batch, Params
        >>> batch = Batch(vocab_size=4)
        >>> rows = batch.add(Params(temperature=0.5, top_k=2, seed=1))
        >>> drawn = Chain().sample_with_logprobs([[1.0, 2.0, 3.0, 0.0]], batch, kept=True)
        >>> drawn.kept_ids, drawn.kept_logprobs
        (array([1, 2], dtype=int32), array([-2.126928  , -0.12692802], dtype=float32))
        """
        return self._sampled(logits, batch, None, of, kept, details, on_invalid, dtype)

    def _sampled(
        self,
        logits: Any,
        batch: Batch,
        tokens: NDArray[np.int64] | None,
        of: str | None,
        kept: bool | int,
        details: bool,
        on_invalid: Policy | None,
        dtype: DType,
    ) -> Sampled:
        """`sample_with_logprobs`; with `tokens` (rows,) of these, and -1 for a row without one."""
        given = _open(logits, batch, dtype)
        parts = self._compiled(batch, 0, len(self.steps))
        places = self._places(batch, of)
        report = Report(given, batch, parts, places, kept, details, tokens)
        self._run(given, batch, parts, on_invalid, NO_ROWS, report.drawn, report=report)
        return report.sampled()

    def _places(self, batch: Batch, of: str | None) -> list[Place]:
        """The place of the row that log-probabilities are of: one for all rows, or one per row."""
        if of is not None:
            return [self._place("of", of)]
        if not batch.requests.table[:, LOGPROBS_OF].any():  # 0 is raw
            return [PLACES["raw"]]
        return [self._own_place(batch.params(row)) for row in batch.rows]

    def check(self, params: Params) -> None:
        """Check that the chain has the step that a request's `logprobs_of` names.

        `sample_with_logprobs` and `verify_with_logprobs` raise the same. A server calls this before
        it queues a request. Raises ValueError, whose `field` is "logprobs_of".

        >>> Chain(["temperature", "top_k"]).check(Params(logprobs_of="top_p"))
        Traceback (most recent call last):
        ...
        ValueError: logprobs_of must be one of raw, processed, temperature, top_k, not 'top_p'
        """
        self._own_place(params)

    def _own_place(self, params: Params) -> Place:
        """The place of the row that a request's log-probabilities are of."""
        try:
            return self._place("logprobs_of", params.logprobs_of)
        except ValueError as error:
            raise of_field("logprobs_of", error) from None

    def _place(self, name: str, of: str) -> Place:
        """After which part of the chain a row is meant, and after how many steps of the next."""
        if of in PLACES:
            return PLACES[of]
        names = [step.name for step in self.steps]
        first = self.steps[: names.index(one_of(name, of, [*PLACES, *names])) + 1]
        calls = [s for s, step in enumerate(first, 1) if step.control is None]
        return len(calls), len(first) - (calls[-1] if calls else 0)

    @in_standard_mode
    def verify(
        self,
        logits: Any,
        batch: Batch,
        drafts: Sequence[Any],
        proposed: Sequence[Any] | None = None,
        *,
        parents: Sequence[Any] | None = None,
        method: Method = "token",
        acceptance: float | Sequence[float] | None = None,
        on_invalid: Policy | None = None,
        dtype: DType = None,
    ) -> list[NDArray[np.int64]]:
        """The next tokens of each row: `logitchain.verify` of the processed logits, bit for bit.

        logits     (n, vocab), unprocessed: for each row of the batch, in order, one row of logits
                   before its drafts and one after each of them
        drafts     for each row of the batch its drafts, token ids; they may be of any number
        proposed   for each row (its drafts, vocab): the processed logits that these were drawn
                   from, or None; or None for all rows
        parents    for each row whose drafts form a tree, of each draft the index of the one before
                   it, as for `logitchain.verify`, or None; or None for all rows
        method     "token", "block" or "synthetic", with its `acceptance`, as for
                   `logitchain.verify`; of rows without proposed logits every draft that is the
                   draw is kept, unless it is "synthetic"

        Returns for each row an int64 array: the drafts that are kept and one token more. A control
        that reads the history sees the drafts before its token, in a tree those on its own path.
        The batch does not move on.
        Logits after a rejected draft are not validated. Where others are invalid, the error names
        their row, or a row that is marked ends with -1 after the drafts that are kept.

        >>> from logitchain import Batch, Params
        >>> batch = Batch(vocab_size=3)
        >>> rows = batch.add(Params(temperature=0, n=2, seed=1))
        >>> Chain().verify(np.eye(3)[[0, 1, 2, 2, 2]], batch, [[0, 1], [0]])
        [array([0, 1, 2]), array([2])]
        """
        _check_batch(batch)
        policy = self._policy(on_invalid)
        asked = proposed, parents, method, acceptance
        return verify_rows(self, logits, batch, drafts, *asked, policy, dtype)[0]

    @in_standard_mode
    def verify_with_logprobs(
        self,
        logits: Any,
        batch: Batch,
        drafts: Sequence[Any],
        proposed: Sequence[Any] | None = None,
        *,
        parents: Sequence[Any] | None = None,
        method: Method = "token",
        acceptance: float | Sequence[float] | None = None,
        of: str | None = None,
        kept: bool | int = False,
        details: bool = False,
        on_invalid: Policy | None = None,
        dtype: DType = None,
    ) -> list[Sampled]:
        """The next tokens of each row, as `verify` finds them, and what is to be known of them.

        Arguments are as of `verify` and `sample_with_logprobs`. Returns for each row of the batch a
        `Sampled` whose rows are that row's tokens, one after the other. The chain runs once more
        over the tokens that were found.

        >>> from logitchain import Batch, Params
        >>> batch = Batch(vocab_size=3)
        >>> rows = batch.add(Params(top_k=2, seed=1))
        >>> (drawn,) = Chain().verify_with_logprobs(9 * np.eye(3), batch, [[0, 1]], kept=True)
        >>> drawn.tokens, drawn.kept_offsets, drawn.kept_ids
        (array([0, 1, 2]), array([0, 2, 4, 6]), array([0, 1, 0, 1, 0, 2], dtype=int32))
        """
        _check_batch(batch)
        asked = proposed, parents, method, acceptance
        found = verify_rows(self, logits, batch, drafts, *asked, self._policy(on_invalid), dtype)

        def tell(rows: Any, trial: Batch, tokens: NDArray[np.int64]) -> Sampled:
            return self._sampled(rows, trial, tokens, of, kept, details, "mark", "bfloat16")

        return tell_rows(tell, floats(logits, dtype), batch, *found)

    @in_standard_mode
    def explain(
        self,
        logits: Any,
        batch: Batch,
        row: int,
        decode: Callable[[int], str] | None = None,
        *,
        dtype: DType = None,
    ) -> Explanation:
        """What each control does to one row, and why its token is picked.

        row      a handle of the batch
        decode   token id -> text, for the tables

        Other rows do not matter, and `batch.status` stays as it is. For a row that a control leaves
        without a finite logit, or a callable with NaN or +inf, the stages end at that control, the
        token is -1, and `Explanation.status` says why. Raises ValueError if the row comes with NaN
        or +inf or without a finite logit.
        """
        given = _open(logits, batch, dtype)
        index = batch.index(row)
        steps = self._one_by_one(given, batch, index)
        return explain(steps, self.steps, batch, index, decode)

    def _one_by_one(
        self, given: Stored, batch: Batch, index: int
    ) -> Iterator[tuple[str, Row, str]]:
        """The name, the row and its status for the unprocessed row and then for each step.

        The first step that leaves the row invalid is the last. Callables get all rows of the batch;
        a chain without callables runs on this row alone.
        """
        is_alone = all(step.call is None for step in self.steps)
        which, place = (slice(index, index + 1), 0) if is_alone else (slice(None), index)
        rows, requests = given.copy(which), batch.requests.of(which)
        for s, name in enumerate(("logits", *(step.name for step in self.steps))):
            parts = self._compiled(batch, max(s - 1, 0), s)
            so_far = Stored(FLOAT32, rows, given.narrow, rows.shape)
            status = self._run(so_far, batch, parts, "mark", rows, requests=requests)[1][place]
            yield name, rows[place], status
            if status != "ok":
                return

    def _run(
        self,
        given: Stored,
        batch: Batch,
        parts: list[Part],
        on_invalid: Policy | None,
        out: Rows,
        drawn_rows: Drawn | None = None,
        *,
        requests: Requests | None = None,
        report: Report | None = None,
    ) -> tuple[NDArray[np.int64], list[str]]:
        """Apply the parts to the rows given; fill in `out`, or if that has no rows draw tokens.

        Returns tokens and statuses. `batch.status` is set too, unless `requests` selects some of
        the rows.
        """
        policy = self._policy(on_invalid)
        if requests is None:
            requests = batch.requests
            batch.status = status = ["ok"] * len(batch)
        else:
            status = ["ok"] * len(requests.table)
        if batch.has_states and not out.shape[0]:
            batch.forget_draws()
        last = drawn_rows or drawn(len(status))
        rows, carrying = out, []
        for p, part in enumerate(parts):
            call = part.call
            if report is not None:
                report.save(p, given)
            if call is not None and not out.shape[0] and batch.has_states and part.carries:
                carrying.append((given._replace(wide=given.wide.copy()), part.program))
            result = last if call is None else drawn(len(status))
            if call is not None and not rows.shape[0]:
                rows = np.empty((len(status), given.shape[-1]), np.float32)
            target = out if call is None else rows
            if part.removes_late and np.may_share_memory(given.wide, target):
                given = given._replace(wide=given.wide.copy())  # `_why_invalid` looks at it later
            of_part = report if call is None else None
            if self._run_on_threads(given, part.program, requests, target, result, of_part):
                for r in np.flatnonzero(result.tokens[:, 0] < 0).tolist():
                    if status[r] == "ok":  # the first reason stays
                        reason = self._why_invalid(given, r, part, requests)
                        if policy == "raise":
                            raise ValueError(f"logits: row {r}, {reason}")
                        status[r] = reason
                    if rows.shape[0]:
                        rows[r] = 0.0
            if call is not None:
                _change(rows, batch, *call)
                given = Stored(FLOAT32, rows, given.narrow, rows.shape)
        tokens = last.tokens[:, 0]
        for before, program in carrying:  # these did not see the draw
            self._run_on_threads(before, program, requests, NO_ROWS, given_tokens(tokens))
        if policy == "mark":
            tokens[[reason != "ok" for reason in status]] = -1
        if report is not None:
            for r, (p, count), before, room in report.later():
                program = parts[p].program.only(slice(count))
                one = requests.of(slice(r, r + 1))
                self._run_with_scratch(0, 1, before, program, one, NO_ROWS, room)
        return tokens, status

    def _why_invalid(self, given: Stored, r: int, part: Part, requests: Requests) -> str:
        """Why a row is invalid after a part: it was before, or a step removes all of it."""
        which, culprit = slice(r, r + 1), part.after
        rows = given.copy(which)
        if first_invalid(rows) < 0:
            culprit = self._emptied_by(rows, part, requests.of(which))
            rows[:] = -np.inf
        reason = why_invalid(rows[0])
        return f"{reason} after {culprit}" if culprit else reason

    def _emptied_by(self, rows: Rows, part: Part, requests: Requests) -> str:
        """The control that removes the last finite logit of one row; they are applied in place."""
        given = Stored(FLOAT32, rows, NO_NARROW, rows.shape)
        controls = part.program.controls
        for s, control in enumerate(controls[:-1]):
            step = part.program.only(slice(s, s + 1))
            if self._run_with_scratch(0, 1, given, step, requests, rows, drawn(1)):
                return control.name
        return controls[-1].name

    def carry(self, logits: Any, batch: Batch, tokens: Any, dtype: DType = None) -> None:
        """Prepare the states of the rows for tokens drawn elsewhere; call it before `append`.

        logits   (rows, vocab), what the tokens were drawn from, unprocessed
        tokens   (rows,); do not append to a row whose token is negative. A token that the chain
                 removes leaves the states as they are

        `sample` and `verify` see to this themselves. Without a control that carries a state there
        is nothing to do.

        >>> from logitchain import Batch, Params
        >>> batch, chain = Batch(vocab_size=3), Chain()
        >>> (row,) = batch.add(Params(mirostat_tau=1.0, mirostat_eta=0.5))
        >>> chain.carry([[0.0, 0.0, 9.0]], batch, np.array([2]))
        >>> batch.append([2])
        >>> round(batch.state(row)["mirostat_mu"], 2)
        2.5
        """
        given, status = _open(logits, batch, dtype), batch.status
        ids = history_ids("tokens", tokens)
        if ids.size != len(batch):
            raise ValueError(f"tokens must be one per row ({len(batch)}), not {ids.size}")
        token_ids("tokens", ids[ids >= 0], batch.vocab_size)
        parts = self._compiled(batch, 0, len(self.steps))
        if batch.has_states:
            self._run(given, batch, parts, "mark", NO_ROWS, given_tokens(ids))
            batch.status = status

    def _policy(self, on_invalid: Policy | None) -> Policy:
        if on_invalid is None:
            return self.on_invalid
        return one_of("on_invalid", on_invalid, POLICIES)

    def _run_on_threads(
        self,
        given: Stored,
        program: Program,
        requests: Requests,
        out: Rows,
        drawn_rows: Drawn,
        report: Report | None = None,
    ) -> int:
        """Run the kernel over all rows, on this thread or on several; how many are invalid.

        Each takes some rows, and then more: one that wakes up late, or meets hard rows, takes less.
        """
        count, size = len(drawn_rows.tokens), max(1, _SHARE // given.shape[-1])
        is_alone = self.threads == 1 and (report is None or not report.most_kept)
        if is_alone or count <= size:
            return self._run_with_scratch(
                0, count, given, program, requests, out, drawn_rows, report
            )
        pid = os.getpid()  # a fork leaves its threads behind
        if self.threads > 1 and (self._pool is None or self._pool[0] != pid):
            self._pool = pid, ThreadPoolExecutor(self.threads - 1)
        firsts = deque(range(0, count, size))

        def take() -> int | None:
            with contextlib.suppress(IndexError):
                return firsts.popleft()
            return None

        def work() -> int:
            parts = ((first, min(first + size, count)) for first in iter(take, None))
            return sum(
                self._run_with_scratch(*part, given, program, requests, out, drawn_rows, report)
                for part in parts
            )

        helpers = min(self.threads, len(firsts)) - 1
        others = [self._pool[1].submit(work) for _ in range(helpers) if self._pool]
        try:
            return work() + sum(other.result() for other in others if not other.cancel())
        except BaseException:  # also an interrupt: no thread may go on with the caller's memory
            firsts.clear()
            wait([other for other in others if not other.cancel()])
            raise

    def _run_with_scratch(
        self,
        first: int,
        last: int,
        given: Stored,
        program: Program,
        requests: Requests,
        out: Rows,
        drawn_rows: Drawn,
        report: Report | None = None,
    ) -> int:
        """Run the kernel over some rows, with scratch that no other thread uses meanwhile."""
        vocab = given.shape[-1]
        free = self._scratch.get(vocab) or self._scratch.setdefault(vocab, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = scratch(vocab)
        arena = report.arena(first, last) if report is not None and report.most_kept else None
        invalid = run(first, last, given, program, requests, memory, out, drawn_rows)
        if report is not None and arena is not None:
            report.take(first, arena)
        free.append(memory)
        return invalid

    def _compiled(self, batch: Batch, first: int, last: int) -> list[Part]:
        """The steps first .. last, those between two callables as arrays."""
        key = batch.vocab_size, batch.columns, first, last
        known = self._parts.get(key)
        if known is None:
            batch.keep_states(self.states)
            key = batch.vocab_size, batch.columns, first, last
            steps = self.steps[first:last]
            known = arrange(steps, self.steps, batch.vocab_size, batch.columns)
            self._parts[key] = known
        return known


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {show(batch)}")


def _open(logits: Any, batch: Batch, dtype: DType) -> Stored:
    _check_batch(batch)
    given = stored(logits, dtype)
    expected = (len(batch), batch.vocab_size)
    if given.shape != expected and (1, *given.shape) != expected:
        raise ValueError(f"logits must have the batch's shape {expected}, not {given.shape}")
    return given


def _like(batch: Batch) -> Rows:
    return np.empty((len(batch), batch.vocab_size), np.float32)


def _change(rows: Rows, batch: Batch, name: str, call: Call) -> None:
    """Let a callable change the rows; an error that names it if it does anything else."""
    removed = rows == -np.inf
    outer, status = batch.running, batch.status
    try:
        batch.running = name, sys._getframe()
        returned = cast(Any, call)(rows[:], batch)  # a view, so that shape and type of `rows` stay
    finally:
        batch.running, batch.status = outer, status
    if returned is not None:
        kind = type(returned).__name__
        raise TypeError(f"{name} must change the rows in place and return None, not {kind}")
    restored = rows > -np.inf
    restored &= removed
    if restored.any():
        r, token = np.argwhere(restored)[0].tolist()
        where = f"token {token} of row {r} at {rows[r, token]}"
        raise ValueError(f"{name} must leave removed tokens at -inf, not {where}")
