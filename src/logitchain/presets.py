"""A chain as its author writes it: names, options, other engines' orders; and as arrays."""

from collections.abc import Callable, Mapping, Sequence
from itertools import dropwhile
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from .controls import CONTROLS, ControlName, xtc
from .controls.record import (
    ADJUST,
    CHOICES,
    KINDS,
    LISTS,
    MOST_FIELDS,
    WORDS,
    Control,
    as_number,
)
from .fused.row import STAGES
from .fused.tables import (
    DIVIDES,
    FLAGS,
    FOLLOWS_BEFORE,
    KEEPS_SHARE,
    KIND,
    MAY_EMPTY,
    MEASURES,
    NOT_COMPILED,
    REPLACED,
    SWITCH,
    VALUES,
    Program,
    Steps,
)
from .inputs.values import one_of, show, suggestion
from .params import whole_number

#: A function of one's own: it changes the rows (rows, vocab) of a batch in place.
Call = Callable[[NDArray[np.float32], Any], None]


class Step(NamedTuple):
    """One place in a chain: a control with its options, or a callable. A chain takes it again."""

    name: str
    options: Mapping[str, Any]
    control: Control | None
    call: Call | None

    def __repr__(self) -> str:
        """The step as it stands in an order."""
        return f"Step({shown(self)})"


#: A built-in control by its name, with options or without.
Named: TypeAlias = ControlName | tuple[ControlName, dict[str, Any]]

#: What a chain's author writes for one place of its order; a list comes from JSON.
Entry: TypeAlias = Named | Control | tuple[Control, dict[str, Any]] | Call | Step | list[Any]

NAMED: dict[str, Control] = {control.name: control for control in CONTROLS}
MASKS = tuple(cast(ControlName, control.name) for control in CONTROLS if control.kind == "mask")

#: The order of a chain for which nothing else is asked.
DEFAULT_ORDER = cast(tuple[ControlName, ...], tuple(NAMED))


def _with(names: str, **options: Any) -> list[Named]:
    return [(name, options) for name in _names(names)]


def _names(names: str) -> list[ControlName]:
    return cast(list[ControlName], names.split())


_PENALTIES = "repetition_penalty frequency_penalty presence_penalty"

PresetName = Literal[
    "llama_cpp",
    "koboldcpp",
    "text_generation_webui",
    "exllamav2",
    "exllamav3",
    "transformers",
    "vllm",
    "sglang",
    "mlx_lm",
    "openvino_genai",
]

#: Other engines' orders, with what else they mean by a control. docs/presets.md says where each
#: still differs.
PRESETS: dict[PresetName, Sequence[Named]] = {
    "llama_cpp": [
        *(*MASKS, "logit_bias"),
        *_with(_PENALTIES, scope="all", window=64),
        *_with("dry", window=64),
        *("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc"),
        *("temperature", "dynamic_temperature", "mirostat", "adaptive_p"),
    ],
    "koboldcpp": [
        *(*MASKS, "logit_bias"),
        *_with("dry", window=320),
        *_with("repetition_penalty presence_penalty", scope="all", window=320),
        *("top_k", "top_a", "tfs", "typical_p", "top_p", "min_p"),
        *("temperature", "dynamic_temperature", "quadratic", "top_n_sigma"),
        *("xtc", "mirostat", "adaptive_p"),
    ],
    "text_generation_webui": [
        *(*(name for name in MASKS if name != "no_repeat_ngram"), "logit_bias"),
        *_with("repetition_penalty presence_penalty frequency_penalty", scope="all", window=1024),
        *_with("dry", window=1024),
        *("top_n_sigma", "temperature", "dynamic_temperature", "quadratic"),
        *_with("top_k", ties="all"),
        *("top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "min_p"),
        *("adaptive_p", "mirostat", "xtc", "no_repeat_ngram"),
    ],
    "exllamav2": [
        *MASKS,
        *_with("repetition_penalty presence_penalty frequency_penalty", scope="all"),
        *("logit_bias", "dry", "quadratic", "temperature", "top_k", "top_p", "top_a", "min_p"),
        *("tfs", "typical_p", "mirostat", "dynamic_temperature", "xtc"),
    ],
    "exllamav3": [
        *(*MASKS, "logit_bias"),
        *_with("repetition_penalty presence_penalty frequency_penalty", scope="all"),
        *("temperature", "min_p"),
        *_with("top_k top_p", ties="all"),
        *("xtc", "adaptive_p"),
    ],
    "transformers": [
        *(("bad_words", {"scope": "all"}) if name == "bad_words" else name for name in MASKS),
        *("logit_bias", "repetition_penalty", "temperature", "top_h"),
        *_with("top_k", ties="all"),
        *("top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    ],
    "vllm": [
        *(*MASKS, "logit_bias", *_names(_PENALTIES), "temperature", "min_p"),
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
    # min_p comes first there, but top_p's mass stays that of the row before it.
    "openvino_genai": [
        *(*MASKS, "repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("top_k", "temperature", "top_p", "min_p"),
    ],
}


class Part(NamedTuple):
    """Controls that follow each other, as arrays, and the callables around them."""

    program: Program  # the controls
    after: str  # the name of the callable before them; "" at the beginning
    call: tuple[str, Call] | None  # the callable after them and its name; None at the end
    removes_late: bool  # whether a step may empty a row after one that changes every logit

    @property
    def carries(self) -> bool:
        """Whether a control of it carries a state from token to token."""
        return any(control.state for control in self.program.controls)


def as_step(entry: Any) -> Step:
    """An entry of an order, checked."""
    if isinstance(entry, Step):
        entry = entry.call or (entry.control, entry.options)
    if callable(entry):
        name = getattr(entry, "__name__", None)
        return Step(name if isinstance(name, str) else type(entry).__name__, {}, None, entry)
    pair = tuple(entry) if isinstance(entry, (tuple, list)) else (entry, {})
    control = NAMED.get(pair[0]) if pair and isinstance(pair[0], str) else pair and pair[0]
    if len(pair) != 2 or not isinstance(control, Control):
        names = ", ".join(NAMED)
        raise ValueError(
            f"a control must be one of {names}, a Control, or a callable, not {show(entry)}"
            + suggestion(pair[0] if pair else None, NAMED)
        )
    options = pair[1]
    if not isinstance(options, Mapping):
        raise TypeError(f"the options of {control.name} must be a mapping, not {show(options)}")
    known = control.options or {}
    for option in options:
        if option not in known:
            can, hint = ", ".join(known) or "none", suggestion(option, known)
            raise TypeError(
                f"the options of {control.name} are {can}; there is no {show(option)}{hint}"
            )
    checked = {**known, **options}
    if "protected_ids" in checked:
        checked["protected_ids"] = xtc.protected_tokens(checked["protected_ids"])
    _numbers(checked)
    if control not in CONTROLS:
        others = (x for other in CONTROLS if other.name != control.name for x in other.state)
        taken = [name for name in control.state if name in {*others, *VALUES}]
        if taken:
            raise ValueError(f"state of {control.name} must have names of its own, not {taken[0]}")
        control.compiled()  # an error in it is reported before anything is called
    return Step(control.name, checked, control, None)


def as_entry(step: Step) -> Any:
    """What `as_step` makes this step of; it can be copied and pickled."""
    if step.control is None:
        return step.call
    known = NAMED.get(step.name)
    return (step.name if step.control is known else step.control, step.options)


def shown(step: Step) -> str:
    """A step as it stands in an order, without the options that are the defaults."""
    if step.control is None:
        return step.name
    name = repr(step.name) if step.control is NAMED.get(step.name) else step.name
    options = ", ".join(f"{x!r}: {value}" for x, value in _changed_options(step).items())
    return f"({name}, {{{options}}})" if options else name


def cells(step: Step) -> tuple[str, str, str, str]:
    """A step in a table: name, kind, fields, and the options that are not the defaults."""
    if step.control is None:
        return step.name, "callable", "", ""
    fields = ", ".join(field.name for field in step.control.fields)
    options = ", ".join(f"{x}: {value}" for x, value in _changed_options(step).items())
    return step.name, step.control.kind, fields or step.control.tokens, options


def _changed_options(step: Step) -> dict[str, str]:
    """The options that are not the defaults, as texts."""
    defaults = (step.control.options if step.control else None) or {}
    return {x: show(value, 60) for x, value in step.options.items() if value != defaults[x]}


def arrange(
    steps: Sequence[Step], chain: Sequence[Step], vocab: int, columns: Sequence[str]
) -> list[Part]:
    """Steps of a chain as arrays for rows of this length, cut at the callables.

    columns   the fields of which the batch's table has the values, "" for other columns
    """
    controls = [step.control for step in chain if step.control is not None]
    replacing = [control for control in controls if control.instead_of]
    cut: list[Part] = []
    named: list[Step] = []
    after = ""
    for one in steps:
        if one.call is None:
            named.append(one)
        else:
            cut.append(_part(named, after, (one.name, one.call), replacing, vocab, columns))
            named, after = [], one.name
    return [*cut, _part(named, after, None, replacing, vocab, columns)]


def _part(
    named: list[Step],
    after: str,
    call: tuple[str, Call] | None,
    replacing: list[Control],
    vocab: int,
    columns: Sequence[str],
) -> Part:
    program = _program(named, replacing, vocab, columns)
    late = dropwhile(lambda step: step[KIND] <= ADJUST, program.steps.table.tolist())
    removes_late = any(step[FLAGS] & MAY_EMPTY for step in late)
    return Part(program, after, call, removes_late)


def _program(
    steps: list[Step],
    replacing: list[Control],
    vocab: int,
    columns: Sequence[str],
) -> Program:
    table: list[list[int]] = []
    marks: list[NDArray[np.bool_]] = []
    controls = []
    for step in steps:
        control, mark = step.control, -1
        if "protected_ids" in step.options:
            protected = xtc.protection(
                step.options["protected_ids"], step.options["protected"], vocab
            )[0]
            if protected.size:
                mark = len(marks)
                marks.append(protected)
        if control is not None:
            table.append(_line(control, _numbers(step.options), mark, replacing, columns))
            controls.append(control)
    arrays = Steps(
        table=np.array(table, np.int64).reshape(len(table), REPLACED + 2 * len(replacing)),
        marks=np.array(marks, np.bool_).reshape(len(marks), vocab),
        stages=np.zeros(len(STAGES), np.int64),
    )
    return Program(arrays, tuple(controls))


def _line(
    control: Control,
    options: tuple[int, int],
    mark: int,
    replacing: list[Control],
    columns: Sequence[str],
) -> list[int]:
    """A step's row of the table."""
    keeps_one = control.keeps_one or control.kind in ("scale", "cut")
    flags = (
        DIVIDES * control.divides
        + MEASURES * bool(control.statistics)
        + KEEPS_SHARE * control.keeps_share
        + MAY_EMPTY * (not keeps_one)
        + FOLLOWS_BEFORE * (control.follows == "before")
    )
    where, off = [-1] * MOST_FIELDS, np.zeros(MOST_FIELDS)
    for j, field in enumerate(control.fields):
        flags += SWITCH * (field in control.switched_by) << j
        where[j], off[j] = _place(field.name, columns), as_number(field.off)
    for j, name in enumerate(control.state, len(control.fields)):
        where[j], off[j] = columns.index(name), np.nan
    replaced: list[int] = []
    for other in replacing:
        (switch,) = other.switched_by
        column = _place(switch.name, columns) if other.instead_of == control.name else -1
        replaced += column, int(np.float64(as_number(switch.off)).view(np.int64))
    sources = _place(control.tokens, WORDS), _place(control.tokens, LISTS)
    return [
        *(KINDS.index(control.kind), flags, *NOT_COMPILED),
        *(*options, mark, *sources, _place(control.exempt, LISTS)),
        _place(control.window, [field.name for field in control.fields]),
        *(len(control.fields) + len(control.state), len(control.state)),
        *(*where, *off.view(np.int64).tolist(), *replaced),
    ]


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else -1


def _numbers(options: Mapping[str, Any]) -> tuple[int, int]:
    """A control's options as its kernel reads them, (option, window); here they are checked."""
    option = 0
    for name, choices in CHOICES.items():
        if name in options:
            option = choices.index(one_of(name, options[name], choices))
    window = options.get("window")
    return option, -1 if window is None else min(whole_number("window", window, "[0, inf)"), 2**62)
