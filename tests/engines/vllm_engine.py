"""A vLLM engine in a process of its own, on the CPU: `python vllm_engine.py job.pickle`.

The job says which model runner, how the engine is made and what it is asked; the answers go back
into its file. vLLM's V2 runner needs Triton, which has no CPU backend in its wheels: there the real
runner and its real kernels run under Triton's own interpreter.
"""

import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

#: One process, one thread for the tensors (several wait for each other), a small cache of keys.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def interpret_triton() -> None:
    """Let Triton's kernels run on CPU tensors, as Python."""
    os.environ["TRITON_INTERPRET"] = "1"
    import numpy as np
    from triton import backends, runtime
    from triton.backends.driver import DriverBase
    from triton.runtime.interpreter import InterpreterBuilder

    class Driver(DriverBase):
        @classmethod
        def is_active(cls) -> bool:
            return True

        def __init__(self) -> None: ...

        def get_current_target(self) -> Any: ...

        def get_active_torch_device(self) -> Any: ...

        def get_benchmarker(self) -> Any: ...

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

    backends.backends["cpu"] = backends.Backend(compiler=None, driver=Driver)
    runtime.driver.set_active(Driver())

    load = InterpreterBuilder.create_masked_load

    def masked_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        mask.data = np.asarray(mask.data).astype(bool)  # it takes no mask of integers; a GPU does
        return load(self, pointers, mask, *rest)

    InterpreterBuilder.create_masked_load = masked_load


class Said(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main(path: Path) -> None:
    job = pickle.loads(path.read_bytes())
    os.environ.update(ENVIRONMENT)
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = str(int(job["runner"] == "v2"))
    if job["runner"] == "v2":
        interpret_triton()
    said = Said()
    logging.getLogger("logitchain").addHandler(said)

    from vllm import LLM, SamplingParams
    from vllm.exceptions import VLLMValidationError

    engine = LLM(**job["engine"])
    config = engine.llm_engine.vllm_config
    spoil_logits()
    calls: list[Any] = []
    for requests in job["calls"]:
        prompts = [{"prompt_token_ids": prompt} for prompt, _ in requests]
        params = [SamplingParams(**fields) for _, fields in requests]
        try:
            answers = engine.generate(prompts, params, use_tqdm=False)
        except VLLMValidationError as error:
            calls.append(str(error))
            continue
        calls.append([[answer(one) for one in each.outputs] for each in answers])
    counters = {m.name: getattr(m, "value", None) for m in engine.llm_engine.get_metrics()}
    result = {"v2": config.use_v2_model_runner, "calls": calls, "counters": counters}
    path.write_bytes(pickle.dumps({**result, "said": said.lines}))


def spoil_logits() -> None:
    """Make the logits of a prompt that begins with token 13 NaN, as they come to us."""
    from logitchain.engines.vllm import Processor

    apply = Processor.apply

    def spoiled(self: Any, logits: Any, ctx: Any = None) -> Any:
        for row in self._rows() if ctx is None else self._rows_of(ctx):
            if row.prompt[0] == 13:
                logits[row.place] = float("nan")
        return apply(self, logits, ctx)

    Processor.apply = spoiled


def answer(one: Any) -> tuple[list[int], Any]:
    """Its tokens, and if they were asked for the raw logits of each step (tokens, vocab)."""
    logits = None
    if one.logprobs is not None:
        size = len(one.logprobs[0])
        logits = [[step[token].logprob for token in range(size)] for step in one.logprobs]
    return list(one.token_ids), logits


if __name__ == "__main__":
    main(Path(sys.argv[1]))
