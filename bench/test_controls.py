"""Each control by itself: a pure function, a new array out."""

import numpy as np
import pytest
from rows import flat

import logitchain as lc

SAID = list(range(0, 20_000, 10))
TEXTS = lc.BannedTexts(["no ab", "cab"], [b"%x" % i for i in range(128_256)])
MASK = np.full(128_256 // 32, 0x55555555, np.int32)
CONTROLS = {
    "temperature": lambda x: lc.temperature(x, 0.8),
    "top_k": lambda x: lc.top_k(x, 50),
    "top_p": lambda x: lc.top_p(x, 0.95),
    "min_p": lambda x: lc.min_p(x, 0.05),
    "xtc": lambda x: lc.xtc(x, 0.01, 1.0, seed=0, position=0),
    "repetition_penalty": lambda x: lc.repetition_penalty(x, 1.1, SAID),
    "presence_penalty": lambda x: lc.presence_penalty(x, 0.1, SAID),
    "frequency_penalty": lambda x: lc.frequency_penalty(x, 0.1, SAID),
    "logit_bias": lambda x: lc.logit_bias(x, {5: 1.0, 7: -1.0}),
    "token_bitmask": lambda x: lc.token_bitmask(x, MASK),
    "allowed_tokens": lambda x: lc.allowed_tokens(x, SAID),
    "banned_tokens": lambda x: lc.banned_tokens(x, SAID),
    "min_tokens": lambda x: lc.min_tokens(x, 9, [2], position=3),
    "min_total_tokens": lambda x: lc.min_total_tokens(x, 9, [2], [1, 3]),
    "no_repeat_ngram": lambda x: lc.no_repeat_ngram(x, 3, SAID),
    "bad_words": lambda x: lc.bad_words(x, [[1, 2], [3]], SAID),
    "banned_texts": lambda x: lc.banned_texts(x, TEXTS, SAID),
    "logprobs": lc.logprobs,
    "top_logprobs": lambda x: lc.top_logprobs(x, 20),
    "sample": lambda x: lc.sample(x, seed=0, position=0),
    "np.max": np.max,
    "a copy": np.copy,
}


@pytest.mark.parametrize("control", CONTROLS)
def test_control(over_rows, control):
    over_rows(CONTROLS[control], flat(), table="controls", control=control)
