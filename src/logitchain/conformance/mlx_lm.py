"""mlx-lm: its logits processors and its sampler, up to the draw, as `generate_step` calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any
from unittest.mock import patch

import numpy as np

from .cases import Case, Row
from .known import (
    K_OF_MINUS_ONE,
    OURS,
    P_ABOVE_ONE,
    P_IN_FLOAT32,
    THRESHOLD,
    TOO_COLD,
    Known,
    all_tied,
    beyond,
    both,
    gives,
    instead,
    refused_by_engine,
    requested,
)

CONTROLS = (
    *("logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("top_p", "min_p", "xtc", "top_k", "temperature"),
)

KNOWN = (
    *OURS,
    Known("frequency_penalty", beyond, "unchecked in mlx-lm and text-generation-webui"),
    Known("presence_penalty", beyond, "unchecked in mlx-lm and text-generation-webui"),
    P_IN_FLOAT32,
    Known(
        "top_p",
        instead(lambda case: case.get("top_p") == 0, top_p=1.0),
        "p = 0 is an error in vLLM, SGLang and OpenVINO GenAI, off in mlx-lm",
    ),
    P_ABOVE_ONE,
    Known(
        "xtc",
        instead(lambda case: case.get("temperature") == 0, xtc_probability=0.0),
        "at temperature 0, its default, no filter runs, so XTC cannot remove the best token there",
    ),
    Known(
        "xtc",
        instead(lambda case: case.get("xtc_threshold") == 0, xtc_threshold=1e-30),
        "In a request threshold 0 is off",
    ),
    Known(
        "xtc",
        all_tied,
        "its XTC has q > t, u <= p, one coin for the batch, all tied survivors, t <= 0.5",
    ),
    Known(
        "xtc",
        THRESHOLD,
        "its XTC has q > t, u <= p, one coin for the batch, all tied survivors, t <= 0.5",
    ),
    Known(
        "xtc",
        refused_by_engine("[0, 0.5]"),
        "Threshold above 0.5: no effect in llama.cpp and koboldcpp, an error in mlx-lm.",
    ),
    Known(
        "top_k",
        both(
            requested(lambda case: case.get("top_k") >= case.row.size),
            refused_by_engine("`top_k` has to be an integer"),
        ),
        "k >= V is an error in mlx-lm",
    ),
    K_OF_MINUS_ONE,
    Known(
        "temperature",
        gives(
            lambda case: case.get("temperature") < 0,
            lambda difference: difference.case.row / difference.case.get("temperature"),
        ),
        "unchecked in llama.cpp and mlx-lm",
    ),
    TOO_COLD,
)


def version() -> str:
    """Its version, and that of mlx."""
    return f"mlx-lm {metadata.version('mlx-lm')}, mlx {metadata.version('mlx')}"


def runs(case: Case) -> bool:
    """Not with a bias outside the vocabulary, which would write outside the row."""
    return all(token < case.row.size for token in case.get("logit_bias"))


def process(case: Case) -> Row:
    """The row as mlx-lm draws from it."""
    mx, utils = import_module("mlx.core"), import_module("mlx_lm.sample_utils")
    penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
    filters = ("top_p", "min_p", "top_k", "xtc_probability", "xtc_threshold")
    logits, tokens = mx.array(case.row)[None], mx.array([*case.prompt, *case.output])
    arguments = {name: case.get(name) for name in penalties if name in case.fields}
    for processor in utils.make_logits_processors(case.get("logit_bias"), **arguments):
        logits = processor(tokens, logits)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    arguments = {name: case.get(name) for name in filters}
    sampler = utils.make_sampler(case.get("temperature"), **arguments)
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
    try:
        with patch.object(mx.random, "categorical", categorical):
            yield seen
    finally:
        mx.enable_compile()
