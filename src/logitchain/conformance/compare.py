"""Two results for one case: whether they agree, and what can be said of a difference."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..params import Params
from ..presets import PresetName
from .cases import Case, Row

#: How far log-probabilities may be apart, in parts of the largest logit: a few roundings.
ROUNDING = 2.0**-20

#: Log-probabilities below this are not compared: such probabilities are no normal float32.
LEAST = math.log(2.0**-126)

Result = Row | str  # processed logits, or the error


def attempt(process: Callable[[Case], Row], case: Case) -> Result:
    """What `process` makes of a case; what it warns of is not compared."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return process(case)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def ours(preset: PresetName, case: Case, before: str | None = None) -> Row:
    """The row under the preset's chain, or under the one control that the case is about.

    before   the control to stop in front of
    """
    steps = Chain.preset(preset).steps
    if before is not None:
        steps = steps[: [step.name for step in steps].index(before)]
    if case.control != "chain":
        steps = tuple(step for step in steps if step.name == case.control)
    batch = Batch(case.row.size)
    batch.add(Params(seed=0, **case.fields), case.prompt, case.output)
    return Chain(steps)(case.row, batch)


@dataclass(frozen=True)
class Difference:
    """A case on which an engine and its preset do not agree."""

    preset: PresetName
    case: Case
    library: Result
    engine: Result

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """The tokens that one side leaves and the other removes; none if a side has an error."""
        if isinstance(self.library, str) or isinstance(self.engine, str):
            return np.empty(0, np.int64)
        return np.flatnonzero(left(self.library) != left(self.engine))

    @property
    def filtered(self) -> bool:
        """Whether all that differs is which tokens are left."""
        if isinstance(self.library, str) or isinstance(self.engine, str):
            return False
        return bool(self.tokens.size) and not unlike(self.library, self.engine).size

    @property
    def kind(self) -> str:
        """What differs: "library error", "engine error", "tokens" or "logits"."""
        if isinstance(self.library, str):
            return "library error"
        if isinstance(self.engine, str):
            return "engine error"
        return "tokens" if self.tokens.size else "logits"

    def reaching(self, control: str) -> Row:
        """The row as it comes to a control."""
        return ours(self.preset, self.case, before=control)


def left(row: Row) -> NDArray[np.bool_]:
    """Which tokens are not removed; a NaN is not."""
    return np.asarray(row != -np.inf)


def compare(preset: PresetName, case: Case, library: Result, engine: Result) -> Difference | None:
    """What differs, or None: the same tokens are left, with the same log-probabilities."""
    difference = Difference(preset, case, library, engine)
    if isinstance(library, str) or isinstance(engine, str):
        return None if isinstance(library, str) and isinstance(engine, str) else difference
    same = not difference.tokens.size and not unlike(library, engine).size
    return None if same else difference


def unlike(library: Row, engine: Row) -> NDArray[np.int64]:
    """The tokens left on both sides whose log-probabilities differ."""
    both = np.flatnonzero(left(library) & left(engine))
    largest = max(1.0, np.abs([library[both], engine[both]]).max(initial=0.0))
    a, b = log_softmax(library[both]), log_softmax(engine[both])
    with np.errstate(invalid="ignore"):
        near = (np.abs(a - b) <= ROUNDING * largest) | ((a < LEAST) & (b < LEAST))
    return np.asarray(both[~near])


def log_softmax(row: Row) -> NDArray[np.float64]:
    """The log-probabilities of a row in float64; NaN if it is invalid."""
    with np.errstate(all="ignore"):
        shifted = row.astype(np.float64) - row.max(initial=-np.inf)
        return np.asarray(shifted - np.log(np.exp(shifted).sum()))
