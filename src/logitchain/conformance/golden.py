"""The golden cases: rows and parameters from the tests of other engines."""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from ..params import FIELDS
from ..presets import NAMED
from .cases import Case

Entry = Mapping[str, Any]  # a case as `golden.json` has it

#: Fields that are called there by the name of the engine that a case is from.
RENAMED = {
    "ngram_size": "no_repeat_ngram",
    "bad_words_ids": "bad_words",
    "eos_token_id": "eos_token",
    "stop_token_ids": "eos_token",
    "min_new_tokens": "min_tokens",
    "allowed": "allowed_tokens",
    "banned": "banned_tokens",
    "n": "top_n_sigma",
}

#: What is said beside the fields, and no row depends on ...
ASIDE = {"seed", "sequence", "joint", "n_vocab", "last_n", "context_size", "prompt_length", "mode"}

#: ... such as a minimum of tokens to keep that changes nothing.
NO_MINIMUM = [("min_keep", 0), ("min_keep", 1)]


def golden_cases() -> Iterator[Case]:
    """Row by row, all that ask for nothing but what fields of a request say."""
    for entry in json.loads((files(__package__) / "golden.json").read_text())["cases"]:
        for r, row in enumerate(_rows(entry)):
            name, fields = f"golden {entry['id']}, row {r}", _fields(entry, r)
            case = Case(name, np.asarray(row, np.float32), fields, *_history(entry, r))
            if case.controls and fields.keys() <= FIELDS.keys():
                yield case


def _rows(entry: Entry) -> Any:
    kind, vocab = entry["inputs"]["kind"], entry["inputs"].get("n_vocab")
    if kind == "zeros":
        return np.zeros((1, vocab))
    with np.errstate(divide="ignore"):
        if kind == "formula" and "n_vocab" in entry["params"]:
            return np.log(np.arange(entry["params"]["n_vocab"]))[None]
        rows = [[float(x) for x in row] for row in entry["inputs"].get("values", [])]
        return np.log(rows) if kind == "probs" else rows


def _fields(entry: Entry, r: int) -> dict[str, Any]:
    """What a case asks of its r-th row."""
    params = {k: v for k, v in entry["params"].items() if (k, v) not in NO_MINIMUM}
    sequence = params.get("sequence", params)
    fields = {
        RENAMED.get(name, name): value
        for name, value in params.items()
        if name not in ASIDE and (name in sequence or name not in NAMED)
    }
    for name in fields.keys() & {"allowed_tokens", "temperature"}:
        if isinstance(fields[name], list):  # one for each row
            fields[name] = fields[name][r]
    if "logit_bias" in fields:
        fields["logit_bias"] = {int(k): float(v) for k, v in fields["logit_bias"].items()}
    if params.get("mode") == "always":
        fields = {"banned_tokens": fields["eos_token"]}
    if entry.get("xtc_draw") == "applied":
        fields["xtc_probability"] = 1.0
    return fields


def _history(entry: Entry, r: int) -> tuple[list[int], list[int]]:
    """Prompt and output; tokens that are not told apart count as output."""
    inputs = entry["inputs"]
    length = max(0, inputs.get("sequence_length", 0) - entry["params"].get("prompt_length", 0))
    output = inputs.get("output") or inputs.get("tokens")
    prompt = inputs.get("prompt")
    return prompt[r] if prompt else [], output[r] if output else [1] * length
