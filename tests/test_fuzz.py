"""Anything goes in; a sound result comes out, or an error that names the culprit."""

import re
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import logitchain as lc
import strategies
from logitchain.chain import DEFAULT_ORDER
from logitchain.dialects import DIALECTS

VOCAB = 6

# ---- anything


class Broken:
    """An object that promises an array and does not give one."""

    def __init__(self, error=None):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error("broken")
        return 5


class BrokenDLPack:
    def __dlpack__(self, **kwargs):
        raise BufferError("broken")

    def __dlpack_device__(self):
        return (99, 0)


numbers = st.one_of(
    st.integers(-2, 70),
    st.integers(),
    st.sampled_from((2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, -(10**400))),
    st.floats(),
    st.floats(width=16, allow_nan=False),
)
scalars = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.sampled_from((np.float16(0.5), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True), np.nan)),
    st.sampled_from((np.datetime64("2020"), np.longdouble("1e4000"), np.str_("1"), object(), len)),
    st.sampled_from((Broken(), Broken(ValueError), BrokenDLPack(), ..., range(3), lc, lc.Params())),
)
DTYPES = ("f2", "f4", ">f4", "f8", "g", "i1", "u2", "i8", "u8", "?", "c8", "O", "U2", "S2", "M8[s]")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        np.dtype(dtype),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=VOCAB),
        elements=scalars if dtype == "O" else None,
    )
)
ANYTHING = st.one_of(
    scalars,
    st.lists(numbers, max_size=7),
    st.lists(st.lists(numbers, max_size=4), max_size=4),
    arrays,
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.one_of(st.integers(-1, 9), st.text(max_size=2)), inner, max_size=3),
        ),
        max_leaves=5,
    ),
)


@st.composite
def whatever(draw):
    """Anything at all; its repr is short, as hypothesis wants it."""
    return draw(ANYTHING)


anything = whatever()


@st.composite
def mostly(draw, good, times=3):
    """Something sensible, or one time in many anything."""
    return draw(good if draw(st.integers(0, times)) else anything)


# ---- what may come of a call


def named(error, names):
    return any(re.search(rf"\b{re.escape(str(name))}", str(error)) for name in names)


def outcome(call, names, *args, **kwargs):
    """The result, or None after an error that names one of `names`; any other error comes through.

    Warnings are errors here, so none is given either.
    """
    try:
        return call(*args, **kwargs)
    except (TypeError, ValueError) as error:
        if not named(error, names):
            raise
        return None


def as_float32(logits, dtype):
    """What was given, as NumPy reads it."""
    given = np.asarray(logits)
    if dtype == "bfloat16" and given.dtype in (np.uint16, np.int16):
        return (given.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return given.astype(np.float32)


def check_logits(result, given, out=None):
    assert result.dtype == np.float32
    assert result.shape == given.shape
    assert not np.isnan(result).any()
    assert not (result == np.inf).any()
    assert not (np.isfinite(result) & ~np.isfinite(given)).any(), "a removed token is back"
    assert np.isfinite(result).any(axis=-1).all()
    assert out is None or result is out


def check_tokens(result, given):
    matrix = given.reshape(-1, given.shape[-1])
    tokens = np.atleast_1d(result)
    assert tokens.dtype == np.int64
    assert tokens.shape == matrix.shape[:1]
    assert np.isfinite(matrix[np.arange(len(matrix)), tokens]).all()


# ---- the pure functions

logits = st.one_of(
    strategies.rows(VOCAB, VOCAB),
    strategies.matrices(max_rows=3, min_vocab=VOCAB, max_vocab=VOCAB),
    strategies.rows(1, 70),
    st.lists(st.floats(-50, 50), min_size=1, max_size=VOCAB),
    st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=3),
    hnp.arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(1, VOCAB))),
    hnp.arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(1, VOCAB))),
)
ids = st.lists(st.integers(0, VOCAB - 1), max_size=8)
seeds = st.one_of(st.integers(-(2**63), 2**64 - 1), st.lists(st.integers(0, 9), max_size=3))


def per_row(value):
    return st.one_of(value, st.lists(value, max_size=3))


FIELD_VALUES = {name: per_row(value) for name, value in strategies.VALUES.items()}
KEYS = {"seed": seeds, "position": st.integers(0, 2**64 - 1)}
ARGUMENTS = {
    **{name: {name: FIELD_VALUES[name]} for name in ("temperature", "top_k", "top_p", "min_p")},
    **{
        name: {name: FIELD_VALUES[name], "tokens": st.one_of(ids, st.lists(ids, max_size=3))}
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
    },
    "xtc": {
        "xtc_threshold": FIELD_VALUES["xtc_threshold"],
        "xtc_probability": per_row(st.floats(0, 1)),
        **KEYS,
        "protected_ids": ids,
        "protected": st.sampled_from(("skip", "exempt", "exclude")),
    },
    "logit_bias": {"bias": per_row(strategies.biases(VOCAB))},
    "logprobs": {},
    "token_logprobs": {"tokens": st.one_of(st.integers(0, 5), ids)},
    "top_logprobs": {"n": st.integers(0, VOCAB)},
    "sample": KEYS,
}
ARGUMENTS["top_k"]["ties"] = ARGUMENTS["top_p"]["ties"] = st.sampled_from(("first", "all"))
NO_OUT = ("token_logprobs", "top_logprobs", "sample")
ALIASES = {"vocabulary", "logit_bias", "row"}


@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_a_function_of_logits(name, data):
    given = data.draw(mostly(logits))
    arguments = {key: data.draw(mostly(value)) for key, value in ARGUMENTS[name].items()}
    if data.draw(st.integers(0, 9)) == 0:
        arguments["dtype"] = data.draw(st.one_of(st.none(), st.just("bfloat16"), scalars))
    if data.draw(st.integers(0, 9)) == 0 and name not in NO_OUT:
        arguments["out"] = data.draw(st.one_of(arrays, anything))
    before = given.copy() if isinstance(given, np.ndarray) else None
    names = {"logits", *arguments, *ALIASES}
    result = outcome(getattr(lc, name), names, given, **arguments)
    if before is not None:
        assert before.tobytes() == given.tobytes()
    if result is None:
        return
    x = as_float32(given, arguments.get("dtype"))
    if name == "sample":
        check_tokens(result, x)
    elif name == "token_logprobs":
        assert np.shape(result) == x.shape[:-1]
        assert (np.asarray(result) <= 1e-5).all()
    elif name == "top_logprobs":
        n = arguments["n"]
        assert [part.shape for part in result] == [(*x.shape[:-1], n)] * 2
        assert [part.dtype for part in result] == [np.int64, np.float32]
        assert (result[1] <= 1e-5).all()
        assert ((result[0] >= 0) & (result[0] < x.shape[-1])).all()
    else:
        check_logits(result, x, arguments.get("out"))


@given(
    arguments=st.fixed_dictionaries(
        {"seed": mostly(seeds), "position": mostly(seeds)},
        optional={"stream": mostly(st.integers(0, 99)), "index": mostly(st.integers(0, 99))},
    )
)
def test_uniform(arguments):
    result = outcome(lc.uniform, arguments, **arguments)
    if result is not None:
        result = np.asarray(result)
        assert result.dtype == np.float64
        assert ((result > 0) & (result < 1)).all()


# ---- requests

GOOD = {
    **{name: value for name, value in strategies.VALUES.items() if name in lc.FIELDS},
    "top_k": st.integers(0, VOCAB),
    "xtc_probability": st.floats(0, 1),
    "logit_bias": strategies.biases(VOCAB),
    "seed": st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1)),
    "n": st.integers(1, 3),
    "max_tokens": st.one_of(st.none(), st.integers(1, 99)),
    "max_total_tokens": st.one_of(st.none(), st.integers(1, 99)),
    "min_tokens": st.integers(0, 99),
    "min_total_tokens": st.integers(0, 99),
    "stop_after_min_tokens": st.booleans(),
    "include_stop": st.booleans(),
    "stop": st.lists(st.text(min_size=1, max_size=3), max_size=2),
    "eos_token": ids,
    "stop_tokens": strategies.phrases(VOCAB),
    "allowed_tokens": ids,
    "banned_tokens": ids,
    "no_repeat_ngram": st.integers(0, 5),
    "bad_words": strategies.phrases(VOCAB),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, VOCAB),
}
numbers_of_a_loop = {"max_pattern_size": st.integers(-1, 9), "min_pattern_size": st.integers(0, 3)}
numbers_of_a_loop |= {"min_count": st.integers(0, 3), "action": st.sampled_from(("stop", "end"))}
#: Fields that may contradict each other.
LOOSE = {
    **dict.fromkeys(("reasoning_start", "reasoning_end", "reasoning_message"), ids),
    **dict.fromkeys(("reasoning_line_ends", "forced_output_tokens"), ids),
    "reasoning_budget": st.one_of(st.none(), st.integers(0, 9)),
    "min_reasoning": st.integers(0, 9),
    "reasoning_grace": st.integers(0, 9),
    "reasoning_per_block": st.booleans(),
    "repetition_detection": st.fixed_dictionaries({}, optional=numbers_of_a_loop),
}
given_fields = {name: mostly(value) for name, value in (GOOD | LOOSE).items()}
requests = st.fixed_dictionaries({}, optional=given_fields)
good_params = st.fixed_dictionaries({}, optional=GOOD).map(lambda fields: lc.Params(**fields))
good_params = strategies.with_reasoning(good_params, VOCAB)


def check_params(params):
    assert isinstance(params, lc.Params)
    again = {name: getattr(params, name) for name in lc.FIELDS}
    assert lc.Params(**again) == params
    if params.n < 100:
        assert [sample.n for sample in params.samples()] == [1] * params.n
    assert all(type(again[name]) is float for name, f in lc.FIELDS.items() if type(f.off) is float)


@given(fields=requests)
def test_params(fields):
    params = outcome(lc.Params, fields, **fields)
    if params is not None:
        check_params(params)


spellings = {spelling for table in DIALECTS.values() for spelling in table}
dialects = st.sampled_from(sorted(DIALECTS))


@st.composite
def bodies(draw):
    keys = st.one_of(st.sampled_from(sorted({*spellings, "messages", "x"})), st.text(max_size=5))
    return draw(requests) | draw(st.dictionaries(keys, anything, max_size=2))


@given(
    body=mostly(st.one_of(requests, bodies())),
    dialect=mostly(dialects),
    passthrough=mostly(st.sampled_from(((), ("x",), ["x"]))),
    eos_token=mostly(ids),
)
def test_from_request(body, dialect, passthrough, eos_token):
    names = {"dialect", "passthrough", "eos_token", "request body"}
    kwargs = {"dialect": dialect, "passthrough": passthrough, "eos_token": eos_token}
    params = outcome(lc.Params.from_request, names, body, **kwargs)
    if params is not None:
        check_params(params)


# ---- batch


@st.composite
def batches(draw):
    batch = lc.Batch(VOCAB)
    for params in draw(st.lists(good_params, max_size=2)):
        batch.add(params, draw(ids), draw(ids))
    return batch


def seen(batch):
    return (
        list(batch.rows),
        batch.positions.tolist(),
        batch.seeds.tolist(),
        [(batch.prompt(row), batch.output(row)) for row in batch.rows],
        [[part.tolist() for part in batch.counts(r, "all")] for r in range(len(batch))],
    )


handles = st.integers(0, 5)
METHODS = {
    "add": {"params": good_params, "prompt_tokens": ids, "output_tokens": ids},
    "append": {"tokens": ids, "rows": st.one_of(st.none(), st.lists(handles, max_size=3))},
    "rollback": {"row": handles, "k": st.integers(0, 8)},
    "follow": {"row": handles, "output_tokens": ids},
    "reorder": {"rows": st.one_of(handles, st.lists(handles, max_size=3), st.permutations([0, 1]))},
    "remove": {"rows": st.one_of(handles, st.lists(handles, max_size=3))},
    **{name: {"row": handles} for name in ("params", "seed", "prompt", "output", "index")},
}


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_a_method_of_the_batch(method, data):
    batch = data.draw(batches())
    arguments = {name: data.draw(mostly(value)) for name, value in METHODS[method].items()}
    before = seen(batch)
    names = {"row", "eos_token", "logit_bias", "top_k", *arguments}
    result = outcome(getattr(batch, method), names, **arguments)
    after = seen(batch)
    if method not in ("add", "append", "rollback", "follow", "reorder", "remove"):
        assert after == before
    assert batch.vocab_size == VOCAB
    assert len(set(after[0])) == len(after[0]) == len(batch.status)
    assert method != "add" or (result is None) == (after == before)
    for row, position in zip(after[0], after[1], strict=True):
        output = batch.output(row)
        assert position == len(output)
        assert method != "append" or all(0 <= token < VOCAB for token in output)
    if method == "add" and result is not None:  # a history may hold ids beyond the vocabulary
        for row in result:
            assert batch.prompt(row) == [int(token) for token in arguments["prompt_tokens"]]
            assert batch.output(row) == [int(token) for token in arguments["output_tokens"]]


@given(size=anything)
def test_a_vocabulary_size(size):
    batch = outcome(lc.Batch, {"vocab_size"}, size)
    assert batch is None or (batch.vocab_size == size and len(batch) == 0)


@given(scope=mostly(st.sampled_from(("all", "prompt", "output"))), window=mostly(st.integers(0, 9)))
def test_counts(scope, window):
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(), [1, 2, 2], [3, 1])
    result = outcome(batch.counts, {"scope", "window"}, 0, scope, window)
    if result is not None:
        assert [part.dtype for part in result] == [np.int64, np.int64]
        assert result[1].sum() <= 5


# ---- chain

one_row = st.fixed_dictionaries(
    {}, optional={name: value for name, value in GOOD.items() if name != "n"}
).map(lambda fields: lc.Params(**fields))
entries = mostly(
    st.one_of(
        st.sampled_from(DEFAULT_ORDER),
        st.tuples(
            st.sampled_from(DEFAULT_ORDER),
            st.dictionaries(
                st.sampled_from(("ties", "scope", "window", "protected", "protected_ids", "x")),
                anything,
                max_size=2,
            ),
        ),
    )
)
OPTIONS = {"ties", "scope", "window", "protected", "protected_ids", "x", "argument", "options"}


@given(
    order=st.one_of(st.lists(entries, max_size=4), anything),
    policy=mostly(st.sampled_from(("raise", "mark"))),
)
def test_a_chain_of_anything(order, policy):
    names = {"order", "control", "on_invalid", *OPTIONS}
    chain = outcome(lc.Chain, names, order, on_invalid=policy)
    if chain is None or any(step.name not in DEFAULT_ORDER for step in chain.steps):
        return
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(top_k=3, frequency_penalty=1.0, xtc_probability=1, xtc_threshold=0.1), [1])
    x = np.arange(VOCAB, dtype=np.float32)
    result = outcome(chain, names, x, batch)
    if result is not None:
        check_logits(result, x)


@given(name=anything)
def test_a_preset_of_anything(name):
    chain = outcome(lc.Chain.preset, {"preset"}, name)
    assert chain is None or isinstance(chain.steps, Iterable)


matching = st.integers(0, 3).flatmap(
    lambda n: st.lists(strategies.rows(VOCAB, VOCAB), min_size=n, max_size=n).map(
        lambda rows: np.array(rows, np.float32).reshape(n, VOCAB)
    )
)


@pytest.mark.parametrize(
    "preset", ["default", "llama_cpp", "transformers", "vllm", "sglang", "mlx_lm"]
)
@given(data=st.data())
def test_a_chain_over_anything(preset, data):
    chain = lc.Chain() if preset == "default" else lc.Chain.preset(preset)
    batch = lc.Batch(VOCAB)
    given = data.draw(mostly(matching))
    for _ in range(len(given) if isinstance(given, np.ndarray) and given.ndim == 2 else 1):
        batch.add(data.draw(one_row), data.draw(ids), data.draw(ids))
    arguments = {
        "batch": data.draw(mostly(st.just(batch), 9)),
        "on_invalid": data.draw(mostly(st.sampled_from((None, "raise", "mark")), 9)),
        "dtype": data.draw(mostly(st.none(), 9)),
    }
    more = {
        "until": data.draw(mostly(st.sampled_from((None, *DEFAULT_ORDER)), 9)),
        "out": data.draw(mostly(st.none(), 9)),
    }
    names = {"logits", "vocabulary", "row", *arguments, *more}
    tokens = outcome(chain.sample, names, given, **arguments)
    result = outcome(chain, names, given, **arguments, **more)
    one = {"batch": arguments["batch"], "row": data.draw(mostly(handles))}
    explanation = outcome(chain.explain, names, given, **one)
    if explanation is not None and explanation.token >= 0:
        assert explanation.fate(explanation.token) == "picked"
    elif explanation is not None:
        assert explanation.status.startswith("no finite logit is left after ")
    if tokens is None and result is None:
        return
    x = np.atleast_2d(as_float32(given, arguments["dtype"]))
    if tokens is not None:
        fit = tokens >= 0
        check_tokens(tokens[fit], x[fit])
        assert fit.all() or arguments["on_invalid"] == "mark"
    if result is not None:
        rows = np.atleast_2d(result)
        fit = np.isfinite(rows).any(axis=-1)
        check_logits(rows[fit], x[fit])
        assert fit.all() or arguments["on_invalid"] == "mark"
