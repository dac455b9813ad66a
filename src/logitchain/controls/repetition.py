"""Repetition at the end of a text: its last tokens are copies of one pattern."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import history_ids
from ..numeric.compile import kernel
from ..numeric.functions import I64
from ..params import FIELDS, RepetitionDetection
from .dry import common_beginnings

Longs = NDArray[np.int64]


def find_repetition(
    tokens: Sequence[int] | NDArray[Any], detection: RepetitionDetection | Mapping[str, Any]
) -> int:
    """The size of the pattern that the tokens repeat at their end; 0 if they repeat none.

    tokens      token ids, any 64-bit integers; of these only the last `max_pattern_size *
                min_count` are read
    detection   how large a pattern may be, and how many copies of it there must be

    The last tokens have to be `min_count` exact copies of the pattern, one after the other. Of
    several patterns the smallest counts. Raises ValueError or TypeError for a detection that is out
    of range. Source: vLLM's `repetition_detection`.

    >>> detection = RepetitionDetection(max_pattern_size=4, min_count=3)
    >>> find_repetition([9, 1, 2, 1, 2, 1, 2], detection), find_repetition([1, 2, 1, 2], detection)
    (2, 0)
    """
    checked = FIELDS["repetition_detection"].check("detection", detection)
    if checked is None:
        return 0
    shortest, longest, count = sizes_of(checked)
    most = longest * count
    if isinstance(tokens, (list, tuple, np.ndarray)) and len(tokens) > most:
        tokens = tokens[-most:]
    return int(pattern_size(history_ids("tokens", tokens), shortest, longest, count))


def sizes_of(detection: RepetitionDetection) -> list[int]:
    """The smallest and the largest size of a pattern, and the number of copies."""
    smallest = max(detection.min_pattern_size, 1)
    return [min(x, 2**62) for x in (smallest, detection.max_pattern_size, detection.min_count)]


@kernel
def pattern_size(tokens: Longs, shortest: I64, longest: I64, count: I64) -> I64:
    """The kernel, in time linear in the tokens that so many copies can have.

    Backwards, the tokens begin with the copies. So they begin with a pattern `count` times if what
    comes after the first copy begins like the whole for another `count - 1`.
    """
    longest = min(longest, tokens.size // count)
    if longest < shortest:
        return np.int64(0)
    repeated = common_beginnings(tokens[tokens.size - longest * count :][::-1].copy())
    for size in range(shortest, longest + 1):
        if repeated[size] >= size * (count - 1):
            return np.int64(size)
    return np.int64(0)
