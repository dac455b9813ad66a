"""Lists and mappings of a request, which are checked once and then cannot change."""

import math
import re
from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from itertools import chain
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..inputs.values import items, listed, show
from ..response.automaton import Automaton
from .fields import checked_field, float_or_none, real_number, whole_number

SEED_INTERVAL = f"[{-(2**63)}, {2**64 - 1}]"
ID_INTERVAL = "[0, vocab_size)"
BIAS_INTERVAL = "[-inf, inf)"

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


def tokens_field(doc: str) -> Any:
    """A field that is a token id or a list of them, as the default of a dataclass's field."""
    return checked_field(TokenIds(), TokenIds.checked, ID_INTERVAL, doc=doc)


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


def breakers(name: str, value: Any) -> Phrases:
    """Sequences of a length that DRY can look for."""
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


def seed_or_seeds(name: str, value: Any) -> int | tuple[int, ...] | None:
    """One seed for the request, or one per sample; None draws one."""
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
        number = float_or_none(name, value)
        if number is None or not math.isfinite(number):
            number = real_number(f"{name}[{show(key)}]", value, BIAS_INTERVAL)
        checked[token] = number
    return checked


_DIGITS = re.compile("-?[0-9]{1,19}")


def _from_json_key(key: Any) -> Any:
    """JSON has only string keys: "42" is the token id 42."""
    return int(key) if type(key) is str and _DIGITS.fullmatch(key) else key
