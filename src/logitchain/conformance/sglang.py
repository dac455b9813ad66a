"""SGLang: its penalties, its bias and its sampler with the PyTorch backend, as far as the draw."""

from contextlib import ExitStack
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from .cases import Case, Row
from .known import (
    ANY,
    K_BEYOND,
    K_OF_MINUS_ONE,
    OURS,
    P_IN_TORCH,
    Known,
    both,
    fewer,
    instead,
    refused_by_engine,
    requested,
    underflown,
    within,
)

CONTROLS = (
    *("min_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("logit_bias", "temperature", "top_p", "top_k", "min_p"),
)

KNOWN = (
    *OURS,
    Known(
        "repetition_penalty",
        both(
            requested(lambda case: case.get("repetition_penalty") > 2), refused_by_engine("(0, 2]")
        ),
        "Range: (0, 2] in SGLang",
    ),
    Known(
        "temperature",
        instead(lambda case: 0 < case.get("temperature") < 1e-6, temperature=0.0),
        "SGLang (T < 1e-6, as T = 1 and top_k = 1)",
    ),
    Known(
        "top_k",
        both(
            requested(lambda case: case.get("top_k") == 0), refused_by_engine("at least 1, got 0")
        ),
        "Off: <= 0 in llama.cpp and mlx-lm, 0 or -1 in vLLM, -1 in SGLang (0 is an error)",
    ),
    K_OF_MINUS_ONE,
    K_BEYOND,
    Known(
        "top_p",
        within(2.0**-23),
        "SGLang keeps one token more where the mass reaches top_p exactly",
    ),
    P_IN_TORCH,
    Known(
        "top_k",
        both(within(5e-6), fewer),
        "with a filter on their sum may pass top_p = 1 before the end, so that the last 5e-6 are",
        rounding=True,
    ),
    Known(
        "min_p",
        both(within(5e-6), fewer),
        "with a filter on their sum may pass top_p = 1 before the end, so that the last 5e-6 are",
        rounding=True,
    ),
    Known(
        ANY,
        underflown,
        "It draws from float32 probabilities: what is more than about 103 nats below the best is "
        "gone",
    ),
)

#: What the server's arguments say of sampling.
SETTINGS = SimpleNamespace(
    kernel=SimpleNamespace(sampling_backend="pytorch"),
    deterministic=SimpleNamespace(enable_deterministic_inference=False, rl_on_policy_target=None),
    features=SimpleNamespace(
        enable_custom_logit_processor=False,
        enable_watermark=False,
        sampling_mask_max_tokens=2**20,
    ),
)


class Requests:
    """A batch, as far as the sampler asks; SGLang refers to it weakly."""

    device = "cpu"

    def __init__(self, reqs: list[Any]) -> None:
        """Of these requests."""
        self.reqs = reqs


def version() -> str:
    """Its version, and that of torch."""
    sglang, torch = import_module("sglang"), import_module("torch")
    return f"SGLang {sglang.__version__}, torch {torch.__version__}"


def process(case: Case) -> Row:
    """The row as SGLang draws from it: the probabilities' logarithms."""
    torch = import_module("torch")
    sampler = import_module("sglang.srt.layers.sampler")
    batches = import_module("sglang.srt.sampling.sampling_batch_info")
    with ExitStack() as stack:
        for module in (sampler, batches):
            stack.enter_context(patch.object(module, "get_exec", lambda: SETTINGS))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        info = _info(torch, batches, case)
        logits = torch.from_numpy(case.row.copy())[None]
        info.apply_logits_bias(logits)
        ids, weights = _drawn_from(torch, sampler, logits, info)
    row = np.zeros(case.row.size, np.float32)
    row[ids] = weights
    with np.errstate(divide="ignore"):
        return np.log(row)


def _info(torch: Any, batches: Any, case: Case) -> Any:
    """What the sampler is told of a batch of this request alone."""
    request = SimpleNamespace(
        sampling_params=_params(case),
        return_sampling_mask=True,
        sampling_logprobs_mode="",
        eos_token_ids=set(),
        tokenizer=SimpleNamespace(additional_stop_token_ids=set(), eos_token_id=None),
    )
    batch = Requests([request])
    info = batches.SamplingBatchInfo.from_schedule_batch(batch, case.row.size)
    for token in case.output:
        info.penalizer_orchestrator.cumulate_output_tokens(torch.tensor([token]))
    return info.copy_for_forward()


def _params(case: Case) -> Any:
    """The request in SGLang's own words, checked as it checks it."""
    same = ("temperature", "top_k", "top_p", "min_p")
    penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    arguments = {name: case.fields[name] for name in (*same, *penalties) if name in case.fields}
    params = import_module("sglang.srt.sampling.sampling_params").SamplingParams(
        max_new_tokens=10**6,
        min_new_tokens=case.get("min_tokens"),
        stop_token_ids=set(case.get("eos_token")),
        logit_bias={str(token): bias for token, bias in case.get("logit_bias").items()} or None,
        **arguments,
    )
    params.verify(case.row.size)
    return params


def _drawn_from(torch: Any, module: Any, logits: Any, info: Any) -> tuple[Any, Any]:
    """Token ids, and the weights that the sampler's draw gives them."""
    seen: list[tuple[Any, Any]] = []

    def capture(_: Any, __: Any, captured: Any, ___: Any) -> None:
        weights = captured.weights[0].numpy()
        ids = np.arange(weights.size) if captured.token_ids is None else captured.token_ids[0]
        seen.append((np.asarray(ids), weights))

    def capture_greedy(_: Any, __: Any, tokens: Any, ___: Any) -> None:
        seen.append((tokens.numpy(), np.ones(1, np.float32)))

    watched = {
        "__init__": torch.nn.Module.__init__,
        "rl_on_policy_target": None,
        **dict.fromkeys(("use_ascend_backend", "use_log_softmax_logprob"), False),
        "enable_deterministic": False,
        "_build_sampling_mask_output": capture,
        "_build_greedy_sampling_mask_output": capture_greedy,
        "_sync_token_ids_across_tp": lambda *_: None,
    }
    sampler = type("Watched", (module.Sampler,), watched)()
    sampler(SimpleNamespace(next_token_logits=logits), info, False, [], [], None)
    return seen[0]
