"""vLLM: the V1 runner's input batch and sampler, on the CPU, as far as the draw."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from .cases import Case, Row
from .known import (
    K_BEYOND,
    K_OF_MINUS_ONE,
    OURS,
    P_IN_TORCH,
    Known,
    both,
    instead,
    refused_by_engine,
    requested,
    tied,
)

CONTROLS = (
    *("allowed_tokens", "min_tokens", "bad_words", "logit_bias"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("temperature", "min_p", "top_k", "top_p"),
)

KNOWN = (
    *OURS,
    Known(
        "temperature",
        both(requested(lambda case: case.get("temperature") > 2), refused_by_engine("[0, 2]")),
        "Range: [0, 2] in vLLM",
    ),
    Known(
        "temperature",
        instead(lambda case: 0 < case.get("temperature") < 0.01, temperature=0.01),
        "vLLM takes T below 0.01 as 0.01, with a warning.",
    ),
    K_OF_MINUS_ONE,
    K_BEYOND,
    Known("top_p", tied(P_IN_TORCH.condition), "the lowest id decides top_p's ties."),
    P_IN_TORCH,
)


def version() -> str:
    """Its version, and that of torch."""
    vllm, torch = import_module("vllm"), import_module("torch")
    return f"vLLM {vllm.__version__}, torch {torch.__version__}"


def process(case: Case) -> Row:
    """The row as vLLM draws from it; of a greedy one, the token that it takes."""
    torch = import_module("torch")
    sampling = import_module("vllm.v1.sample.sampler")
    batch = _batch(_params(case), case)
    sampler = sampling.Sampler(logprobs_mode="processed_logits")
    logits = torch.from_numpy(case.row.copy())[None]
    logits = sampler.apply_logits_processors(logits, batch.sampling_metadata, False)
    token, logits = sampler.sample(logits, batch.sampling_metadata)
    if logits is not None:
        return np.asarray(logits[0].numpy())
    return np.where(np.arange(case.row.size) == int(token), case.row, -np.inf)


def _params(case: Case) -> Any:
    """The request in vLLM's own words, checked as it checks it."""
    same = ("temperature", "top_k", "top_p", "min_p", "min_tokens")
    penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    arguments = {name: case.fields[name] for name in (*same, *penalties) if name in case.fields}
    params = import_module("vllm").SamplingParams(
        logit_bias=dict(case.get("logit_bias")) or None,
        allowed_token_ids=list(case.get("allowed_tokens")) or None,
        stop_token_ids=list(case.get("eos_token")),
        max_tokens=10**6,  # min_tokens may not be more
        **arguments,
    )
    params._bad_words_token_ids = [list(phrase) for phrase in case.get("bad_words")]
    model = SimpleNamespace(get_vocab_size=lambda: case.row.size)
    for check in ("logit_bias", "allowed_token_ids", "stop_token_ids"):
        getattr(params, f"_validate_{check}")(model)
    return params


def _batch(params: Any, case: Case) -> Any:
    """A batch of this request alone, as the model runner keeps it."""
    torch, runner = import_module("torch"), import_module("vllm.v1.worker.gpu_input_batch")
    processors = import_module("vllm.v1.sample.logits_processor")
    length = len(case.prompt) + len(case.output) + 1
    cpu = torch.device("cpu")
    config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=1))
    built_in = (make(config, cpu, False) for make in processors.BUILTIN_LOGITS_PROCESSORS)
    batch = runner.InputBatch(
        max_num_reqs=1,
        max_model_len=length,
        max_num_batched_tokens=length,
        device=cpu,
        vocab_size=case.row.size,
        block_sizes=[16],
        max_num_blocks_per_req=[1],
        logitsprocs=processors.LogitsProcessors(built_in),  # and no plugin, such as our own,
    )
    request = runner.CachedRequestState(
        req_id="",
        prompt_token_ids=list(case.prompt),
        mm_features=[],
        sampling_params=params,
        generator=None,
        block_ids=([],),
        num_computed_tokens=0,
        output_token_ids=list(case.output),
    )
    batch.add_request(request)
    batch.refresh_metadata()
    return batch
