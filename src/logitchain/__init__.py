"""Every sampling control of a chat-completions request, as pure functions and one chain."""

from .batch import Batch as Batch
from .chain import Chain as Chain
from .controls.allowed_tokens import allowed_tokens as allowed_tokens
from .controls.bad_words import bad_words as bad_words
from .controls.banned_tokens import banned_tokens as banned_tokens
from .controls.epsilon_cutoff import epsilon_cutoff as epsilon_cutoff
from .controls.eta_cutoff import eta_cutoff as eta_cutoff
from .controls.frequency_penalty import frequency_penalty as frequency_penalty
from .controls.logit_bias import logit_bias as logit_bias
from .controls.min_p import min_p as min_p
from .controls.min_tokens import min_tokens as min_tokens
from .controls.no_repeat_ngram import no_repeat_ngram as no_repeat_ngram
from .controls.p_less import p_less as p_less
from .controls.presence_penalty import presence_penalty as presence_penalty
from .controls.quadratic import quadratic as quadratic
from .controls.record import Control as Control
from .controls.record import Request as Request
from .controls.repetition_penalty import repetition_penalty as repetition_penalty
from .controls.temperature import temperature as temperature
from .controls.tfs import tfs as tfs
from .controls.token_bitmask import token_bitmask as token_bitmask
from .controls.top_a import top_a as top_a
from .controls.top_h import top_h as top_h
from .controls.top_k import top_k as top_k
from .controls.top_n_sigma import top_n_sigma as top_n_sigma
from .controls.top_p import top_p as top_p
from .controls.typical_p import typical_p as typical_p
from .controls.xtc import xtc as xtc
from .explain import Explanation as Explanation
from .logprobs import logprobs as logprobs
from .logprobs import token_logprobs as token_logprobs
from .logprobs import top_logprobs as top_logprobs
from .params import FIELDS as FIELDS
from .params import Field as Field
from .params import Params as Params
from .params import field as field
from .presets import DEFAULT_ORDER as DEFAULT_ORDER
from .presets import PRESETS as PRESETS
from .response.choice import Choice as Choice
from .response.text_stream import TextStream as TextStream
from .rng import uniform as uniform
from .sample import sample as sample
from .speculative import verify as verify

__version__ = "0.1.0"
