"""When tokens that repeat themselves end an answer."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..inputs.values import of_field, one_of
from .fields import checked_field, field, fields_of, whole_number
from .options import Options

#: What becomes of a loop within the reasoning: it ends the choice, as any other, or the reasoning.
LoopAction = Literal["stop", "end_reasoning"]


def _action(name: str, value: Any) -> LoopAction:
    return one_of(name, value, get_args(LoopAction))


@dataclass(frozen=True, kw_only=True)
class RepetitionDetection(Options):
    """When tokens that repeat themselves are a loop, which ends an answer or its reasoning.

    max_pattern_size   the longest pattern that is looked for, in tokens; 0 is off
    min_pattern_size   the shortest, at most `max_pattern_size`; 0 counts as 1
    min_count          how many copies of it, one after the other, are a loop; 2 or more
    action             what a loop within the reasoning does: "stop" ends the choice, as a loop in
                       the answer does, "end_reasoning" forces the end of the reasoning

    Raises ValueError or TypeError for a value out of range. Source: vLLM's
    `RepetitionDetectionParams`; `action` is ours.

    >>> RepetitionDetection(max_pattern_size=20, min_count=1)
    Traceback (most recent call last):
    ...
    ValueError: repetition_detection.min_count must be in [2, inf), not 1
    """

    max_pattern_size: int = field(
        0, "[0, inf)", "the longest pattern that is looked for, in tokens; 0 is off", integer=True
    )
    min_pattern_size: int = field(
        0, "[0, inf)", "the shortest pattern that is looked for; 0 counts as 1", integer=True
    )
    min_count: int = field(0, "[0, inf)", "how many copies of it are a loop", integer=True)
    action: LoopAction = checked_field(
        "stop", _action, doc="whether a loop within the reasoning ends the choice or the reasoning"
    )

    def __post_init__(self) -> None:
        """Check every field and store it in its own form."""
        try:
            for name, known in fields_of(type(self)).items():
                value = known.check(f"repetition_detection.{name}", getattr(self, name))
                object.__setattr__(self, name, value)
            if self.max_pattern_size:
                most = f"[0, {self.max_pattern_size}]"
                whole_number("repetition_detection.min_count", self.min_count, "[2, inf)")
                whole_number("repetition_detection.min_pattern_size", self.min_pattern_size, most)
        except (TypeError, ValueError) as error:
            raise of_field("repetition_detection", error) from None

    @property
    def number(self) -> float:
        """1 if a loop within the reasoning ends it, or else 0."""
        return float(self.action == "end_reasoning")

    @property
    def summary(self) -> str:
        """How large a pattern may be."""
        return f"patterns up to {self.max_pattern_size}"

    @classmethod
    def checked(cls, name: str, value: Any) -> "RepetitionDetection | None":
        """The value of the field `name`; None if it looks for no pattern."""
        detection = super().checked(name, value)
        return detection if detection is not None and detection.max_pattern_size else None
