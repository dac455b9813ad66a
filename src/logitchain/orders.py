"""The order of the controls that a request body asks for, where an engine lets it ask.

`docs/presets.md` has the engines' orders, `docs/dialects.md` the fields of their bodies.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from .dialects import DIALECTS, DialectName, flat
from .inputs.values import in_body, one_of, show, suggestion
from .params import FIELDS
from .presets import DEFAULT_ORDER, MASKS, PRESETS, PresetName

Entry = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Naming:
    """How a body names controls in their order.

    field      the field of the body
    controls   name -> controls, separated by spaces; none for a sampler that logitchain lacks
    aliases    other spellings of the names
    split      a string -> the names in it; None where only a list will do
    letters    name in such a string -> name, where these are others
    last       a control that comes last, and once, wherever it is named
    unnamed    controls that come first if the body does not name them; other controls are left out
    is_once    whether only the first of two equal names counts
    is_empty   whether an empty list is an order of its own, and not the same as no field
    most       how many names there may be
    """

    field: str
    controls: Mapping[Any, str]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    split: Callable[[str], Sequence[str]] | None = None
    letters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    last: str = ""
    unnamed: tuple[str, ...] = ()
    is_once: bool = False
    is_empty: bool = False
    most: int | None = None

    def arranged(self, value: Any, preset: Sequence[Entry]) -> list[Entry]:
        """The steps of a preset in the order that the field's value asks for.

        Steps that cannot be named stay where they are, in front of the others or behind them, but
        for mirostat, which has a chain of its own.
        """
        names = self._names(value)
        if not names and not self.is_empty:
            return list(preset)
        named = [control for name in names for control in self.controls[name].split()]
        if self.is_once:
            named = list(dict.fromkeys(named))
        if self.last in named:
            named = [*(control for control in named if control != self.last), self.last]
        can_be_named = {one for controls in self.controls.values() for one in controls.split()}
        at = [i for i, (control, _) in enumerate(preset) if control in can_be_named]
        behind = [entry for entry in preset[at[0] :] if entry[0] not in {*can_be_named, "mirostat"}]
        unnamed = [control for control in self.unnamed if control not in named]
        options = dict(preset)
        return [
            *preset[: at[0]],
            *((control, options[control]) for control in (*unnamed, *named)),
            *behind,
        ]

    def _names(self, value: Any) -> list[Any]:
        """The names, each as in `controls`."""
        names = self.split(value) if isinstance(value, str) and self.split else value
        if not isinstance(names, (list, tuple)):
            kind = "a list" if self.split is None else "a list or a string"
            raise TypeError(f"{self.field} must be {kind} of {self._legal({})}, not {show(value)}")
        if self.most is not None and len(names) > self.most:
            raise ValueError(
                f"{self.field} must have at most {self.most} items, not {len(names)}: {show(value)}"
            )
        letters = self.letters if isinstance(value, str) else {}
        return [self._name(name, letters) for name in names]

    def _name(self, name: Any, letters: Mapping[str, str]) -> Any:
        known = letters or self.controls
        text = f"{self.field} must be of {self._legal(letters)}, not {show(name)}"
        if type(name) is not type(next(iter(known))):
            raise TypeError(text)
        if isinstance(name, str) and not letters:
            name = self.aliases.get(name.lower(), name)
        if name not in known:
            raise ValueError(text + suggestion(name, map(str, known)))
        return letters.get(name, name)

    def _legal(self, letters: Mapping[str, str]) -> str:
        return ", ".join(map(str, letters or self.controls))


_LLAMA_CPP = {
    "penalties": "repetition_penalty frequency_penalty presence_penalty",
    "dry": "dry",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typ_p": "typical_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc": "xtc",
    "temperature": "temperature dynamic_temperature",
    "infill": "",
    "adaptive_p": "adaptive_p",
}
_KOBOLDCPP = {
    0: "top_k",
    1: "top_a",
    2: "top_p min_p",
    3: "tfs",
    4: "typical_p",
    5: "temperature dynamic_temperature quadratic top_n_sigma",
    6: "repetition_penalty presence_penalty",
}
#: In the order in which text-generation-webui's transformers loader has those that have no place.
_WEBUI = {
    "encoder_repetition_penalty": "",
    "no_repeat_ngram": "no_repeat_ngram",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "epsilon_cutoff": "epsilon_cutoff",
    "eta_cutoff": "eta_cutoff",
    "dry": "dry",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "tfs": "tfs",
    "top_a": "top_a",
    "top_n_sigma": "top_n_sigma",
    "adaptive_p": "adaptive_p",
    "xtc": "xtc",
    "dynamic_temperature": "dynamic_temperature",
    "quadratic_sampling": "quadratic",
    "mirostat": "mirostat",
}

NAMINGS = {
    "llama_cpp": Naming(
        "samplers",
        _LLAMA_CPP,
        aliases={
            **{name.replace("_", dash): name for name in _LLAMA_CPP for dash in ("_", "-", "")},
            **{"nucleus": "top_p", "temp": "temperature"},
            **dict.fromkeys(("typ", "typical", "typical-p"), "typ_p"),
        },
        split=list,
        letters=dict(zip("edskypmxtia", _LLAMA_CPP, strict=True)),
        last="adaptive_p",
        is_empty=True,
    ),
    "koboldcpp": Naming("sampler_order", _KOBOLDCPP, most=7),
    "text_generation_webui": Naming(
        "sampler_priority",
        _WEBUI,
        split=lambda text: [name.strip() for name in re.split("[\n,]", text) if name.strip()],
        unnamed=tuple(filter(None, _WEBUI.values())),
        is_once=True,
    ),
}

#: The chain beside mirostat where an engine then has another one: its controls but masks.
BESIDE_MIROSTAT = {
    "llama_cpp": "logit_bias temperature mirostat",
    "koboldcpp": """
        logit_bias dry repetition_penalty presence_penalty temperature quadratic mirostat
    """,
}

#: What `temperature_last` moves, and the control before which it comes; "" for the end.
TEMPERATURE_LAST = {
    "text_generation_webui": ("temperature dynamic_temperature quadratic", ""),
    "exllamav2": ("temperature", "dynamic_temperature"),
    "exllamav3": ("temperature", "xtc"),
}

#: Controls that draw the token there, so that what follows has no effect; and their fields.
DRAWS = {"text_generation_webui": {"adaptive_p": "adaptive_target", "mirostat": "mirostat_mode"}}


def order_of(body: Mapping[str, Any], dialect: DialectName) -> Sequence[Any]:
    """The order that a body asks for: `Chain.from_request` describes it."""
    if not isinstance(body, Mapping):
        raise TypeError(f"the request body must be a JSON object, not {show(body)}")
    if one_of("dialect", dialect, DIALECTS) not in PRESETS:
        return DEFAULT_ORDER
    order = PRESETS[cast(PresetName, dialect)]
    preset: list[Entry] = [step if isinstance(step, tuple) else (step, {}) for step in order]
    given = {key: value for key, value in flat(body, DIALECTS[dialect]) if value is not None}
    steps = preset
    for name, value in given.items():
        try:
            if dialect in NAMINGS and name == NAMINGS[dialect].field:
                steps = NAMINGS[dialect].arranged(value, preset)
            elif name == "temperature_last" and not isinstance(value, bool):
                raise TypeError(f"temperature_last must be true or false, not {show(value)}")
        except (TypeError, ValueError) as error:
            raise in_body(name, error) from None
    beside = BESIDE_MIROSTAT.get(dialect, "").split()
    if beside and _is_on(("mirostat", "mirostat_mode"), given, dialect):
        return [step for step in preset if step[0] in {*MASKS, *beside}]
    if dialect in TEMPERATURE_LAST and given.get("temperature_last"):
        names, anchor = TEMPERATURE_LAST[dialect]
        moved: list[Entry] = [(name, {}) for name in names.split()]
        rest = [step for step in steps if step[0] not in names.split()]
        place = next((i for i, (name, _) in enumerate(rest) if name == anchor), len(rest))
        steps = [*rest[:place], *moved, *rest[place:]]
    draws = [one for one, of in DRAWS.get(dialect, {}).items() if _is_on((of,), given, dialect)]
    end = next((i for i, (name, _) in enumerate(steps, 1) if name in draws), len(steps))
    return steps[:end]


def _is_on(names: Sequence[str], given: Mapping[str, Any], dialect: DialectName) -> bool:
    """Whether one of the fields is there and switches its control on."""
    for name in names:
        if name in given:
            try:
                fields = DIALECTS[dialect][name].read(name, given[name])
                for field, value in fields.items():
                    FIELDS[field].check(field, value)
                if fields:
                    return True
            except (TypeError, ValueError) as error:
                raise in_body(name, error) from None
    return False
