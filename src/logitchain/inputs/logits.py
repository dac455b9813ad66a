"""Logits as callers pass them: any CPU buffer is read as float32 rows, in any of four formats."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, NoReturn, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..numeric.blocks import BFLOAT16, FLOAT16, FLOAT32
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import I64, MAX_VOCAB
from ..numeric.order import scan
from ..params import Bias, Phrases, TokenIds, column
from .values import (
    Real,
    buffer,
    is_array,
    items,
    listed,
    native,
    one_of,
    plain_items,
    sequence,
    show,
    types_in,
)

Rows = NDArray[np.float32]  # (rows, vocab), C-contiguous

#: How 16-bit logits are to be read that do not say so themselves.
DType = Literal["bfloat16"] | None

#: Logits of which a type checker can tell whether they are one row or several.
OneRow = Sequence[Real] | np.ndarray[tuple[int], Any]
SomeRows = Sequence[Sequence[Real]] | np.ndarray[tuple[int, int], Any]
#: An array of which it cannot: as in NumPy's own stubs, only an unknown shape is a shape of these.
SomeShape = np.ndarray[tuple[NoReturn, NoReturn, NoReturn], Any]

#: What becomes of the equals of the last token that a truncation keeps.
Ties = Literal["first", "all"]

_FLOAT32 = np.dtype(np.float32)
_NO_WIDE, NO_NARROW = np.empty((1, 0), np.float32), np.empty((1, 0), np.uint16)


class Reading:
    """Float32 rows of the caller's logits, for kernels to change in place; then the result.

    The rows are a copy, or the caller's own memory where `out` is the input and has this form.
    """

    def __init__(self, logits: Any, out: Any = None, dtype: DType = None) -> None:
        """Read `logits` of shape (vocab,) or (rows, vocab); see `floats` for their types."""
        given = _shaped(floats(logits, dtype))
        self.out, self.shape = out, given.shape
        self.target = None if out is None else writeable(out, given.shape)
        self.in_place = _same_memory(self.target, given) and given.flags.c_contiguous
        if self.in_place:
            self.rows: Rows = given.reshape(-1, given.shape[-1])
        else:
            self.rows = float32_copy(given).reshape(-1, given.shape[-1])

    def checked(self) -> Rows:
        """The rows. Raises ValueError, naming row and token, for one that is invalid."""
        bad = first_invalid(self.rows)
        if bad >= 0:
            raise self.invalid(bad)
        return self.rows

    def invalid(self, r: int) -> ValueError:
        """The error that reports an invalid row."""
        where = f"row {r}, " if len(self.shape) == 2 else ""
        return ValueError(f"logits: {where}{why_invalid(self.rows[r])}")

    def result(self) -> NDArray[np.float32]:
        """The rows in the caller's shape, if the results are valid."""
        self.checked()
        return self.write()

    def write(self) -> NDArray[np.float32]:
        """The rows in the caller's shape, in `out` if there is one."""
        rows = self.rows.reshape(self.shape)
        if self.target is None:
            return rows
        if not self.in_place:
            self.target[...] = rows
        return cast(NDArray[np.float32], self.out)


def each_row(
    kernel: Callable[..., None],
    field: str,
    value: Any,
    logits: Any,
    dtype: DType,
    out: Any,
    *more: Any,
) -> NDArray[np.float32]:
    """Call a kernel (row, value, *more) for each row; `value` is one for all rows, or one per row.

    field   the request field whose values these are
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, one in zip(rows, column(field, value, len(rows)), strict=True):
        kernel(row, one, *more)
    return reading.result()


def floats(logits: Any, dtype: DType = None) -> NDArray[Any]:
    """The caller's logits as a NumPy array, without a copy where they have a CPU buffer.

    Float16, float32 and float64 come as they are, bfloat16 as the uint16 of its bits: from
    `ml_dtypes`, from torch, or from 16-bit integers with `dtype="bfloat16"`. Raises TypeError if
    they are no floating-point numbers or do not live on the CPU.
    """
    if dtype is not None:
        one_of("dtype", dtype, ["bfloat16"])
    elif type(logits) is np.ndarray and logits.dtype == _FLOAT32:  # 2 us sooner
        return logits
    torch = sys.modules.get("torch")  # never imported for a caller who has not
    if torch is not None and isinstance(logits, torch.Tensor):
        logits = logits.detach()
        if logits.dtype == torch.bfloat16:  # NumPy knows it neither by name nor through DLPack
            logits, dtype = logits.view(torch.int16), "bfloat16"
    given = buffer("logits", logits)
    if given.dtype.name == "bfloat16" or (dtype and native(given).dtype in (np.uint16, np.int16)):
        return native(given).view(np.uint16)
    if isinstance(logits, Sequence) and not isinstance(logits, memoryview):
        kinds = types_in(logits)
        if not kinds.isdisjoint((bool, np.bool_)):
            raise TypeError("logits must be floating-point numbers, not bool")
        if kinds <= {int, float} and given.dtype.kind != "f":
            return buffer("logits", logits, np.float64)
    if given.dtype.kind != "f" or given.dtype.itemsize > 8:
        is_bits = native(given).dtype == np.uint16
        hint = "; for the bits of bfloat16 say dtype='bfloat16'" if is_bits else ""
        raise TypeError(f"logits must be floating-point numbers, not {given.dtype}{hint}")
    return given


def _shaped(given: NDArray[Any]) -> NDArray[Any]:
    if given.ndim not in (1, 2):
        raise ValueError(f"logits must have shape (vocab,) or (rows, vocab), not {given.shape}")
    if not 1 <= given.shape[-1] <= MAX_VOCAB:
        raise ValueError(f"vocabulary must be in [1, {MAX_VOCAB}], not {given.shape[-1]}")
    return given


def writeable(out: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The caller's `out`, checked that it can take a result of this shape."""
    target = None if isinstance(out, Sequence) else buffer("out", out)
    if target is None or target.dtype != np.float32 or not target.flags.writeable:
        raise TypeError("out must be a writeable float32 array")
    if target.shape != shape:
        raise ValueError(f"out must have the shape of logits, {shape}, not {target.shape}")
    if _overlaps_itself(target):
        raise ValueError(f"out must have no overlapping items, as with strides {target.strides}")
    return target


def _overlaps_itself(array: NDArray[Any]) -> bool:
    """Whether items share memory: each axis must step over the axes of smaller strides."""
    reach = array.itemsize
    for stride, size in sorted(
        (abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return array.size > 0
        reach += stride * (size - 1)
    return False


def _same_memory(a: NDArray[Any] | None, b: NDArray[Any]) -> bool:
    if a is None or a is b:
        return a is b
    is_alike = (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    return is_alike and bool(a.ctypes.data == b.ctypes.data)


@in_standard_mode
def float32_copy(given: NDArray[Any]) -> NDArray[np.float32]:
    """A new C-contiguous float32 array of what `floats` gave: exact but for float64."""
    if given.dtype == np.uint16:
        bits = np.left_shift(given, np.uint32(16), dtype=np.uint32, order="C")
        return np.asarray(bits.view(np.float32))
    with np.errstate(all="ignore"):  # an infinity is found and named later
        return np.array(given, np.float32, order="C", copy=True)


class Stored(NamedTuple):
    """Rows as kernels read them: float32, or the 16 bits of a smaller format."""

    kind: int  # FLOAT32, BFLOAT16 or FLOAT16
    wide: Rows  # (rows, vocab); of other kinds (1, 0)
    narrow: NDArray[np.uint16]  # the same for 16 bits
    shape: tuple[int, ...]

    def copy(self, which: int | slice) -> NDArray[np.float32]:
        """A copy of a row, or of some rows, as float32."""
        if self.kind == FLOAT32:
            return np.array(self.wide[which])
        return float32_copy(self._halves()[which])

    def only(self, r: int) -> "Stored":
        """One of the rows, where it is."""
        row, shape = slice(r, r + 1), (1, self.shape[-1])
        if self.kind == FLOAT32:
            return self._replace(wide=self.wide[row], shape=shape)
        return self._replace(narrow=self.narrow[row], shape=shape)

    def rows(self) -> Rows:
        """All rows as float32, to be read only: where they are, or a copy."""
        return self.wide if self.kind == FLOAT32 else float32_copy(self._halves())

    def _halves(self) -> NDArray[Any]:
        return self.narrow.view(np.float16 if self.kind == FLOAT16 else np.uint16)


def stored(logits: Any, dtype: DType = None) -> Stored:
    """The caller's rows, checked for their shape; where they are, if kernels can read them."""
    as_usual = dtype is None and type(logits) is np.ndarray and logits.dtype == _FLOAT32
    if as_usual and logits.ndim == 2 and logits.flags.carray:  # 1 us sooner
        shape = logits.shape
        if 1 <= shape[1] <= MAX_VOCAB:
            return Stored(FLOAT32, logits, NO_NARROW, shape)
    given = _shaped(floats(logits, dtype))
    in_place = given.flags.c_contiguous and given.flags.aligned and given.dtype.isnative
    kind = FLOAT32 if given.itemsize != 2 else FLOAT16 if given.dtype == np.float16 else BFLOAT16
    if not in_place or (kind == FLOAT32 and given.dtype != np.float32):
        kind, given = FLOAT32, float32_copy(given)
    elif not given.flags.writeable:
        given = _as_if_writeable(given)
    rows = given.reshape(-1, given.shape[-1])
    if kind == FLOAT32:
        return Stored(kind, rows, NO_NARROW, given.shape)
    return Stored(kind, _NO_WIDE, rows.view(np.uint16), given.shape)


def lies_across(out: NDArray[Any], given: Stored) -> bool:
    """Whether to write a row of `out` may change rows that are yet to be read."""
    read: NDArray[Any] = given.wide if given.kind == FLOAT32 else given.narrow
    is_same = given.kind == FLOAT32 and out.ctypes.data == read.ctypes.data
    return bool(np.may_share_memory(out, read)) and not is_same


def _as_if_writeable(given: NDArray[Any]) -> NDArray[Any]:
    """A view that is marked writeable, as kernels are compiled for; they do not write to it."""
    interface = {**given.__array_interface__, "data": (given.ctypes.data, False)}
    owner = SimpleNamespace(__array_interface__=interface, given=given)
    return np.asarray(owner)


@kernel
def first_invalid(rows: Rows) -> I64:
    """The first row with NaN, +inf or no finite logit; -1 if there is none."""
    for r in range(rows.shape[0]):
        if not scan(rows[r])[1]:
            return r
    return -1


def why_invalid(row: NDArray[np.float32]) -> str:
    """What is wrong with a row that `first_invalid` found."""
    bad = np.flatnonzero(np.isnan(row) | (row == np.inf))
    return f"token {bad[0]} is {row[bad[0]]}" if bad.size else "no finite logit is left"


def keeps_all_ties(ties: Ties) -> bool:
    """What a truncation's `ties` says of the equals of the last token kept."""
    one_of("ties", ties, get_args(Ties))
    return ties == "all"


def token_lists(
    tokens: Any, rows: int, vocab: int | None = None, *, name: str = "tokens"
) -> list[NDArray[np.int64]]:
    """One sequence of token ids for all rows, or one per row, as one checked array per row.

    With a `vocab` they are `token_ids`, without one `history_ids`.
    """

    def read(name: str, ids: Any) -> NDArray[np.int64]:
        return history_ids(name, ids) if vocab is None else token_ids(name, ids, vocab)

    tokens = sequence(name, tokens)
    if isinstance(tokens, np.ndarray):
        nested = tokens.ndim == 2
    else:
        nested = len(tokens) > 0 and (isinstance(tokens[0], Sequence) or is_array(tokens[0]))
        nested = nested and np.ndim(tokens[0]) > 0 and not isinstance(tokens[0], str)
    if not nested:
        return [read(name, tokens)] * rows
    if len(tokens) != rows:
        raise ValueError(f"{name} must be one sequence or one per row ({rows}), not {len(tokens)}")
    return [read(f"{name} of row {r}", ids) for r, ids in enumerate(tokens)]


def phrase_lists(phrases: Any, rows: int, vocab: int) -> list[Phrases]:
    """Bad words, sequences of token ids, for all rows or one list per row, checked, per row."""
    given = listed("bad_words", phrases, "sequences of token ids", ordered=False)
    shapes = [items("bad_words", entry) for entry in given]
    if not any(len(shape) > 1 or any(map(_is_list, inside)) for shape, inside in shapes):
        return [token_sequences("bad_words", given, vocab)] * rows
    if len(given) != rows:
        raise ValueError(f"bad_words must be one list or one per row ({rows}), not {len(given)}")
    return [token_sequences(f"bad_words of row {r}", row, vocab) for r, row in enumerate(given)]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def token_sequences(name: str, phrases: Any, vocab: int) -> Phrases:
    """Sequences of token ids, each in [0, vocab); none may be empty."""
    checked = Phrases.checked(name, phrases)
    token_ids(name, checked.all_tokens, vocab)
    return checked


def token_ids(name: str, tokens: Any, vocab: int) -> NDArray[np.int64]:
    """A sequence of token ids as int64, each in [0, vocab)."""
    return _integers(name, tokens, 0, vocab, f"[0, {vocab})")


def token_list(name: str, tokens: Any, vocab: int) -> list[int]:
    """The tokens as a new list of Python integers, which is faster where they are few."""
    given: list[Any] = []
    if type(tokens) is list:
        given = tokens.copy()
    elif type(tokens) is np.ndarray and tokens.ndim == 1 and tokens.dtype.kind in "iu":
        given = tokens.tolist()
    if set(map(type, given)) == {int} and min(given) >= 0 and max(given) < vocab:
        return given
    return list(token_ids(name, tokens, vocab).tolist())


def history_ids(name: str, tokens: Any) -> NDArray[np.int64]:
    """A token history as int64: any integers of 64 bits, as not all are of the vocabulary."""
    return _integers(name, tokens, -(2**63), 2**63, f"[{-(2**63)}, {2**63 - 1}]")


def _integers(name: str, tokens: Any, low: int, end: int, interval: str) -> NDArray[np.int64]:
    ids = tokens.array if type(tokens) is TokenIds else _integer_array(name, tokens)
    if ids.size and not (int(ids.min()) >= low and int(ids.max()) < end):
        bad = next(token for token in ids.tolist() if not low <= token < end)
        raise ValueError(f"{name} must be in {interval}, not {show(bad)}")
    return ids.astype(np.int64)


def _integer_array(name: str, tokens: Any) -> NDArray[Any]:
    given = sequence(name, tokens)
    if isinstance(given, np.ndarray):
        if given.ndim != 1:
            shape = f"an array of shape {given.shape}"
            raise TypeError(f"{name} must be a sequence of integers, not {shape}")
        is_integers = given.dtype.kind in "iu" or not given.size
    else:
        if set(map(type, given)) - {int}:
            given = plain_items(name, given)
        is_integers = set(map(type, given)) <= {int}
    if not is_integers:
        raise TypeError(f"{name} must be a sequence of integers, not {show(tokens)}")
    ids = np.asarray(given)
    # NumPy makes floats of integers that no 64 bits hold.
    return np.array(given, object) if ids.dtype.kind == "f" else ids


def bias_arrays(
    bias: Mapping[int, float], vocab: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A checked logit bias as its token ids and what to add to each."""
    checked = Bias.checked("logit_bias", bias)
    return token_ids("token ids in logit_bias", checked.all_tokens, vocab), checked.values_array
