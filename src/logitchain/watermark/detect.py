"""The scores of a text's tokens, and what they say of a watermark."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..controls.green_list import context_factors, is_green, seed_of
from ..inputs.logits import history_ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, U64, log
from ..params import Watermark
from ..params.watermark import CONTEXT_WIDTH, DUAL_KEY_GUMBEL, GREEN_BELOW, KEY, KEY_B, SGLANG
from .draw import checked
from .noise import context_at, noise_after, philox_noise, word_of
from .tails import binomial_tail, gamma_tail, weighted_tail

Longs = NDArray[np.int64]

_ZERO = np.uint64(0)


class Detection(NamedTuple):
    """What `detect_watermark` finds in a text.

    score           the sum of the tokens' scores
    p_value         how probable so high a score is in a text without this watermark
    tokens_scored   how many tokens have a score

    >>> Detection(0.0, 1.0, 0).p_value
    1.0
    """

    score: float
    p_value: float
    tokens_scored: int


@in_standard_mode
def detect_watermark(
    tokens: Sequence[int] | NDArray[Any],
    watermark: Any,
    *,
    prompt_tokens: Sequence[int] | NDArray[Any] = (),
) -> Detection:
    """Test whether tokens were generated with a watermark.

    tokens          the token ids of a text, from its first generated token on
    watermark       a `Watermark`, or a mapping of its options: those of the generation. With
                    `deduplicate`, of each context only the first token is scored
    prompt_tokens   the tokens before them, which only the scheme "sglang" reads: without them, its
                    first `context_width` tokens are not scored

    Returns a `Detection`, a named tuple (score, p_value, tokens_scored). The score of a token is
    -ln(1 - u), u being its random number, and the sum of n follows Gamma(n, 1) in a text that knows
    nothing of the key. With "dual_key_gumbel" it is the mean of those of both keys, weighted by
    `alpha`; with "sglang" and two keys that of the key that the context chooses. With "sbw" it is
    the number of green tokens, which is binomial. The p-values are those of these distributions.

    Without `deduplicate`, a text that repeats itself repeats its scores: then the p-value is too
    small. Raises TypeError or ValueError for tokens that are no 64-bit integers.

    >>> mark = Watermark("gumbel", key=42)
    >>> tokens = [46, 24, 45, 80, 14, 26, 22, 124, 21, 45, 16, 30, 5, 89, 0, 10]
    >>> found = detect_watermark(tokens, mark)
    >>> found.p_value < 1e-18, found.tokens_scored
    (True, 16)
    """
    mark = checked(watermark)
    output = history_ids("tokens", tokens)
    prompt = history_ids("prompt_tokens", prompt_tokens)
    if mark.scheme != "sglang":
        prompt = prompt[:0]
    history = np.concatenate([prompt, output])
    first = prompt.size
    if mark.scheme == "sglang" and not first:
        first = min(mark.context_width, history.size)
    ends = np.arange(first, history.size)
    if mark.deduplicate and ends.size:
        padded = np.concatenate([np.full(mark.context_width, -1), history])
        windows = np.lib.stride_tricks.sliding_window_view(padded, mark.context_width)[ends]
        ends = ends[np.sort(np.unique(windows, axis=0, return_index=True)[1])]
    scorer = _score_green if mark.scheme == "sbw" else _score_draws
    return scorer(mark, history, ends)


def _score_draws(mark: Watermark, history: Longs, ends: Longs) -> Detection:
    first, second = token_scores(mark.numbers, history, ends)
    score, n = math.fsum(first), ends.size
    if mark.scheme == "dual_key_gumbel":
        alpha = mark.alpha or 0.0
        score = math.fsum((1.0 - alpha) * first + alpha * second)
        return Detection(score, weighted_tail(score, n, alpha), n)
    return Detection(score, gamma_tail(score, n), n)


def _score_green(mark: Watermark, history: Longs, ends: Longs) -> Detection:
    seeds, greens = token_greens(mark.numbers, history, ends)
    if mark.deduplicate and ends.size:  # green is a function of seed and token
        pairs = np.stack([seeds, history[ends]], axis=1)
        greens = greens[np.unique(pairs, axis=0, return_index=True)[1]]
    count = int(greens.sum())
    return Detection(float(count), binomial_tail(count, greens.size, mark), greens.size)


@kernel
def token_scores(
    numbers: Longs, history: Longs, ends: Longs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """-ln(1 - u) of the tokens at these places, and with "dual_key_gumbel" of the second key."""
    first, second = np.empty(ends.size), np.zeros(ends.size)
    is_cut, keys = numbers[0] == SGLANG, (np.uint64(numbers[KEY]), np.uint64(numbers[KEY_B]))
    for i in range(ends.size):
        end, token = ends[i], history[ends[i]]
        context = context_at(history, np.int64(0), end, numbers[CONTEXT_WIDTH], is_cut)
        if is_cut:
            word = word_of(noise_after(numbers, context, _ZERO, _ZERO), token)
            first[i] = -log(1.0 - (np.float64(word) + 0.5) * 2.0**-32)
        else:
            first[i] = _score(word_of(philox_noise(numbers[0], context, keys[0]), token))
            if numbers[0] == DUAL_KEY_GUMBEL:
                second[i] = _score(word_of(philox_noise(numbers[0], context, keys[1]), token))
    return first, second


@kernel
def _score(word: U64) -> F64:
    """vLLM's score of a word, of which its detector reads 24 bits."""
    u = np.float32((np.float64(word >> np.uint64(8)) + 1.0) / (2.0**24 + 1.0))
    return -log(1.0 - np.float64(u))


@kernel
def token_greens(numbers: Longs, history: Longs, ends: Longs) -> tuple[Longs, NDArray[np.bool_]]:
    """The seeds of the tokens at these places, and whether each is green."""
    seeds, greens = np.empty(ends.size, np.int64), np.empty(ends.size, np.bool_)
    for i in range(ends.size):
        context = context_at(history, np.int64(0), ends[i], numbers[CONTEXT_WIDTH], False)
        factors = context_factors(np.int64(numbers[KEY]), context)
        token = history[ends[i]]
        seeds[i] = seed_of(np.int64(numbers[KEY]), factors, token)
        greens[i] = is_green(seeds[i], token, np.uint64(numbers[GREEN_BELOW]))
    return seeds, greens
