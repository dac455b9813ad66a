"""transformers: the processors that `generate` makes of a generation config, in its order."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from .cases import Case, Row
from .known import (
    K_BEYOND,
    OURS,
    P_ABOVE_ONE,
    P_IN_TORCH,
    P_OF_ZERO,
    TOO_COLD,
    TYPICAL,
    Known,
    instead,
    refused_by_engine,
    tied,
)


def _but_the_end(case: Case) -> list[Any]:
    """The bad words of a request, but for those that end a text."""
    ends = [[token] for token in case.get("eos_token")]
    return [phrase for phrase in case.get("bad_words") if list(phrase) not in ends]


CONTROLS = (
    *("allowed_tokens", "banned_tokens", "min_tokens", "no_repeat_ngram", "bad_words"),
    *("logit_bias", "repetition_penalty", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h"),
)

KNOWN = (
    *OURS,
    Known(
        "banned_tokens",
        instead(
            lambda case: max(case.get("banned_tokens"), default=0) >= case.row.size,
            banned_tokens=lambda case: [x for x in case.get("banned_tokens") if x < case.row.size],
        ),
        "an id outside the vocabulary bans nothing there",
    ),
    Known(
        "no_repeat_ngram",
        instead(
            lambda case: case.get("no_repeat_ngram") == 1,
            banned_tokens=lambda case: [*case.prompt, *case.output],
        ),
        "1 is off in a request, as FriendliAI's API documents it",
    ),
    Known(
        "bad_words",
        instead(lambda case: True, bad_words=_but_the_end),
        "Bad words are not exempt from ending a text.",
    ),
    Known(
        "repetition_penalty",
        refused_by_engine("has to be a strictly positive float"),
        "a float > 0 in transformers (integers are errors)",
    ),
    Known(
        "temperature",
        refused_by_engine("(=0.0) has to be a strictly positive float"),
        "An error in transformers and OpenVINO GenAI.",
    ),
    Known(
        "temperature",
        refused_by_engine("(=2) has to be a strictly positive float"),
        "a float > 0 in transformers (the integer 1 is an error)",
    ),
    TOO_COLD,
    K_BEYOND,
    Known(
        "top_p", tied(), "of equal logits at top_p's boundary the lowest ids stay, not the highest"
    ),
    P_IN_TORCH,
    TYPICAL,
    P_OF_ZERO,
    P_ABOVE_ONE,
)


def version() -> str:
    """Its version, and that of torch."""
    transformers, torch = import_module("transformers"), import_module("torch")
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


def process(case: Case) -> Row:
    """The row as `generate` leaves it to the draw."""
    torch = import_module("torch")
    generation = import_module("transformers.generation")
    config = generation.GenerationConfig(
        do_sample=True, num_beams=1, num_return_sequences=1, **_config(case)
    )
    ends = case.get("eos_token")
    config._eos_token_tensor = torch.tensor(ends) if len(ends) else None
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False))
    model._merge_criteria_processor_list = lambda default, custom: default
    allowed = case.get("allowed_tokens")
    processors = generation.GenerationMixin._get_logits_processor(
        model,
        generation_config=config,
        input_ids_seq_length=len(case.prompt),
        prefix_allowed_tokens_fn=(lambda *_: list(allowed)) if len(allowed) else None,
        device="cpu",
    )
    ids = torch.tensor([[*case.prompt, *case.output]], dtype=torch.long)
    scores = torch.from_numpy(case.row.copy())[None]
    return np.asarray(processors(ids, scores)[0].numpy())


def _config(case: Case) -> dict[str, Any]:
    """The request in transformers' own words; what it leaves off it does not say."""
    arguments = {
        "temperature": case.get("temperature"),
        "top_k": case.get("top_k"),
        "top_p": case.get("top_p"),
        "repetition_penalty": case.get("repetition_penalty"),
        "no_repeat_ngram_size": case.get("no_repeat_ngram"),
        "min_p": case.fields.get("min_p"),
        "typical_p": case.fields.get("typical_p"),
        "epsilon_cutoff": case.fields.get("epsilon_cutoff"),
        "eta_cutoff": case.fields.get("eta_cutoff"),
        "top_h": case.fields.get("top_h"),
        "min_new_tokens": case.fields.get("min_tokens"),
    }
    bias, bad, banned = case.get("logit_bias"), case.get("bad_words"), case.get("banned_tokens")
    if bias:
        arguments["sequence_bias"] = [[[token], value] for token, value in bias.items()]
    if bad:
        arguments["bad_words_ids"] = [list(phrase) for phrase in bad]
    if banned:
        arguments["suppress_tokens"] = list(banned)
    return arguments
