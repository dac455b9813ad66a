"""The vLLM adapter against vLLM itself: its engine on the CPU, with both of its model runners.

The model is tiny and random. What a request draws is held against the chain on the logits that
vLLM says it computed.
"""

import os
import pickle
import random
import re
import subprocess
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vllm_engine

import logitchain as lc
from logitchain.engines import vllm

pytestmark = pytest.mark.filterwarnings("default")  # vLLM's own are not ours to mend

VOCAB = 512
HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs/engines/vllm.md"
RUNNERS = ("v1", "v2", "v2 with drafts")
MOVES = 300

EVERY: dict[str, Any] = {
    "temperature": 2.5,
    "top_k": 200,
    "top_p": 0.98,
    "min_p": 0.001,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.02,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "no_repeat_ngram": 2,
    "bad_words": [[7], [8, 9]],
    "banned_tokens": [11],
    "logit_bias": {5: 3.0, 6: -np.inf},
    **{"dry_multiplier": 0.5, "dry_allowed_length": 1, "mirostat_tau": 7.0},
}
FEW = {"temperature": 3.0, "allowed_tokens": [20, 21, 22], "repetition_penalty": 1.01}
#: Controls that look at the tokens so far, and a mark of the draw.
MARKED: dict[str, Any] = {
    "temperature": 2.0,
    "forced_output_tokens": [30, 31],
    "reasoning_end": [40, 41],
    "reasoning_budget": 4,
    "repetition_detection": {"max_pattern_size": 3, "min_count": 3, "action": "end_reasoning"},
    "watermark": {"scheme": "gumbel", "key": 42},
}
XTC = {"xtc_probability": 1.0, "xtc_threshold": 0.01}
FORCED = {"forced_output_tokens": [30, 31], "min_tokens": 3, "eos_token": 2}
HISTORY = {"repetition_penalty": 1.6, "no_repeat_ngram": 1}
LONG = [3 * i % VOCAB for i in range(20, 120)]  # longer than vLLM reads in a step


def ask(prompt: list[int], ours: Any = None, *, tokens: int = 12, **fields: Any) -> Any:
    """A request: its prompt and the fields of vLLM's SamplingParams."""
    extra = None if ours is None else {"logitchain": ours}
    return prompt, {"max_tokens": tokens, "logprobs": -1, "extra_args": extra, **fields}


def draws(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "draw": True}


MIXED = {
    "every": ask([1, 2, 3], draws(EVERY), seed=1),
    "long": ask(LONG, draws({**EVERY, "seed": 2})),
    "vllm's": ask([4, 5], temperature=0),
    "xtc": ask([1, 2, 3], XTC, temperature=0),
    "history": ask([1, 2, 3], HISTORY, temperature=0),
    "n": ask([9], draws(EVERY), n=2, seed=5),
    "nan": ask([13], draws(EVERY), seed=1),
    "no such token": ask([1], {"allowed_tokens": [VOCAB]}, temperature=0),
    "few": ask([1, 20, 21, 22, 20, 21], draws(FEW), seed=3, tokens=24),
    "marked": ask([1, 2, 3], draws(MARKED), seed=4),
    "text": ask([1, 2, 3], '{"temperature": 0, "draw": true, "logit_bias": {"5": 3}}'),
}
SEEDS = {"every": 1, "long": 2, "few": 3, "marked": 4}
DETECTION = {"max_pattern_size": 3, "min_count": 3}
REFUSED = {
    "min_p must be in [0, 1], not 1.5": {"min_p": 1.5},
    "did you mean 'min_p'": {"minp": 0.5},
    "draw must be true or false, not 1": {"draw": 1},
    "max_tokens must be given as the engine's own field": {"max_tokens": 1},
    "repetition_detection must not be given": {"repetition_detection": DETECTION},
    "not 'gumbel', which is one of our draw": {"watermark": MARKED["watermark"]},
    "must be a mapping of fields": [1],
    "not a JSON object": "{",
}
#: Their seeds are among ours: on a CPU the V1 runner fails if a part of a seeded prompt is read.
CROWD = [ask([i], draws({**EVERY, "seed": i}), tokens=70) for i in range(4)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=RUNNERS)
def run(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """What an engine answered: `mixed` and `again`, `alone`, `refused` and `crowd`."""
    engine = {
        **{"model": str(tiny), "skip_tokenizer_init": True, "dtype": "float32"},
        **{"enforce_eager": True, "max_model_len": 160, "max_num_batched_tokens": 64},
        **{"max_num_seqs": 8, "block_size": 32, "num_gpu_blocks_override": 8},
        **{"logprobs_mode": "raw_logits", "max_logprobs": -1, "disable_log_stats": False},
    }
    if "drafts" in request.param:
        looks_up = {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 2}
        engine["speculative_config"] = {**looks_up, "num_speculative_tokens": 3}
    refused = [[ask([1], ours)] for ours in REFUSED.values()]
    refused.append([ask([1], {"seed": 1}, n=2)])
    mixed = list(MIXED.values())
    calls = [mixed, [MIXED["every"]], mixed, CROWD, *refused]
    path = tmp_path_factory.mktemp("job") / "job.pickle"
    path.write_bytes(pickle.dumps({"runner": request.param[:2], "engine": engine, "calls": calls}))
    subprocess.run([sys.executable, HERE / "vllm_engine.py", path], check=True)
    told = pickle.loads(path.read_bytes())
    mixed, alone, again, crowd, *refused = told["calls"]
    assert told["v2"] == request.param.startswith("v2")
    return {
        **told,
        "mixed": dict(zip(MIXED, mixed, strict=True)),
        "again": dict(zip(MIXED, again, strict=True)),
        **{"alone": alone[0], "crowd": crowd, "refused": refused},
        "drafts": "drafts" in request.param,
    }


def by_chain(
    prompt: list[int], ours: dict[str, Any], seed: int, logits: Any, drawn: bool = True
) -> list[int]:
    """The tokens that the chain picks from the logits of each step, or leaves the best."""
    batch, chain, tokens = lc.Batch(VOCAB), lc.Chain(), []
    batch.add(lc.Params(**ours, seed=seed), prompt)
    for row in np.array(logits, np.float32):
        token = chain.sample(row, batch)[0] if drawn else chain(row, batch).argmax()
        batch.append([token])
        tokens.append(int(token))
    return tokens


# ---- the engine


@pytest.mark.parametrize(
    ("name", "ours"), [("every", EVERY), ("long", EVERY), ("few", FEW), ("marked", MARKED)]
)
def test_its_tokens_are_those_of_the_chain(run: Any, name: str, ours: Any) -> None:
    ((tokens, logits),) = run["mixed"][name]
    assert tokens == by_chain(MIXED[name][0], ours, SEEDS[name], logits)
    assert len(set(tokens)) > 2


def test_fields_may_be_json_text(run: Any) -> None:
    ((tokens, logits),) = run["mixed"]["text"]
    assert tokens == by_chain([1, 2, 3], {"temperature": 0, "logit_bias": {5: 3.0}}, 0, logits)


@pytest.mark.parametrize(("name", "ours"), [("xtc", XTC), ("history", HISTORY)])
def test_what_is_not_drawn_is_processed(run: Any, name: str, ours: Any) -> None:
    prompt, _ = MIXED[name]
    ((tokens, logits),) = run["mixed"][name]
    assert tokens == by_chain(prompt, ours, 0, logits, drawn=False)
    assert tokens != np.argmax(logits, axis=-1).tolist()


def test_a_request_without_our_field_is_left_alone(run: Any) -> None:
    ((tokens, logits),) = run["mixed"]["vllm's"]
    assert tokens == np.argmax(logits, axis=-1).tolist()


def test_each_of_n_samples_has_the_seed_that_vllm_gives_it(run: Any) -> None:
    for i, (tokens, logits) in enumerate(run["mixed"]["n"]):
        assert tokens == by_chain([9], EVERY, 5 + i, logits)


def test_a_bad_row_takes_nobody_down(run: Any) -> None:
    ((tokens, _),) = run["mixed"]["nan"]
    assert len(tokens) == 12
    assert sum("token 0 is nan" in line for line in run["said"]) == 2  # once for each such request


def test_what_only_the_vocabulary_shows_to_be_wrong_is_told(run: Any) -> None:
    ((tokens, logits),) = run["mixed"]["no such token"]
    assert tokens == np.argmax(logits, axis=-1).tolist()
    assert any("allowed_tokens must be in [0, 512), not 512" in line for line in run["said"])


def test_the_batch_changes_no_token(run: Any) -> None:
    assert run["alone"][0][0] == run["mixed"]["every"][0][0]


def test_two_runs_agree(run: Any) -> None:
    for name in MIXED:
        first, second = ([t for t, _ in run[key][name]] for key in ("mixed", "again"))
        assert first == second or name == "nan"


def test_a_request_that_was_preempted_goes_on_where_it_was(run: Any) -> None:
    assert run["counters"]["vllm:num_preemptions"] > 0
    for i, ((tokens, logits),) in enumerate(run["crowd"]):
        assert tokens == by_chain([i], EVERY, i, logits)


def test_a_bad_field_is_refused_as_vllm_refuses(run: Any) -> None:
    expected_all = [*REFUSED, "seed must be vLLM's own field if n is more than 1"]
    for expected, message in zip(expected_all, run["refused"], strict=True):
        assert message.startswith("logitchain: ")
        assert expected in message


def test_drafts_are_kept(run: Any) -> None:
    accepted = run["counters"].get("vllm:spec_decode_num_accepted_tokens", 0)
    assert (accepted > 10) == run["drafts"]


# ---- the interfaces


@pytest.fixture(scope="module")
def vllm_loaders() -> tuple[Any, Any]:
    """What loads processors for the V1 runner, and for the V2 runner."""
    from vllm.v1.sample import logits_processor as v1
    from vllm.v1.worker.gpu.sample.logits_processor import loader as v2

    return v1, v2


def test_both_loaders_find_it_by_its_entry_point_and_by_its_name(vllm_loaders: Any) -> None:
    v1, v2 = vllm_loaders
    name = ["logitchain.engines.vllm:LogitsProcessor"]
    (kind,) = v1._load_logitsprocs_plugins()
    assert issubclass(kind, v1.LogitsProcessor)
    assert v2._load_v2_logitsprocs_plugins() == [kind]
    assert v1._load_logitsprocs_by_fqcns(name) == [kind]
    assert v2._load_v2_logitsprocs_by_fqcns(name) == [kind]
    assert pickle.loads(pickle.dumps(kind)) is kind


def test_slots_are_those_of_vllms_batch(vllm_loaders: Any) -> None:
    """Through the batch of the V1 runner itself: requests come, go, close ranks and swap."""
    from vllm import SamplingParams
    from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

    v1, _ = vllm_loaders
    made, cpu = (
        v1._load_logitsprocs_plugins()[0](None, torch.device("cpu"), False),
        torch.device("cpu"),
    )
    sizes = {"max_num_reqs": 8, "max_model_len": 64, "max_num_batched_tokens": 64}
    blocks = {"block_sizes": [16], "max_num_blocks_per_req": [4]}
    batch = InputBatch(
        **sizes, **blocks, device=cpu, vocab_size=VOCAB, logitsprocs=v1.LogitsProcessors([made])
    )
    chance, ours = random.Random(0), {}
    for number in range(MOVES):
        for name in [name for name in batch.req_ids if chance.random() < 0.2]:
            batch.remove_request(name)
        for k in range(min(chance.randrange(3), 8 - batch.num_reqs)):
            name, is_ours = f"{number} {k}", chance.random() < 0.7
            ours[name] = is_ours
            params = SamplingParams(extra_args={"logitchain": {"min_p": 0.1}} if is_ours else None)
            prompt = {"prompt_token_ids": [number, k], "mm_features": [], "block_ids": ([0],)}
            state = {"num_computed_tokens": 0, "output_token_ids": [], "generator": None}
            batch.add_request(CachedRequestState(name, sampling_params=params, **prompt, **state))
        batch.condense()
        if batch.num_reqs > 1 and chance.random() < 0.5:
            batch.swap_states(*chance.sample(range(batch.num_reqs), 2))
        batch.refresh_metadata()
        expected = {r: name for r, name in enumerate(batch.req_ids) if ours[name]}
        assert {r: "{} {}".format(*row[1]) for r, row in made._slots.items()} == expected


def test_the_documentations_own_class_is_loaded(
    vllm_loaders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(# mine.py.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    v1, v2 = vllm_loaders
    (kind,) = v1._load_logitsprocs_by_fqcns(["mine:LlamaCpp"])
    assert v2._load_v2_logitsprocs_by_fqcns(["mine:LlamaCpp"]) == [kind]
    made = processor({"min_p": 0.5}, [], kind, field="llama_cpp")
    logits = rows_of(0)
    made.apply(logits)
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(min_p=0.5))
    assert (logits[:1].numpy() == lc.Chain.preset("llama_cpp")(rows_of(0)[:1], batch)).all()
    assert (logits[1] == rows_of(0)[1]).all()


def processor(
    ours: Any, output: list[int], kind: Any = vllm.Processor, field: str = "logitchain"
) -> Any:
    """One for the V1 runner with a request in slot 0, and with another's in slot 1."""
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    made = kind(None, torch.device("cpu"), False)
    asked = SamplingParams(seed=7, extra_args={field: ours})
    added = [(0, asked, [1], output), (1, SamplingParams(), [2], [])]
    made.update_state(BatchUpdate(2, removed=[], added=added, moved=[]))
    return made


def rows_of(seed: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (2, VOCAB)).astype("f4"))


@pytest.mark.parametrize(
    ("ours", "drawn"),
    [({**EVERY, "temperature": 0.3}, True), (MARKED, True), (XTC, False), (FORCED, False)],
)
def test_tokens_that_are_not_read_back_are_known_or_counted(ours: Any, drawn: bool) -> None:
    """As vLLM schedules ahead: a token is -1 until something other than us wants it."""
    output: list[int] = []
    made = processor({**ours, "draw": drawn}, output)
    batch, chain = lc.Batch(VOCAB), lc.Chain()
    batch.add(lc.Params(**ours, seed=7), [1])
    for _ in range(12):
        logits = rows_of(0)
        expected = chain(logits[:1].numpy(), batch)
        token = int(chain.sample(logits[:1].numpy(), batch)[0])
        made.update_state(None)
        made.apply(logits)
        if drawn:
            assert torch.isfinite(logits[0]).nonzero().tolist() == [[token]]
        else:
            assert (logits[:1].numpy() == expected).all()
        batch.append([token])
        output.append(-1)


GREEN = {"watermark": {"scheme": "sbw", "key": 42}}
BUDGET = {"reasoning_end": [40], "reasoning_budget": 4}


@pytest.mark.parametrize("ours", [HISTORY, GREEN, BUDGET], ids=str)
def test_history_that_is_not_read_back_is_not_made_up(
    ours: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made, logits = processor(ours, [5, -1]), rows_of(0)
    made.apply(logits)
    made.apply(logits)
    assert (logits == rows_of(0)).all()
    assert caplog.text.count("--no-async-scheduling") == 1


def test_rows_of_others_keep_their_bits() -> None:
    for ours in ({"temperature": 0.5}, {"temperature": 0.5, "draw": True}):
        logits = rows_of(0)
        assert processor(ours, []).apply(logits) is logits
        assert (logits[1] == rows_of(0)[1]).all()
        assert (logits[0] != rows_of(0)[0]).any()


def test_a_slot_of_the_v2_runner_has_its_last_request_only(vllm_loaders: Any) -> None:
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

    rows = torch.tensor([0, 1])
    tokens, sizes = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([3, 3])
    on_device, on_host = (types.SimpleNamespace(gpu=x, np=x.numpy()) for x in (tokens, sizes))
    states = LogitsProcRequestState(rows.device, 2, VOCAB, on_device, on_host, on_host, on_host)
    ctx = LogitsContext(rows, rows, rows.numpy(), rows * 0, rows, rows, rows.numpy())
    made, logits = vllm.Processor(None, states), rows_of(0)
    ours = SamplingParams(extra_args={"logitchain": {"min_p": 0.5}})
    assert [made.add_request(slot, ours) for slot in (0, 1)] == [True, True]
    assert not made.add_request(0, SamplingParams())
    made.apply(logits, ctx)
    assert (logits[0] == rows_of(0)[0]).all()
    assert (logits[1] != rows_of(0)[1]).any()


@pytest.mark.parametrize(
    "ours",
    [
        {"temperature": np.float64(0.5)},
        {"allowed_tokens": range(4)},
        {"bad_words": [np.array([1, 2])]},
        {"logit_bias": {np.int64(1): 3.0}},
    ],
)
def test_what_vllm_cannot_send_to_its_engine_is_refused(ours: Any) -> None:
    """The request would be stuck there, and all after it, or come as something else."""
    asked = types.SimpleNamespace(extra_args={"logitchain": ours}, seed=None, n=1)
    with pytest.raises(ValueError, match="logitchain: must hold plain Python values only"):
        vllm.Processor.validate_params(asked)


def test_json_nested_too_deep_ends_no_engine(caplog: pytest.LogCaptureFixture) -> None:
    """What vLLM's front reads may be too deep for its engine, whose stack is deeper."""
    text = '{"messages": ' + "[" * 10_000 + "]" * 10_000 + "}"
    with pytest.raises(ValueError, match="logitchain: maximum recursion"):
        vllm.Processor.validate_params(
            types.SimpleNamespace(extra_args={"logitchain": text}, seed=None)
        )
    assert not processor(text, [])._slots
    assert "a request is left to vLLM: logitchain: maximum recursion" in caplog.text


def test_replicas_of_an_engine_do_not_draw_alike() -> None:
    """vLLM shares out the n samples of a request among them, and they have one id."""
    seeds = [
        vllm.Processor(
            types.SimpleNamespace(
                instance_id="1", parallel_config=types.SimpleNamespace(data_parallel_index=i)
            )
        )._seed
        for i in (0, 1, 0)
    ]
    assert seeds[0] == seeds[2] != seeds[1]


def test_one_interface_may_derive_from_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(ABC):
        @abstractmethod
        def apply(self, logits: Any) -> Any: ...

    kinds = Older, type("Newer", (Older,), {})
    for path, kind in zip(vllm.INTERFACES, kinds, strict=True):
        monkeypatch.setitem(sys.modules, path, types.SimpleNamespace(LogitsProcessor=kind))
    assert issubclass(vllm.LogitsProcessor, (vllm.Processor, *kinds))


class Interface(ABC):
    """Of a vLLM that does things in another way."""

    @abstractmethod
    def __init__(self, config: Any, other: Any, third: Any, fourth: Any) -> None: ...

    @abstractmethod
    def apply(self, logits: Any, more: Any) -> Any: ...

    @abstractmethod
    def update_state(self, update: Any) -> None: ...

    @abstractmethod
    def adjust(self, logits: Any) -> bool: ...


@pytest.fixture(params=[Interface, None], ids=["another interface", "no interface"])
def strange(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for path in vllm.INTERFACES:
        monkeypatch.setitem(sys.modules, path, types.SimpleNamespace(LogitsProcessor=request.param))
    return vllm


def test_an_unknown_interface_stops_no_engine(strange: Any, caplog: Any) -> None:
    kind = strange.LogitsProcessor
    asked = types.SimpleNamespace(extra_args={"logitchain": {}})
    made = kind(1, 2, 3, 4)
    logits = rows_of(0)
    assert "does not know this vLLM" in caplog.text
    assert made.apply(logits, "anything") is logits
    assert made.adjust(logits) is False
    assert made.update_state(None) is False
    kind.validate_params(types.SimpleNamespace(extra_args=None))
    with pytest.raises(ValueError, match="not known"):
        kind.validate_params(asked)


def test_importing_it_imports_neither_vllm_nor_torch() -> None:
    code = (
        "import sys, logitchain.engines.vllm as x; x.LogitsProcessor; "
        "assert not {'vllm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documentations_snippet_runs(tmp_path: Path) -> None:
    """With the model of that name as a folder, made of what a package carries."""
    make = HERE.parents[1] / "docs/examples/smollm2_folder.py"
    subprocess.run([sys.executable, make, tmp_path], check=True)
    code, _ = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    code = code.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tmp_path))
    environment = {**os.environ, **vllm_engine.ENVIRONMENT}
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert len(told.stdout.splitlines()) >= 2
