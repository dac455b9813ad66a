"""Differences that are known: where each may be seen, and the line that explains it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cases import Row
from .compare import Difference, left, log_softmax

Condition = Callable[[Difference, str], bool]  # of a difference, and the control it may be due to

#: In place of a control: whatever the request asks for.
ANY = "any control"


class Known(NamedTuple):
    """A difference that is known."""

    control: str
    condition: Condition
    because: str  # words of docs/controls.md

    def explains(self, difference: Difference) -> bool:
        """Whether a difference is this one."""
        controls = (*difference.case.controls, ANY)
        return self.control in controls and self.condition(difference, self.control)


def refused_here(text: str) -> Condition:
    """We have an error that says this, and the engine has none."""
    return lambda difference, _: text in str(difference.here) and difference.kind == "error here"


def refused_there(text: str) -> Condition:
    """The engine has an error that says this, and we have none."""
    return lambda difference, _: text in str(difference.there) and difference.kind == "error there"


def where(holds: Callable[[Difference], bool]) -> Condition:
    """There is no error, and this holds."""
    return lambda difference, _: not difference.kind.startswith("error") and holds(difference)


def tied(difference: Difference, control: str) -> bool:
    """The tokens are equals as they come to the control, and each side leaves one of these."""
    if difference.kind != "tokens":
        return False
    row = difference.reaching(control)
    equals = row == row[difference.tokens[0]]
    sides = (difference.here, difference.there)
    return bool(equals[difference.tokens].all()) and all(left(x)[equals].any() for x in sides)


def within(tolerance: float) -> Condition:
    """The mass before each of the tokens is so near to top_p, as they come to the control."""

    def condition(difference: Difference, control: str) -> bool:
        if difference.kind != "tokens":
            return False
        above = mass_above(difference.reaching(control))[difference.tokens]
        return bool((np.abs(above - difference.case.get("top_p")) < tolerance).all())

    return condition


def mass_above(row: Row) -> NDArray[np.float64]:
    """For each token the mass of those before it in the order."""
    q = np.exp(log_softmax(row.astype(np.float64)))
    order = np.argsort(-row, kind="stable")
    above = np.empty_like(q)
    above[order] = np.cumsum(q[order]) - q[order]
    return above
