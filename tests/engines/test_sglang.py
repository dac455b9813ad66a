"""The SGLang adapter against SGLang's own requests, batches and the function that calls it.

Real are the loading of the processor, `Req`, `SamplingBatchInfo` with its merging and filtering,
and `apply_custom_logit_processor`. The logits are random, the draw after them is the best of what
is left. `test_sglang_server.py` has the engine.
"""

import gc
import json
import re
import subprocess
import sys
import types
import weakref
from array import array
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import without_cuda

import logitchain as lc
from logitchain.engines.sglang import STATE, LogitProcessor

pytestmark = pytest.mark.filterwarnings("default")  # SGLang's own are not ours to mend

DOCUMENT = Path(__file__).parents[2] / "docs/engines/sglang.md"
VOCAB = 512
STEPS = 8
EVERY: dict[str, Any] = {
    "temperature": 1.5,
    "top_k": 200,
    "top_p": 0.98,
    "min_p": 0.001,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.02,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.5,
    "no_repeat_ngram": 2,
}
#: Controls that look at the tokens so far, and a mark of the draw.
MARKED: dict[str, Any] = {
    "temperature": 1.5,
    "forced_output_tokens": [30, 31],
    "reasoning_end": [40, 41],
    "reasoning_budget": 4,
    "watermark": {"scheme": "gumbel", "key": 42},
}
GREEN = {"watermark": {"scheme": "sbw", "key": 42, "delta": 4.0}}
XTC = {"xtc_probability": 1.0, "xtc_threshold": 0.01, "repetition_penalty": 1.5}


@pytest.fixture(scope="module")
def sglang() -> Iterator[Any]:
    """SGLang's own parts, set up as a server with the two flags would set them up."""
    without_cuda.stand_in()
    from sglang.srt import runtime_context
    from sglang.srt.layers.sampler import apply_custom_logit_processor
    from sglang.srt.managers.schedule_batch import FINISH_ABORT, Req
    from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor
    from sglang.srt.sampling.sampling_batch_info import SamplingBatchInfo
    from sglang.srt.sampling.sampling_params import SamplingParams

    flags = {"enable_custom_logit_processor": True, "disable_overlap_schedule": True}
    with runtime_context.get_context().override_server_args(**flags):
        yield types.SimpleNamespace(
            apply=apply_custom_logit_processor,
            Abort=FINISH_ABORT,
            Req=Req,
            Processor=CustomLogitProcessor,
            Info=SamplingBatchInfo,
            Params=SamplingParams,
            schedule=runtime_context.get_schedule(),
            spec=runtime_context.get_spec(),
        )


class Batch:
    """What SGLang reads of its batch here."""

    def __init__(self, reqs: list[Any]) -> None:
        self.reqs, self.device = reqs, "cpu"


def req(sglang: Any, rid: str, ours: Any = None, prompt: Any = (1, 2, 3), **fields: Any) -> Any:
    """A request; one without ours has no processor."""
    custom = {} if ours is None else {"custom_params": {"logitchain": ours}}
    params = sglang.Params(max_new_tokens=STEPS, **custom, **fields)
    params.normalize(None)
    name = None if ours is None else LogitProcessor.to_str()
    return sglang.Req(rid, "", array("q", prompt), params, custom_logit_processor=name)


def logits_of(step: int, rids: list[str]) -> Any:
    """A row for each request and step."""
    rows = [np.random.default_rng([step, *rid.encode()]).normal(0, 3, VOCAB) for rid in rids]
    return torch.tensor(np.array(rows), dtype=torch.float32)


def generate(sglang: Any, requests: list[Any], steps: int = STEPS) -> None:
    """Some steps of a batch, each request taking the best of what is left."""
    info = sglang.Info.from_schedule_batch(Batch(requests), VOCAB)
    for _ in range(steps):
        step(sglang, requests, info)


def step(sglang: Any, requests: list[Any], info: Any) -> Any:
    logits = torch.cat([logits_of(len(one.output_ids), [one.rid]) for one in requests])
    if info.has_custom_logit_processor:
        sglang.apply(logits, info)
    for one, token in zip(requests, logits.argmax(-1).tolist(), strict=True):
        one.output_ids.append(token)
    return logits


def by_chain(rid: str, ours: dict[str, Any], seed: int, *, drawn: bool) -> list[int]:
    batch, chain, tokens = lc.Batch(VOCAB), lc.Chain(), []
    batch.add(lc.Params(**ours, seed=seed), [1, 2, 3])
    for position in range(STEPS):
        row = logits_of(position, [rid])[0].numpy()
        tokens.append(int(chain.sample(row, batch)[0] if drawn else chain(row, batch).argmax()))
        batch.append(tokens[-1:])
    return tokens


def test_sglang_loads_it_by_name(sglang: Any) -> None:
    text = LogitProcessor.to_str()
    assert type(sglang.Processor.from_str(text)) is LogitProcessor
    assert len(bytes.fromhex(json.loads(text)["callable"])) < 100  # the name, not the code
    other = sglang.Processor.to_str.__func__(LogitProcessor)  # as SGLang itself would write it
    assert type(sglang.Processor.from_str(other)) is LogitProcessor


@pytest.mark.parametrize(
    ("ours", "drawn"), [(EVERY, True), (MARKED, True), (XTC, False), (GREEN, False)]
)
@pytest.mark.parametrize("as_text", [False, True])
def test_its_tokens_are_those_of_the_chain(
    sglang: Any, ours: Any, drawn: bool, as_text: bool
) -> None:
    asked = {**ours, "draw": drawn}
    one = req(sglang, "a", json.dumps(asked) if as_text else asked, sampling_seed=7)
    generate(sglang, [one])
    assert one.output_ids.tolist() == by_chain("a", ours, 7, drawn=drawn)


def test_requests_come_and_go_and_the_batch_changes_no_token(sglang: Any) -> None:
    """As the scheduler does it: batches of new requests are merged, finished ones filtered out."""
    a, b = req(sglang, "a", {**EVERY, "draw": True, "seed": 1}), req(sglang, "b")
    c, d = (
        req(sglang, "c", XTC, sampling_seed=2),
        req(sglang, "d", {**EVERY, "draw": True, "seed": 3}),
    )
    first = sglang.Info.from_schedule_batch(Batch([a, b]), VOCAB)
    for _ in range(3):
        logits = step(sglang, [a, b], first)
    assert (logits[1] == logits_of(2, ["b"])[0]).all()
    first.merge_batch(sglang.Info.from_schedule_batch(Batch([c, d]), VOCAB))
    for _ in range(5):
        step(sglang, [a, b, c, d], first)
    first.filter_batch([2, 3], torch.tensor([2, 3]))
    for _ in range(3):
        step(sglang, [c, d], first)
    assert a.output_ids.tolist() == by_chain("a", EVERY, 1, drawn=True)
    assert c.output_ids.tolist() == by_chain("c", XTC, 2, drawn=False)
    assert d.output_ids.tolist() == by_chain("d", EVERY, 3, drawn=True)


def test_without_a_seed_every_process_draws_alike_and_every_request_its_own(sglang: Any) -> None:
    """With tensor parallelism each process samples: it has the request's id to go by."""
    twins = [req(sglang, rid, {"draw": True, "temperature": 9}) for rid in ("a", "a", "b")]
    for one in twins:
        generate(sglang, [one])
    said = [one.output_ids.tolist() for one in twins]
    assert said[0] == said[1]
    assert twins[2].sampling_params.custom_params[STATE].params.seed != (
        twins[0].sampling_params.custom_params[STATE].params.seed
    )


def test_its_state_goes_with_the_request(sglang: Any) -> None:
    """It lies among the request's parameters; the processor outlives it."""
    one, other = (req(sglang, rid, {"draw": True}) for rid in ("a", "b"))
    info = sglang.Info.from_schedule_batch(Batch([one, other]), VOCAB)
    step(sglang, [one, other], info)
    gone, kept = (weakref.ref(r.sampling_params.custom_params[STATE]) for r in (one, other))
    info.filter_batch([1], torch.tensor([1]))
    del one
    gc.collect()
    assert gone() is None
    assert kept() is not None


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        ({"min_p": 1.5}, "min_p must be in [0, 1], not 1.5"),
        ({"allowed_tokens": [VOCAB]}, f"allowed_tokens must be in [0, {VOCAB}), not {VOCAB}"),
        ({"allowed_tokens": [4], "banned_tokens": [4]}, "no finite logit is left"),
        ({"watermark": MARKED["watermark"]}, "not 'gumbel', which is one of our draw"),
        ({"stop_tokens": [[1, 2]]}, "stop_tokens must be given as the engine's own field"),
        ({"max_new_tokens": 4}, "max_tokens must be given as the engine's own field"),
    ],
)
def test_an_error_ends_its_request_and_no_other(sglang: Any, ours: Any, message: str) -> None:
    bad, good = req(sglang, "a", ours), req(sglang, "b", {**EVERY, "draw": True, "seed": 1})
    generate(sglang, [bad, good], steps=1)
    bad.update_finish_state()
    assert isinstance(bad.finished_reason, sglang.Abort)
    assert bad.finished_reason.status_code == HTTPStatus.BAD_REQUEST
    assert message in bad.finished_reason.message
    assert not good.to_finish
    assert good.output_ids.tolist() == by_chain("b", EVERY, 1, drawn=True)[:1]


def test_a_multimodal_prompt_holds_ids_that_are_no_token(sglang: Any) -> None:
    one = req(sglang, "a", {**EVERY, "draw": True}, prompt=(1, VOCAB, 1_000_000 + 2**30, 3))
    generate(sglang, [one])
    assert not one.to_finish
    assert len(one.output_ids) == STEPS


def test_a_server_that_hides_tokens_is_refused(sglang: Any) -> None:
    one, other = (req(sglang, rid, {"draw": True}) for rid in ("a", "b"))
    with sglang.schedule.override(disable_overlap_schedule=False):
        generate(sglang, [one], steps=1)
    with sglang.spec.override(speculative_algorithm="EAGLE"):
        generate(sglang, [other], steps=1)
    assert "--disable-overlap-schedule" in one.to_finish.message
    assert "without speculative decoding" in other.to_finish.message


def test_the_documentations_request_runs(sglang: Any) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    body = json.loads(told.stdout)
    params = sglang.Params(**{**body["sampling_params"], "max_new_tokens": STEPS})
    params.normalize(None)
    name = body["custom_logit_processor"]
    one = sglang.Req("a", "", array("q", [1, 2, 3]), params, custom_logit_processor=name)
    generate(sglang, [one])
    ours = dict(body["sampling_params"]["custom_params"]["logitchain"])
    assert ours.pop("draw")
    assert one.output_ids.tolist() == by_chain("a", ours, 7, drawn=True)


def test_importing_it_imports_neither_sglang_nor_torch() -> None:
    code = (
        "import sys, logitchain.engines.sglang as x; x.LogitProcessor.to_str(); "
        "assert not {'sglang', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
