"""The noise of a position: of its tokens it is a function of the key and of the context."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..numeric.compile import inlined, kernel
from ..numeric.functions import F64, I64, U64, log
from ..params.watermark import (
    CONTEXT_WIDTH,
    DEDUPLICATE,
    DUAL_KEY_GUMBEL,
    KEY,
    KEY_B,
    ROUTE,
    SGLANG,
)

Longs = NDArray[np.int64]


class Noise(NamedTuple):
    """What the noise of one position is a function of, beside the token."""

    scheme: Any  # int64, one of `SCHEMES`; NO_MARK: the noise is that of seed and position
    state: Any  # uint64: of the context, with SGLang's scheme of key and context
    state_1: Any
    state_2: Any
    key: Any  # uint64: two words, with the context in one of them
    key_1: Any


NO_MARK = np.int64(0)
_ZERO = np.uint64(0)
NO_NOISE = Noise(NO_MARK, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO)

_WORD, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_TWO, _THREE = np.uint64(2), np.uint64(3)
_CONTEXT_DOMAIN, _TOKEN_DOMAIN = np.uint64(0x574D4358), np.uint64(0x574D544B)


@kernel
def noise_of(numbers: Longs, history: Longs, prompt_size: I64, seed: U64, position: U64) -> Noise:
    """The noise of the token that follows a history.

    numbers   those of a `Watermark` of the draw
    """
    has_prompt = numbers[0] == SGLANG
    start = 0 if has_prompt else prompt_size
    width = numbers[CONTEXT_WIDTH]
    if numbers[DEDUPLICATE] and is_repeated(history, start, prompt_size, width):
        return NO_NOISE
    context = context_at(history, start, history.size, width, has_prompt)
    return noise_after(numbers, context, seed, position)


@kernel
def is_repeated(history: Longs, start: I64, prompt_size: I64, width: I64) -> bool:
    """Whether a token of the output had the context before it that the next one has.

    start   where the tokens begin that a context can hold; a shorter context has no equal
    """
    size = history.size
    if size - start < width:
        return False
    last = history[size - 1]
    for end in range(max(prompt_size, start + width), size):
        if history[end - 1] == last:
            j = 2
            while j <= width and history[end - j] == history[size - j]:
                j += 1
            if j > width:
                return True
    return False


@kernel
def context_at(history: Longs, start: I64, end: I64, width: I64, is_cut: bool) -> Longs:
    """The context of the token at `end`: at the start it is filled up with -1, or cut."""
    missing = max(np.int64(0), width - (end - start))
    context = np.full(width, np.int64(-1))
    for j in range(missing, width):
        context[j] = history[end - width + j]
    return context[missing:] if is_cut else context


@kernel
def noise_after(numbers: Longs, context: Longs, seed: U64, position: U64) -> Noise:
    """The noise after a context; with two keys it is that of one of them."""
    scheme, route = numbers[0], np.uint64(numbers[ROUTE])
    key, key_b = np.uint64(numbers[KEY]), np.uint64(numbers[KEY_B])
    if scheme == SGLANG:
        hashed = hash_of_context(context)
        if route_of(key, key_b, hashed) >= route:
            key = key_b
        state = mix(mix(mix(_ZERO, key & _WORD), key >> _BITS), hashed)
        return Noise(scheme, state, _ZERO, _ZERO, _ZERO, _ZERO)
    if scheme == DUAL_KEY_GUMBEL and rng.words(seed, position, rng.WATERMARK, 0)[0] >= route:
        key = key_b
    return philox_noise(scheme, context, key)


@kernel
def philox_noise(scheme: I64, context: Longs, key: U64) -> Noise:
    """vLLM's: the context is hashed by Philox, four tokens at a time."""
    key_0, key_1 = key & _WORD, key >> _BITS
    state = (_CONTEXT_DOMAIN, np.uint64(context.size), _ZERO, _ZERO)
    block = np.empty(4, np.uint64)
    for offset in range(0, context.size, 4):
        for j in range(4):
            is_there = offset + j < context.size
            block[j] = np.uint64(context[offset + j]) & _WORD if is_there else _WORD - np.uint64(j)
        state = rng.philox4x32(
            state[0] ^ block[0],
            state[1] ^ block[1],
            state[2] ^ block[2],
            state[3] ^ block[3],
            key_0 ^ np.uint64(offset),
            key_1,
        )
    own = key_0 ^ state[3], key_1 ^ _TOKEN_DOMAIN
    return Noise(np.int64(scheme), state[0], state[1], state[2], own[0], own[1])


@inlined
def mix(state: U64, word: U64) -> U64:
    """MurmurHash3's step on a word of 32 bits."""
    word = (word * np.uint64(0xCC9E2D51)) & _WORD
    word = ((word << np.uint64(15)) | (word >> np.uint64(17))) & _WORD
    state ^= (word * np.uint64(0x1B873593)) & _WORD
    state = ((state << np.uint64(13)) | (state >> np.uint64(19))) & _WORD
    return (state * np.uint64(5) + np.uint64(0xE6546B64)) & _WORD


@inlined
def finish(state: U64, size: U64) -> U64:
    """MurmurHash3's end, after `size` bytes."""
    state ^= size
    state ^= state >> np.uint64(16)
    state = (state * np.uint64(0x85EBCA6B)) & _WORD
    state ^= state >> np.uint64(13)
    state = (state * np.uint64(0xC2B2AE35)) & _WORD
    return state ^ (state >> np.uint64(16))


@kernel
def hash_of_context(context: Longs) -> U64:
    """SGLang's hash of a context."""
    state = _ZERO
    for token in context:
        state = mix(state, np.uint64(token) & _WORD)
    return finish(state, np.uint64(4 * context.size))


@kernel
def route_of(key: U64, key_b: U64, hashed: U64) -> U64:
    """SGLang's word that chooses between two keys."""
    state = mix(mix(_ZERO, key & _WORD), key >> _BITS)
    state = mix(mix(state, key_b & _WORD), key_b >> _BITS)
    return finish(mix(state, hashed), np.uint64(20))


@inlined
def four_words(noise: Noise, group: U64) -> Any:
    """The words of four tokens, `group` being the first one's id divided by 4."""
    return rng.philox4x32(group, noise.state, noise.state_1, noise.state_2, noise.key, noise.key_1)


@kernel
def word_of(noise: Noise, token: I64) -> U64:
    """The 32 random bits of a token."""
    word = np.uint64(token) & _WORD
    if noise.scheme == SGLANG:
        return finish(mix(noise.state, word), np.uint64(16))
    return four_words(noise, word >> _TWO)[np.int64(word & _THREE)]


@inlined
def arrival(word: U64) -> F64:
    """-ln u of a token's word: when it arrives if its logit is 0."""
    return -log((np.float64(word) + 0.5) * 2.0**-32)
