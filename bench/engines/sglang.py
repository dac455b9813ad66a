"""Tokens per second of SGLang on the CPU with its own sampler and with ours.

Same controls, same engine, the runs of the two interleaved; a line of JSON for each row of the
table. The engine computes in PyTorch, as its kernels for CPUs are in no registry of packages.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
# Instead of this folder, where `sglang` is this file.
sys.path[:1] = [str(ROOT / "docs/examples"), str(ROOT / "tests/engines")]

import without_cuda

os.environ.update(without_cuda.environment())

PROMPT, TOKENS, RUNS = "Tell me about whales. They are", 24, 3
CONTROLS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.8},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "top_p, min_p": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
    "top_k 50, top_p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "top_p, penalties": {"top_p": 0.95, "repetition_penalty": 1.1, "frequency_penalty": 0.5},
}


def main() -> None:
    from smollm2_folder import write_folder

    with tempfile.TemporaryDirectory() as folder:
        compare(str(write_folder(Path(folder))))


def compare(model: str) -> None:
    without_cuda.stand_in("sgl_kernel")
    import sglang

    from logitchain.engines.sglang import LogitProcessor

    engine = sglang.Engine(
        model_path=model,
        **{"device": "cpu", "attention_backend": "torch_native", "sampling_backend": "pytorch"},
        **{"dtype": "bfloat16", "disable_cuda_graph": True, "mem_fraction_static": 0.2},
        **{"max_total_tokens": 2048, "max_running_requests": 8, "log_level": "error"},
        **{"enable_custom_logit_processor": True, "disable_overlap_schedule": True},
        disable_radix_cache=True,
    )
    for sequences in (1, 8):
        for name, fields in CONTROLS.items():
            own = {"sampling_params": fields}
            ours = {
                "sampling_params": {
                    "temperature": 0,  # of the one token that is left
                    "custom_params": {"logitchain": {**fields, "draw": True}},
                },
                "custom_logit_processor": LogitProcessor.to_str(),
            }
            rates: dict[str, list[float]] = {"own": [], "ours": []}
            for asked in (own, ours):
                rate(engine, asked, sequences)  # compiles
            for _ in range(RUNS):
                rates["own"].append(rate(engine, own, sequences))
                rates["ours"].append(rate(engine, ours, sequences))
            row = {key: round(median(values), 1) for key, values in rates.items()}
            what = {"engine": "sglang", "controls": f"{name}; batch of {sequences}", **row}
            print(json.dumps({**what, "unit": "tokens/s", "n": RUNS}), flush=True)
    engine.shutdown()


def rate(engine: Any, asked: dict[str, Any], sequences: int) -> float:
    params = {"max_new_tokens": TOKENS, "ignore_eos": True, **asked["sampling_params"]}
    started = time.perf_counter()
    engine.generate([PROMPT] * sequences, **{**asked, "sampling_params": params})
    return sequences * TOKENS / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
