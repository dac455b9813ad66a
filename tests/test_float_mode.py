"""The caller's floating-point mode makes no difference, and it is left as it was."""

from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import strategies
from logitchain.numeric import compile as jit
from logitchain.numeric import float_mode

pytestmark = pytest.mark.skipif(
    jit.INTERPRETED or not float_mode._IS_X86, reason="the modes are those of x86's compiled code"
)

STANDARD = 0x1F80
MODES = {
    "flush to zero, denormals are zero": STANDARD | 0x8040,
    "flush to zero": STANDARD | 0x8000,
    "denormals are zero": STANDARD | 0x0040,
    "rounding up": STANDARD | 0x4000,
    "rounding down": STANDARD | 0x2000,
    "rounding to zero": STANDARD | 0x6000,
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@contextmanager
def switched(mode):
    before = float_mode.enter()
    float_mode.leave(mode)
    try:
        yield
    finally:
        float_mode.leave(before)


def batch(vocab, **fields):
    made = lc.Batch(vocab)
    made.add(lc.Params(seed=1, **fields), [0], [vocab - 1])
    return made


def chained(row, **fields):
    made = batch(row.size, **fields)
    chain = lc.Chain()
    sampled = chain.sample_with_logprobs(row, made)
    return chain(row, made), chain.sample(row, made), sampled.logprobs, sampled.top_ids


def a_token(row):
    """One that is left; NumPy's comparisons depend on the mode, isfinite does not."""
    return int(np.flatnonzero(np.isfinite(row))[0])


KEYS = {"seed": 3, "position": 4}
CALLS = {
    "temperature": lambda x: lc.temperature(x, 0.7),
    "hot": lambda x: lc.temperature(x, 1e7),
    "cold": lambda x: lc.temperature(x, 1e-30),
    "greedy": lambda x: lc.temperature(x, 0),
    "top_k": lambda x: lc.top_k(x, 2),
    "top_p": lambda x: lc.top_p(x, 0.5),
    "min_p": lambda x: lc.min_p(x, 0.9),
    "tiny min_p": lambda x: lc.min_p(x, 1e-310),
    "xtc": lambda x: lc.xtc(x, 0.01, 1.0, **KEYS),
    "repetition_penalty": lambda x: lc.repetition_penalty(x, 1.3, [0, 1]),
    "frequency_penalty": lambda x: lc.frequency_penalty(x, 1e-42, [0, 1]),
    "presence_penalty": lambda x: lc.presence_penalty(x, -1e-42, [0, 1]),
    "logit_bias": lambda x: lc.logit_bias(x, {0: 1e-42}),
    "allowed_tokens": lambda x: lc.allowed_tokens(x, np.arange(x.size)),
    "sample": lambda x: lc.sample(x, **KEYS),
    "logprobs": lc.logprobs,
    "token_logprobs": lambda x: lc.token_logprobs(x, 0),
    "top_logprobs": lambda x: lc.top_logprobs(x, min(3, x.size)),
    "uniform": lambda x: lc.uniform(x.size, list(range(50))),
    "verify": lambda x: lc.verify([x, x], [a_token(x)], [x], **KEYS),
    "chain": lambda x: chained(x, top_p=0.5, top_logprobs=2),
    "penalties": lambda x: chained(x, repetition_penalty=1.2, presence_penalty=1e-3, top_k=1),
    "Chain.verify": lambda x: lc.Chain().verify(
        np.stack([x, x]), batch(x.size, top_p=0.9), [[a_token(x)]], [x[None]]
    ),
    "explain": lambda x: lc.Chain().explain(x, batch(x.size, top_k=1), 0).token,
}
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}


def bits(result):
    """What a call gave, so that any change of a bit shows."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [(np.asarray(part).dtype, np.asarray(part).tobytes()) for part in parts]


def test_the_modes_are_real():
    with switched(MODES["flush to zero, denormals are zero"]):
        assert np.float64(5e-324) * 1.0 == 0.0
        assert not float_mode.is_standard()
    assert np.float64(5e-324) * 1.0 > 0.0
    assert float_mode.is_standard()


@every_mode
@pytest.mark.parametrize("row", [[0, -1, -2], [0, 0, 0], [1e-40, 0, -1e-40], [5e-45, 6e-45, -1]])
def test_a_nucleus_is_found(mode, row):
    x = np.array(row, np.float32)
    expected = bits(chained(x, top_p=0.5))
    with switched(mode):
        assert bits(chained(x, top_p=0.5)) == expected


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@given(data=st.data())
def test_the_same_bits(call, data):
    x = data.draw(strategies.rows(min_vocab=2))
    x = x * np.float32(data.draw(st.sampled_from((1.0, 1e-38, 1e-43))))
    dtype = DTYPES.get(data.draw(st.sampled_from(["float32", *DTYPES])))
    if dtype:
        x = np.clip(x, -60000, None, where=x > -np.inf, out=x).clip(None, 60000).astype(dtype)
        if data.draw(st.booleans()):  # subnormal numbers of that type
            x = np.where(x == 0, np.nextafter(dtype(0), dtype(1)), x).astype(dtype)
    expected = bits(call(x))
    for name, mode in MODES.items():
        with switched(mode):
            ours = call(x)
        assert bits(ours) == expected, name


@every_mode
def test_the_mode_is_left_as_it_was_also_after_an_error(mode):
    x = np.array([1.0, 2.0], np.float32)
    with switched(mode):
        lc.top_p(x, 0.5)
        lc.Chain().sample(x, batch(2))
        with pytest.raises(ValueError, match="token 0 is nan"):
            lc.top_p(x * np.nan, 0.5)
        with pytest.raises(ValueError, match="token 0 is nan"):
            lc.Chain().sample(x * np.nan, batch(2))
        control = float_mode.enter() & 0xFFC0
        float_mode.leave(control)
    assert control == mode


def test_threads_that_were_started_in_another_mode():
    rows = np.tile(np.array([1e-40, 2e-40, 0, 0], np.float32), (6, 400_000))
    many = lc.Batch(rows.shape[1])
    many.add(lc.Params(top_p=0.9, n=len(rows), seed=1))
    expected = lc.Chain()(rows, many)
    with switched(MODES["flush to zero, denormals are zero"]):
        assert_array_equal(lc.Chain(threads=3)(rows, many), expected)
