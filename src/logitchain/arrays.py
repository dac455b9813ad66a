"""Values as callers give them, numbers, lists or arrays, read without surprises."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def buffer(name: str, value: Any) -> NDArray[Any]:
    """An array of the caller's, without a copy; TypeError, naming it, for what is none."""
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        kind = type(value).__name__
        raise TypeError(f"{name} of type {kind} cannot be read as an array: {error}") from None


def items(name: str, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of a number, a list or an array, and its items as Python objects.

    A list does not pass through a NumPy type on the way, which would take True for 1 and round
    integers above 2**63.
    """
    if isinstance(value, (list, tuple)):
        nested = len(value) > 0 and all(isinstance(x, (list, tuple)) for x in value)
        inner = [items(name, x) for x in value] if nested else []
        if len({shape for shape, _ in inner}) == 1:
            return (len(value), *inner[0][0]), [x for _, row in inner for x in row]
        return (len(value),), list(value)
    if is_array(value):
        array = buffer(name, value)
        return array.shape, array.reshape(-1).tolist()
    return (), [value]


def is_array(value: Any) -> bool:
    """Whether a value says that it is an array."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def sequence(name: str, value: Any) -> Any:
    """A sequence of the caller's, as it is or as an array."""
    if is_array(value):
        value = buffer(name, value)
        if value.ndim:
            return value
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    raise TypeError(f"{name} must be a sequence of integers, not {show(value)}")


def listed(name: str, value: Any, what: str) -> list[Any]:
    """What the caller lists, in any iterable but a string; `what` says what it should be."""
    if not isinstance(value, (str, bytes)):
        with contextlib.suppress(TypeError):
            return list(value)
    raise TypeError(f"{name} must be {what}, not {show(value)}")


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """A word that must be one of `choices`."""
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, not {show(value)}")
    return value


def show(value: Any) -> str:
    """A value for an error's text: its repr, not too long."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "that"
    return text if len(text) <= 500 else f"{text[:500]}..."
