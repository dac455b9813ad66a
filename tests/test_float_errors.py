"""No result depends on `np.errstate`, and no call raises a floating-point error."""

import ml_dtypes
import numpy as np
import pytest

import logitchain as lc
from effort import effort

INF, VOCAB = np.inf, 70
KEYS = {"seed": [1, 2], "position": [0, 3]}
BASE = np.random.default_rng(0).normal(0, 3, (2, VOCAB))


def with_values(dtype, **columns):
    rows = BASE.copy()
    for token, value in columns.items():
        rows[:, int(token[1:])] = value
    return rows.astype(dtype)


LOGITS = {
    "float32": BASE.astype(np.float32),
    "float16": BASE.astype(np.float16),
    "bfloat16": BASE.astype(ml_dtypes.bfloat16),
    "float64": BASE,
    "list": BASE.tolist(),
    "subnormal float64": BASE * 1e-310,
    "subnormal as float32": BASE * 1e-42,
    "subnormal float32": np.full((2, VOCAB), 1e-42, np.float32),
    "subnormal float16": np.full((2, VOCAB), 6e-8, np.float16),
    "huge float32": with_values(np.float32, t0=3.4e38, t1=3.3e38),
    "huge float64": with_values(np.float64, t0=1e38, t1=-1e300),
    "far apart": with_values(np.float32, t0=-90.0, t1=-700.0, t2=-1e30, t5=800.0),
    "removed": with_values(np.float64, t0=-INF, t1=-INF),
    "all but one removed": np.where(np.arange(VOCAB) == 3, [[1.0], [-2.0]], -INF),
}


def subtract(rows, batch):
    rows[rows > 0] -= 1


def batch(**fields):
    made = lc.Batch(VOCAB)
    made.add(lc.Params(**({"n": 2, "seed": 5} | fields)), [1, 2, 3], [4, 4, 5])
    return made


def of_a_chain(chain, fields):
    """Each method of a chain, for requests with these fields."""
    return [
        lambda x: chain(x, batch(**fields)),
        lambda x: chain(x, batch(**fields), on_invalid="mark"),
        lambda x: chain.sample(x, batch(**fields)),
        lambda x: chain.sample_with_logprobs(x, batch(**fields)),
        lambda x: chain.sample_with_logprobs(x, batch(**fields), of="processed"),
        lambda x: chain.verify(np.concatenate([x, x]), batch(**fields), [[3], [3]]),
        lambda x: chain.verify(
            np.concatenate([x, x]), batch(**fields), [[3], [3]], [np.asarray(x)[:1]] * 2
        ),
        lambda x: read(chain.explain(x, batch(**fields), 1)),
    ]


def read(explanation):
    """All that an explanation computes, but the picture."""
    stages = [
        (stage.kept, stage.entropy, stage.removed_mass, stage.best(5))
        for stage in explanation.stages
    ]
    return [str(explanation), explanation.fate(2), repr(stages)]


ALL = range(VOCAB)
FUNCTIONS = {
    "temperature": [
        lambda x, t=t: lc.temperature(x, t) for t in (0, 5e-324, 1e-30, 1e-9, 0.5, 1.7e308)
    ],
    "top_k": [lambda x: lc.top_k(x, 3), lambda x: lc.top_k(x, [3, 10**30], ties="all")],
    "top_p": [lambda x, p=p: lc.top_p(x, p) for p in (5e-324, 1e-9, 0.5, 1 - 1e-16)],
    "min_p": [lambda x, p=p: lc.min_p(x, p) for p in (5e-324, 1e-300, 0.5, 1.0)],
    "xtc": [lambda x, t=t: lc.xtc(x, t, 1.0, **KEYS, protected_ids=[3]) for t in (5e-324, 0.01)],
    "repetition_penalty": [
        lambda x, r=r: lc.repetition_penalty(x, r, ALL) for r in (5e-324, 1.5, 1.7e308)
    ],
    "presence_penalty": [
        lambda x, s=s: lc.presence_penalty(x, s, ALL) for s in (5e-324, -1.7e308, 1.7e308)
    ],
    "frequency_penalty": [
        lambda x, f=f: lc.frequency_penalty(x, f, [*ALL] * 3) for f in (5e-324, -1.7e308, 1.7e308)
    ],
    "logit_bias": [
        lambda x, b=b: lc.logit_bias(x, {0: b, 1: -INF, 2: -b}) for b in (5e-324, 1.7e308)
    ],
    "masks": [
        lambda x: lc.banned_tokens(x, [0]),
        lambda x: lc.allowed_tokens(x, [3, 4]),
        lambda x: lc.token_bitmask(x, np.array([-1, -1, 1], np.int32)),
        lambda x: lc.min_tokens(x, 2, [1], position=[0, 1]),
        lambda x: lc.no_repeat_ngram(x, 2, [1, 2, 1]),
        lambda x: lc.bad_words(x, [[1], [2, 3]], [2]),
    ],
    "sample": [lambda x: lc.sample(x, **KEYS)],
    "logprobs": [
        lambda x: lc.logprobs(x),
        lambda x: lc.token_logprobs(x, [3, 3]),
        lambda x: lc.top_logprobs(x, VOCAB),
    ],
    "verify": [
        lambda x: lc.verify(x, [3], seed=1, position=2),
        lambda x: lc.verify(x, [3], x[:1], seed=1, position=2),
    ],
    "uniform": [lambda x: lc.uniform(1, np.arange(9), 16, 0)],
}
REQUESTS = {
    "off": {},
    "coldest": {"temperature": 5e-324},
    "cold": {"temperature": 1e-9, "top_p": 0.9, "min_p": 5e-324},
    "hottest": {"temperature": 1.7e308, "top_p": 5e-324},
    "busy": {
        **{"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.05, "top_logprobs": 20},
        **{"xtc_probability": 1, "xtc_threshold": 5e-324, "repetition_penalty": 5e-324},
        **{"frequency_penalty": 2, "presence_penalty": 5e-324, "banned_tokens": [9]},
        "logit_bias": {0: 1e308, 3: -1e308, 6: -INF, 7: 5e-324},
    },
    "emptied": {"allowed_tokens": [3], "banned_tokens": [3]},
}
ORDERS = {"chain": lc.Chain(), "callable": lc.Chain((subtract, "top_p"))}
CALLS = FUNCTIONS | {
    f"{order}, {name}": of_a_chain(chain, fields)
    for order, chain in ORDERS.items()
    for name, fields in REQUESTS.items()
}


def outcome(call, x):
    """What a call returns, or its error, in Python's own types."""
    try:
        return plain(call(x))
    except ValueError as error:
        return str(error)


def plain(result):
    if isinstance(result, (list, tuple)):
        return [plain(part) for part in result]
    return result.tolist() if isinstance(result, np.ndarray) else result


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", [*LOGITS][:: effort(5, 1)])
def test_floating_point_errors_are_never_raised_and_change_nothing(calls, name):
    for call in calls:
        with np.errstate(all="raise"):
            ours = outcome(call, LOGITS[name])
        with np.errstate(all="ignore"):
            assert ours == outcome(call, LOGITS[name])


@pytest.mark.parametrize("name", ["float32", "huge float32", "far apart", "all but one removed"])
@pytest.mark.parametrize("fields", [REQUESTS["busy"], REQUESTS["emptied"]])
def test_a_picture_is_drawn_whatever_numpy_is_told(name, fields, tmp_path):
    with np.errstate(all="raise"):
        lc.Chain().explain(LOGITS[name], batch(**fields), 1).plot(tmp_path / "row.png")
    assert (tmp_path / "row.png").stat().st_size > 1000
