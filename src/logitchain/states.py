"""The states of one row: the numbers that its controls carry from token to token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fused.tables import NEXT, PENDING
from .inputs.values import one_of, show
from .params import real_number

State = NDArray[np.int64]  # (state columns,) the bits of float64 numbers; older ones may be shorter
Line = NDArray[np.int64]  # a row of a batch's table

#: A number before the first token.
UNKNOWN = np.float64(np.nan).view(np.int64)


@dataclass(slots=True)
class Trail:
    """The states of a row after 0, 1, ... generated tokens, so that each can be returned to.

    The chain that draws a token leaves the state that follows from it in the row's line of the
    table. A trial keeps the states that it has found in `ahead`.
    """

    states: list[State]
    ahead: list[tuple[State, int, State]] = field(default_factory=list)  # state, token, next state

    def copied(self) -> "Trail":
        """A trail of its own; the states in it cannot change."""
        return Trail(self.states.copy(), self.ahead.copy())

    def drawn(self, size: int, token: int, line: Line, names: tuple[str, ...]) -> State:
        """The state after the token that follows the first `size` generated ones."""
        if line[PENDING] == token and size == len(self.states) - 1:
            following: State = line[columns_of(names) + 1]
            return following
        return self.found(self.states[size], token)

    def found(self, state: State, token: int) -> State:
        """The state after a state and a token: what a trial has found, or else a copy."""
        known = (after for before, x, after in self.ahead if before is state and x == token)
        return next(known, state.copy())

    def write(self, line: Line, names: tuple[str, ...]) -> None:
        """Fill in the state after the last token, from which no token is drawn yet."""
        columns, known = columns_of(names), self.states[-1]
        line[columns[: known.size]], line[columns[known.size :]] = known, UNKNOWN
        line[columns + 1] = line[columns]
        line[PENDING] = -1

    def last(self, names: tuple[str, ...]) -> dict[str, float]:
        """The numbers of the last state that are known, by name."""
        numbers = self.states[-1].view(np.float64).tolist()
        pairs = zip(names_of_states(names), numbers, strict=False)
        return {name: number for name, number in pairs if number == number}


def trail_of(size: int, known: Mapping[str, float], names: tuple[str, ...]) -> Trail:
    """The trail of a row that has generated `size` tokens, after which these numbers are known."""
    last = np.array([known.get(name, np.nan) for name in names_of_states(names)], np.float64)
    return Trail([*[np.full(last.size, UNKNOWN)] * size, last.view(np.int64)])


@lru_cache(maxsize=64)
def columns_of(names: tuple[str, ...]) -> NDArray[np.int64]:
    """Which columns of a table have a state; the next one of each has what follows from a draw."""
    pairs = enumerate(pairwise(names))
    return np.array([i for i, (name, after) in pairs if after == NEXT + name], np.int64)


def names_of_states(names: tuple[str, ...]) -> list[str]:
    """The names of these columns."""
    return [names[column] for column in columns_of(names)]


def checked_state(given: Any, names: tuple[str, ...]) -> dict[str, float]:
    """A state as `Batch.state` gives it, or None for none; `names` are those of all columns."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"state must be a mapping of names to numbers, not {show(given)}")
    for name in given:
        one_of("a name in state", name, names_of_states(names))
    return {x: real_number(f"state[{x!r}]", number, "(-inf, inf)") for x, number in given.items()}
