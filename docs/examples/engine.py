"""The loop of a small engine: one request, n sequences side by side, the chain as its sampler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from smollm2 import Model

import logitchain as lc

Progress = Callable[["Answer"], None]


@dataclass
class Choice:
    """One of the n answers."""

    seed: int  # gives this very text again, alone
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None  # "stop" or "length" once it has ended


@dataclass
class Answer:
    """The n answers and what they cost."""

    prompt: list[int]
    choices: list[Choice]
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
    chain = chain or lc.Chain()
    params = lc.Params.from_request(body)
    prompt = model.tokenizer.chat(body["messages"])
    batch = lc.Batch(model.tokenizer.vocab_size)
    rows = batch.add(params, prompt)
    result = Answer(prompt, [Choice(batch.seed(row)) for row in rows])
    running = dict(zip(rows, result.choices, strict=True))

    started = perf_counter()
    logits, prefix = model.prefill(prompt)
    sequences = {row: prefix.fork() for row in rows}
    logits = np.tile(logits, (len(rows), 1))
    result.model_seconds += perf_counter() - started

    while True:
        if rows[0] in running:
            result.logits.append(logits[0].copy())
        started = perf_counter()
        tokens = chain.sample(logits, batch)
        batch.append(tokens)
        result.sampling_seconds += perf_counter() - started

        for row, token in zip(list(running), tokens.tolist(), strict=True):
            _extend(running[row], token, params, model)
            if running[row].finish_reason:
                del running[row], sequences[row]
                batch.remove(row)
        progress(result)
        if not running:
            return result

        started = perf_counter()
        last = [choice.tokens[-1] for choice in running.values()]
        logits = model.step(list(sequences.values()), last)
        result.model_seconds += perf_counter() - started


def _extend(choice: Choice, token: int, params: lc.Params, model: Model) -> None:
    """Add a token to a choice and see whether that ends it."""
    choice.tokens.append(token)
    if (
        token in (params.eos_token or model.tokenizer.eos)
        and len(choice.tokens) > params.min_tokens
    ):
        choice.finish_reason = "stop"
        return
    choice.text = model.tokenizer.decode(choice.tokens)
    ends = [at for phrase in params.stop if (at := choice.text.find(phrase)) >= 0]
    if ends:
        choice.text, choice.finish_reason = choice.text[: min(ends)], "stop"
    elif len(choice.tokens) == params.max_tokens:
        choice.finish_reason = "length"
