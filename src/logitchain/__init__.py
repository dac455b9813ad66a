"""Every sampling control of a chat-completions request, as pure functions and one chain."""

from .batch import Batch
from .chain import Chain
from .controls.adaptive_p import adaptive_p, adaptive_p_target, adaptive_p_update
from .controls.allowed_tokens import allowed_tokens
from .controls.bad_words import bad_words
from .controls.banned_texts import banned_texts
from .controls.banned_tokens import banned_tokens
from .controls.dry import dry
from .controls.dynamic_temperature import dynamic_temperature
from .controls.epsilon_cutoff import epsilon_cutoff
from .controls.eta_cutoff import eta_cutoff
from .controls.forced_output_tokens import forced_output_tokens
from .controls.frequency_penalty import frequency_penalty
from .controls.green_list import green_list
from .controls.logit_bias import logit_bias
from .controls.min_p import min_p
from .controls.min_tokens import min_tokens
from .controls.min_total_tokens import min_total_tokens
from .controls.mirostat import mirostat, mirostat_update
from .controls.no_repeat_ngram import no_repeat_ngram
from .controls.p_less import p_less
from .controls.presence_penalty import presence_penalty
from .controls.quadratic import quadratic
from .controls.reasoning import is_reasoning, reasoning
from .controls.record import Control, Request
from .controls.repetition import find_repetition
from .controls.repetition_penalty import repetition_penalty
from .controls.temperature import temperature
from .controls.tfs import tfs
from .controls.token_bitmask import token_bitmask
from .controls.top_a import top_a
from .controls.top_h import top_h
from .controls.top_k import top_k
from .controls.top_n_sigma import top_n_sigma
from .controls.top_p import top_p
from .controls.typical_p import typical_p
from .controls.xtc import xtc
from .dialects import DIALECTS
from .explain import Explanation
from .guidance import contrast, guide
from .inputs.banned_texts import BannedTexts
from .json_schema import json_schema
from .logprobs import kept_logprobs, logprobs, token_logprobs, top_logprobs
from .params import FIELDS, Field, Params, RepetitionDetection, Watermark, field
from .presets import DEFAULT_ORDER, PRESETS
from .response.choice import Choice
from .response.text_stream import TextStream
from .rng import draft_seed, uniform
from .sample import sample
from .speculative import accepted_drafts, draft_tree, verify
from .vocabulary import line_ends, prefix_mask, sequence_breakers
from .watermark import Detection, detect_watermark, watermarked_sample

__all__ = [
    "DEFAULT_ORDER",
    "DIALECTS",
    "FIELDS",
    "PRESETS",
    "BannedTexts",
    "Batch",
    "Chain",
    "Choice",
    "Control",
    "Detection",
    "Explanation",
    "Field",
    "Params",
    "RepetitionDetection",
    "Request",
    "TextStream",
    "Watermark",
    "accepted_drafts",
    "adaptive_p",
    "adaptive_p_target",
    "adaptive_p_update",
    "allowed_tokens",
    "bad_words",
    "banned_texts",
    "banned_tokens",
    "contrast",
    "detect_watermark",
    "draft_seed",
    "draft_tree",
    "dry",
    "dynamic_temperature",
    "epsilon_cutoff",
    "eta_cutoff",
    "field",
    "find_repetition",
    "forced_output_tokens",
    "frequency_penalty",
    "green_list",
    "guide",
    "is_reasoning",
    "json_schema",
    "kept_logprobs",
    "line_ends",
    "logit_bias",
    "logprobs",
    "min_p",
    "min_tokens",
    "min_total_tokens",
    "mirostat",
    "mirostat_update",
    "no_repeat_ngram",
    "p_less",
    "prefix_mask",
    "presence_penalty",
    "quadratic",
    "reasoning",
    "repetition_penalty",
    "sample",
    "sequence_breakers",
    "temperature",
    "tfs",
    "token_bitmask",
    "token_logprobs",
    "top_a",
    "top_h",
    "top_k",
    "top_logprobs",
    "top_n_sigma",
    "top_p",
    "typical_p",
    "uniform",
    "verify",
    "watermarked_sample",
    "xtc",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    """The public names, for tab completion, without the modules that they come from."""
    return [*__all__, "__version__"]
