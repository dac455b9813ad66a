"""Token healing: begin an answer with tokens that continue a prefix of bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs.values import listed, show


def prefix_mask(vocabulary_bytes: Any, prefix: bytes) -> NDArray[np.int32]:
    """Which tokens can continue a prefix of bytes, as a mask for `Batch.set_mask`.

    vocabulary_bytes   the bytes of each token, in the order of their ids; empty for a token that
                       stands for no text, such as the end of a text
    prefix             the bytes that the answer has to begin with

    A prompt that ends within a token makes a model continue badly. Token healing drops the last
    token of the prompt, and asks for an answer that begins with its bytes: a token may come next if
    its bytes begin with the prefix, or if they are the beginning of the prefix. After such a token,
    ask again for the rest of the prefix, until none is left. All tokens can continue an empty
    prefix.

    Returns int32 (words,) in which bit i % 32 of word i // 32 is 1 if token i may come next; it is
    all zeros if no token may. Raises TypeError if the vocabulary or the prefix are not bytes.

    >>> words = prefix_mask([b"h", b"http", b"https", b"://", b""], b"http")
    >>> [token for token in range(5) if words[0] >> token & 1]
    [0, 1, 2]
    """
    if isinstance(vocabulary_bytes, Mapping):
        raise TypeError("vocabulary_bytes must be a sequence of bytes, not a mapping")
    tokens = listed("vocabulary_bytes", vocabulary_bytes, "a sequence of bytes")
    for name, value in (("prefix", prefix), *((f"token {i}", t) for i, t in enumerate(tokens))):
        if not isinstance(value, bytes):
            raise TypeError(f"{name} must be bytes, not {show(value)}")
    allowed = [
        token.startswith(prefix) or (token != b"" and prefix.startswith(token)) for token in tokens
    ]
    bits = np.zeros(-(-len(tokens) // 32) * 32, np.bool_)
    bits[: len(tokens)] = allowed
    return np.packbits(bits, bitorder="little").view("<i4").astype(np.int32)
