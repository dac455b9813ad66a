"""Watermarks: the draw whose noise only a key knows, and the test that finds it in the tokens.

A watermark of the draw replaces the noise of `sample`'s race: it is a function of the key and of
the tokens before, the context, instead of seed and position. The green list, which changes logits,
is the control `green_list`. `docs/watermarks.md` describes the schemes.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from . import rng
from .controls.green_list import context_factors, green_share, is_green, seed_of
from .inputs.logits import DType, OneRow, Reading, SomeRows, history_ids, token_lists
from .inputs.values import show
from .numeric.compile import inlined, kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F64, I64, U64, Row, exp, log
from .numeric.order import largest
from .numeric.simd import LANES, peak
from .params import Watermark
from .params.watermark import (
    CONTEXT_WIDTH,
    DEDUPLICATE,
    DUAL_KEY_GUMBEL,
    GREEN_BELOW,
    KEY,
    KEY_B,
    ROUTE,
    SGLANG,
)
from .sample import EVERY, draw

if TYPE_CHECKING:
    from .batch import Batch

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
_ZERO, _ONE = np.uint64(0), np.uint64(1)
NO_NOISE = Noise(NO_MARK, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO)

_WORD, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_TWO, _THREE = np.uint64(2), np.uint64(3)
_CONTEXT_DOMAIN, _TOKEN_DOMAIN = np.uint64(0x574D4358), np.uint64(0x574D544B)

#: How many calls to Philox a block of 64 tokens takes.
_GROUPS = LANES // 4

#: More than the noise of any token: 33 ln 2, where its word is the largest one.
MOST_NOISE = 22.875

# A score this far below the best cannot win, whatever the rounding of two logarithms.
_MARGIN = 1e-9


# ---- the noise


@kernel
def noise_of(numbers: Longs, history: Longs, prompt_size: I64, seed: U64, position: U64) -> Noise:
    """The noise of the token that follows a history.

    numbers   those of a `Watermark` of the draw
    """
    has_prompt = numbers[0] == SGLANG
    start = 0 if has_prompt else prompt_size
    width = numbers[CONTEXT_WIDTH]
    if numbers[DEDUPLICATE] and is_repeated(history, start, prompt_size, width):
        return Noise(NO_MARK, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO)
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
def _four(noise: Noise, group: U64) -> Any:
    """The words of four tokens, `group` being the first one's id divided by 4."""
    return rng.philox4x32(group, noise.state, noise.state_1, noise.state_2, noise.key, noise.key_1)


@kernel
def word_of(noise: Noise, token: I64) -> U64:
    """The 32 random bits of a token."""
    word = np.uint64(token) & _WORD
    if noise.scheme == SGLANG:
        return finish(mix(noise.state, word), np.uint64(16))
    return _four(noise, word >> _TWO)[np.int64(word & _THREE)]


@inlined
def arrival(word: U64) -> F64:
    """-ln u of a token's word: when it arrives if its logit is 0."""
    return -log((np.float64(word) + 0.5) * 2.0**-32)


# ---- the draw


@kernel
def keyed_race(values: Row, ids: NDArray[np.int32], noise: Noise) -> I64:
    """The token of the largest logit - log(arrival); of equal ones the lowest id.

    values   logits of the tokens `ids`, which ascend; or of all tokens, with `ids` empty

    A logarithm is taken only where a bound on the word says that the token might win.
    """
    best = np.float64(largest(values))
    winner, highest = np.int64(-1), -np.inf
    if best == -np.inf:
        return winner
    if ids.size:
        for i in range(ids.size):
            x, token = np.float64(values[i]) - best, np.int64(ids[i])
            if x + MOST_NOISE < highest:
                continue
            word = word_of(noise, token)
            if _ONE + _WORD - word <= most_missing(x - highest):
                score = x - log(arrival(word))
                if score > highest:
                    winner, highest = token, score
        return winner
    blocks = (values.size + LANES - 1) // LANES
    tops = np.empty(blocks)
    for b in range(values.size // LANES):
        tops[b] = np.float64(peak(values, b * LANES)[0]) - best
    if values.size % LANES:
        tops[blocks - 1] = np.float64(largest(values[(blocks - 1) * LANES :])) - best
    words = np.empty(LANES, np.uint64)
    likeliest = int(np.argmax(tops))
    for turn in range(-1, blocks):  # the likeliest block first: its score rules out most others
        b = likeliest if turn < 0 else turn
        if turn == likeliest or tops[b] + MOST_NOISE < highest:
            continue
        most = most_missing(tops[b] - highest)
        largest_word = fill_words(noise, b * LANES, words)
        if _ONE + _WORD - largest_word > most:
            continue
        for j in range(min(LANES, values.size - b * LANES)):
            word = words[j % 4 * _GROUPS + j // 4]
            if _ONE + _WORD - word <= most:
                token = np.int64(b * LANES + j)
                x = np.float64(values[token]) - best
                if x + MOST_NOISE >= highest:
                    score = x - log(arrival(word))
                    if score > highest or (score == highest and token < winner):
                        winner, highest = token, score
    return winner


@kernel
def most_missing(lead: F64) -> U64:
    """How far below 2**32 the word of a token may be that leads the best score by so much.

    It wins if -ln u <= e**lead, and 1 - u is less than that.
    """
    if lead >= 0.0:
        return _ONE << _BITS
    share = np.float64(exp(np.float32(max(lead, -80.0)))) * (1.0 + 2.0**-10)
    return np.uint64(min(share, 1.0) * 2.0**32) + _TWO


@kernel
def fill_words(noise: Noise, first: I64, words: NDArray[np.uint64]) -> U64:
    """Write the words of 64 tokens, those of every fourth together, and return the largest."""
    for i in range(_GROUPS):
        if noise.scheme == SGLANG:
            for k in range(4):
                token = np.uint64(first + 4 * i + k)
                words[k * _GROUPS + i] = finish(mix(noise.state, token), np.uint64(16))
        else:
            four = _four(noise, np.uint64(first // 4 + i))
            for k in range(4):
                words[k * _GROUPS + i] = four[k]
    most = _ZERO
    for j in range(LANES):
        most = max(most, words[j])
    return most


@kernel
def keyed_arrivals(tokens: Longs, noise: Noise) -> NDArray[np.float64]:
    """When each token would arrive if its logit were 0."""
    times = np.empty(tokens.size)
    for j in range(tokens.size):
        times[j] = arrival(word_of(noise, tokens[j]))
    return times


@overload
def watermarked_sample(
    logits: OneRow,
    watermark: Any,
    tokens: Any,
    *,
    seed: Any,
    position: Any,
    prompt_tokens: Any = (),
    dtype: DType = None,
) -> int: ...
@overload
def watermarked_sample(
    logits: SomeRows,
    watermark: Any,
    tokens: Any,
    *,
    seed: Any,
    position: Any,
    prompt_tokens: Any = (),
    dtype: DType = None,
) -> NDArray[np.int64]: ...
@overload
def watermarked_sample(
    logits: Any,
    watermark: Any,
    tokens: Any,
    *,
    seed: Any,
    position: Any,
    prompt_tokens: Any = (),
    dtype: DType = None,
) -> Any: ...
@in_standard_mode
def watermarked_sample(
    logits: Any,
    watermark: Any,
    tokens: Any,
    *,
    seed: Any,
    position: Any,
    prompt_tokens: Any = (),
    dtype: DType = None,
) -> Any:
    """Draw a token from softmax(logits) with a watermark: what a chain does, bit for bit.

    logits          (vocab,) or (rows, vocab), processed; -inf is removed and never drawn
    watermark       a `Watermark` of the draw, or a mapping of its options
    tokens          the tokens generated so far: one sequence for all rows, or one per row
    seed, position  as for `sample`: the draw is `sample`'s where the watermark makes none, after a
                    context that the row has had before
    prompt_tokens   the tokens before `tokens`, which only the scheme "sglang" reads

    Returns an int for (vocab,), int64 (rows,) for (rows, vocab). Raises ValueError for an invalid
    row, and for the scheme "sbw": its draw is `sample`'s, of what `green_list` gives.

    >>> mark = Watermark("gumbel", key=42)
    >>> watermarked_sample([0.0, 1.0, 0.0], mark, [], seed=7, position=0)
    1
    """
    reading = Reading(logits, dtype=dtype)
    rows = reading.checked()
    mark = _checked(watermark)
    if not mark.keys_draw:
        raise ValueError(
            f"watermark.scheme must be one of the draw, not {show(mark.scheme)}; "
            "sample(green_list(logits, ...)) draws with a green list"
        )
    seeds, positions = rng.keys(seed, position, len(rows))
    outputs = token_lists(tokens, len(rows))
    prompts = token_lists(prompt_tokens, len(rows), name="prompt_tokens")
    drawn = np.array(
        [
            draw_with(row, noise_for(mark, prompt, output, own_seed, at), own_seed, at)
            for row, prompt, output, own_seed, at in zip(
                rows, prompts, outputs, seeds, positions, strict=True
            )
        ],
        np.int64,
    )
    return drawn if len(reading.shape) == 2 else int(drawn[0])


def _checked(watermark: Any) -> Watermark:
    mark = Watermark.checked("watermark", watermark)
    if mark is None:
        raise TypeError("watermark must be a Watermark or a mapping, not None")
    return mark


def noise_for(
    watermark: Watermark | None, prompt: Longs, output: Longs, seed: U64, position: U64
) -> Noise:
    """The noise of a row's next draw; `NO_NOISE` if it is that of seed and position."""
    if watermark is None or not watermark.keys_draw:
        return NO_NOISE
    history = np.concatenate([prompt, output])
    return Noise(*noise_of(watermark.numbers, history, prompt.size, seed, position))


def draw_with(row: Row, noise: Noise, seed: U64, position: U64) -> int:
    """The token of a processed row; -1 if none is left."""
    if noise.scheme != NO_MARK:
        return int(keyed_race(row, EVERY, noise))
    return int(draw(row[None], np.array([seed]), np.array([position]))[0])


def noise_in(batch: "Batch", r: int) -> Noise:
    """The noise of the next draw of a batch's r-th row."""
    row, mark = batch.rows[r], batch.params(batch.rows[r]).watermark
    if mark is None or not mark.keys_draw:
        return NO_NOISE
    prompt, output = (np.array(x, np.int64) for x in (batch.prompt(row), batch.output(row)))
    return noise_for(mark, prompt, output, batch.seeds[r], batch.positions[r])


# ---- detection


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
    >>> found.p_value < 1e-20, found.tokens_scored
    (True, 16)
    """
    mark = _checked(watermark)
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


# ---- the distributions without a watermark


def gamma_tail(score: float, n: int) -> float:
    """P(Gamma(n, 1) >= score): that of fewer than n arrivals in this time."""
    if n == 0 or score <= 0.0:
        return 1.0
    return min(1.0, _sum_of_exps(_poisson_logs(score, n)))


def _poisson_logs(mean: float, n: int) -> NDArray[np.float64]:
    """The logarithms of the probabilities of 0 .. n - 1 arrivals."""
    return np.arange(n) * math.log(mean) - mean - _log_factorials(n)


def _log_factorials(n: int) -> NDArray[np.float64]:
    """ln k! for k = 0 .. n - 1."""
    return np.array([math.lgamma(k + 1.0) for k in range(n)])


def _sum_of_exps(logs: NDArray[np.float64]) -> float:
    top = float(logs.max())
    with np.errstate(under="ignore"):
        return math.exp(top + math.log(math.fsum(np.exp(logs - top)))) if top > -745.0 else 0.0


def weighted_tail(score: float, n: int, alpha: float) -> float:
    """P((1 - alpha) X + alpha Y >= score), X and Y being independent and Gamma(n, 1).

    The larger scale's Gamma(n) is, in units of the smaller, Gamma(n + K) with K negative binomial.
    """
    small, large = sorted((alpha, 1.0 - alpha))
    if n == 0 or score <= 0.0:
        return 1.0
    if small < _SMALLEST_SHARE:
        return gamma_tail(score / large, n)
    if small == large:
        return gamma_tail(score / large, 2 * n)
    share, scaled = small / large, score / small
    spread = math.sqrt(n * (1.0 - share)) / share
    count = int(n * (1.0 - share) / share + 40.0 * spread + 40.0 / share) + 1
    logs, factorials = np.empty(count), _log_factorials(2 * n + count)
    k = np.arange(count)
    logs = factorials[n - 1 + k] - factorials[k] - factorials[n - 1]
    logs += n * math.log(share) + k * math.log1p(-share)
    tails = np.logaddexp.accumulate(_poisson_logs(scaled, 2 * n + count))
    return min(1.0, _sum_of_exps(logs + tails[2 * n - 1 + k]))


#: A smaller weight of one of two keys does not show in the sum.
_SMALLEST_SHARE = 1e-4


def binomial_tail(count: int, n: int, mark: Watermark) -> float:
    """P(at least so many of n tokens are green)."""
    if count <= 0:
        return 1.0
    share, log_factorials = green_share(mark.numbers), _log_factorials(n + 1)
    k = np.arange(count, n + 1)
    logs = log_factorials[n] - log_factorials[k] - log_factorials[n - k]
    return min(1.0, _sum_of_exps(logs + k * math.log(share) + (n - k) * math.log1p(-share)))
