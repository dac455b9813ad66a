"""mlx-lm: a sampler for `generate`, `stream_generate` and `BatchGenerator`, with the draw ours."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..inputs.logits import DType
from ..params import Params
from .ends import answer_beside, check_end_token


class Sampler:
    """The sampler of one sequence. Give mlx-lm both of its halves:

        sampler=sampler, logits_processors=[sampler.processor]

    `processor` sees the logits and the tokens so far, and draws; the sampler itself, which
    mlx-lm calls next and with log-probabilities alone, returns that token. mlx-lm calls them one
    step ahead of what it yields, and drafts and takes back: the batch follows.

    params          of one sequence: n is 1; `samplers` makes those of more. After the end of its
                    `stop_tokens`, `max_total_tokens` or `repetition_detection` the next token is
                    the request's first `eos_token`, at which mlx-lm ends it
    prompt_tokens   the whole prompt: mlx-lm shows none of what a prompt cache holds
    chain           one with on_invalid="mark" ends an invalid row with the request's first
                    `eos_token`, and others go on; `status` says why

    Raises ValueError for a request that cannot be served, and TypeError.
    """

    def __init__(
        self,
        params: Params,
        prompt_tokens: Sequence[int],
        vocab_size: int,
        chain: Chain | None = None,
    ) -> None:
        """A sampler before its first token; `vocab_size` is the width of the model's logits."""
        self.chain = Chain() if chain is None else chain
        self.batch = Batch(vocab_size)
        rows = self.batch.add(params, prompt_tokens)
        self._prompt = np.asarray(prompt_tokens)
        if len(rows) != 1:
            raise ValueError(f"n must be 1, not {params.n}: a sampler is of one sequence")
        if self.chain.on_invalid == "mark" and not params.eos_token:
            raise ValueError("eos_token must name a token: one that ends a row that is marked")
        check_end_token(params)
        self._answer = answer_beside(params, prompt_tokens)
        self.status = "ok"
        self._end = params.eos_token
        self._shown: int | None = None  # how many tokens mlx-lm counted before the first draw
        self._drawn: list[int] = []

    def processor(self, tokens: Any, logits: Any) -> Any:
        """Draw the next token. tokens: (tokens,); logits: (1, vocab), returned unchanged."""
        history: Any = np.asarray(tokens)
        if self._shown is None:
            self._shown = history.size
        if not np.array_equal(
            history[: self._shown], self._prompt[self._prompt.size - self._shown :]
        ):
            raise ValueError("prompt_tokens must be those of the prompt that mlx-lm was given")
        self.batch.follow(self.batch.rows[0], history[self._shown :])
        self._drawn = [self._draw(logits)]
        return logits

    def _draw(self, logits: Any) -> int:
        """The next token: the chain's, or where the sequence has ended the request's end token."""
        if self._answer is not None:
            self._answer.follow(self.batch.output(self.batch.rows[0]))
            if self._answer.reason is not None:
                return self._end[0]
        row, dtype = _readable(logits)
        (token,) = self.chain.sample(row, self.batch, dtype=dtype).tolist()
        if token < 0:
            token, self.status = self._end[0], self.batch.status[0]
        return int(token)

    def __call__(self, logprobs: Any) -> Any:
        """The token that the processor drew, as an array of mlx, (1,); logprobs: (1, vocab)."""
        if len(logprobs) != 1:
            raise ValueError(f"logprobs must be of one sequence, not of {len(logprobs)}")
        if not self._drawn:
            raise ValueError("logits_processors must have this sampler's processor, which draws")
        mx = sys.modules["mlx.core"]
        return mx.array([self._drawn.pop()], dtype=mx.uint32)


def samplers(
    params: Params, prompt_tokens: Sequence[int], vocab_size: int, chain: Chain | None = None
) -> list[Sampler]:
    """A sampler for each of the request's n samples, with their seeds."""
    batch = Batch(vocab_size)
    seeds = [batch.seed(row) for row in batch.add(params)]
    each = [replace(params, n=1, seed=seed) for seed in seeds]
    return [Sampler(one, prompt_tokens, vocab_size, chain) for one in each]


def _readable(logits: Any) -> tuple[NDArray[Any], DType]:
    """mlx's logits where they are; the bits of bfloat16, of which no NumPy array can be made."""
    mx = sys.modules["mlx.core"]
    if logits.dtype == mx.bfloat16:
        return np.asarray(logits.view(mx.uint16)), "bfloat16"
    return np.asarray(logits), None
