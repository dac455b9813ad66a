"""Tokens per second of vLLM on the CPU with its own sampler and with ours: `bench/turns.py`."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parents[2]
# Instead of this folder, where `vllm` is this file.
sys.path[:1] = [str(ROOT / "docs/examples"), str(ROOT / "bench")]

import turns
import vllm
from smollm2_folder import write_folder

TOKENS, RUNS = 32, 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = str(write_folder(Path(folder)))
        limits = {"max_model_len": 256, "max_num_seqs": 8}
        engine = vllm.LLM(model, dtype="bfloat16", enforce_eager=True, **limits)

        def rate(params: Any, sequences: int) -> float:
            started = time.perf_counter()
            engine.generate([turns.PROMPT] * sequences, [params] * sequences, use_tqdm=False)
            return sequences * TOKENS / (time.perf_counter() - started)

        turns.compare("vllm", asked, rate, RUNS)


def asked(fields: dict[str, Any]) -> tuple[Any, Any]:
    own = vllm.SamplingParams(max_tokens=TOKENS, ignore_eos=True, **fields)
    ours = vllm.SamplingParams(
        max_tokens=TOKENS,
        ignore_eos=True,
        temperature=0,  # of the one token that is left
        extra_args={"logitchain": {**fields, "draw": True}},
    )
    return own, ours


if __name__ == "__main__":
    main()
