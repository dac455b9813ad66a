"""Cases made for an edge, where engines differ: ties, equalities, ends of ranges, invalid rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .cases import Case, Fields, Row

GONE, NAN, HUGE = -np.inf, np.nan, np.inf


def _probs(*values: float) -> Row:
    with np.errstate(divide="ignore"):
        return np.log(values).astype(np.float32)


PLAIN = (1.0, 3.0, -2.0, 2.0, 0.0, -0.5)
HALVES = _probs(0.5, 0.25, 0.125, 0.125)  # exact in binary
FLAT = (0.0, 0.0, 0.0, 0.0)

#: (what it is about, the row, what the request says, its prompt and output)
EDGES: list[tuple[Any, ...]] = [
    ("two tied at the k-th", (1, 3, 2, 2, 2, 0), {"top_k": 2}),
    ("all tied", FLAT, {"top_k": 1}),
    ("fewer left than k", (1, GONE, 0, GONE), {"top_k": 3}),
    ("k is the whole vocabulary", PLAIN, {"top_k": 6}),
    ("few left of many", (GONE,) * 30 + (1, 5, 2, 3, 4) + (GONE,) * 30, {"top_k": 3}),
    ("k beyond the vocabulary", PLAIN, {"top_k": 7}),
    ("k of -1", PLAIN, {"top_k": -1}),
    ("the mass reaches p exactly", HALVES, {"top_p": 0.5}),
    ("the mass reaches p exactly, later", HALVES, {"top_p": 0.75}),
    ("p of 0.7 is 0.4 + 0.3", _probs(0.4, 0.3, 0.2, 0.1), {"top_p": 0.7}),
    ("p of 0.8 is 0.5 + 0.3", _probs(0.3, 0.1, 0.1, 0.5), {"top_p": 0.8}),
    ("p of 0.65 is that of the best", _probs(0.65, 0.2, 0.15), {"top_p": 0.65}),
    ("ties at the nucleus' end", (3, 2, 2, 2, -9), {"top_p": 0.8}),
    ("all tied", FLAT, {"top_p": 0.5}),
    ("a tail lighter than the slack", (10, 0, -5, -8), {"top_p": 0.9999999}),
    ("a huge logit", (0.5, -1, 1e9, 2), {"top_p": 0.95}),
    ("p of 0", PLAIN, {"top_p": 0.0}),
    ("p above 1", PLAIN, {"top_p": 1.5}),
    ("some are removed already", (1, GONE, 0, GONE, 0.5), {"top_p": 0.6}),
    ("exactly half as likely", _probs(0.4, 0.2, 0.2, 0.2), {"min_p": 0.5}),
    ("exactly a quarter as likely", _probs(0.4, 0.1, 0.3, 0.2), {"min_p": 0.25}),
    ("min_p of 1, two tied", (1, 2, 2, 0), {"min_p": 1.0}),
    ("min_p of 1, two all but tied", (1, 2, 2 - 2.0**-22, 0), {"min_p": 1.0}),
    ("some are removed already", (1, GONE, 0, GONE, 0.5), {"min_p": 0.5}),
    ("a huge logit", (0.5, -1, 1e9, 2), {"min_p": 0.1}),
    ("min_p below 0", PLAIN, {"min_p": -0.1}),
    ("exactly at the threshold", HALVES, {"xtc_probability": 1.0, "xtc_threshold": 0.25}),
    ("a little above the threshold", HALVES, {"xtc_probability": 1.0, "xtc_threshold": 0.2499}),
    ("a little below the threshold", HALVES, {"xtc_probability": 1.0, "xtc_threshold": 0.2501}),
    ("ties for the least", (3, 2, 2, -9), {"xtc_probability": 1.0, "xtc_threshold": 0.2}),
    ("a threshold above a half", (4, 0, 0), {"xtc_probability": 1.0, "xtc_threshold": 0.6}),
    ("a threshold of 0", PLAIN, {"xtc_probability": 1.0, "xtc_threshold": 0.0}),
    (
        "a threshold of 0, some are removed already",
        (2, 1, GONE),
        {"xtc_probability": 1.0, "xtc_threshold": 0.0},
    ),
    ("a probability of 0", PLAIN, {"xtc_probability": 0.0, "xtc_threshold": 0.1}),
    ("greedy", PLAIN, {"temperature": 0.0}),
    ("greedy, two tied", (1, 2, 2, 0), {"temperature": 0.0}),
    ("below 0", PLAIN, {"temperature": -1.0}),
    ("an integer", PLAIN, {"temperature": 2}),
    ("above 2", PLAIN, {"temperature": 3.0}),
    ("below a hundredth", (1, 1.01, 0.9), {"temperature": 0.005}),
    ("below 1e-5", (1, 2, 2 - 2.0**-22), {"temperature": 5e-6}),
    ("so small that quotients overflow", PLAIN, {"temperature": 1e-39}),
    (
        "greedy, before XTC",
        PLAIN,
        {"temperature": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.1},
    ),
    ("hot, then a nucleus", PLAIN, {"temperature": 2.5, "top_p": 0.8}),
    ("a nucleus of the best three", PLAIN, {"top_k": 3, "top_p": 0.75}),
    ("a nucleus and min_p", PLAIN, {"top_p": 0.9, "min_p": 0.05}),
    ("logits of 0 and below", (0, -1, 2, 3), {"repetition_penalty": 1.5}, (0, 1), (2,)),
    ("an integer", (0, -1, 2, 3), {"repetition_penalty": 2}, (0, 1), (2,)),
    ("a reward", (0, -1, 2, 3), {"repetition_penalty": 0.5}, (0, 1), (2,)),
    ("above 2", (0, -1, 2, 3), {"repetition_penalty": 2.5}, (0, 1), (2,)),
    ("removed tokens", (0, GONE, 2, 3), {"repetition_penalty": 1.5}, (0, 1), (2,)),
    ("prompt and output", (0, -1, 2, 3), {"frequency_penalty": 0.5}, (0, 0, 1), (1, 2, 2)),
    ("prompt and output", (0, -1, 2, 3), {"presence_penalty": 0.5}, (0, 0, 1), (1, 2, 2)),
    ("beyond 2", (0, -1, 2, 3), {"frequency_penalty": 2.5}, (0,), (2, 2)),
    ("beyond 2", (0, -1, 2, 3), {"presence_penalty": -2.5}, (0,), (2, 2)),
    (
        "repetition and presence of one token",
        (0, -1, 2, 3),
        {"repetition_penalty": 1.5, "presence_penalty": 0.5, "logit_bias": {2: -3.0}},
        (0, 1),
        (2,),
    ),
    ("a ban", PLAIN, {"logit_bias": {1: GONE}}),
    ("a bias beyond 100", PLAIN, {"logit_bias": {4: 150.0}}),
    ("removed tokens", (1, GONE, 0), {"logit_bias": {1: 5.0}}),
    ("an id outside the vocabulary", PLAIN, {"logit_bias": {6: 5.0}}),
    ("not a number", PLAIN, {"logit_bias": {1: NAN}}),
    ("1", PLAIN, {"no_repeat_ngram": 1}, (0, 1), (2,)),
    ("begun in the prompt", PLAIN, {"bad_words": [[1, 2, 3]]}, (0, 1), (2,)),
    ("the end of the text", PLAIN, {"bad_words": [[3], [4]], "eos_token": [3]}),
    ("a prompt of that length", PLAIN, {"min_tokens": 2, "eos_token": [1]}, (0, 1, 2), (3,)),
    ("no end of the text", PLAIN, {"min_tokens": 2}, (0, 1), (3,)),
    ("an id outside the vocabulary", PLAIN, {"banned_tokens": [6]}),
    ("an id outside the vocabulary", PLAIN, {"allowed_tokens": [1, 6]}),
]

#: One request for each filter, run on invalid rows.
FILTERS: tuple[Fields, ...] = ({"top_k": 2}, {"top_p": 0.9}, {"min_p": 0.1}, {"temperature": 0.5})
UNFIT = {
    "a NaN": (1, NAN, 0, 2),
    "+inf": (1, HUGE, 0, 2),
    "nothing left": (GONE, GONE, GONE, GONE),
}


def edge_cases() -> Iterator[Case]:
    """All of them."""
    for about, row, fields, *history in EDGES:
        yield Case(f"edge: {about}", np.asarray(row, np.float32), fields, *history)
    for about, row in UNFIT.items():
        for fields in FILTERS:
            yield Case(f"edge: {about}", np.asarray(row, np.float32), fields)
