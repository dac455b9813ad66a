"""Tokens per second of vLLM on the CPU with its own sampler and with ours.

Same controls, same process, the runs of the two interleaved; a line of JSON for each row of the
table.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Instead of this folder, where `vllm` is this file.
sys.path[0] = str(Path(__file__).parents[2] / "docs/examples")

import vllm
from smollm2_folder import write_folder

PROMPT, TOKENS, RUNS = "Tell me about whales. They are", 32, 5
CONTROLS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.8},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_k 50, top_p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "top_p, penalties": {"top_p": 0.95, "repetition_penalty": 1.1, "frequency_penalty": 0.5},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        compare(str(write_folder(Path(folder))))


def compare(model: str) -> None:
    limits = {"max_model_len": 256, "max_num_seqs": 8}
    engine = vllm.LLM(model, dtype="bfloat16", enforce_eager=True, **limits)
    for sequences in (1, 8):
        for name, fields in CONTROLS.items():
            own = vllm.SamplingParams(max_tokens=TOKENS, ignore_eos=True, **fields)
            ours = vllm.SamplingParams(
                max_tokens=TOKENS,
                ignore_eos=True,
                temperature=0,  # of the one token that is left
                extra_args={"logitchain": {**fields, "draw": True}},
            )
            rates: dict[str, list[float]] = {"own": [], "ours": []}
            for params in (own, ours):
                rate(engine, params, sequences)  # compiles
            for _ in range(RUNS):
                rates["own"].append(rate(engine, own, sequences))
                rates["ours"].append(rate(engine, ours, sequences))
            row = {key: round(median(values), 1) for key, values in rates.items()}
            what = {"engine": "vllm", "controls": f"{name}; batch of {sequences}", **row}
            print(json.dumps({**what, "unit": "tokens/s", "n": RUNS}), flush=True)


def rate(engine: Any, params: Any, sequences: int) -> float:
    started = time.perf_counter()
    engine.generate([PROMPT] * sequences, [params] * sequences, use_tqdm=False)
    return sequences * TOKENS / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
