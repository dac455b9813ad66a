"""mlx-lm: its logits processors and its sampler, up to the draw, as `generate_step` calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any
from unittest.mock import patch

import numpy as np

from .cases import Case, Row
from .known import ANY, Known, refused_here, refused_there, tied, where, within

CONTROLS = (
    *("logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("top_p", "min_p", "xtc", "top_k", "temperature"),
)

KNOWN: tuple[Known, ...] = ()


def version() -> str:
    """Its version, and that of mlx."""
    return f"mlx-lm {metadata.version('mlx-lm')}, mlx {metadata.version('mlx')}"


def process(case: Case) -> Row:
    """The row as mlx-lm draws from it."""
    mx, utils = import_module("mlx.core"), import_module("mlx_lm.sample_utils")
    penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
    filters = ("top_p", "min_p", "top_k", "xtc_probability", "xtc_threshold")
    logits, tokens = mx.array(case.row)[None], mx.array([*case.prompt, *case.output])
    said = {name: case.get(name) for name in penalties if name in case.fields}
    for processor in utils.make_logits_processors(case.get("logit_bias"), **said):
        logits = processor(tokens, logits)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    said = {name: case.get(name) for name in filters}
    sampler = utils.make_sampler(case.get("temperature"), **said)
    with _no_draw(mx) as drawn_from:
        token = int(sampler(logprobs))
    if drawn_from:
        return np.array(drawn_from[0][0])
    return np.where(np.arange(case.row.size) == token, case.row, -np.inf)  # it took the best


@contextmanager
def _no_draw(mx: Any) -> Iterator[list[Any]]:
    """See what a draw would be from, in functions that are not compiled, so that none remembers."""
    seen: list[Any] = []

    def categorical(logits: Any) -> Any:
        seen.append(logits)
        return mx.argmax(logits, axis=-1)

    mx.disable_compile()
    with patch.object(mx.random, "categorical", categorical):
        yield seen
    mx.enable_compile()
