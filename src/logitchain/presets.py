"""A chain as its author writes it: names, options, other engines' orders; and as arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import one_of, show
from .controls import xtc
from .params import whole_number
from .plan import MASKS, NAMES, SCOPES, Steps
from .rows import keeps_all_ties

#: A control of one's own: it changes the rows (rows, vocab) of a batch in place.
Call = Callable[[NDArray[np.float32], Any], Any]

#: The order of the named controls where nothing else is asked for.
DEFAULT = NAMES

#: What a named control can be told, and what it does without.
OPTIONS: dict[str, dict[str, Any]] = {
    "no_repeat_ngram": {"scope": "all"},
    "bad_words": {"scope": "output"},
    "repetition_penalty": {"scope": "all", "window": None},
    "frequency_penalty": {"scope": "output", "window": None},
    "presence_penalty": {"scope": "output", "window": None},
    "top_k": {"ties": "first"},
    "top_p": {"ties": "first"},
    "xtc": {"protected_ids": (), "protected": "skip"},
}


def _with(names: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, options) for name in names.split()]


_PENALTIES = "repetition_penalty frequency_penalty presence_penalty"

#: Other engines' orders, with what else they mean by a control. docs/controls.md says where each
#: still differs.
PRESETS: dict[str, Sequence[Any]] = {
    "llama_cpp": [
        *(*MASKS, "logit_bias"),
        *_with(_PENALTIES, scope="all", window=64),
        *("top_k", "top_p", "min_p", "xtc", "temperature"),
    ],
    "transformers": [
        *MASKS[:5],
        *_with("bad_words", scope="all"),
        *("logit_bias", "repetition_penalty", "temperature"),
        *_with("top_k", ties="all"),
        *("top_p", "min_p"),
    ],
    "vllm": [
        *(*MASKS, "logit_bias", *_PENALTIES.split(), "temperature", "min_p"),
        *_with("top_k", ties="all"),
        "top_p",
    ],
    # top_p before top_k is top_k and top_p jointly: two prefixes of one order, one mass.
    "sglang": [
        *(*MASKS, "frequency_penalty", "presence_penalty"),
        *_with("repetition_penalty", scope="output"),
        *("logit_bias", "temperature", "top_p", "top_k", "min_p"),
    ],
    "mlx_lm": [
        *(*MASKS, "logit_bias"),
        *_with("repetition_penalty presence_penalty frequency_penalty", scope="all", window=20),
        *_with("top_p", ties="all"),
        *("min_p", "xtc", "top_k", "temperature"),
    ],
}


class Step(NamedTuple):
    """One place in a chain: a named control with its options, or a callable."""

    name: str
    options: Mapping[str, Any]
    call: Call | None


class Part(NamedTuple):
    """Named controls that follow each other, as arrays, and the callable after them."""

    steps: Steps
    call: Call | None


def as_step(entry: Any) -> Step:
    """An entry of an order, checked."""
    if callable(entry):
        return Step(getattr(entry, "__name__", repr(entry)), {}, entry)
    pair = entry if isinstance(entry, tuple) else (entry, {})
    if len(pair) != 2 or not isinstance(pair[0], str) or pair[0] not in NAMES:
        names = ", ".join(NAMES)
        raise ValueError(f"a control must be one of {names}, or a callable, not {show(entry)}")
    name, options = pair
    if not isinstance(options, Mapping):
        raise TypeError(f"the options of {name} must be a mapping, not {show(options)}")
    known = OPTIONS.get(name, {})
    for option in options:
        if option not in known:
            can = ", ".join(known) or "none"
            raise TypeError(f"the options of {name} are {can}; there is no {show(option)}")
    checked = Step(name, {**known, **options}, None)
    _numbers(checked.options)
    return checked


def arrange(steps: Sequence[Step], vocab: int) -> list[Part]:
    """The steps as arrays for rows of this length, cut at the callables."""
    cut: list[Part] = []
    named: list[Step] = []
    for one in steps:
        if one.call is None:
            named.append(one)
        else:
            cut.append(Part(_arrays(named, vocab), one.call))
            named = []
    return [*cut, Part(_arrays(named, vocab), None)]


def _arrays(steps: list[Step], vocab: int) -> Steps:
    table: list[tuple[int, int, int]] = []
    marks: list[NDArray[np.bool_]] = []
    for name, options, _ in steps:
        option, window = _numbers(options)
        if "protected_ids" in options:
            protected = xtc.protection(options["protected_ids"], options["protected"], vocab)[0]
            if protected.size:
                window = len(marks)
                marks.append(protected)
        table.append((NAMES.index(name), option, window))
    return Steps(
        table=np.array(table, np.int64).reshape(len(steps), 3),
        marks=np.array(marks, np.bool_).reshape(len(marks), vocab),
    )


def _numbers(options: Mapping[str, Any]) -> tuple[int, int]:
    """What kernels are told of a control's options, (option, window); here they are checked."""
    option, window = 0, options.get("window")
    if "ties" in options:
        option = int(keeps_all_ties(options["ties"]))
    elif "scope" in options:
        option = SCOPES.index(one_of("scope", options["scope"], SCOPES))
    elif "protected" in options:
        option = xtc.PROTECTIONS.index(one_of("protected", options["protected"], xtc.PROTECTIONS))
    return option, -1 if window is None else min(whole_number("window", window, "[0, inf)"), 2**62)
