"""onnxruntime-genai: the step of its loop that makes a token of logits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..params import whole_number
from .ends import answer_beside, check_end_token


class Sampler:
    """Draws the tokens of a generator, each row's with its own request.

    Make it when the prompts are in, and call its `generate_next_token` instead of the generator's:

        while not generator.is_done():
            tokens = sampler.generate_next_token()

    generator   an `onnxruntime_genai.Generator` with its search options at rest: of these, only
                `batch_size` and `max_length` keep their meaning
    batch       a row for each of the generator's, in order, with its prompt, before its first
                token; it follows what the generator holds: `generator.append_tokens` in between,
                `rewind_to`. After the end of a row's `stop_tokens`, `max_total_tokens` or
                `repetition_detection` its next token is its request's first `eos_token`
    chain       one with on_invalid="mark" ends an invalid row with the request's first
                `eos_token`, and others go on; `status`, one per row, says why

    Raises ValueError if the prompts are not in, a row has generated tokens already, or a row may be
    marked or end in one of these ways and its request names no `eos_token`.
    """

    def __init__(self, generator: Any, batch: Batch, chain: Chain | None = None) -> None:
        """A sampler of what comes after the generator's tokens so far."""
        self.generator, self.batch = generator, batch
        self.chain = Chain() if chain is None else chain
        self._start = generator.token_count()  # prompts are padded to one length
        if not self._start:
            raise ValueError("generator must have its prompts: append them first")
        if batch.positions.any():
            raise ValueError("batch must have rows before their first token, not ones that go on")
        requests = [batch.params(row) for row in batch.rows]
        if self.chain.on_invalid == "mark" and not all(one.eos_token for one in requests):
            raise ValueError("eos_token must name a token: one that ends a row that is marked")
        for params in requests:
            check_end_token(params)
        answers = {row: answer_beside(batch.params(row), batch.prompt(row)) for row in batch.rows}
        #: By row, those whose end is ours to find.
        self._answers = {row: answer for row, answer in answers.items() if answer is not None}
        self.status = ["ok"] * len(batch)

    def generate_next_token(self) -> NDArray[np.int32]:
        """Draw a token for each row and append it; (rows,), the engine's padding once it ended.

        Raises ValueError before the generator moves, if a row is invalid and is not to be marked.
        """
        logits = self.generator.get_logits()  # (rows, 1, vocab), a copy that is ours
        if len(logits) != len(self.batch):  # the engine's process dies of a row that is not there
            raise ValueError(f"batch must have {len(logits)} rows, not {len(self.batch)}")
        for r, row in enumerate(self.batch.rows):
            self.batch.follow(row, self.generator.get_sequence(r)[self._start :])
        tokens = self.chain.sample(logits[:, -1], self.batch)
        for r in np.flatnonzero(tokens < 0).tolist():
            tokens[r] = self.batch.params(self.batch.rows[r]).eos_token[0]
            self.status[r] = self.batch.status[r]
        for row, answer in self._answers.items():
            answer.follow(self.batch.output(row))
            if answer.reason is not None:
                tokens[self.batch.index(row)] = self.batch.params(row).eos_token[0]
        logits.fill(-np.inf)  # the engine can pick but one: it ends rows, and pads them
        logits[np.arange(tokens.size), -1, tokens] = 0.0
        self.generator.set_logits(logits)
        self.generator.generate_next_token()
        return np.asarray(self.generator.get_next_tokens())

    def rewind(self, k: int) -> None:
        """Go back to the first `k` generated tokens; the engine can with a batch of one.

        `generator.rewind_to` alone loses the last token's logits: that token goes in once more.
        """
        generated = self.generator.token_count() - self._start
        whole_number("k", k, f"[0, {generated}]")
        kept = self.generator.get_sequence(0)[: self._start + k]
        self.generator.rewind_to(kept.size - 1)
        self.generator.append_tokens(kept[-1:])
