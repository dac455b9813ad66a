"""Differences that are known: where each may be seen, and the line that explains it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics import SLACK
from .cases import Row
from .compare import LEAST, Difference, left, log_softmax

Condition = Callable[[Difference, str], bool]  # of a difference, and the control it may be due to

#: In place of a control: whatever the request asks for.
ANY = "any control"


class Known(NamedTuple):
    """A difference that is known."""

    control: str
    condition: Condition
    because: str  # words of docs/controls.md
    rounding: bool = False  # it hangs on last bits, which another CPU may round otherwise

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


def unfit(difference: Difference, _: str) -> bool:
    """We refuse a row that is not fit to use as it comes, or that the engine leaves no token in."""
    rows = [x for x in (difference.case.row, difference.there) if not isinstance(x, str)]
    refused = difference.kind == "error here" and "row 0" in str(difference.here)
    return refused and not all(np.isfinite(x).any() and (x < np.inf).all() for x in rows)


def tied(difference: Difference, control: str) -> bool:
    """The tokens are equals as they come to the control, and each side leaves one of these."""
    if not difference.tokens.size:
        return False
    row = difference.reaching(control)
    equals = row == row[difference.tokens[0]]
    sides = [side for side in (difference.here, difference.there) if not isinstance(side, str)]
    return bool(equals[difference.tokens].all()) and all(left(x)[equals].any() for x in sides)


def at_threshold(difference: Difference, control: str) -> bool:
    """A token is as likely as XTC's threshold, but for rounding, as it comes to the control."""
    if not difference.tokens.size:
        return False
    q = np.exp(log_softmax(difference.reaching(control)))
    return bool(np.isclose(q, difference.case.get("xtc_threshold"), rtol=1e-6, atol=0).any())


def at_ratio(difference: Difference, control: str) -> bool:
    """The tokens are as likely as min_p asks, but for rounding, as they come to the control."""
    if not difference.tokens.size:
        return False
    logprobs = log_softmax(difference.reaching(control))
    ratios = np.exp(logprobs[difference.tokens] - logprobs.max())
    return bool(np.allclose(ratios, difference.case.get("min_p"), rtol=1e-5, atol=0))


def underflown(difference: Difference, _: str) -> bool:
    """The engine has no such small probabilities as the tokens have here."""
    if isinstance(difference.here, str) or not difference.tokens.size:
        return False
    logprobs = log_softmax(difference.here)[difference.tokens]
    return bool(((logprobs > -np.inf) & (logprobs < LEAST)).all())


def within(tolerance: float) -> Condition:
    """The mass before each of the tokens is so near to top_p, as they come to the control."""

    def condition(difference: Difference, control: str) -> bool:
        if not difference.tokens.size:
            return False
        above = mass_above(difference.reaching(control))[difference.tokens]
        return bool((np.abs(above - difference.case.get("top_p")) < tolerance).all())

    return condition


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
        where(lambda d: d.case.get("top_p") > 1 - SLACK),
        "Any p < 1 acts as `p - e`, so a tail lighter than 2**-20 goes whenever the control is on.",
    ),
    Known(
        "min_p",
        where(lambda d: d.case.get("min_p") == 1),
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
        refused_here("not nan"),
        "An id outside the vocabulary, NaN and +inf are errors",
    ),
    Known(ANY, unfit, "Engines leave this case undefined"),
)

#: What several engines do alike.
TOO_COLD = Known(
    "temperature",
    where(lambda d: d.case.get("temperature") < 1e-38),
    "llama.cpp, transformers and SGLang divide, mlx-lm multiplies by 1 / T, and all may "
    "overflow to NaN.",
)
K_OF_MINUS_ONE = Known(
    "top_k",
    refused_here("not -1"),
    "Off: <= 0 in llama.cpp and mlx-lm, 0 or -1 in vLLM, -1 in SGLang (0 is an error)",
)
K_BEYOND = Known(
    "top_k", refused_here("not 7"), 'k > V is "all" in llama.cpp, transformers, vLLM and SGLang'
)
P_OF_ZERO = Known(
    "top_p",
    refused_here("not 0.0"),
    "p = 0 is an error in vLLM, SGLang and OpenVINO GenAI, off in mlx-lm, and keeps one token "
    "in llama.cpp and transformers.",
)
P_ABOVE_ONE = Known(
    "top_p", refused_here("not 1.5"), "p > 1 is off in llama.cpp, transformers and mlx-lm."
)
P_IN_FLOAT32 = Known(
    "top_p",
    within(1e-4),
    "`top_p` differed only where the mass before a token lay within 1e-4 of p (llama.cpp, mlx-lm)",
    rounding=True,
)
P_IN_TORCH = Known(
    "top_p",
    within(5e-6),
    "or 5e-6 (transformers, and vLLM's and SGLang's PyTorch samplers)",
    rounding=True,
)
