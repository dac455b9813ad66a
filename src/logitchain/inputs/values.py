"""Values as callers give them, numbers, lists or arrays, read without surprises."""

import contextlib
import math
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray


def buffer(name: str, value: Any, dtype: Any = None) -> NDArray[Any]:
    """The caller's array, without a copy unless it has to become another `dtype`.

    Raises TypeError, naming the argument, for what cannot be read as an array, and ValueError for a
    masked array with masked entries, whose mask a plain array would lose.
    """
    if _has_masked(value):
        raise ValueError(f"{name} must have no masked entries")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value, dtype)
    except Exception as error:  # the caller's own `__array__` may raise anything
        kind, why = type(value).__name__, _cut(str(error))
        raise TypeError(f"{name} of type {kind} cannot be read as an array: {why}") from None


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The array, in the byte order of this machine."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def types_in(values: Sequence[Any]) -> set[type]:
    """The types of the items of a list, and of the lists that it may hold."""
    kinds = set(map(type, values))
    if kinds.isdisjoint((list, tuple)):
        return kinds
    nested = [types_in(value) for value in values if isinstance(value, (list, tuple))]
    return (kinds - {list, tuple}).union(*nested)


def _has_masked(value: Any) -> bool:
    if type(value) is np.ndarray:
        return False
    if isinstance(value, (list, tuple)):
        kinds = set(map(type, value))
        return any(issubclass(kind, (list, tuple, np.ma.MaskedArray)) for kind in kinds) and any(
            map(_has_masked, value)
        )
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


#: No argument has lists in lists to such a depth.
_DEEPEST = 8


def items(name: str, value: Any, depth: int = 0) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of a number, a list or an array, and its items as Python objects.

    A list does not become a NumPy array on the way, which would turn True into 1 and round integers
    above 2**63.
    """
    if isinstance(value, (list, tuple)):
        if set(map(type, value)) <= {int}:
            return (len(value),), list(value)
        nested = len(value) > 0 and all(isinstance(x, (list, tuple)) for x in value)
        if nested and depth == _DEEPEST:
            raise TypeError(f"{name} must not be lists in lists, more than {_DEEPEST} deep")
        inner = [items(name, x, depth + 1) for x in value] if nested else []
        if len({shape for shape, _ in inner}) == 1:
            return (len(value), *inner[0][0]), [x for _, row in inner for x in row]
        return (len(value),), plain_items(name, value)
    if is_array(value):
        array = buffer(name, value)
        flat = array.reshape(-1)
        return array.shape, list(flat) if array.dtype.kind in "mM" else flat.tolist()
    return (), [value]


def plain_items(name: str, values: Sequence[Any]) -> list[Any]:
    """A list of the values, NumPy scalars and zero-dimensional arrays among them as `plain`."""
    if any(map(is_array, set(map(type, values)))):
        return [plain(name, value) for value in values]
    return list(values)


def plain(name: str, value: Any) -> Any:
    """A NumPy scalar or a zero-dimensional array as a Python object; anything else unchanged.

    Dates and time differences stay as they are: `item` would make integers of them.
    """
    if isinstance(value, np.generic):
        return value if value.dtype.kind in "mM" else value.item()
    if is_array(value):
        array = buffer(name, value)
        if array.ndim == 0 and array.dtype.kind not in "mM":
            return array.item()
    return value


def as_float(number: Any) -> float:
    """A number as a float, infinite where it is too large."""
    try:
        with np.errstate(over="ignore"):
            return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_array(value: Any) -> bool:
    """Whether a value says that it is an array."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def sequence(name: str, value: Any) -> Any:
    """A sequence of the caller's, as it is or as an array."""
    if is_array(value):
        value = buffer(name, value)
        if value.ndim:
            return value
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    raise TypeError(f"{name} must be a sequence of integers, not {show(value)}")


#: Numbers and integers of type checkers, NumPy's scalars among them.
Real = float | np.floating[Any] | np.integer[Any]
Integer = int | np.integer[Any]

Word = TypeVar("Word", bound=str)


def listed(name: str, value: Any, what: str, *, ordered: bool = True) -> list[Any]:
    """What the caller lists; `what` says what it should be.

    Any iterable is a list but a string, and where the order counts a set.
    """
    if not isinstance(value, (str, bytes, set, frozenset) if ordered else (str, bytes)):
        with contextlib.suppress(TypeError):
            return list(value)
    raise TypeError(f"{name} must be {what}, not {show(value)}")


def one_of(name: str, value: Any, choices: Iterable[Word]) -> Word:
    """The value, checked to be one of `choices`; the error suggests the nearest one."""
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        among = f"{name} must be one of {', '.join(words)}, not {show(value)}"
        raise ValueError(among + suggestion(value, words))
    return words[words.index(value)]


E = TypeVar("E", bound=Exception)


def of_field(name: Any, error: E) -> E:
    """The error, with the name of the field at fault as its `field`."""
    error.field = name  # type: ignore[attr-defined]
    return error


def in_body(key: Any, error: Exception) -> Exception:
    """The error as one of the field `key` of a request body."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return of_field(key, kind(f"request body, field {show(key)}: {error}"))


def suggestion(word: Any, known: Iterable[str]) -> str:
    """The end of an error's text that suggests the known word which `word` misspells, or "".

    Words are compared without case and punctuation. A misspelling has the same letters in another
    order, or few others; between two that are equally near there is no telling.

    >>> suggestion("Min-P", ["min_p", "top_p"]), suggestion("input", ["min_p", "top_p"])
    ("; did you mean 'min_p'?", '')
    """
    letters = _letters(word) if isinstance(word, str) and len(word) <= 40 else ""
    by_letters = {_letters(one): one for one in sorted(known)}
    near = [letters] if letters in by_letters else []
    near = near or [one for one in by_letters if sorted(one) == sorted(letters)]
    if not near and len(letters) >= 3:
        alike = {one: SequenceMatcher(None, one, letters).ratio() for one in by_letters}
        near = [one for one in alike if alike[one] == max(*alike.values(), 0.85)]
    return f"; did you mean {by_letters[near[0]]!r}?" if len(near) == 1 else ""


def _letters(word: str) -> str:
    return re.sub(r"[\W_]", "", word.lower())


#: The longest text of a value in an error, in characters.
LONGEST = 500

#: How deep a nested value is shown.
DEEPEST = 10

#: Built-in types whose repr is short, fast and cannot fail.
_ATOMS = (bool, int, float, complex, type(None), type(...), range)

_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def show(value: Any, longest: int = LONGEST) -> str:
    """A value as an error's text shows it: its repr in at most `longest` characters.

    An object whose repr is neither Python's nor NumPy's is shown by its type: its own repr may fail
    or take any time.
    """
    return _cut(_shown(value, longest, DEEPEST), longest)


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _shown(value: Any, room: int, depth: int) -> str:
    """The text of a value; of a long one, somewhat more than its first `room` characters."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufcSUV" and not value.dtype.names:
        value = value.item()
    own: Any = type(value).__repr__
    if own is int.__repr__ and int.bit_length(value) > 4 * LONGEST:
        return f"an integer of {int.bit_length(value)} bits"
    if any(own is kind.__repr__ for kind in _ATOMS) or isinstance(value, np.generic):
        return repr(value)
    if own is str.__repr__ or own is bytes.__repr__:
        return repr(value[: room + 1])
    for kind in _BRACKETS:
        if own is kind.__repr__:
            return _shown_items(kind, value, room, depth)
    if type(value) is np.ndarray:
        is_short = value.size <= 20 and value.dtype.kind in "biufc"
        return repr(value) if is_short else f"an array of shape {value.shape} and {value.dtype}"
    return f"an object of type {type(value).__name__}"


def _shown_items(kind: Any, values: Any, room: int, depth: int) -> str:
    if kind.__len__(values) == 0:
        return repr(values)
    before, after = _BRACKETS[kind]
    text = ""
    for value in kind.__iter__(values):
        left = room - len(text)
        if left < 0 or depth == 0:
            text += "..."
            break
        text += _shown(value, left, depth - 1)
        if kind is dict:
            text += f": {_shown(dict.__getitem__(values, value), left, depth - 1)}"
        text += ", "
    text = text.removesuffix(", ")
    return f"{before}{text}{',' if kind is tuple and len(values) == 1 else ''}{after}"
