"""Tokens per second of SGLang on the CPU with its own sampler and with ours: `bench/turns.py`.

The engine computes in PyTorch, as its kernels for CPUs are in no registry of packages.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Instead of this folder, where `sglang` is this file.
sys.path[:1] = [str(ROOT / folder) for folder in ("docs/examples", "tests/engines", "bench")]

import turns
import without_cuda

from logitchain.engines.sglang import LogitProcessor

os.environ.update(without_cuda.environment())

TOKENS, RUNS = 24, 3


def main() -> None:
    from smollm2_folder import write_folder

    without_cuda.stand_in("sgl_kernel")
    import sglang

    with tempfile.TemporaryDirectory() as folder:
        engine = sglang.Engine(
            model_path=str(write_folder(Path(folder))),
            **{"device": "cpu", "attention_backend": "torch_native", "sampling_backend": "pytorch"},
            **{"dtype": "bfloat16", "disable_cuda_graph": True, "mem_fraction_static": 0.2},
            **{"max_total_tokens": 2048, "max_running_requests": 8, "log_level": "error"},
            **{"enable_custom_logit_processor": True, "disable_overlap_schedule": True},
            disable_radix_cache=True,
        )

        def rate(request: dict[str, Any], sequences: int) -> float:
            started = time.perf_counter()
            engine.generate([turns.PROMPT] * sequences, **request)
            return sequences * TOKENS / (time.perf_counter() - started)

        turns.compare("sglang", asked, rate, RUNS)
        engine.shutdown()


def asked(fields: dict[str, Any]) -> tuple[Any, Any]:
    common = {"max_new_tokens": TOKENS, "ignore_eos": True}
    ours = {
        "temperature": 0,  # of the one token that is left
        "custom_params": {"logitchain": {**fields, "draw": True}},
    }
    name = LogitProcessor.to_str()
    return (
        {"sampling_params": {**common, **fields}},
        {"sampling_params": {**common, **ours}, "custom_logit_processor": name},
    )


if __name__ == "__main__":
    main()
