"""`python bench/engines/onnxruntime_genai.py`: the engine's sampler and ours in a generation.

Lines of JSON: tokens per second, and the microseconds of a token that are not the model's.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT / "docs/examples")  # instead of this folder: its files are named as engines
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnxruntime_genai as og
from smollm2_folder import write_folder

import logitchain as lc
from logitchain.engines.onnxruntime_genai import Sampler

RUNS, TOKENS = 3, 24
QUESTION = '[{"role": "user", "content": "Tell me a long story about a lighthouse."}]'

#: Controls by which both mean the same.
CONTROLS = {
    "temperature, top_k 50, top_p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "temperature, top_p": {"temperature": 0.8, "top_k": 0, "top_p": 0.95},
    "greedy": {"temperature": 0.0},
}


class Timed:
    """A generator whose model's time is kept apart."""

    def __init__(self, generator):
        self._generator, self.seconds = generator, 0.0

    def __getattr__(self, name):
        return getattr(self._generator, name)

    def get_logits(self):
        started = perf_counter()
        logits = self._generator.get_logits()
        self.seconds += perf_counter() - started
        return logits

    def own_step(self):
        """The engine's own draw, behind logits that are timed as ours are."""
        self.get_logits()
        self._generator.generate_next_token()


def build(place):
    """The model in the engine's form, made from SmolLM2's file."""
    write_folder(place / "smollm2")
    paths = ["-i", place / "smollm2", "-o", place / "onnx", "-c", place / "cache"]
    options = ["-p", "fp32", "-e", "cpu", "--extra_options", "hf_token=false"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    subprocess.run([*builder, *paths, *options], check=True, capture_output=True)
    return og.Model(str(place / "onnx"))


def run(model, prompt, controls, ours, seed):
    """(tokens per second, microseconds beside the model per token) of one generation."""
    options = og.GeneratorParams(model)
    own = {"do_sample": True, "random_seed": seed, **controls}
    own = {} if ours or not controls["temperature"] else own
    options.set_search_options(max_length=len(prompt) + TOKENS, **own)
    generator = Timed(og.Generator(model, options))
    generator.append_tokens(prompt)
    batch = lc.Batch(generator.get_logits().shape[-1])
    batch.add(lc.Params(seed=seed, **controls), prompt)
    step = Sampler(generator, batch).generate_next_token if ours else generator.own_step
    steps = []
    started = perf_counter()
    while not generator.is_done():
        generator.seconds, before = 0.0, perf_counter()
        step()
        steps.append(perf_counter() - before - generator.seconds)
    return len(steps) / (perf_counter() - started), median(steps) * 1e6


def main():
    with tempfile.TemporaryDirectory() as place:
        model = build(Path(place))
        tokenizer = og.Tokenizer(model)
        text = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)
        prompt = np.asarray(tokenizer.encode(text))
        for name, controls in CONTROLS.items():
            both = {False: [], True: []}
            for seed in range(RUNS + 1):  # the first warms up
                for ours, results in both.items():
                    results.append(run(model, prompt, controls, ours, seed))
            for unit, which in ("tokens/s", 0), ("us/token beside the model", 1):
                own, ours = (median(r[which] for r in both[x][1:]) for x in (False, True))
                line = {"engine": "onnxruntime_genai", "controls": name, "own": round(own, 1)}
                print(json.dumps({**line, "ours": round(ours, 1), "unit": unit, "n": RUNS}))


if __name__ == "__main__":
    main()
