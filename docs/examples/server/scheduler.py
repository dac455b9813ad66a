"""Continuous batching: one thread owns the model, and each step gives every running row a token."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from smollm2 import PART, Cache, Floats, Model

import logitchain as lc

from .answer import Answer, kept_set
from .errors import ApiError
from .protocol import Request, completion
from .schema import MOST_KEPT, MOST_ROWS


@dataclass(eq=False)
class Job:
    """A request under way."""

    request: Request
    answers: list[Answer]
    emit: Callable[[Any], None]  # gets each entry of a chunk's `choices`, then None or an error
    over: bool = False

    def end(self, error: ApiError | None = None) -> None:
        """Emit the end, once."""
        if not self.over:
            self.over = True
            self.emit(error)

    def fail(self, answer: Answer, error: ApiError) -> None:
        """One answer has failed; the others go on."""
        entry = answer.fail(error)
        if len(self.answers) > 1:
            self.emit(entry)
        self.end_if_complete()

    def end_if_complete(self) -> None:
        """Emit the end if every answer has ended: an error if all of them have failed."""
        if all(answer.finish_reason for answer in self.answers):
            errors = [answer.error for answer in self.answers]
            self.end(errors[0] if all(errors) else None)

    def response(self) -> dict[str, Any]:
        """The whole answer."""
        choices = [answer.response() for answer in self.answers]
        return completion(self.request, choices, self.usage)

    @property
    def usage(self) -> dict[str, int]:
        """The tokens that it took."""
        read = sum(map(len, self.request.prompts))
        generated = sum(len(answer.tokens) for answer in self.answers)
        counts = {"prompt_tokens": read, "completion_tokens": generated}
        return {**counts, "total_tokens": read + generated}


@dataclass(eq=False)
class Reading:
    """A prompt that is being read: for its answers, or for the next turn of one."""

    job: Job
    answers: list[Answer]
    cache: Cache
    unread: list[int]


@dataclass(eq=False)
class Row:
    """A row of the batch: in each step its answer gets a token."""

    job: Job
    answer: Answer
    cache: Cache
    logits: Floats  # of that token
    behind: bool = False  # they are those of the last token: the model has yet to run


class Scheduler:
    """The rows that run, the prompts that are read, the requests that wait."""

    def __init__(self, model: Model, *, most_waiting: int = 64, logprobs: str = "raw") -> None:
        """A scheduler without work; whoever calls `step` owns the model."""
        self.model, self.most_waiting, self.logprobs = model, most_waiting, logprobs
        self.chain = lc.Chain(on_invalid="mark")
        self.batch = lc.Batch(model.tokenizer.vocab_size)
        self.rows: dict[int, Row] = {}  # by handle, in the order of the batch
        self.reading: deque[Reading] = deque()
        self.waiting: deque[Job] = deque()
        self.stopped: ApiError | None = None
        self._changed = threading.Condition()

    def submit(self, request: Request, emit: Callable[[Any], None]) -> Job:
        """Let a request wait for its turn; ApiError if too many do. `emit` must not block."""
        tokenizer, count = self.model.tokenizer, len(request.prompts) * len(request.samples)
        job = Job(request, [Answer(request, tokenizer, index) for index in range(count)], emit)
        with self._changed:
            if self.stopped:
                raise self.stopped
            if len(self.waiting) >= self.most_waiting:
                message = f"{self.most_waiting} requests are waiting; try again later"
                raise ApiError(429, message, code="queue_full")
            self.waiting.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody wants the answer any more; its rows are free at the next step."""
        with self._changed:
            job.over = True
            self._changed.notify()

    def stop(self) -> None:
        """End all requests with an error at the next step, and take no more."""
        with self._changed:
            self.stopped = ApiError(503, "the server is stopping", code="stopping")
            self._changed.notify()

    def status(self) -> dict[str, int]:
        """How many rows run and how many requests wait."""
        return {"running": self._taken(), "waiting": len(self.waiting)}

    def answer(self, request: Request) -> Job:
        """Answer a request without a thread that runs; ApiError if that fails."""
        entries: list[Any] = []
        job = self.submit(request, entries.append)
        while not job.over:
            self.step()
        if isinstance(entries[-1], ApiError):
            raise entries[-1]
        return job

    def run(self) -> None:
        """Work for ever."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.rows or self.reading or self.waiting)
            try:
                self.step()
            except Exception:
                logging.exception("a step failed; its requests end")
                message = "the server failed; it goes on with other requests"
                self._give_up(ApiError(500, message, code="failed"))

    def step(self) -> None:
        """Read a part of one prompt, then give every row that runs a token."""
        if self.stopped:
            self._give_up(self.stopped)
        self._sweep()
        self._admit()
        self._read()
        self._mask()
        self._draw()

    def _taken(self) -> int:
        """The rows that run, and that will when what is read now has been read."""
        return len(self.rows) + sum(len(reading.answers) for reading in tuple(self.reading))

    def _sweep(self) -> None:
        """Forget the jobs that are over."""
        with self._changed:
            self.waiting = deque(job for job in self.waiting if not job.over)
        self.reading = deque(reading for reading in self.reading if not reading.job.over)
        for handle in [handle for handle, row in self.rows.items() if row.job.over]:
            self._remove(handle)

    def _admit(self) -> None:
        """Begin to read the prompts of waiting jobs, as far as there are rows for them."""
        while self.waiting and self._taken() + len(self.waiting[0].answers) <= MOST_ROWS:
            job = self.waiting.popleft()
            each = len(job.request.samples)
            for number, prompt in enumerate(job.request.prompts):
                answers = job.answers[number * each : (number + 1) * each]
                self.reading.append(Reading(job, answers, self.model.new_cache(), prompt))

    def _read(self) -> None:
        """A part of the prompt whose turn it is: a long one holds up neither rows nor prompts."""
        if not self.reading:
            return
        reading = self.reading.popleft()
        part, reading.unread = reading.unread[:PART], reading.unread[PART:]
        (logits,) = self.model.forward([reading.cache], [part])
        if reading.unread:
            self.reading.append(reading)
            return
        for answer in reading.answers:
            generated = len(answer.tokens)
            params = answer.params
            if not reading.job.request.names_row:
                params = replace(params, logprobs_of=self.logprobs)
            (handle,) = self.batch.add(
                params, answer.read, state=answer.state, generated_before=generated
            )
            self.rows[handle] = Row(reading.job, answer, reading.cache.fork(), logits)
            if not generated:
                reading.job.emit(answer.opening())

    def _mask(self) -> None:
        """Let each row say what its grammar allows; one that gives up fails."""
        for handle, row in list(self.rows.items()):
            try:
                if (mask := row.answer.mask()) is not None:
                    self.batch.set_mask(handle, mask)
            except ApiError as error:
                row.job.fail(row.answer, error)
                self._remove(handle)

    def _draw(self) -> None:
        """A token for every row."""
        if not self.rows:
            return
        wants = any(row.job.request.kept for row in self.rows.values())
        # As many for all rows: which are listed does not depend on what is beside a row.
        how: dict[str, Any] = {"kept": MOST_KEPT, "details": True} if wants else {}
        drawn = self.chain.sample_with_logprobs(self._logits(), self.batch, **how)
        rows = zip(list(self.rows), self.batch.status, drawn.rows(), strict=True)
        for r, (handle, status, (token, logprob, top)) in enumerate(rows):
            row = self.rows[handle]
            try:
                if token < 0:
                    raise ApiError(422, f"no token can be drawn: {status}", code="no_token")
                self.batch.append([token], handle)
                most = row.job.request.kept
                kept = kept_set(drawn, r, most) if most else None
                if entry := row.answer.append(token, logprob, top, kept):
                    row.job.emit(entry)
            except ApiError as error:
                row.job.fail(row.answer, error)
                self._remove(handle)
            else:
                self._move_on(handle, row)

    def _logits(self) -> Floats:
        """Those of every row's next token."""
        behind = [row for row in self.rows.values() if row.behind]
        if behind:
            last = [row.answer.tokens[-1] for row in behind]
            fresh = self.model.step([row.cache for row in behind], last)
            for row, logits in zip(behind, fresh, strict=True):
                row.logits, row.behind = logits, False
        return np.stack([row.logits for row in self.rows.values()])

    def _move_on(self, handle: int, row: Row) -> None:
        """After a row's token: the next one, or a tool's result to read, or the end."""
        row.behind = True
        answer = row.answer
        if answer.unread:
            answer.state = self.batch.state(handle)
            self.reading.append(Reading(row.job, [answer], row.cache, answer.unread))
            answer.unread = []
        elif not answer.finish_reason:
            return
        self._remove(handle)
        row.job.end_if_complete()

    def _remove(self, handle: int) -> None:
        del self.rows[handle]
        self.batch.remove(handle)

    def _give_up(self, error: ApiError) -> None:
        """End whatever is under way."""
        with self._changed:
            waiting = list(self.waiting) if self.stopped else []
        for job in [x.job for x in (*self.rows.values(), *self.reading)] + waiting:
            job.end(error)
        self.rows.clear()
        self.reading.clear()
        self.batch = lc.Batch(self.model.tokenizer.vocab_size)
