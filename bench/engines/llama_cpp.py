"""llama-cpp-python with its own samplers, with the chain in their place and as a logits processor.

Prints a line of JSON for each set of controls and unit. The ways take turns, a generation each, on
SmolLM2-135M-Instruct as its file comes; the samplers' time is what `Llama.sample` took.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

# The folder of this file would hide the engine, which has its name.
sys.path[0] = str(Path(__file__).parents[2] / "docs/examples")

import llama_cpp
from smollm2 import model_path

import logitchain as lc
from logitchain.engines.llama_cpp import NEUTRAL, LogitsProcessor, sampling

ROUNDS, TOKENS = 5, 48
PROMPT = b"Once upon a time, in a small village by the sea, there lived"
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CONTROLS: dict[str, dict[str, Any]] = {
    "top_k 40, top_p, min_p": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "min_p": {"temperature": 0.8, "min_p": 0.05},
    "temperature": {"temperature": 0.8},
    "greedy": {"temperature": 0.0},
    "penalties, top_p, min_p": {
        **{"repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1},
        **{"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    },
}
SPELLED = {"temperature": "temp", "repetition_penalty": "repeat_penalty"}

Way = Callable[[llama_cpp.Llama, dict[str, Any]], tuple[Any, dict[str, Any]]]


def spelled(controls: dict[str, Any]) -> dict[str, Any]:
    """The same under the names of `Llama.generate`."""
    return {SPELLED.get(name, name): value for name, value in controls.items()}


def own(llm: llama_cpp.Llama, controls: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The engine's samplers."""
    return nullcontext(), spelled(OFF | controls)


def ours(llm: llama_cpp.Llama, controls: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The chain in their place."""
    return sampling(llm, lc.Params(seed=1, **controls)), {}


def processor(llm: llama_cpp.Llama, controls: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The chain before them: they draw."""
    process = LogitsProcessor(llm, lc.Params(seed=1, **controls))
    return nullcontext(), {"logits_processor": [process], **spelled(NEUTRAL)}


WAYS: dict[str, Way] = {"own": own, "ours": ours, "processor": processor}


def timed(llm: llama_cpp.Llama, way: Way, controls: dict[str, Any]) -> tuple[float, float]:
    """(tokens per second, microseconds a token in `Llama.sample`) of one generation."""
    took: list[float] = []
    prompt = llm.tokenize(PROMPT)
    during, arguments = way(llm, controls)
    with during:
        inside = llm.sample

        def sample(**named: Any) -> int:
            started = time.perf_counter()
            token = inside(**named)
            took.append(time.perf_counter() - started)
            return token

        llm.sample = sample
        stream = llm.generate(prompt, **arguments)
        next(stream)  # after the prompt
        started = time.perf_counter()
        for _ in range(TOKENS):
            next(stream)
        seconds = time.perf_counter() - started
    vars(llm).pop("sample", None)
    return TOKENS / seconds, median(took) * 1e6


def main() -> None:
    """Time every set of controls in every way."""
    llm = llama_cpp.Llama(str(model_path()), n_ctx=256, verbose=False)
    for name, controls in CONTROLS.items():
        runs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for number in range(ROUNDS + 1):
            for way, arrange in WAYS.items():
                run = timed(llm, arrange, controls)
                if number:  # the first compiles
                    runs[way].append(run)
        for index, unit in enumerate(("tokens/s", "us/token in the sampler")):
            figures = {way: round(median(run[index] for run in runs[way]), 1) for way in WAYS}
            line = {"engine": "llama_cpp", "controls": name, **figures, "unit": unit, "n": ROUNDS}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
