"""Rows of logits as hypothesis strategies: spiky, tied, masked, tiny; bytes of text in pieces."""

import dataclasses
import random

import numpy as np
from hypothesis import strategies as st

from logitchain import BannedTexts
from logitchain.params.watermark import SCHEMES, Watermark

SHAPES = ("flat", "peaked", "two levels", "ties", "all equal", "wild")


@st.composite
def rows(draw, min_vocab=1, max_vocab=40):
    """A float32 row (vocab,) with at least one finite logit and neither NaN nor +inf."""
    vocab = draw(st.integers(min_vocab, max_vocab))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(SHAPES))
    row = {
        "flat": lambda: rng.normal(0, 1.5, vocab),
        "peaked": lambda: rng.normal(0, 2, vocab) + 12 * (rng.random(vocab) < 3 / vocab),
        "two levels": lambda: np.where(rng.random(vocab) < 0.3, 2.0, -1.0),
        "ties": lambda: rng.integers(-3, 4, vocab) * 0.5,
        "all equal": lambda: np.full(vocab, rng.normal()),
        "wild": lambda: rng.normal(0, 1, vocab) * 10.0 ** rng.integers(-20, 20, vocab),
    }[shape]().astype(np.float32)
    masked = rng.random(vocab) < draw(st.sampled_from((0.0, 0.0, 0.3, 0.9)))
    masked[rng.integers(vocab)] = False
    row[masked] = -np.inf
    if draw(st.booleans()):
        row[rng.integers(vocab)] = -0.0
    return row


def matrices(max_rows=4, **kwargs):
    """A float32 matrix (rows, vocab) of such rows."""
    return st.integers(1, max_rows).flatmap(
        lambda n: rows(**kwargs).flatmap(
            lambda first: st.tuples(
                *[rows(min_vocab=first.size, max_vocab=first.size) for _ in range(n - 1)]
            ).map(lambda others: np.stack([first, *others]))
        )
    )


unit = st.one_of(st.sampled_from((0.05, 0.25, 0.5, 0.7, 0.9, 0.99)), st.floats(1e-6, 0.999999))
VALUES = {
    "temperature": st.one_of(st.just(0.0), st.floats(0.05, 5.0)),
    "top_k": st.integers(0, 45),
    "top_p": unit,
    "min_p": unit,
    "top_n_sigma": st.one_of(st.sampled_from((0.5, 1.0, 2.0)), st.floats(0.01, 6.0)),
    "typical_p": unit,
    "top_a": unit,
    "epsilon_cutoff": st.one_of(st.sampled_from((3e-4, 0.01)), st.floats(1e-9, 0.9)),
    "eta_cutoff": st.one_of(st.sampled_from((3e-4, 0.01)), st.floats(1e-9, 0.9)),
    "tfs": unit,
    "top_h": unit,
    "smoothing_factor": st.floats(0.01, 3.0),
    "smoothing_curve": st.floats(1.0, 4.0),
    "xtc_threshold": st.one_of(st.just(0.0), unit),
    "repetition_penalty": st.floats(0.25, 4.0),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
}


def tokens(vocab):
    """A history: token ids with repeats."""
    return st.lists(st.integers(0, vocab - 1), max_size=30)


def biases(vocab):
    """A logit bias that leaves some token."""
    values = st.one_of(st.floats(-20, 20), st.just(float("-inf")))
    return st.dictionaries(st.integers(0, vocab - 1), values, max_size=max(0, min(vocab - 1, 6)))


def phrases(vocab):
    """Bad words: token sequences, most of one or two tokens."""
    return st.lists(st.lists(st.integers(0, vocab - 1), min_size=1, max_size=4), max_size=4)


@st.composite
def bitmasks(draw, vocab):
    """A packed mask, int32 or uint32: sparse, dense or all, too short or too long at times."""
    words = max(1, -(-vocab // 32) + draw(st.sampled_from((0, 0, 0, -1, 1))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from((0.02, 0.5, 0.98, 1.0)))
    bits = (rng.random((words, 32)) < share).astype(np.uint32)
    packed = (bits << np.arange(32, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    return packed.view(draw(st.sampled_from((np.int32, np.uint32))))


#: Parts of characters, a surrogate, a byte that is never UTF-8.
PARTS = [b"\xc3", b"\xa9", b"\xf0\x9f", b"\x90\x8b", b"\xef\xbf", b"\xed\xa0\x80", b"\xff"]


@st.composite
def streams(draw):
    """(bytes cut anywhere, also twice at one place; stop phrases): parts of one word overlap."""
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    letters = draw(st.sampled_from(["ab", "abé🐋\ufffd"]))
    word = "".join(rng.choices(letters, k=rng.randint(2, 8)))

    def part(shortest):
        start = rng.randint(0, len(word) - shortest)
        return word[start : rng.randint(start + shortest, len(word))]

    shortest = rng.randint(1, min(3, len(word)))
    stop = [part(shortest) for _ in range(rng.randint(0, 4))]
    broken = PARTS if len(letters) > 2 else [b"b"]
    chunks = [rng.choice([part(1).encode(), rng.choice(broken)]) for _ in range(rng.randint(0, 8))]
    whole = b"".join(chunks)
    cuts = sorted(rng.choices(range(len(whole) + 1), k=rng.randint(0, 8)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)], stop


def watermarks():
    """A watermark, mostly none; contexts are short, so that they repeat."""
    keys = st.sampled_from((42, 2**64 - 1))
    every = {"key": keys, "context_width": st.integers(1, 5), "deduplicate": st.booleans()}
    some = {"key_b": st.one_of(st.none(), keys)}
    return st.one_of(
        *[st.none()] * 3,
        *(
            st.builds(Watermark, st.just(scheme), **every, **(some if scheme == "sglang" else {}))
            for scheme in SCHEMES
        ),
    )


def masks(vocab):
    """Fields of a request that mask, each mostly off."""
    token = st.integers(0, vocab - 1)
    few = st.lists(token, max_size=4)
    texts = BannedTexts(["ab", "cab"], [bytes([97 + i % 5]) for i in range(vocab)])
    return {
        "allowed_tokens": st.one_of(*[st.just(())] * 4, st.lists(token, min_size=2)),
        "banned_tokens": st.one_of(st.just(()), few),
        "min_tokens": st.sampled_from((0, 0, 5, 1000)),
        "min_total_tokens": st.sampled_from((0, 0, 30, 1000)),
        "eos_token": few,
        "stop_tokens": st.one_of(st.just(()), phrases(vocab)),
        "no_repeat_ngram": st.sampled_from((0, 0, 1, 2, 3)),
        "bad_words": st.one_of(st.just(()), phrases(vocab)),
        "banned_texts": st.sampled_from(((), (), texts)),
        "forced_output_tokens": st.one_of(*[st.just(())] * 4, few),
        "penalty_window": st.one_of(st.none(), st.none(), st.integers(0, 40)),
        "penalty_exempt": st.one_of(st.just(()), few),
        "ngram_window": st.one_of(st.none(), st.none(), st.integers(0, 40)),
        "ngram_exempt": st.one_of(st.just(()), few),
        "dry_multiplier": st.sampled_from((0.0, 0.0, 0.8, 5.0)),
        "dry_base": st.sampled_from((1.0, 1.75, 3.0)),
        "dry_allowed_length": st.integers(0, 4),
        "dry_window": st.one_of(st.none(), st.none(), st.integers(0, 40)),
        "dry_sequence_breakers": st.one_of(st.just(()), phrases(vocab)),
        "watermark": watermarks(),
    }


@st.composite
def reasoning(draw, vocab):
    """The fields of a request for reasoning, of short sequences; mostly off."""
    if draw(st.integers(0, 3)):
        return {}
    token = st.integers(0, vocab - 1)
    end = draw(st.lists(token, min_size=1, max_size=2))
    budget = draw(st.one_of(st.none(), st.integers(0, 20)))
    loop = {"max_pattern_size": 3, "min_count": 2, "action": "end_reasoning"}
    return {
        "reasoning_budget": budget,
        "reasoning_start": draw(st.lists(token, max_size=2).filter(lambda x: x != end)),
        "reasoning_end": end,
        "reasoning_message": draw(st.lists(token, max_size=2)),
        "min_reasoning": draw(st.integers(0, 20 if budget is None else budget)),
        "reasoning_grace": draw(st.integers(0, 3)),
        "reasoning_line_ends": draw(st.lists(token, max_size=3)),
        "reasoning_per_block": draw(st.booleans()),
        "repetition_detection": draw(st.sampled_from((None, loop))),
    }


def with_reasoning(params, vocab):
    """Requests with these fields, too."""
    return st.builds(lambda x, more: dataclasses.replace(x, **more), params, reasoning(vocab))
