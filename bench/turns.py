"""Tokens per second with an engine's own sampler and with ours, the runs of the two in turn."""

import json
from collections.abc import Callable
from statistics import median
from typing import Any

PROMPT = "Tell me about whales. They are"
CONTROLS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.8},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_k 50, top_p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "top_p, penalties": {"top_p": 0.95, "repetition_penalty": 1.1, "frequency_penalty": 0.5},
}


def compare(
    engine: str,
    asked: Callable[[dict[str, Any]], tuple[Any, Any]],
    rate: Callable[[Any, int], float],
    runs: int,
) -> None:
    """Print a line of JSON for each of the controls, one sequence and eight.

    asked   controls -> a request for the engine's own sampler, and one for ours
    rate    a request, the number of sequences -> tokens per second
    """
    for sequences in (1, 8):
        for name, fields in CONTROLS.items():
            requests = dict(zip(("own", "ours"), asked(fields), strict=True))
            rates: dict[str, list[float]] = {"own": [], "ours": []}
            for request in requests.values():
                rate(request, sequences)  # compiles
            for _ in range(runs):
                for key, request in requests.items():
                    rates[key].append(rate(request, sequences))
            row = {key: round(median(values), 1) for key, values in rates.items()}
            what = {"engine": engine, "controls": f"{name}; batch of {sequences}", **row}
            print(json.dumps({**what, "unit": "tokens/s", "n": runs}), flush=True)
