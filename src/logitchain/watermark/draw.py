"""The draw with a watermark: `sample`'s race, with the noise of key and context."""

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .. import rng
from ..inputs.logits import DType, OneRow, Reading, SomeRows, token_lists
from ..inputs.values import show
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F64, I64, U64, Row, exp, log
from ..numeric.order import largest
from ..numeric.simd import LANES, peak
from ..params import Watermark
from ..params.watermark import SGLANG
from ..sample import EVERY, draw
from .noise import NO_MARK, NO_NOISE, Noise, arrival, finish, four_words, mix, noise_of, word_of

if TYPE_CHECKING:
    from ..batch import Batch

Longs = NDArray[np.int64]

_ZERO, _TWO, _END = np.uint64(0), np.uint64(2), np.uint64(2**32)  # words are below _END

#: How many calls to Philox a block of 64 tokens takes.
_GROUPS = LANES // 4

#: More than the noise of any token: 33 ln 2, where its word is the largest one.
MOST_NOISE = 22.875

# A score this far below the best cannot win, whatever the rounding of two logarithms.
_MARGIN = 1e-9


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
            if _END - word <= most_missing(x - highest):
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
        if _END - largest_word > most:
            continue
        for j in range(min(LANES, values.size - b * LANES)):
            word = words[j % 4 * _GROUPS + j // 4]
            if _END - word <= most:
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
        return _END
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
            four = four_words(noise, np.uint64(first // 4 + i))
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
    0
    """
    reading = Reading(logits, dtype=dtype)
    rows = reading.checked()
    mark = checked(watermark)
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


def checked(watermark: Any) -> Watermark:
    """A watermark, or a mapping of its options."""
    mark = Watermark.checked("watermark", watermark)
    if mark is None:
        raise TypeError("watermark must be a Watermark or a mapping, not None")
    return mark
