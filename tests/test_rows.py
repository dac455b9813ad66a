"""What comes in and what goes out: every type and layout gives the same bits; `out` is obeyed."""

import array

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
from foreign import OnlyArray, OnlyDLPack
from logitchain.inputs.logits import Reading

REQUEST = lc.Params(
    temperature=0.7,
    top_k=9,
    top_p=0.9,
    min_p=0.01,
    repetition_penalty=1.2,
    frequency_penalty=0.5,
    presence_penalty=0.25,
    logit_bias={"1": 2.0, "2": -np.inf},
    xtc_probability=0.5,
    xtc_threshold=0.1,
    seed=3,
)


def batch_for(logits, columns=()):
    """A batch of REQUEST for each row."""
    rows, vocab = columns or (1, *np.shape(logits))[-2:]
    batch = lc.Batch(vocab)
    for _ in range(rows):
        batch.add(REQUEST, [1, 3, 3], [3, 4])
    return batch


TOKENS = [1, 3, 3, 4]
# These take logits, dtype and out, and give logits back.
CONTROLS = {
    "temperature": lambda x, **to: lc.temperature(x, 0.7, **to),
    "top_k": lambda x, **to: lc.top_k(x, 9, **to),
    "top_p": lambda x, **to: lc.top_p(x, 0.8, **to),
    "min_p": lambda x, **to: lc.min_p(x, 0.1, **to),
    "xtc": lambda x, **to: lc.xtc(x, 0.05, 0.9, seed=1, position=2, **to),
    "repetition_penalty": lambda x, **to: lc.repetition_penalty(x, 1.3, TOKENS, **to),
    "frequency_penalty": lambda x, **to: lc.frequency_penalty(x, 0.4, TOKENS, **to),
    "presence_penalty": lambda x, **to: lc.presence_penalty(x, 0.4, TOKENS, **to),
    "logit_bias": lambda x, **to: lc.logit_bias(x, {1: 2.0, 2: -np.inf}, **to),
    "logprobs": lambda x, **to: lc.logprobs(x, **to),
}
# The others, each as (logits, shape (rows, vocab), **dtype).
READERS = {
    "sample": lambda x, shape, **to: lc.sample(x, seed=1, position=2, **to),
    "top_logprobs": lambda x, shape, **to: lc.top_logprobs(x, 7, **to),
    "token_logprobs": lambda x, shape, **to: lc.token_logprobs(x, [5] * shape[0], **to),
    "Chain": lambda x, shape, **to: lc.Chain()(x, batch_for(x, shape), **to),
    "Chain.sample": lambda x, shape, **to: lc.Chain().sample(x, batch_for(x, shape), **to),
    "Chain.explain": lambda x, shape, **to: [
        stage.logits for stage in lc.Chain().explain(x, batch_for(x, shape), 0, **to).stages
    ],
}
EVERY = READERS | {name: lambda x, shape, f=f, **to: f(x, **to) for name, f in CONTROLS.items()}

every_function = pytest.mark.parametrize("function", EVERY.values(), ids=EVERY)
every_control = pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)


def numbers(rows=3, vocab=40):
    """Logits that every type holds exactly; some are removed."""
    rng = np.random.default_rng(rows * vocab)
    logits = (rng.integers(-24, 24, (rows, vocab)) * 0.25).astype(np.float32)
    logits[rng.random(logits.shape) < 0.2] = -np.inf
    logits[:, :1] = 1.0
    return logits


def bits(result):
    """Anything that a function returns, as integers."""
    if isinstance(result, (tuple, list)):
        return [bits(part) for part in result]
    result = np.asarray(result)
    return (result.view(f"i{result.itemsize}").tolist(), result.dtype, result.shape)


# ---- layouts: the same numbers, other memory


def strided(x):
    wide = np.full((*x.shape[:-1], 3 * x.shape[-1]), np.nan, np.float32)
    wide[..., 1::3] = x
    return wide[..., 1::3]


def reversed_in_memory(x):
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def padded_rows(x):
    wide = np.full((*x.shape[:-1], x.shape[-1] + 5), np.nan, np.float32)
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


def fortran(x):
    return x.copy(order="F")


def record_field(x):
    records = np.zeros(x.shape, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    records["id"], records["logit"], records["p"] = -1, x, np.nan
    assert records.itemsize == 12
    return records["logit"]


def unaligned(x):
    records = np.zeros(x.shape, [("flag", np.uint8), ("logit", np.float32)])
    records["logit"] = x
    assert not records["logit"].flags.aligned
    return records["logit"]


def unaligned_in_one_piece(x):
    memory = bytearray(x.nbytes + 1)
    view = np.frombuffer(memory, np.float32, offset=1).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def bfloat16_bits(x):
    return (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


BITS = {"dtype": "bfloat16"}
LAYOUTS = {
    "float16": (lambda x: x.astype(np.float16), {}),
    "float64": (lambda x: x.astype(np.float64), {}),
    "big-endian float16": (lambda x: x.astype(">f2"), {}),
    "big-endian float32": (lambda x: x.astype(">f4"), {}),
    "big-endian float64": (lambda x: x.astype(">f8"), {}),
    "bfloat16": (lambda x: x.astype(ml_dtypes.bfloat16), {}),
    "bfloat16, by type and by name": (lambda x: x.astype(ml_dtypes.bfloat16), BITS),
    "bfloat16 as uint16": (bfloat16_bits, BITS),
    "bfloat16 as int16": (lambda x: bfloat16_bits(x).view(np.int16), BITS),
    "bfloat16 as big-endian uint16": (lambda x: bfloat16_bits(x).astype(">u2"), BITS),
    "bfloat16 as big-endian int16": (lambda x: bfloat16_bits(x).view(np.int16).astype(">i2"), BITS),
    "bfloat16, strided": (
        lambda x: strided(x).astype(ml_dtypes.bfloat16)[..., ::-1][..., ::-1],
        {},
    ),
    "bfloat16, Fortran": (lambda x: fortran(x.astype(ml_dtypes.bfloat16)), {}),
    "float32, with the name bfloat16": (lambda x: x.copy(), BITS),
    "list": (lambda x: x.tolist(), {}),
    "tuple": (lambda x: tuple(x.tolist()), {}),
    "list of arrays": (list, {}),
    "strided": (strided, {}),
    "float16, strided": (lambda x: np.repeat(x.astype(np.float16), 2, -1)[..., ::2], {}),
    "reversed": (reversed_in_memory, {}),
    "padded rows": (padded_rows, {}),
    "Fortran": (fortran, {}),
    "record field": (record_field, {}),
    "unaligned": (unaligned, {}),
    "unaligned in one piece": (unaligned_in_one_piece, {}),
    "read-only": (read_only, {}),
    "memoryview": (lambda x: memoryview(x.copy()), {}),
    "DLPack": (lambda x: OnlyDLPack(x.copy()), {}),
    "DLPack, float64, strided": (lambda x: OnlyDLPack(strided(x).astype(np.float64)), {}),
    "__array__": (lambda x: OnlyArray(x.copy()), {}),
}


@pytest.mark.parametrize("huge", [[2**70, 0, -(2**63)], [2**70, 0.0], [[2**63, 1], [-1, 2**90]]])
def test_integers_in_a_list_may_have_more_than_64_bits(huge):
    assert_array_equal(lc.temperature(huge, 1.0), np.array(huge, np.float64).astype(np.float32))


@every_function
@pytest.mark.parametrize(("layout", "says"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_bits_and_stays_as_it_is(function, layout, says):
    plain = numbers()
    given = layout(plain)
    memory = getattr(given, "array", given)
    before = np.array(memory, copy=True).tobytes()
    assert bits(function(given, plain.shape, **says)) == bits(function(plain, plain.shape))
    assert np.array(memory, copy=True).tobytes() == before


@every_function
@pytest.mark.parametrize(("layout", "says"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_one_row(function, layout, says):
    plain = numbers()[1]
    shape = (1, plain.size)
    if function is EVERY["token_logprobs"]:
        given = lc.token_logprobs(layout(plain), 5, **says)
        assert given == lc.token_logprobs(plain, 5)
        return
    assert bits(function(layout(plain), shape, **says)) == bits(function(plain, shape))


@every_control
def test_other_forms_of_one_row(control):
    whole = [3, 4, 5, 6, 7]
    expected = bits(control(np.array(whole, np.float32)))
    for given in (whole, range(3, 8), array.array("f", whole), array.array("d", whole)):
        assert bits(control(given)) == expected


@every_control
@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 40)])
def test_the_result_is_new_contiguous_float32_of_the_same_shape(control, shape):
    plain = numbers()[: shape[0] if len(shape) == 2 else 1].reshape(shape)
    result = control(plain)
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype) == (shape, np.float32)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.shares_memory(result, plain)


def test_float64_is_rounded_to_the_nearest_float32():
    given = np.array([1 / 3, 1e-50, -1e-50, 1.1, -2.7], np.float64)
    assert_array_equal(lc.temperature(given, 1.0), given.astype(np.float32))


@pytest.mark.parametrize("value", [1e39, 1e300, -1e39])
def test_a_float64_that_float32_cannot_hold_is_an_infinity(value):
    given = np.array([[0.0, 1.0], [value, 0.5]])
    if value < 0:
        assert_array_equal(lc.top_k(given, 0)[1], [-np.inf, 0.5])
        return
    with pytest.raises(ValueError, match=r"^logits: row 1, token 0 is inf$"):
        lc.top_k(given, 0)


def test_subnormal_and_extreme_logits_stay_as_they_are():
    huge = np.finfo(np.float32).max
    given = np.array([1e-45, -1e-45, 0.0, -0.0, huge, -huge, -np.inf], np.float32)
    for name in ("temperature", "top_k", "top_p", "min_p"):
        off = lc.FIELDS[name].off
        assert bits(getattr(lc, name)(given, off)) == bits(given)


# ---- out

OWN_MEMORY = [
    *(np.copy, strided, reversed_in_memory, padded_rows, fortran, record_field),
    *(unaligned, unaligned_in_one_piece),
]


@every_control
@pytest.mark.parametrize("shape", [(40,), (3, 40)])
@pytest.mark.parametrize("target", OWN_MEMORY, ids=lambda f: f.__name__)
def test_out_takes_the_result(control, shape, target):
    plain = numbers()[0] if len(shape) == 1 else numbers()
    before = plain.copy()
    out = target(np.full(shape, 7, np.float32))
    assert control(plain, out=out) is out
    assert_array_equal(out, control(plain))
    assert_array_equal(plain, before)


@every_control
@pytest.mark.parametrize("layout", OWN_MEMORY, ids=lambda f: f.__name__)
def test_out_may_be_the_input_in_any_layout(control, layout):
    for plain in (numbers(), numbers()[0]):
        given = layout(plain)
        assert control(given, out=given) is given
        assert_array_equal(given, control(plain))


def test_what_surrounds_a_strided_out_is_left_alone():
    records = np.zeros(40, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    records["id"], records["logit"], records["p"] = np.arange(40), numbers()[0], 0.5
    lc.top_k(records["logit"], 3, out=records["logit"])
    assert_array_equal(records["logit"], lc.top_k(numbers()[0], 3))
    assert_array_equal(records["id"], np.arange(40))
    assert_array_equal(records["p"], np.full(40, 0.5))


def test_in_place_needs_no_copy():
    x = numbers()
    assert np.shares_memory(Reading(x, x).rows, x)
    assert np.shares_memory(Reading(x[0], x[0]).rows, x)
    assert not np.shares_memory(Reading(x).rows, x)
    assert not np.shares_memory(Reading(x, np.empty_like(x)).rows, x)


@every_control
@pytest.mark.parametrize("shift", [1, 7, 39])
def test_out_may_overlap_the_input(control, shift):
    for forwards in (True, False):
        memory = np.zeros(40 + shift, np.float32)
        low, high = memory[:40], memory[shift:]
        given, out = (low, high) if forwards else (high, low)
        given[...] = numbers()[0]
        expected = control(given.copy())
        assert control(given, out=out) is out
        assert_array_equal(out, expected)


@every_control
def test_out_may_be_other_rows_of_the_same_memory(control):
    memory = np.concatenate([numbers(), numbers(1)])
    expected = control(memory[:3].copy())
    control(memory[:3], out=memory[1:])
    assert_array_equal(memory[1:], expected)
    memory = numbers()
    expected = control(memory[::-1].copy())
    control(memory[::-1], out=memory)
    assert_array_equal(memory, expected)


def test_out_of_another_type_than_the_input():
    for given in (numbers().astype(np.float64), numbers().astype(ml_dtypes.bfloat16)):
        out = np.empty(given.shape, np.float32)
        assert lc.top_k(given, 3, out=out) is out
        assert_array_equal(out, lc.top_k(numbers(), 3))


def test_out_may_be_a_dlpack_or_array_object_itself():
    for wrap in (OnlyArray, OnlyDLPack):
        out = wrap(np.empty((3, 40), np.float32))
        assert lc.top_k(numbers(), 3, out=out) is out
        assert_array_equal(out.array, lc.top_k(numbers(), 3))


def one_row_for_all():
    return np.lib.stride_tricks.as_strided(np.zeros(40, np.float32), (3, 40), (0, 4))


def a_window_per_row(shape=(3, 40)):
    return np.lib.stride_tricks.as_strided(np.zeros(160, np.float32), shape, (156, 4))


@pytest.mark.parametrize("shape", [(3, 39), (1, 40), (2, 1)])
def test_rows_of_out_may_lie_next_to_each_other(shape):
    out = a_window_per_row(shape)
    lc.temperature(np.ones(shape), 0.5, out=out)
    assert_array_equal(out, np.full(shape, 2.0))


FORM = "out must be a writeable float32 array"
BAD_OUT = {
    "float64": (np.zeros((3, 40)), TypeError, FORM),
    "float16": (np.zeros((3, 40), np.float16), TypeError, FORM),
    "int32": (np.zeros((3, 40), np.int32), TypeError, FORM),
    "big-endian": (np.zeros((3, 40), ">f4"), TypeError, FORM),
    "read-only": (read_only(np.zeros((3, 40), np.float32)), TypeError, FORM),
    "broadcast": (np.broadcast_to(np.float32(0), (3, 40)), TypeError, FORM),
    "list": ([[0.0] * 40] * 3, TypeError, FORM),
    "number": (0.0, TypeError, FORM),
    "string": ("out", TypeError, FORM),
    "bytes": (b"\0" * 480, TypeError, FORM),
    "one row": (np.zeros(40, np.float32), ValueError, "out must have the shape of logits"),
    "transposed": (np.zeros((40, 3), np.float32), ValueError, "out must have the shape of logits"),
    "too wide": (np.zeros((3, 41), np.float32), ValueError, "out must have the shape of logits"),
    "3-d": (np.zeros((1, 3, 40), np.float32), ValueError, "out must have the shape of logits"),
    "one row for all": (one_row_for_all(), ValueError, "out must have no overlapping items"),
    "rows that overlap": (a_window_per_row(), ValueError, "out must have no overlapping items"),
    "columns that overlap": (a_window_per_row().T, ValueError, "out must have the shape of logits"),
}


@every_control
@pytest.mark.parametrize(("out", "kind", "text"), BAD_OUT.values(), ids=BAD_OUT)
def test_a_bad_out_is_refused(control, out, kind, text):
    with pytest.raises(kind, match=f"^{text}"):
        control(numbers(), out=out)


@every_control
def test_an_error_leaves_out_alone(control):
    out = np.full((3, 40), 7, np.float32)
    bad = numbers()
    bad[2, 5] = np.nan
    with pytest.raises(ValueError, match=r"^logits: row 2, token 5 is nan$"):
        control(bad, out=out)
    assert_array_equal(out, np.full((3, 40), 7))


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p"])
def test_a_bad_parameter_leaves_even_the_input_alone(name):
    x = numbers()
    with pytest.raises(ValueError, match=f"^{name} must be in "):
        getattr(lc, name)(x, [1, 1, -1], out=x)
    assert_array_equal(x, numbers())


@pytest.mark.parametrize("name", ["repetition_penalty", "frequency_penalty", "presence_penalty"])
def test_bad_tokens_leave_even_the_input_alone(name):
    x = numbers()
    with pytest.raises(ValueError, match="tokens of row 2 must be in"):
        getattr(lc, name)(x, 1.5, [[1], [2], [2**63]], out=x)
    with pytest.raises(ValueError, match="token ids in logit_bias must be in"):
        lc.logit_bias(x, [{1: 1}, {2: 1}, {40: 1}], out=x)
    assert_array_equal(x, numbers())


# ---- no rows, one token


@every_control
@pytest.mark.parametrize("vocab", [5, 40])
def test_no_rows(control, vocab):
    for given in (np.zeros((0, vocab), np.float32), np.zeros((0, vocab), np.float64)):
        result = control(given)
        assert (result.shape, result.dtype) == ((0, vocab), np.float32)
    out = np.zeros((0, vocab), np.float32)
    assert control(out, out=out) is out


def test_no_rows_to_read():
    none = np.zeros((0, 5), np.float32)
    batch = lc.Batch(5)
    for tokens in (
        lc.sample(none, seed=0, position=0),
        lc.sample(none, seed=[], position=[]),
        lc.Chain().sample(none, batch),
    ):
        assert (tokens.shape, tokens.dtype) == ((0,), np.int64)
    assert [part.shape for part in lc.top_logprobs(none, 3)] == [(0, 3), (0, 3)]
    assert lc.token_logprobs(none, []).shape == (0,)
    assert lc.Chain()(none, batch).shape == (0, 5)


def test_no_rows_and_a_column_of_none():
    none = np.zeros((0, 5), np.float32)
    for name in ("temperature", "top_k", "top_p", "min_p"):
        assert getattr(lc, name)(none, []).shape == (0, 5)
    assert lc.presence_penalty(none, [], []).shape == (0, 5)
    assert lc.logit_bias(none, []).shape == (0, 5)
    assert lc.xtc(none, [], [], seed=[], position=[]).shape == (0, 5)


@pytest.mark.parametrize("logit", [0.0, -3.5, 1e38])
def test_a_vocabulary_of_one(logit):
    row = np.array([logit], np.float32)
    for same in (
        lc.temperature(row, 0),
        lc.top_k(row, 1),
        lc.top_p(row, 0.1),
        lc.min_p(row, 1.0),
        lc.xtc(row, 0.0, 1.0, seed=0, position=0),
        lc.logit_bias(row, {}),
        lc.presence_penalty(row, 1.0, []),
    ):
        assert_array_equal(same, row)
    assert lc.sample(row, seed=0, position=0) == 0
    assert_array_equal(lc.logprobs(row), [0.0])
    assert_array_equal(lc.top_logprobs(row, 1)[0], [0])
    batch = lc.Batch(1)
    batch.add(lc.Params(top_k=1, top_p=0.5, min_p=0.5, xtc_probability=1, xtc_threshold=0.1))
    assert_array_equal(lc.Chain().sample(row, batch), [0])


# ---- what is no array of logits


class NotOnTheCPU:
    def __dlpack__(self, **kwargs):
        raise BufferError("not on the CPU")

    def __dlpack_device__(self):
        return (2, 0)


NOT_LOGITS = {
    "int64": (np.zeros((3, 40), np.int64), TypeError),
    "int8": (np.zeros((3, 40), np.int8), TypeError),
    "uint16": (np.zeros((3, 40), np.uint16), TypeError),
    "int16": (np.zeros((3, 40), np.int16), TypeError),
    "bool": (np.zeros((3, 40), bool), TypeError),
    "list of bool": ([[True] * 40] * 3, TypeError),
    "a bool among numbers": ([1.0, 2.0, True], TypeError),
    "a bool of NumPy's among numbers": ([[1.0], (np.True_,)], TypeError),
    "an integer that no float holds": ([10**400, 1], TypeError),
    "such an integer among floats": ([1.0, -(10**400)], TypeError),
    "complex": (np.zeros((3, 40), np.complex64), TypeError),
    "longdouble": (np.zeros((3, 40), np.longdouble), TypeError),
    "float8": (np.zeros((3, 40), ml_dtypes.float8_e4m3fn), TypeError),
    "object": (np.zeros((3, 40), object), TypeError),
    "strings": ([["1.0"] * 40] * 3, TypeError),
    "string": ("logits", TypeError),
    "bytes": (b"logits", TypeError),
    "datetime": (np.zeros((3, 40), "M8[s]"), TypeError),
    "records": (np.zeros((3, 40), [("logit", np.float32)]), TypeError),
    "ragged": ([[1.0, 2.0], [1.0]], TypeError),
    "too deep": ([[1.0], [[1.0]]], TypeError),
    "dictionary": ({0: 1.0}, TypeError),
    "generator": ((x for x in [1.0]), TypeError),
    "none": (None, TypeError),
    "on a GPU": (NotOnTheCPU(), TypeError),
    "0-d": (np.float32(1.0), ValueError),
    "number": (1.0, ValueError),
    "3-d": (np.zeros((1, 3, 40), np.float32), ValueError),
    "no vocabulary": (np.zeros((3, 0), np.float32), ValueError),
    "empty": ([], ValueError),
    "empty rows": ([[], [], []], ValueError),
}


@every_function
@pytest.mark.parametrize(("given", "kind"), NOT_LOGITS.values(), ids=NOT_LOGITS)
def test_what_is_no_logits_is_refused_by_name(function, given, kind):
    with pytest.raises(kind, match=r"^(logits|vocabulary) .*(must|cannot) "):
        function(given, (3, 40))


def test_16_bit_integers_hint_at_bfloat16():
    with pytest.raises(TypeError, match="for the bits of bfloat16 say dtype='bfloat16'"):
        lc.top_k(np.zeros(4, np.uint16), 1)


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.uint8, bool])
def test_the_flag_speaks_of_16_bits_only(kind):
    with pytest.raises(TypeError, match=r"^logits must be floating-point numbers, not "):
        lc.top_k(np.zeros(4, kind), 1, dtype="bfloat16")


@every_function
@pytest.mark.parametrize("dtype", ["float16", "bf16", np.float32, 16, ["bfloat16"]])
def test_an_unknown_dtype_is_refused(function, dtype):
    with pytest.raises((TypeError, ValueError), match=r"^dtype must be one of bfloat16, not "):
        function(numbers(), (3, 40), dtype=dtype)


def test_a_vocabulary_too_long_for_exact_masses_is_refused():
    with pytest.raises(ValueError, match=r"^vocabulary must be in \[1, 2097151\], not 2097152$"):
        lc.top_k(np.broadcast_to(np.float32(0), (1, 2**21)), 1)
