"""The fields of a request: one table, one check of a value, one parser of a request body.

The table is the class `Params` itself: each line is a field's name, type, off value and range.
"""

import copy
import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from . import html, rng
from .dialects import DIALECTS, NOT_SAMPLING, DialectName, Reading, Rule, Spelling, flat
from .inputs.banned_texts import BannedTexts
from .inputs.values import (
    as_float,
    in_body,
    items,
    listed,
    of_field,
    one_of,
    plain,
    show,
    suggestion,
)
from .response.automaton import Automaton

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
            check = _check_of(self.range, self.integer) if self.range else _unchecked
            object.__setattr__(self, "check", check)


def _check_of(interval: str, integer: bool) -> Check:
    return partial(whole_number if integer else real_number, interval=interval)


P = TypeVar("P", bound="Params")


def field(off: Any, range: str, doc: str = "", *, domain: str = "", integer: bool = False) -> Any:
    """A numeric field of a subclass of `Params`, as its default; arguments as of `Field`.

    Where `off` is None, a request may carry null.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class MyParams(Params):
    ...     top_cube: float = field(0.0, "[0, 1]", "keep tokens of at least its cube")
    >>> MyParams.from_request({"top_cube": 0.25}).top_cube
    0.25
    """
    check = _check_of(range, integer)
    return _row(off, _or_none(check) if off is None else check, range, domain, integer, doc)


def _row(
    off: Any,
    check: Check,
    range: str = "",
    domain: str = "",
    integer: bool = False,
    doc: str = "",
) -> Any:
    metadata = {"check": check, "range": range, "domain": domain, "integer": integer, "doc": doc}
    if isinstance(off, type):  # a dict, of which each request has its own
        return dataclasses.field(default_factory=off, metadata=metadata)
    return dataclasses.field(default=off, metadata=metadata)


def _out_of_range(name: str, interval: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be in {interval}, not {show(value)}")


def real_number(name: str, value: Any, interval: str) -> float:
    """A number in the interval as a float; bool is not a number."""
    number = _as_float(name, value)
    if number is None:
        raise TypeError(f"{name} must be a number in {interval}, not {show(value)}")
    if number not in _interval(interval):
        raise _out_of_range(name, interval, value)
    if math.isinf(number) and value != number:  # in an interval with -inf or inf in it
        raise ValueError(f"{name} must fit into a float64, not {show(value)}")
    return number


def _as_float(name: str, value: Any) -> float | None:
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


def _flag(name: str, value: Any) -> bool:
    flag = plain(name, value)
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be true or false, not {show(value)}")
    return flag


def _unchecked(name: str, value: Any) -> Any:
    return value


def _stage(name: str, value: Any) -> str:
    """The name of a row on its way through a chain; the chain knows which there are."""
    if not isinstance(value, str) or not value:
        what = 'must be "raw", "processed" or the name of a control'
        raise (ValueError if value == "" else TypeError)(f"{name} {what}, not {show(value)}")
    return value


# ---- lists and mappings, which are checked once


C = TypeVar("C", bound="Checked")


class Checked(tuple[Any, ...]):
    """A list that has been checked, and cannot change: a `Params` takes it again as it is."""

    def __new__(cls: type[C], values: Iterable[Any] = ()) -> C:
        """Check the values and store them in their own form."""
        return cls.checked(cls.__name__, list(values))

    @classmethod
    def checked(cls: type[C], name: str, value: Any) -> C:
        """The value of the field `name`, checked unless it has been before."""
        if type(value) is cls:
            return value
        return tuple.__new__(cls, () if value is None else cls._read(name, value))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return type(self), (tuple(self),)

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        raise NotImplementedError


class TokenIds(Checked):
    """Token ids, as yet of any vocabulary.

    >>> TokenIds([3, 1])
    (3, 1)
    """

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        shape, ids = items(name, list(value) if isinstance(value, (Set, range)) else value)
        if len(shape) > 1:
            raise TypeError(f"{name} must be a token id or a list of them, not {show(value)}")
        return _token_ids(name, ids)

    @cached_property
    def array(self) -> NDArray[Any]:
        """The ids as int64, or as objects if one of them is too large; not to be written to."""
        return np.array(self, np.int64 if self.largest < 2**63 else object)

    @cached_property
    def largest(self) -> int:
        """The largest id; -1 if there is none."""
        return max(self, default=-1)


def _token_ids(name: str, ids: list[Any]) -> list[int]:
    if set(map(type, ids)) <= {int} and min(ids, default=0) >= 0:
        return ids
    return [whole_number(name, token, ID_INTERVAL) for token in ids]


class Phrases(Checked):
    """Sequences of token ids, none empty."""

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        if isinstance(value, Mapping):
            raise TypeError(f"{name} must be lists of token ids, not {show(value)}")
        for phrase in listed(name, value, "lists of token ids", ordered=False):
            shape, ids = items(name, phrase)
            if len(shape) != 1:
                raise TypeError(f"{name} must be lists of token ids, not {show(value)}")
            if not ids:
                raise ValueError(f"{name} must be non-empty lists of token ids, not {show(value)}")
            yield tuple.__new__(TokenIds, _token_ids(name, ids))

    @cached_property
    def all_tokens(self) -> TokenIds:
        """The token ids of all sequences, one sequence after the other."""
        return tuple.__new__(TokenIds, chain.from_iterable(self))


class StopTokens(Phrases):
    """Sequences of token ids; an id alone is a sequence of one.

    >>> StopTokens([5, [1, 2]])
    ((5,), (1, 2))
    """

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        if not isinstance(value, (Set, range, list, tuple)):
            shape, ids = items(name, value)
            value = ids if len(shape) < 2 else value
        ends = [[end] if items(name, end)[0] == () else end for end in value]
        return Phrases._read(name, ends)

    @cached_property
    def automaton(self) -> Automaton[int]:
        """What finds the sequences, made once for all samples of a request."""
        return Automaton(self)


#: Longer sequence breakers would make DRY look for them at each token of the history for too long.
MOST_OF_A_BREAKER = 64


def _breakers(name: str, value: Any) -> Phrases:
    phrases = Phrases.checked(name, value)
    longest = max(map(len, phrases), default=0)
    if longest > MOST_OF_A_BREAKER:
        raise ValueError(
            f"{name} must be sequences of at most {MOST_OF_A_BREAKER} tokens, not of {longest}"
        )
    return phrases


class StopPhrases(Checked):
    """Strings, none empty."""

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        phrases = (value,) if isinstance(value, str) else value
        is_list = isinstance(phrases, (list, tuple))
        if not is_list or not all(isinstance(phrase, str) for phrase in phrases):
            raise TypeError(f"{name} must be a string or a list of strings, not {show(value)}")
        if "" in phrases:
            raise ValueError(f"{name} must be non-empty strings, not {show(value)}")
        return phrases

    @cached_property
    def automaton(self) -> Automaton[str]:
        """What finds the phrase that is complete first, made once for all texts."""
        every = self.full_automaton
        # A phrase with another one inside it is never complete first: nothing waits for it.
        return Automaton(p for p in self if not every.found[every.read(0, p[:-1])[0]])

    @cached_property
    def full_automaton(self) -> Automaton[str]:
        """The same for a text which some phrases do not end: each of them may be the first."""
        return Automaton(self)


class Seeds(Checked):
    """One seed per sample."""

    @staticmethod
    def _read(name: str, value: Any) -> Iterable[Any]:
        shape, seeds = items(name, value)
        if len(shape) > 1:
            raise TypeError(
                f"{name} must be an integer or one integer per sample, not {show(value)}"
            )
        if not seeds:
            raise ValueError(
                f"{name} must be an integer or one integer per sample, not {show(value)}"
            )
        return [whole_number(name, seed, SEED_INTERVAL) for seed in seeds]


def _seed(name: str, value: Any) -> int | tuple[int, ...] | None:
    if value is None or type(value) is int:
        return None if value is None else whole_number(name, value, SEED_INTERVAL)
    seeds = Seeds.checked(name, value)
    is_list = isinstance(value, (list, tuple)) or len(items(name, value)[0]) > 0
    return seeds if is_list else int(seeds[0])


class Bias(dict[int, float]):
    """A logit bias that has been checked, and cannot change: token id -> what is added.

    It equals the plain `dict` of its entries.

    >>> Bias({"5": 1}), Bias({5: 1}) == {5: 1.0}
    ({5: 1.0}, True)
    """

    def __init__(self, bias: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        """Check the entries, a mapping or pairs."""
        super().__init__(_read_bias("logit_bias", bias))

    @classmethod
    def checked(cls, name: str, value: Any) -> "Bias":
        """The value of the field `name`, checked unless it has been before."""
        if type(value) is cls:
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a mapping of token ids to numbers, not {show(value)}")
        bias = cls()
        dict.update(bias, _read_bias(name, value))
        return bias

    @cached_property
    def all_tokens(self) -> TokenIds:
        """The token ids."""
        return TokenIds(self)

    @cached_property
    def values_array(self) -> NDArray[np.float64]:
        """What is added to each of `all_tokens`; not to be written to."""
        return np.array(list(self.values()), np.float64)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return type(self), (dict(self),)

    def _refuse(self, *given: Any, **named: Any) -> NoReturn:
        raise TypeError("logit_bias cannot be changed; dataclasses.replace makes another Params")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def _read_bias(name: str, bias: Any) -> dict[int, float]:
    checked: dict[int, float] = {}
    for key, value in bias.items() if isinstance(bias, Mapping) else bias:
        token = _from_json_key(key)
        if type(token) is not int or token < 0:
            token = whole_number(f"a token id in {name}", token, ID_INTERVAL)
        if token in checked:
            raise ValueError(f"{name} names token {show(token)} twice")
        number = _as_float(name, value)
        if number is None or not math.isfinite(number):
            number = real_number(f"{name}[{show(key)}]", value, BIAS_INTERVAL)
        checked[token] = number
    return checked


_DIGITS = re.compile("-?[0-9]{1,19}")


def _from_json_key(key: Any) -> Any:
    """JSON has only string keys: "42" is the token id 42."""
    return int(key) if type(key) is str and _DIGITS.fullmatch(key) else key


#: What becomes of a loop within the reasoning: it ends the choice, as any other, or the reasoning.
LoopAction = Literal["stop", "end_reasoning"]


def _action(name: str, value: Any) -> LoopAction:
    return one_of(name, value, get_args(LoopAction))


@dataclass(frozen=True, kw_only=True)
class RepetitionDetection:
    """When tokens that repeat themselves are a loop, which ends an answer or its reasoning.

    max_pattern_size   the longest pattern that is looked for, in tokens; 0 is off
    min_pattern_size   the shortest, at most `max_pattern_size`; 0 counts as 1
    min_count          how many copies of it, one after the other, are a loop; 2 or more
    action             what a loop within the reasoning does: "stop" ends the choice, as a loop in
                       the answer does, "end_reasoning" forces the end of the reasoning

    Raises ValueError or TypeError for a value out of range. Source: vLLM's
    `RepetitionDetectionParams`; `action` is ours.

    >>> RepetitionDetection(max_pattern_size=20, min_count=1)
    Traceback (most recent call last):
    ...
    ValueError: repetition_detection.min_count must be in [2, inf), not 1
    """

    max_pattern_size: int = field(
        0, "[0, inf)", "the longest pattern that is looked for, in tokens; 0 is off", integer=True
    )
    min_pattern_size: int = field(
        0, "[0, inf)", "the shortest pattern that is looked for; 0 counts as 1", integer=True
    )
    min_count: int = field(0, "[0, inf)", "how many copies of it are a loop", integer=True)
    action: LoopAction = _row(
        "stop", _action, doc="whether a loop within the reasoning ends the choice or the reasoning"
    )

    def __post_init__(self) -> None:
        """Check every field and store it in its own form."""
        try:
            for name, known in fields_of(type(self)).items():
                value = known.check(f"repetition_detection.{name}", getattr(self, name))
                object.__setattr__(self, name, value)
            if self.max_pattern_size:
                most = f"[0, {self.max_pattern_size}]"
                whole_number("repetition_detection.min_count", self.min_count, "[2, inf)")
                whole_number("repetition_detection.min_pattern_size", self.min_pattern_size, most)
        except (TypeError, ValueError) as error:
            raise of_field("repetition_detection", error) from None

    @classmethod
    def checked(cls, name: str, value: Any) -> "RepetitionDetection | None":
        """The value of the field `name`; None if it looks for no pattern."""
        if isinstance(value, Mapping):
            known = fields_of(cls)
            for key in value:
                if key not in known:
                    raise ValueError(f"{name} has no {show(key)}{suggestion(key, known)}")
            value = cls(**value)
        if value is not None and not isinstance(value, cls):
            raise TypeError(f"{name} must be a RepetitionDetection or a mapping, not {show(value)}")
        return value if value is not None and value.max_pattern_size else None


# ---- watermarks

Scheme = Literal["gumbel", "dual_key_gumbel", "sglang", "sbw"]

#: The schemes in the order of their numbers, by which kernels know them. 0 is none.
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
GUMBEL, DUAL_KEY_GUMBEL, SGLANG, SBW = range(1, 5)

#: The numbers of a watermark, as kernels read them: `Watermark.numbers`.
SCHEME, KEY, KEY_B, CONTEXT_WIDTH, DEDUPLICATE, ROUTE, GREEN_BELOW, DELTA = range(8)

#: The options that a scheme has beside those of all, and their defaults.
_OPTIONS: dict[str, dict[str, Any]] = {
    "gumbel": {},
    "dual_key_gumbel": {"alpha": 0.1},
    "sglang": {"key_b": None, "alpha": 0.5},
    "sbw": {"gamma": 0.5, "delta": 2.0},
}


@dataclass(frozen=True, repr=False)
class Watermark:
    """A watermark: whoever has the key can tell from the tokens that a request had it.

    scheme          "gumbel": vLLM's, a draw whose noise follows from the key and the last tokens
                    "dual_key_gumbel": the same with two keys, which vLLM derives from one
                    "sglang": SGLang's draw of the same kind, with a hash of its own
                    "sbw": a list of green tokens, whose logits are raised
    key             the secret, in [0, 2**64)
    context_width   of how many tokens before a token its noise or its list is a function, in
                    [1, 64]
    deduplicate     whether a draw after a context that the row has had before is an ordinary one,
                    and whether the detector counts such a context once
    key_b           of "sglang": a second key, which some contexts use; None for a single key
    alpha           of a scheme with two keys: the share of the second one, in [0, 1]; by default
                    0.1, and 0.5 for "sglang"
    gamma           of "sbw": the share of the tokens that is green, in (0, 1); by default 0.5
    delta           of "sbw": what is added to their logits, in [0, inf); by default 2

    Raises ValueError or TypeError for a value out of range, and for an option that the scheme does
    not have. `docs/watermarks.md` says what each scheme does. The repr does not show keys.

    >>> Watermark("gumbel", key=42)
    Watermark('gumbel', context_width=4, deduplicate=True)
    >>> Params(watermark={"scheme": "sbw", "key": 42, "delta": 1.5}).watermark
    Watermark('sbw', context_width=4, deduplicate=True, gamma=0.5, delta=1.5)
    """

    scheme: Scheme = "gumbel"
    _: KW_ONLY
    key: int
    context_width: int = 4
    deduplicate: bool = True
    key_b: int | None = None
    alpha: float | None = None
    gamma: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        """Check the options, and fill in the scheme's defaults."""
        one_of("watermark.scheme", self.scheme, SCHEMES)
        own = _OPTIONS[self.scheme]
        for name, check in _WATERMARK_CHECKS.items():
            value = getattr(self, name)
            if value is None:
                value = own.get(name)
            elif name in _OF_SOME_SCHEMES and name not in own:
                raise ValueError(
                    f"watermark.{name} must not be given for the scheme {show(self.scheme)}"
                )
            if value is not None or name not in _OF_SOME_SCHEMES:
                value = check(f"watermark.{name}", value)
            object.__setattr__(self, name, value)
        if self.scheme == "sglang" and self.key_b is None:
            object.__setattr__(self, "alpha", None)

    @classmethod
    def checked(cls, name: str, value: Any) -> "Watermark | None":
        """A request's watermark, which may be a mapping of these options."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a Watermark or a mapping, not {show(value)}")
        known = [field.name for field in dataclasses.fields(cls)]
        for option in value:
            if option not in known:
                hint = suggestion(option, known)
                raise ValueError(f"{name} has no option {show(option)}{hint}")
        if "key" not in value:
            raise ValueError(f"{name} must have the option 'key'")
        return cls(**value)

    @property
    def keys_draw(self) -> bool:
        """Whether the scheme is one of the draw; or else it is one of green tokens."""
        return self.scheme != "sbw"

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The options as kernels read them; not to be written to."""
        key, key_b, alpha = self.key, self.key_b, self.alpha or 0.0
        if self.scheme == "dual_key_gumbel":
            key, key_b = _derived_key(self.key, b"key_a"), _derived_key(self.key, b"key_b")
        bits = np.array([key, key if key_b is None else key_b], np.uint64).view(np.int64)
        return np.array(
            [
                SCHEMES.index(self.scheme) + 1,
                *bits.tolist(),
                self.context_width,
                self.deduplicate,
                int((1.0 - alpha) * 2**32),  # the words below it choose the first key
                int((self.gamma or 0.0) * (2**31 - 1)),
                np.float64(self.delta or 0.0).view(np.int64),
            ],
            np.int64,
        )

    def __repr__(self) -> str:
        """Scheme and options, without the keys."""
        shown = ("context_width", "deduplicate", "alpha", "gamma", "delta")
        options = ((name, getattr(self, name)) for name in shown)
        texts = (f", {name}={value}" for name, value in options if value is not None)
        return f"{type(self).__name__}({self.scheme!r}{''.join(texts)})"


def _derived_key(key: int, domain: bytes) -> int:
    return int.from_bytes(hashlib.sha256(domain + key.to_bytes(8, "big")).digest()[:8], "big")


#: The check of each option; those of some schemes may be None.
_WATERMARK_CHECKS: dict[str, Check] = {
    "key": partial(whole_number, interval=f"[0, {2**64 - 1}]"),
    "context_width": partial(whole_number, interval="[1, 64]"),
    "deduplicate": _flag,
    "key_b": partial(whole_number, interval=f"[0, {2**64 - 1}]"),
    "alpha": partial(real_number, interval="[0, 1]"),
    "gamma": partial(real_number, interval="(0, 1)"),
    "delta": partial(real_number, interval="[0, inf)"),
}
_OF_SOME_SCHEMES = ("key_b", "alpha", "gamma", "delta")


SEED_INTERVAL = f"[{-(2**63)}, {2**64 - 1}]"
ID_INTERVAL = "[0, vocab_size)"
BIAS_INTERVAL = "[-inf, inf)"

#: How many characters of a value the repr of a `Params` shows.
_SHOWN = 60

#: A sample is a row of a batch. This is more rows than an engine runs, and bounds what a single
#: request can ask for.
MOST_SAMPLES = 2**20


# ---- the types of the fields that are given in one form and kept in another

if TYPE_CHECKING:  # for type checkers, the argument of a dataclass's field is what `__set__` takes
    Kept = TypeVar("Kept", covariant=True)
    Accepted = TypeVar("Accepted", contravariant=True)

    class Converted(Generic[Kept, Accepted]):
        """A field whose argument may be of more types than its value."""

        def __get__(self, params: object, kind: Any = None) -> Kept:
            """The type of the value."""

        def __set__(self, params: object, value: Accepted) -> None:
            """The type of the argument."""

    Tokens = Converted[tuple[int, ...], int | Iterable[int] | None]
    TokenSequences = Converted[tuple[tuple[int, ...], ...], Iterable[Iterable[int]] | None]
    Ends = Converted[tuple[tuple[int, ...], ...], int | Iterable[int | Iterable[int]] | None]
    Texts = Converted[tuple[str, ...], str | list[str] | tuple[str, ...] | None]
    Seed = Converted[int | tuple[int, ...] | None, int | Iterable[int] | None]
    Biases = Converted[Mapping[int, float], Mapping[int, float] | Mapping[str, float]]
    Detection = Converted[
        RepetitionDetection | None, RepetitionDetection | Mapping[str, Any] | None
    ]
    Watermarks = Converted[Watermark | None, Watermark | Mapping[str, Any] | None]
else:
    Tokens = tuple[int, ...]
    TokenSequences = tuple[tuple[int, ...], ...]
    Ends = tuple[int | tuple[int, ...], ...]
    Texts = tuple[str, ...]
    Seed = int | tuple[int, ...] | None
    Biases = Mapping[int, float]
    Detection = RepetitionDetection | None
    Watermarks = Watermark | None


@dataclass(frozen=True, kw_only=True)
class Params:
    """What one request asks of its sampling. Every field has its off value by default.

    `docs/controls.md` has the meaning of each. Raises ValueError or TypeError, naming field, range
    and value, for a value out of range; the error's `field` is the name.

    >>> Params(temperature=0.8, top_p=0.95, seed=7).top_p
    0.95
    >>> Params(min_p=1.5)
    Traceback (most recent call last):
    ...
    ValueError: min_p must be in [0, 1], not 1.5
    """

    temperature: float = field(
        1.0, "[0, inf)", "divide the logits by it; 0 keeps the best token alone"
    )
    dynatemp_range: float = field(
        0.0, "[0, inf)", "how far the temperature moves with the entropy of the row"
    )
    dynatemp_exponent: float = field(
        1.0, "[0, inf)", "of that movement of the temperature; 1 is linear"
    )
    smoothing_factor: float = field(0.0, "[0, inf)", "bend the logits around the best one")
    smoothing_curve: float = field(
        1.0, "[1, inf)", "of that bend: 1 is a parabola, more adds a cubic part"
    )
    top_n_sigma: float = field(
        0.0, "[0, inf)", "keep tokens this many standard deviations below the best"
    )
    top_k: int = field(0, "[0, vocab_size]", "keep this many of the best tokens", integer=True)
    top_p: float = field(
        1.0, "(0, 1]", "keep the best tokens until their probabilities sum up to it"
    )
    min_p: float = field(
        0.0, "[0, 1]", "keep tokens at least this probable, relative to the best one"
    )
    typical_p: float = field(
        1.0, "(0, 1]", "keep the tokens nearest to the entropy until they sum up to it"
    )
    top_a: float = field(
        0.0, "[0, 1]", "keep tokens of at least this share of the best one's probability squared"
    )
    epsilon_cutoff: float = field(0.0, "[0, 1)", "keep tokens of at least this probability")
    eta_cutoff: float = field(
        0.0, "[0, 1)", "keep tokens of at least this probability, or less at a high entropy"
    )
    tfs: float = field(1.0, "(0, 1]", "keep the tokens before the tail of the sorted probabilities")
    p_less: bool = _row(
        False, _flag, doc="keep tokens of at least the sum of all squared probabilities"
    )
    top_h: float | None = field(
        None, "(0, 1)", "keep the best tokens that have this share of the entropy"
    )
    xtc_probability: float = field(
        0.0, "[0, 1]", "how often XTC removes the top choices but the last"
    )
    xtc_threshold: float = field(
        0.0, "[0, 1]", "the probability of a top choice; 0 is off in a request only"
    )
    mirostat_tau: float | None = field(
        None, "(0, inf)", "the surprise in bits at which mirostat aims"
    )
    mirostat_eta: float = field(
        0.1, "(0, 1]", "how fast mirostat follows the surprise of the tokens drawn"
    )
    adaptive_target: float | None = field(
        None, "[0, 1]", "the probability at which adaptive-p aims"
    )
    adaptive_decay: float = field(
        0.9, "[0, 0.99]", "how much earlier tokens count: about 1 / (1 - decay) of them"
    )
    repetition_penalty: float = field(
        1.0, "(0, inf)", "divide or multiply the logits of the tokens so far"
    )
    frequency_penalty: float = field(
        0.0, "[-2, 2]", "subtract it for each time a token was generated", domain="(-inf, inf)"
    )
    presence_penalty: float = field(
        0.0, "[-2, 2]", "subtract it if a token was generated at all", domain="(-inf, inf)"
    )
    penalty_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens the penalties see; null is the chain's `window`",
        integer=True,
    )
    penalty_exempt: Tokens = _row(
        TokenIds(),
        TokenIds.checked,
        ID_INTERVAL,
        doc="tokens that no penalty changes and `no_repeat_ngram` does not remove",
    )
    dry_multiplier: float = field(
        0.0, "[0, inf)", "the penalty of a token that continues a repetition"
    )
    dry_base: float = field(
        1.75, "[1, inf)", "each further token of the repetition multiplies the penalty by it"
    )
    dry_allowed_length: int = field(
        2, "[0, inf)", "repetitions that are shorter do not count", integer=True
    )
    dry_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens DRY sees; null is the chain's `window`",
        integer=True,
    )
    dry_sequence_breakers: TokenSequences = _row(
        Phrases(), _breakers, ID_INTERVAL, doc="token id sequences that a repetition cannot cross"
    )
    allowed_tokens: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="token ids; all others are removed"
    )
    banned_tokens: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="token ids that are removed"
    )
    no_repeat_ngram: int = field(
        0,
        "[0, inf)",
        "no n-gram of this length is generated twice; 1 is off in a request only",
        integer=True,
    )
    ngram_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens `no_repeat_ngram` sees; null is all",
        integer=True,
    )
    ngram_exempt: Tokens = _row(
        TokenIds(),
        TokenIds.checked,
        ID_INTERVAL,
        doc="tokens that `no_repeat_ngram` does not remove",
    )
    bad_words: TokenSequences = _row(
        Phrases(),
        Phrases.checked,
        ID_INTERVAL,
        doc="sequences of token ids that are never completed",
    )
    banned_texts: BannedTexts = _row(
        BannedTexts(), BannedTexts.checked, doc="texts that no tokens spell: `lc.BannedTexts`"
    )
    forced_output_tokens: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="token ids that the answer begins with"
    )
    reasoning_budget: int | None = field(
        None, "[0, inf)", "how many tokens of reasoning an answer may have", integer=True
    )
    reasoning_start: Tokens = _row(
        TokenIds(),
        TokenIds.checked,
        ID_INTERVAL,
        doc="the token ids that begin a block of reasoning; without them the answer begins in one",
    )
    reasoning_end: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="the token ids that end a block of reasoning"
    )
    reasoning_message: Tokens = _row(
        TokenIds(),
        TokenIds.checked,
        ID_INTERVAL,
        doc="token ids that are forced before `reasoning_end`",
    )
    min_reasoning: int = field(
        0, "[0, inf)", "how many tokens a block of reasoning has at least", integer=True
    )
    reasoning_grace: int = field(
        0,
        "[0, inf)",
        "how many tokens the forced end waits for the end of a line at most",
        integer=True,
    )
    reasoning_line_ends: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="token ids that end a line"
    )
    reasoning_per_block: bool = _row(
        False, _flag, doc="whether each block of reasoning has the whole budget"
    )
    repetition_detection: Detection = _row(
        None,
        RepetitionDetection.checked,
        doc="which repetitions at the end of the tokens end the answer or its reasoning",
    )
    logit_bias: Biases = _row(
        Bias,
        Bias.checked,
        BIAS_INTERVAL,
        doc="for each token id what is added to its logit; -inf bans it",
    )
    watermark: Watermarks = _row(
        None,
        Watermark.checked,
        doc="a mark that whoever has its key can find in the tokens",
    )
    seed: Seed = _row(
        None,
        _seed,
        SEED_INTERVAL,
        doc="a 64-bit integer, or a list of n of them; null draws one at random",
    )
    n: int = field(
        1, f"[1, {MOST_SAMPLES}]", "independent samples of the prompt, one row each", integer=True
    )
    max_tokens: int | None = field(
        None, "[1, inf)", "how many tokens to generate at most", integer=True
    )
    max_total_tokens: int | None = field(
        None, "[1, inf)", "how many tokens prompt and output have at most together", integer=True
    )
    min_tokens: int = field(0, "[0, inf)", "how many tokens to generate at least", integer=True)
    min_total_tokens: int = field(
        0, "[0, inf)", "how many tokens prompt and output have at least together", integer=True
    )
    stop_after_min_tokens: bool = _row(
        False, _flag, doc="whether a stop phrase, too, ends the text only after these minimums"
    )
    stop: Texts = _row(
        StopPhrases(), StopPhrases.checked, doc="a phrase or phrases that end the text"
    )
    eos_token: Tokens = _row(
        TokenIds(), TokenIds.checked, ID_INTERVAL, doc="a token id or ids that end the text"
    )
    stop_tokens: Ends = _row(
        StopTokens(),
        StopTokens.checked,
        ID_INTERVAL,
        doc="token ids, or sequences of them, that end the text",
    )
    include_stop: bool = _row(
        False, _flag, doc="whether the text has the phrase or the tokens that ended it"
    )
    logprobs: bool = _row(False, _flag, doc="whether log-probabilities are returned")
    top_logprobs: int = field(
        0,
        "[0, vocab_size]",
        "of how many of the best tokens log-probabilities are returned",
        integer=True,
    )
    logprob_token_ids: Tokens = _row(
        TokenIds(),
        TokenIds.checked,
        ID_INTERVAL,
        doc="token ids whose log-probabilities are returned beside that of each token",
    )
    logprobs_of: str = _row(
        "raw",
        _stage,
        doc="the row that log-probabilities are of: raw, processed, or as a control leaves it",
    )

    def __post_init__(self) -> None:
        """Check every field and store it in its own form."""
        name = ""
        try:
            for name, field in fields_of(type(self)).items():
                if field.check is not _unchecked:
                    object.__setattr__(self, name, field.check(name, getattr(self, name)))
        except (TypeError, ValueError) as error:
            raise of_field(name, error) from None
        if isinstance(self.seed, tuple) and len(self.seed) != self.n:
            raise of_field("seed", _wrong_number_of_seeds(self.seed, self.n))
        self._check_reasoning()

    def _check_reasoning(self) -> None:
        """Check that the fields of reasoning go with each other."""
        detection, budget = self.repetition_detection, self.reasoning_budget
        needing = {
            "reasoning_budget": budget is not None,
            "min_reasoning": self.min_reasoning > 0,
            "repetition_detection": detection is not None and detection.action == "end_reasoning",
        }
        for name in (name for name, needs_end in needing.items() if needs_end):
            if not self.reasoning_end:
                error = ValueError(f"{name} needs reasoning_end, which must be token ids, not ()")
                raise of_field(name, error)
        if budget is not None and self.min_reasoning > budget:
            given = show(self.min_reasoning)
            error = ValueError(f"min_reasoning must be in [0, {show(budget)}], not {given}")
            raise of_field("min_reasoning", error)
        if self.reasoning_end and self.reasoning_start == self.reasoning_end:
            same = show(self.reasoning_start, _SHOWN)
            error = ValueError(f"reasoning_start must differ from reasoning_end, not be {same}")
            raise of_field("reasoning_start", error)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check that every token that the request names is in the vocabulary.

        Raises ValueError, whose `field` is the name of the field at fault, for a token id that is
        not in [0, vocab_size) and for a `top_k` or `top_logprobs` above `vocab_size`. `Batch.add`
        raises the same; a server calls this before it queues a request.

        >>> Params(banned_tokens=[5, 100]).check_vocabulary(100)
        Traceback (most recent call last):
        ...
        ValueError: banned_tokens must be in [0, 100), not 100
        """
        whole_number("vocab_size", vocab_size, "[1, inf)")
        for name in ("top_k", "top_logprobs"):
            number = getattr(self, name)
            if number > vocab_size:
                error = ValueError(f"{name} must be in [0, {vocab_size}], not {show(number)}")
                raise of_field(name, error)
        if self.banned_texts.vocab_size > vocab_size:
            size = self.banned_texts.vocab_size
            error = ValueError(f"banned_texts must be of at most {vocab_size} tokens, not {size}")
            raise of_field("banned_texts", error)
        for name, what in _NAMING_TOKENS.items():
            value = getattr(self, name)
            ids = value.all_tokens if isinstance(value, (Phrases, Bias)) else value
            if ids.largest >= vocab_size:
                bad = next(token for token in ids if token >= vocab_size)
                error = ValueError(f"{what} must be in [0, {vocab_size}), not {show(bad)}")
                raise of_field(name, error)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Keep the short repr, of which `dataclass` would make one of all fields."""
        super().__init_subclass__(**arguments)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = super(cls, cls).__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The fields that are not at their off values; long values are cut."""
        settings = ", ".join(f"{name}={value}" for name, value, _ in self._in_use())
        return f"{type(self).__name__}({settings})"

    def _repr_html_(self) -> str:
        """These fields as a table, for notebooks."""
        return html.table(type(self).__name__, ("field", "value", "range"), self._in_use())

    def _in_use(self) -> list[tuple[str, str, str]]:
        """Name, value and range of the fields that are not at their off values."""
        values = [(x, getattr(self, x.name)) for x in fields_of(type(self)).values()]
        in_use = [(x, value) for x, value in values if not _equal(value, x.off)]
        texts = [repr(v) if isinstance(v, BannedTexts) else show(v, _SHOWN) for _, v in in_use]
        return [(x.name, text, x.range) for (x, _), text in zip(in_use, texts, strict=True)]

    def samples(self: P) -> list[P]:
        """The request as one `Params` per sample, each with n = 1 and a seed of its own.

        The seeds are those of the rows that `Batch.add` adds for this request, so each sample gives
        the same tokens alone. Without a seed, one is drawn first.

        >>> one, two = Params(n=2, seed=7, top_k=5).samples()
        >>> one == Params(seed=7, top_k=5), two.seed == one.seed, two.top_k
        (True, False, 5)
        """
        samples = []
        for seed in rng.sample_seeds(self.seed, self.n):
            sample = copy.copy(self)  # its fields have been checked, those of subclasses included
            object.__setattr__(sample, "n", 1)
            object.__setattr__(sample, "seed", seed)
            samples.append(sample)
        return samples

    @classmethod
    def from_request(
        cls: type[P],
        body: Mapping[str, Any],
        *,
        dialect: DialectName = "openai",
        passthrough: Iterable[str] = (),
        eos_token: int | Iterable[int] = (),
    ) -> P:
        """The sampling fields of a chat-completions request body, as `json.loads` gives it.

        body          fields of `Params` under their names; `null` is the off value
        dialect       the engine whose field names the body may also use: a key of `DIALECTS`
        passthrough   further field names to leave to the caller
        eos_token     the model's own end tokens, a token id or several. They are added to those of
                      the body, unless the body asks to ignore the end of text

        Fields that do not concern sampling (`messages`, `model`, `tools` ...) are ignored, and so
        are those of the dialect which only its engine can read. A sampling control that logitchain
        lacks must be off. A subclass with further fields gets them from the body as well. Raises
        ValueError or TypeError whose `field` is the field of the body that is at fault; for an
        unknown field it suggests the nearest known one.

        >>> Params.from_request({"model": "m", "messages": [], "top_k": 40, "n": 2}).top_k
        40
        >>> Params.from_request({"top-p": 0.9})
        Traceback (most recent call last):
        ...
        ValueError: unknown field 'top-p' in the request body; did you mean 'top_p'?
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"the request body must be a JSON object, not {show(body)}")
        ignored = _names("passthrough", passthrough)
        rules = DIALECTS[one_of("dialect", dialect, DIALECTS)]
        fields = fields_of(cls)
        reading = Reading(fields, TokenIds.checked("eos_token", eos_token))
        later: list[tuple[str, Any, Rule]] = []
        for key, value in flat(body, rules):
            if key in ignored and (key in FIELDS or key not in fields):
                continue
            rule = Spelling(key) if key in fields and key not in FIELDS else rules.get(key)
            if rule is None and key in FIELDS:
                rule = Spelling(key)
            if rule is None and key not in NOT_SAMPLING:
                raise _unknown(key, {*fields, *rules, *NOT_SAMPLING, *ignored})
            if rule is not None and value is not None:
                _read_field(key, value, rule, reading)
                later.append((key, value, rule))
        for key, value, rule in later:
            try:
                rule.finish(key, value, reading)
            except ValueError as error:
                raise in_body(key, error) from None
        return _made(cls, reading)


def _equal(value: Any, off: Any) -> bool:
    """Whether two values are equal; those that cannot be compared are not."""
    try:
        return bool(value == off)
    except Exception:  # as of arrays, or of a class of the caller's
        return False


def _read_field(key: str, value: Any, rule: Rule, reading: Reading) -> None:
    try:
        given = rule.read(key, value)
        checked = {name: reading.fields[name].check(name, x) for name, x in given.items()}
    except (TypeError, ValueError) as error:
        raise in_body(key, error) from None
    for name in checked:
        if name in reading.values:
            twice = f"the request body has {name} twice, the second time as {show(key)}"
            raise of_field(key, ValueError(twice))
        reading.values[name], reading.spelled[name] = checked[name], key


def _made(kind: type[P], reading: Reading) -> P:
    """The parameters that were read, once all is known that belongs together."""
    values = reading.values
    if reading.eos_token:
        ends = dict.fromkeys((*values.get("eos_token", ()), *reading.eos_token))
        values["eos_token"] = TokenIds(ends)
    for name in required_of(kind):
        if name not in values:
            missing = f"the request body must have the field {show(name)}"
            raise of_field(name, ValueError(missing))
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # the fields contradict each other
        spelled = reading.spelled.get(getattr(error, "field", ""))
        if spelled is None:
            raise
        raise in_body(spelled, error) from None


def required_of(kind: type[Params]) -> list[str]:
    """The fields of a subclass of `Params` that have no default."""
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    ]


def _wrong_number_of_seeds(seed: tuple[int, ...], n: int) -> ValueError:
    return ValueError(f"seed must be one integer or n = {n} of them, not {show(seed)}")


def _names(name: str, value: Any) -> set[str]:
    names = listed(name, value, "field names", ordered=False)
    if not all(isinstance(x, str) for x in names):
        raise TypeError(f"{name} must be field names, not {show(value)}")
    return set(names)


def _unknown(key: Any, known: set[str]) -> ValueError:
    unknown = f"unknown field {show(key)} in the request body{suggestion(key, known)}"
    return of_field(key, ValueError(unknown))


def fields_of(kind: type[Any]) -> dict[str, Field]:
    """The fields of `Params` or of a subclass; one that names no check takes any value."""
    return FIELDS if kind is Params else _table(kind)


def _table(kind: type[Any]) -> dict[str, Field]:
    ours = {field.name: field.metadata for field in dataclasses.fields(Params)}
    table = {}
    for field in dataclasses.fields(kind):
        about = {**ours.get(field.name, {}), **field.metadata}
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
                check=about.get("check", _unchecked),
                doc=about.get("doc", ""),
            )
    return table


FIELDS: dict[str, Field] = _table(Params)

#: The fields that name tokens, and how an error names them.
_NAMING_TOKENS = {
    name: f"token ids in {name}" if isinstance(field.off, Bias) else name
    for name, field in FIELDS.items()
    if isinstance(field.off, (TokenIds, Phrases, Bias))
}


def column(name: str, value: Any, rows: int) -> NDArray[Any]:
    """A pure function's parameter, one value or one per row, as a checked column of `rows` values.

    Integers come as int64, all else as float64.
    """
    field = FIELDS[name]
    if not field.integer:
        return reals(name, value, field.domain, rows)
    shape, given = items(name, value)
    checked = [whole_number(name, x, field.domain) for x in given]
    # More than any vocabulary is as good as its size.
    return _per_row(name, shape, np.array([min(x, 2**62) for x in checked], np.int64), rows)


def reals(name: str, value: Any, interval: str, rows: int) -> NDArray[np.float64]:
    """Numbers in an interval, one value or one per row, as a column of `rows` values."""
    shape, given = items(name, value)
    checked = [real_number(name, x, interval) for x in given]
    return _per_row(name, shape, np.array(checked, np.float64), rows)


def _per_row(name: str, shape: tuple[int, ...], values: NDArray[Any], rows: int) -> NDArray[Any]:
    if shape not in ((), (rows,)):
        raise ValueError(f"{name} must be one value or one per row ({rows}), not {shape}")
    return np.full(rows, values)
