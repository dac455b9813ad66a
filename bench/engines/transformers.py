"""Tokens per second of SmolLM2 in transformers, with the engine's own sampling and with the chain.

Prints a line of JSON for each set of controls and number of rows; medians of interleaved runs.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2] / "docs/examples"))
sys.path = [path for path in sys.path if path != str(Path(__file__).parent)]  # it has our name

import torch
from smollm2 import model_path
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import logitchain as lc
from logitchain.engines.transformers import NEUTRAL, NEUTRAL_DRAW, Sampler

TOKENS, RUNS = 16, 5
TEXTS = ["The whale is", "Once upon a time there was a little", "My favourite colour", "In 1904"]
CONTROLS = [
    {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
]


def main() -> None:
    """Run it."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    path = model_path()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
    model.generation_config.eos_token_id = None  # every run makes all its tokens
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    for rows in (1, 4):
        inputs = tokenizer(TEXTS[:rows], padding=True, return_tensors="pt")
        for controls in CONTROLS:
            own, ours = compare(model, inputs, controls, rows)
            line = {"engine": "transformers", "rows": rows, "controls": " ".join(controls)}
            line |= {"own": round(own, 2), "ours": round(ours, 2)}
            print(json.dumps(line | {"unit": "tokens/s", "n": RUNS}), flush=True)


def compare(model, inputs, controls, rows):
    """Medians of tokens per second, (the engine's own, ours)."""
    neutral = NEUTRAL | NEUTRAL_DRAW | {"do_sample": True, "max_new_tokens": TOKENS}
    params = lc.Params(seed=1, max_tokens=TOKENS, **controls)
    chain = lc.Chain.preset("transformers")

    def own():
        model.generate(**inputs, **neutral | controls)

    def ours():
        model.generate(**inputs, **Sampler(model, inputs, [params] * rows, chain).arguments)

    rates = {own: [], ours: []}
    for run in range(RUNS + 1):
        for generate, found in rates.items():
            torch.manual_seed(run)
            started = time.perf_counter()
            generate()
            if run:  # the first one warms up
                found.append(rows * TOKENS / (time.perf_counter() - started))
    return tuple(map(statistics.median, rates.values()))


if __name__ == "__main__":
    main()
