"""Objects of options, which a request holds as one field."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from ..inputs.values import show, suggestion
from .fields import required_of

SomeOptions = TypeVar("SomeOptions", bound="Options")


class Options:
    """The base of a dataclass whose value a request may give as a mapping, as JSON has it."""

    @property
    def number(self) -> float:
        """What kernels read in the field's column; NaN if no control reads it."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """The setting, as `explain` shows it."""
        raise NotImplementedError

    @classmethod
    def checked(cls: type[SomeOptions], name: str, value: Any) -> SomeOptions | None:
        """The value of the field `name`, from an object or a mapping; None for none."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a {cls.__name__} or a mapping, not {show(value)}")
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in value:
            if key not in known:
                raise ValueError(f"{name} has no {show(key)}{suggestion(key, known)}")
        for option in required_of(cls):
            if option not in value:
                raise ValueError(f"{name} must have the option {show(option)}")
        return cls(**value)
