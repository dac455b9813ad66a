"""What a field of a request is: its name, off value, range, and the check of a value."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from ..inputs.values import as_float, plain, show

Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Interval:
    """A range of numbers in the usual notation, such as `(0, 1]`."""

    text: str

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The lower and the upper end; the vocabulary's size, known later, counts as infinite."""
        ends = self.text[1:-1].replace("vocab_size", "inf").split(", ")
        low, high = (float(end) if "inf" in end or "." in end else int(end) for end in ends)
        return low, high

    def __contains__(self, value: float) -> bool:
        """Whether a number lies in the range; NaN never does."""
        low, high = self.bounds
        above = value > low if self.text[0] == "(" else value >= low
        below = value < high if self.text[-1] == ")" else value <= high
        return above and below


@lru_cache(maxsize=1024)
def _interval(text: str) -> Interval:
    return Interval(text)


@dataclass(frozen=True)
class Field:
    """A request field.

    name      its name in a request
    off       the value that switches it off, its default
    range     what a request may carry, such as "[0, 1)"
    domain    what the pure function accepts, where that is more
    integer   whether its values are integers
    check     (name, value) -> the value to store; by default the value must be in `range`
    doc       what it does, in one line

    >>> Field("top_cube", off=0.0, range="[0, 1]").check("top_cube", 0.25)
    0.25
    """

    name: str
    _: KW_ONLY
    off: Any
    range: str = ""
    domain: str = ""
    integer: bool = False
    check: Check = dataclasses.field(default=None, repr=False)  # type: ignore[assignment]
    doc: str = ""

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        object.__setattr__(self, "domain", self.domain or self.range)
        if self.check is None:
            check = _check_of(self.range, self.integer) if self.range else unchecked
            object.__setattr__(self, "check", check)


def _check_of(interval: str, integer: bool) -> Check:
    return partial(whole_number if integer else real_number, interval=interval)


def field(off: Any, range: str, doc: str = "", *, domain: str = "", integer: bool = False) -> Any:
    """A numeric field of a subclass of `Params`, as its default; arguments as of `Field`.

    Where `off` is None, a request may carry null.

    >>> from logitchain import Params
    >>> @dataclass(frozen=True, kw_only=True)
    ... class MyParams(Params):
    ...     top_cube: float = field(0.0, "[0, 1]", "keep tokens of at least its cube")
    >>> MyParams.from_request({"top_cube": 0.25}).top_cube
    0.25
    """
    check = _check_of(range, integer)
    return checked_field(
        off, _or_none(check) if off is None else check, range, domain, integer, doc
    )


def checked_field(
    off: Any,
    check: Check,
    range: str = "",
    domain: str = "",
    integer: bool = False,
    doc: str = "",
) -> Any:
    """A field of any kind, with a check of its own, as the default of a dataclass's field."""
    metadata = {"check": check, "range": range, "domain": domain, "integer": integer, "doc": doc}
    if isinstance(off, type):  # a dict, of which each request has its own
        return dataclasses.field(default_factory=off, metadata=metadata)
    return dataclasses.field(default=off, metadata=metadata)


def _out_of_range(name: str, interval: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be in {interval}, not {show(value)}")


def real_number(name: str, value: Any, interval: str) -> float:
    """A number in the interval as a float; bool is not a number."""
    number = float_or_none(name, value)
    if number is None:
        raise TypeError(f"{name} must be a number in {interval}, not {show(value)}")
    if number not in _interval(interval):
        raise _out_of_range(name, interval, value)
    if math.isinf(number) and value != number:  # in an interval with -inf or inf in it
        raise ValueError(f"{name} must fit into a float64, not {show(value)}")
    return number


def float_or_none(name: str, value: Any) -> float | None:
    """A number as a float, infinite where it is too large; None for what is not a number."""
    if type(value) is float:
        return value
    value = plain(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        return None
    return as_float(value)


def whole_number(name: str, value: Any, interval: str) -> int:
    """An integer in the interval; bool and 3.0 are not integers."""
    number = value if type(value) is int else plain(name, value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be an integer in {interval}, not {show(value)}")
    if number not in _interval(interval):
        raise _out_of_range(name, interval, value)
    return int(number)


def _or_none(check: Check) -> Check:
    def check_unless_none(name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    return check_unless_none


def flag(name: str, value: Any) -> bool:
    """True or false; 0 and 1 are neither."""
    flag = plain(name, value)
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be true or false, not {show(value)}")
    return flag


def unchecked(name: str, value: Any) -> Any:
    """Any value, as it is."""
    return value


def fields_of(kind: type[Any]) -> dict[str, Field]:
    """The fields of a dataclass such as `Params`; one that names no check takes any value.

    A subclass that gives a field another default leaves the rest of it as it is.
    """
    return _table(kind)  # type: ignore[arg-type]  # mypy takes a class for one of its instances


@lru_cache(maxsize=64)
def _table(kind: type[Any]) -> dict[str, Field]:
    known: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        own = getattr(base, "__dataclass_fields__", {}).values()
        known |= {field.name: field.metadata for field in own if field.metadata}
    table = {}
    for field in dataclasses.fields(kind):
        about = known.get(field.name, {})
        off = None if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            off = field.default_factory()
        if field.init:
            table[field.name] = Field(
                field.name,
                off=off,
                range=about.get("range", ""),
                domain=about.get("domain", ""),
                integer=about.get("integer", False),
                check=about.get("check", unchecked),
                doc=about.get("doc", ""),
            )
    return table


def required_of(kind: type[Any]) -> list[str]:
    """The fields of a dataclass that have no default."""
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    ]
