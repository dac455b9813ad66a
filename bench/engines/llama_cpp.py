"""llama-cpp-python with its own samplers, with the chain in their place and as a logits processor.

Prints a line of JSON for each model, set of controls and unit; the ways take turns, a generation
each. One model is SmolLM2-135M-Instruct as its file comes. The other is made up, of one small layer
and 128,256 tokens: nearly all of its time is the sampler's, which is what `Llama.sample` takes.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# The folder of this file would hide the engine, which has its name.
sys.path[0] = str(Path(__file__).parents[2] / "docs/examples")

import gguf
import llama_cpp
import numpy as np
from smollm2 import model_path

import logitchain as lc
from logitchain.engines.llama_cpp import NEUTRAL, LogitsProcessor, sampling

ROUNDS, TOKENS = 5, 48
PROMPT = [6403, 1980, 253, 655, 28]  # "Once upon a time,"
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CONTROLS: dict[str, dict[str, Any]] = {
    "top_k 40, top_p, min_p": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "min_p": {"temperature": 0.8, "min_p": 0.05},
    "temperature": {"temperature": 0.8},
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
    during, arguments = way(llm, controls)
    with during:
        inside = llm.sample

        def sample(**named: Any) -> int:
            started = time.perf_counter()
            token = inside(**named)
            took.append(time.perf_counter() - started)
            return token

        llm.sample = sample
        stream = llm.generate(PROMPT, **arguments)
        next(stream)  # after the prompt
        started = time.perf_counter()
        for _ in range(TOKENS):
            next(stream)
        seconds = time.perf_counter() - started
    vars(llm).pop("sample", None)
    return TOKENS / seconds, median(took) * 1e6


def compare(model: str, path: Path) -> None:
    """Time every set of controls in every way."""
    llm = llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    for name, controls in CONTROLS.items():
        runs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for number in range(ROUNDS + 1):
            for way, arrange in WAYS.items():
                run = timed(llm, arrange, controls)
                if number:  # the first compiles
                    runs[way].append(run)
        for index, unit in enumerate(("tokens/s", "us/token in the sampler")):
            figures = {way: round(median(run[index] for run in runs[way]), 1) for way in WAYS}
            line = {"engine": "llama_cpp", "model": model, "controls": name, **figures}
            print(json.dumps({**line, "unit": unit, "n": ROUNDS}), flush=True)


def write_model(path: Path, vocab: int = 128_256, size: int = 64) -> None:
    """A network of one layer with random weights, whose logits have a deviation of 3."""
    rng, writer = np.random.default_rng(0), gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(vocab)
    writer.add_context_length(512)
    writer.add_block_count(1)
    writer.add_embedding_length(size)
    writer.add_feed_forward_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    embedding = rng.normal(0, 3 / size**0.5, (vocab, size))
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        square = rng.normal(0, size**-0.5, (size, size)).astype(np.float32)
        writer.add_tensor(f"blk.0.{name}.weight", square)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    compare("SmolLM2, 49,152 tokens", model_path())
    with TemporaryDirectory() as folder:
        made_up = Path(folder) / "made_up.gguf"
        write_model(made_up)
        compare("made up, 128,256 tokens", made_up)
