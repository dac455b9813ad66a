"""Differences that are known: where each may be seen, and the line that explains it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..controls.frequency_penalty import frequency_penalty
from ..controls.presence_penalty import presence_penalty
from ..numeric.functions import SLACK
from .cases import Case, Row
from .compare import LEAST, Difference, Result, attempt, compare, left, log_softmax, ours

Condition = Callable[[Difference, str], bool]  # of a difference, and the control it may be due to

#: In place of a control: whatever the request asks for.
ANY = "any control"


class Known(NamedTuple):
    """A difference that is known."""

    control: str
    condition: Condition
    because: str  # words of docs/controls.md or docs/presets.md
    rounding: bool = False  # it hangs on last bits, which another CPU may round otherwise

    def explains(self, difference: Difference) -> bool:
        """Whether a difference is this one."""
        controls = (*difference.case.controls, ANY)
        return self.control in controls and self.condition(difference, self.control)


def refused_by_library(text: str) -> Condition:
    """We have an error that says this, and the engine has none."""
    return lambda difference, _: (
        text in str(difference.library) and difference.kind == "library error"
    )


def refused_by_engine(text: str) -> Condition:
    """The engine has an error that says this, and we have none."""
    return lambda difference, _: (
        text in str(difference.engine) and difference.kind == "engine error"
    )


def requested(when: Callable[[Case], bool]) -> Condition:
    """This holds of the request."""
    return lambda difference, _: when(difference.case)


def both(*conditions: Condition) -> Condition:
    """All of these hold."""
    return lambda difference, control: all(holds(difference, control) for holds in conditions)


def gives(when: Callable[[Case], bool], row: Callable[[Difference], Row]) -> Condition:
    """If this holds of a request, the engine gives just this row."""

    def condition(difference: Difference, _: str) -> bool:
        case, engine = difference.case, difference.engine
        if isinstance(engine, str) or not when(case):
            return False
        wanted = attempt(lambda _: row(difference), case)
        return compare(difference.preset, case, wanted, engine) is None

    return condition


def instead(when: Callable[[Case], bool], **fields: Any) -> Condition:
    """If this holds of a request, the engine gives what we give if these fields are set instead.

    fields   values, or what they are of a case
    """

    def row(difference: Difference) -> Row:
        case = difference.case
        changed = {name: x(case) if callable(x) else x for name, x in fields.items()}
        return ours(difference.preset, case._replace(fields={**case.fields, **changed}))

    return gives(when, row)


def invalid_row(difference: Difference, _: str) -> bool:
    """We refuse a row that arrives invalid, or in which the engine leaves no token."""
    refused = difference.kind == "library error" and "row 0" in str(difference.library)
    return refused and not (_fit(difference.case.row) and _fit(difference.engine))


def spoiled(difference: Difference, _: str) -> bool:
    """The engine's row is invalid."""
    return not _fit(difference.engine)


def _fit(row: Result) -> bool:
    return isinstance(row, str) or bool(np.isfinite(row).any() and (row < np.inf).all())


def tied(beside: Condition = lambda *_: False) -> Condition:
    """The tokens are equals as they come to the control, and the library leaves the first of them.

    XTC leaves the last.

    beside   what explains it if the engine does not leave as many of them
    """

    def condition(difference: Difference, control: str) -> bool:
        if not difference.filtered:
            return False
        engine, row = np.array(difference.engine), difference.reaching(control)
        equals = row == row[difference.tokens[0]]
        engine[equals] = np.sort(engine[equals])[:: 1 if control == "xtc" else -1]
        rest = compare(difference.preset, difference.case, difference.library, engine)
        alike = bool(equals[difference.tokens].all())
        return alike and (rest is None or beside(rest, control))

    return condition


def all_tied(difference: Difference, control: str) -> bool:
    """The tokens are equals as they come to the control; the library leaves one, the engine all."""
    if not difference.filtered:
        return False
    row = difference.reaching(control)
    equals = row == row[difference.tokens[0]]
    library, engine = (
        left(np.asarray(side))[equals] for side in (difference.library, difference.engine)
    )
    return bool(equals[difference.tokens].all() and library.sum() == 1 and engine.all())


def fewer(difference: Difference, _: str) -> bool:
    """The engine leaves no token that the library removes."""
    return difference.filtered and bool(
        left(np.asarray(difference.library))[difference.tokens].all()
    )


def at_ratio(difference: Difference, control: str) -> bool:
    """The tokens are as likely as min_p asks, but for rounding, as they come to the control."""
    if not difference.filtered:
        return False
    logprobs = log_softmax(difference.reaching(control))
    ratios = np.exp(logprobs[difference.tokens] - logprobs.max())
    return bool(np.allclose(ratios, difference.case.get("min_p"), rtol=1e-5, atol=0))


def underflown(difference: Difference, control: str) -> bool:
    """The engine has no such small probabilities as the library gives the tokens."""
    if not fewer(difference, control):
        return False
    return bool((log_softmax(np.asarray(difference.library))[difference.tokens] < LEAST).all())


def within(tolerance: float) -> Condition:
    """The mass before each of the tokens is so near to top_p, as they come to the control."""

    def condition(difference: Difference, control: str) -> bool:
        if not difference.filtered:
            return False
        above = mass_above(difference.reaching(control))[difference.tokens]
        return bool((np.abs(above - difference.case.get("top_p")) < tolerance).all())

    return condition


def at_deviation(difference: Difference, control: str) -> bool:
    """The tokens are as far from the best as top_n_sigma allows, but for rounding."""
    if not difference.filtered:
        return False
    row = difference.reaching(control).astype(np.float64)
    reach = difference.case.get("top_n_sigma") * row[row > -np.inf].std()
    distances = row.max() - row[difference.tokens]
    return bool(np.allclose(distances, reach, rtol=1e-4, atol=0))


def nearly_typical(difference: Difference, control: str) -> bool:
    """The mass of the tokens that are more typical is so near to typical_p, or else the tokens are
    about as typical as each other.
    """
    if not difference.filtered:
        return False
    logprobs = log_softmax(difference.reaching(control))
    finite = logprobs > -np.inf
    entropy = -(np.exp(logprobs[finite]) * logprobs[finite]).sum()
    deviation = np.abs(-logprobs - entropy)
    order = np.argsort(deviation, kind="stable")
    above = np.empty_like(logprobs)
    above[order] = np.cumsum(np.exp(logprobs[order])) - np.exp(logprobs[order])
    gaps = np.abs(above[difference.tokens] - difference.case.get("typical_p"))
    return bool((gaps < 1e-4).all() or np.ptp(deviation[difference.tokens]) < 1e-4)


def rescaled(difference: Difference, _: str) -> bool:
    """The engine divides by a temperature that is within 1e-3 of ours."""
    if difference.kind != "logits":
        return False
    library, engine = (np.asarray(x, np.float64) for x in (difference.library, difference.engine))
    finite = library > -np.inf
    spread = np.ptp(library[finite])
    factor = np.ptp(engine[finite]) / spread if spread else 1.0
    scaled = (library * factor).astype(np.float32)
    rest = compare(difference.preset, difference.case, scaled, difference.engine)
    return bool(abs(factor - 1) < 1e-3 and rest is None)


def alike(tolerance: float) -> Condition:
    """The same tokens are left, and their logits differ by so small a part."""
    return lambda difference, _: (
        difference.kind == "logits"
        and bool(
            np.allclose(
                np.asarray(difference.library),
                np.asarray(difference.engine),
                rtol=tolerance,
                atol=tolerance,
            )
        )
    )


def beyond(difference: Difference, _: str) -> bool:
    """A penalty is beyond our range, and the engine subtracts it."""
    case = difference.case
    history = np.array([*case.prompt, *case.output])
    row = frequency_penalty(case.row, case.get("frequency_penalty"), history)
    row = presence_penalty(row, case.get("presence_penalty"), history)
    penalties = case.get("frequency_penalty"), case.get("presence_penalty")
    subtracted = gives(lambda _: max(map(abs, penalties)) > 2, lambda _: row)
    return subtracted(difference, "")


def mass_above(row: Row) -> NDArray[np.float64]:
    """For each token the mass of those before it in the order."""
    q = np.exp(log_softmax(row))
    order = np.argsort(-row, kind="stable")
    above = np.empty_like(q)
    above[order] = np.cumsum(q[order]) - q[order]
    return above


#: What we mean, and no engine does.
OURS = (
    Known(
        "top_p",
        both(requested(lambda case: case.get("top_p") > 1 - SLACK), within(2 * SLACK)),
        "Any p < 1 acts as `p - e`, so a tail lighter than 2**-20 goes whenever the control is on.",
    ),
    Known(
        "min_p",
        both(requested(lambda case: case.get("min_p") == 1), at_ratio),
        "At min_p = 1 all within about 2**-20 nats of the best stay.",
    ),
    Known(
        "min_p",
        at_ratio,
        "all keep equality; they differ in rounding and in place",
        rounding=True,
    ),
    Known(
        "logit_bias",
        both(refused_by_library("not nan"), spoiled),
        "An id outside the vocabulary, NaN and +inf are errors",
    ),
    Known(ANY, invalid_row, "Engines leave this case undefined"),
)

#: What several engines do alike.
TOO_COLD = Known(
    "temperature",
    both(requested(lambda case: 0 < case.get("temperature") < 1e-38), spoiled),
    "llama.cpp, transformers and SGLang divide, mlx-lm multiplies by 1 / T, and all may "
    "overflow to NaN.",
)
K_OF_MINUS_ONE = Known(
    "top_k",
    instead(lambda case: case.get("top_k") == -1, top_k=0),
    "Off: <= 0 in llama.cpp and mlx-lm, 0 or -1 in vLLM, -1 in SGLang (0 is an error)",
)
K_BEYOND = Known(
    "top_k",
    instead(lambda case: case.get("top_k") > case.row.size, top_k=0),
    'k > V is "all" in llama.cpp, transformers, vLLM and SGLang',
)
P_OF_ZERO = Known(
    "top_p",
    instead(lambda case: case.get("top_p") == 0, top_p=1e-9),
    "p = 0 is an error in vLLM, SGLang and OpenVINO GenAI, off in mlx-lm, and keeps one token "
    "in llama.cpp and transformers.",
)
P_ABOVE_ONE = Known(
    "top_p",
    instead(lambda case: case.get("top_p") > 1, top_p=1.0),
    "p > 1 is off in llama.cpp, transformers and mlx-lm.",
)
THRESHOLD = instead(  # a token is as likely as it says, but for rounding
    lambda case: case.get("xtc_threshold") > 0,
    xtc_threshold=lambda case: case.get("xtc_threshold") * (1 + 4 * SLACK),
)
P_IN_FLOAT32 = Known(
    "top_p",
    within(1e-4),
    "`top_p` differed only where the mass before a token lay within 1e-4 of p (llama.cpp, mlx-lm)",
    rounding=True,
)
TYPICAL = Known(
    "typical_p",
    nearly_typical,
    "`typical_p` differed only where the mass before a token lay within 1e-4 of p, or where tokens "
    "are within 1e-4 equally near to the entropy",
    rounding=True,
)
P_IN_TORCH = Known(
    "top_p",
    within(5e-6),
    "or 5e-6 (transformers, and vLLM's and SGLang's PyTorch samplers)",
    rounding=True,
)
