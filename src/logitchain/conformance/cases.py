"""What both sides are asked: a row of logits, and a request with its history."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..params import FIELDS

Row = NDArray[np.float32]  # (vocab,)
Fields = Mapping[str, Any]

#: The control of a field that has another name; "" for a field that does nothing alone.
CONTROLS = {
    **{"xtc_probability": "xtc", "xtc_threshold": "xtc", "eos_token": ""},
    **{"dry_multiplier": "dry", "dry_base": "", "dry_allowed_length": ""},
    **{"dry_window": "", "dry_sequence_breakers": ""},
    **{"dynatemp_range": "dynamic_temperature", "dynatemp_exponent": ""},
    **{"mirostat_tau": "mirostat", "mirostat_eta": ""},
    **{"adaptive_target": "adaptive_p", "adaptive_decay": ""},
}


class Case(NamedTuple):
    """A row of logits and what a request asks of it."""

    name: str
    row: Row
    fields: Fields  # of `Params`, those that are set, not checked
    prompt: Sequence[int] = ()
    output: Sequence[int] = ()

    @property
    def controls(self) -> list[str]:
        """The controls that the request asks for."""
        named = dict.fromkeys(CONTROLS.get(field, field) for field in self.fields)
        return [control for control in named if control]

    @property
    def control(self) -> str:
        """The one control that the request asks for, or "chain" if there are several."""
        return self.controls[0] if len(self.controls) == 1 else "chain"

    def get(self, field: str) -> Any:
        """What the request says of a field, or its off value."""
        return self.fields.get(field, FIELDS[field].off)
