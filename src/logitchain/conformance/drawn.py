"""Random cases: for each control, and for all of them together, random rows."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from .cases import Case, Row

SEED = 20261124

#: What a field with few values is drawn from.
VALUES: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram": (3, 4),
    "repetition_penalty": (0.7, 1.3),
    "frequency_penalty": (-0.5, 0.4),
    "presence_penalty": (-0.9, 0.6),
    "temperature": (0.3, 0.8, 1.7),
    "top_k": (1, 5, 40, 1000),
    "top_p": (0.1, 0.5, 0.9, 0.99),
    "min_p": (0.01, 0.05, 0.3),
    "top_n_sigma": (0.5, 1.0, 3.0),
    "typical_p": (0.2, 0.5, 0.9, 0.99),
    "epsilon_cutoff": (3e-4, 0.01, 0.1),
    "eta_cutoff": (3e-4, 0.01, 0.1),
    "top_h": (0.1, 0.4, 0.8),
    "xtc": (0.01, 0.05, 0.1, 0.4),
    "mirostat_tau": (1.0, 3.0, 5.0),
    "adaptive_target": (0.0, 0.2, 0.6),
}

#: Controls that are not asked for together with others: small differences before them grow.
ALONE = ("dynamic_temperature", "mirostat", "adaptive_p")


def drawn_cases(controls: Collection[str], count: int) -> Iterator[Case]:
    """For each control, and for several together, a case on each of `count` random rows."""
    rng = np.random.default_rng(SEED)
    for number, row in enumerate(random_rows(rng, count)):
        ids = rng.permutation(row.size).tolist()
        # Some tokens that no preset's window reaches back to, and then few of them often.
        tokens = [*ids[8:28], *rng.choice(ids[:8], 70).tolist()]
        history = tokens[:50], tokens[50:]
        requests = {name: _fields(name, rng, ids, history[1]) for name in controls}
        for fields in requests.values():
            yield Case(f"random row {number}", row, fields, *history)
        named = [name for name in requests if rng.random() < 0.7]
        some = [requests[name] for name in named if name not in ALONE]
        together = {field: value for fields in some for field, value in fields.items()}
        if together:
            yield Case(f"random row {number}", row, together, *history)


def random_rows(
    rng: Generator, count: int, vocabs: Sequence[int] = (32, 200, 5000, 32000)
) -> Iterator[Row]:
    """Rows without ties, flat ones and peaked ones, over several vocabularies."""
    for number in range(count):
        vocab = vocabs[number % len(vocabs)]
        drawn = rng.normal(0, (1, 3, 8)[number // len(vocabs) % 3], vocab)
        if number % 2:  # as a model is sure of a few tokens
            drawn[rng.integers(vocab, size=3)] += rng.uniform(4, 12, 3) + drawn.max()
        row = drawn.astype(np.float32)
        _, first = np.unique(row, return_index=True)
        tied = np.setdiff1d(np.arange(vocab), first)
        row[tied] = -40 - np.arange(tied.size)  # far below, each for itself
        yield row


def _fields(control: str, rng: Generator, ids: list[int], output: list[int]) -> dict[str, Any]:
    """What a request says that asks for one control, of the vocabulary's ids in some order."""
    a, b, c = ids[:3]
    if control == "allowed_tokens":
        return {control: ids[::2]}
    if control == "banned_tokens":
        return {control: ids[-3:]}
    if control == "min_tokens":
        return {control: len(output) + int(rng.integers(-1, 3)), "eos_token": ids[3:5]}
    if control == "bad_words":
        return {control: [[a], [output[-1], b], [*output[-2:], c], [b, c]]}
    if control == "logit_bias":
        return {control: {a: 3.5, b: -7.25}}
    if control == "dry":
        base, allowed = rng.choice([1.0, 1.75, 2.5]), rng.integers(3)
        return {"dry_multiplier": 0.8, "dry_base": float(base), "dry_allowed_length": int(allowed)}
    if control == "dynamic_temperature":
        exponent = float(rng.choice([0.5, 1.0, 2.0]))
        return {"dynatemp_range": float(rng.choice([0.3, 0.8])), "dynatemp_exponent": exponent}
    control = {"mirostat": "mirostat_tau", "adaptive_p": "adaptive_target"}.get(control, control)
    value = VALUES[control][rng.integers(len(VALUES[control]))]
    if control == "top_k":
        return {control: min(value, len(ids) - 1)}
    if control == "xtc":
        return {"xtc_probability": 1.0, "xtc_threshold": value}
    return {control: value}
