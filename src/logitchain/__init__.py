"""Every sampling control of a chat-completions request, as pure functions and one chain."""

from .batch import Batch as Batch
from .chain import Chain as Chain
from .choice import Choice as Choice
from .controls.bans import allowed_tokens as allowed_tokens
from .controls.bans import bad_words as bad_words
from .controls.bans import banned_tokens as banned_tokens
from .controls.bans import min_tokens as min_tokens
from .controls.bans import no_repeat_ngram as no_repeat_ngram
from .controls.logit_bias import logit_bias as logit_bias
from .controls.min_p import min_p as min_p
from .controls.penalties import frequency_penalty as frequency_penalty
from .controls.penalties import presence_penalty as presence_penalty
from .controls.penalties import repetition_penalty as repetition_penalty
from .controls.temperature import temperature as temperature
from .controls.token_bitmask import token_bitmask as token_bitmask
from .controls.top_k import top_k as top_k
from .controls.top_p import top_p as top_p
from .controls.xtc import xtc as xtc
from .explain import Explanation as Explanation
from .logprobs import logprobs as logprobs
from .logprobs import token_logprobs as token_logprobs
from .logprobs import top_logprobs as top_logprobs
from .params import FIELDS as FIELDS
from .params import Params as Params
from .rng import uniform as uniform
from .sample import sample as sample
from .speculative import verify as verify
from .text import TextStream as TextStream

__version__ = "0.1.0"
