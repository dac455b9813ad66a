"""Each control by itself: a pure function, a new array out."""

import numpy as np
import pytest
from rows import flat

import logitchain as lc

SAID = list(range(0, 20_000, 10))
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
    "logprobs": lc.logprobs,
    "top_logprobs": lambda x: lc.top_logprobs(x, 20),
    "sample": lambda x: lc.sample(x, seed=0, position=0),
    "np.max": np.max,
    "a copy": np.copy,
}


@pytest.mark.parametrize("control", CONTROLS)
def test_control(over_rows, control):
    over_rows(CONTROLS[control], flat(), table="controls", control=control)
