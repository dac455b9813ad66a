"""`python bench/engines/mlx_lm.py`: a generation with the engine's sampler and with ours.

Lines of JSON, tokens per second: of one sequence of SmolLM2, of one with two of its layers, where a
sampler is a larger part, and of four of these side by side.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT / "docs/examples")  # instead of this folder: its files are named as engines
os.environ["HF_HUB_OFFLINE"] = "1"

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from smollm2_folder import write_folder

import logitchain as lc
from logitchain.engines.mlx_lm import samplers

RUNS, TOKENS, SEQUENCES = 3, 16, 4
QUESTION = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]

#: Controls in our spelling and in mlx-lm's: (ours, its sampler's, its processors').
CONTROLS = {
    "temperature, top_k 50, top_p, min_p": (
        {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
        {"temp": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
        {},
    ),
    "temperature, top_p": (
        {"temperature": 0.8, "top_p": 0.95},
        {"temp": 0.8, "top_p": 0.95},
        {},
    ),
    "repetition_penalty, temperature, min_p": (
        {"repetition_penalty": 1.1, "temperature": 0.8, "min_p": 0.05},
        {"temp": 0.8, "min_p": 0.05},
        {"repetition_penalty": 1.1, "repetition_context_size": 1000},
    ),
    "greedy": ({"temperature": 0.0}, {"temp": 0.0}, {}),
}


def alone(model, prompt, pairs):
    """Tokens per second of one sequence, the prompt's time left out."""
    ((sampler, processors),) = pairs
    options = {"sampler": sampler, "logits_processors": processors, "max_tokens": TOKENS}
    tokens = generate_step(mx.array(prompt), model, **options)
    next(tokens)
    started = perf_counter()
    return sum(1 for _ in tokens) / (perf_counter() - started)


def together(model, prompt, pairs):
    """Tokens per second of several sequences side by side."""
    generator = BatchGenerator(model, max_tokens=TOKENS)
    each, processors = zip(*pairs, strict=True)
    generator.insert([prompt] * len(pairs), samplers=each, logits_processors=processors)
    generator.next_generated()
    started, count = perf_counter(), 0
    while responses := generator.next_generated():
        count += len(responses)
    return count / (perf_counter() - started)


def pairs_of(controls, prompt, width, ours, seed, n):
    """n times a sampler and its processors, the engine's or ours."""
    mine, its, processors = controls
    if ours:
        each = samplers(lc.Params(seed=seed, n=n, **mine), prompt, width)
        return [(sampler, [sampler.processor]) for sampler in each]
    mx.random.seed(seed)
    return [(make_sampler(**its), make_logits_processors(**processors))] * n


def compare(where, generate, model, prompt, n):
    """Print a line for each set of controls."""
    for name, controls in CONTROLS.items():
        both = {False: [], True: []}
        for seed in range(RUNS + 1):  # the first warms up
            for ours, results in both.items():
                pairs = pairs_of(controls, prompt, model.args.vocab_size, ours, seed, n)
                results.append(generate(model, prompt, pairs))
        own, ours = (round(median(both[x][1:]), 1) for x in (False, True))
        line = {"engine": "mlx_lm", "model": where, "controls": name, "own": own, "ours": ours}
        print(json.dumps({**line, "unit": "tokens/s", "n": RUNS}), flush=True)


def main():
    with tempfile.TemporaryDirectory() as place:
        model, tokenizer = load(str(write_folder(Path(place))))
        prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)
        compare("SmolLM2", alone, model, prompt, 1)
        model.model.layers = model.model.layers[:2]
        compare("two layers", alone, model, prompt, 1)
        compare(f"two layers, {SEQUENCES} sequences", together, model, prompt, SEQUENCES)


if __name__ == "__main__":
    main()
