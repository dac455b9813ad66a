"""The loop of a small engine: one request, n sequences side by side, the chain as its sampler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from smollm2 import Model

import logitchain as lc

Progress = Callable[["Answer"], None]


@dataclass
class Answer:
    """The n answers and what they cost."""

    prompt: list[int]
    choices: list[lc.Choice]
    model_seconds: float = 0.0
    sampling_seconds: float = 0.0
    logits: list[np.ndarray] = field(default_factory=list)  # of each step of the first choice

    @property
    def tokens_per_second(self) -> float:
        """Over all choices together."""
        tokens = sum(len(choice.tokens) for choice in self.choices)
        return tokens / (self.model_seconds + self.sampling_seconds)

    @property
    def sampling_share(self) -> float:
        """The part of the time that went into picking tokens."""
        return self.sampling_seconds / (self.model_seconds + self.sampling_seconds)


def answer(
    model: Model,
    body: Mapping[str, Any],
    chain: lc.Chain | None = None,
    progress: Progress = lambda answer: None,
) -> Answer:
    """Answer a chat-completions request; `progress` is called after each step."""
    chain, tokenizer = chain or lc.Chain(), model.tokenizer
    params = lc.Params.from_request(body)
    params = replace(params, eos_token=params.eos_token or tokenizer.eos)
    prompt = tokenizer.chat(body["messages"])
    batch = lc.Batch(tokenizer.vocab_size)
    choices = {
        row: lc.Choice(params, tokenizer.token_bytes, seed=batch.seed(row), index=index)
        for index, row in enumerate(batch.add(params, prompt))
    }
    result = Answer(prompt, list(choices.values()))

    started = perf_counter()
    logits, prefix = model.prefill(prompt)
    sequences = {row: prefix.fork() for row in batch.rows}
    logits = np.tile(logits, (len(batch), 1))
    result.model_seconds += perf_counter() - started

    while True:
        if not result.choices[0].finish_reason:
            result.logits.append(logits[0].copy())
        started = perf_counter()
        tokens = chain.sample(logits, batch)
        batch.append(tokens)
        result.sampling_seconds += perf_counter() - started

        for row, token in zip(batch.rows, tokens, strict=True):
            choices[row].append(token)
            if choices[row].finish_reason:
                batch.remove(row)
                del sequences[row]
        progress(result)
        if not batch.rows:
            return result

        started = perf_counter()
        last = [choices[row].tokens[-1] for row in batch.rows]
        logits = model.step(list(sequences.values()), last)
        result.model_seconds += perf_counter() - started
