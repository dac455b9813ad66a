"""The adapter of mlx-lm against the engine's CPU build, on two layers of a real model."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from asked import EVERYTHING, LONGER, VOCAB
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from smollm2_folder import write_folder

import logitchain as lc
from logitchain.engines.mlx_lm import Sampler, samplers

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("default")  # what the engine warns of is its own

PROMPT = [1, 9690, 198, 1780, 314, 260, 3575, 282, 4649, 47, 5, 198]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place where the model that the documentation's snippets load is."""
    place = tmp_path_factory.mktemp("mlx_lm")
    write_folder(place / "smollm2", layers=2)
    return place


@pytest.fixture(scope="module")
def loaded(folder):
    return mlx_lm.load(str(folder / "smollm2"))


@pytest.fixture
def model(loaded):
    yield loaded[0]
    loaded[0].set_dtype(mx.float32)


class Recorder:
    """A processor that keeps a copy of the logits."""

    def __init__(self):
        self.logits = []

    def __call__(self, tokens, logits):
        self.logits.append(np.array(logits.astype(mx.float32)))
        return logits


def stream(loaded, sampler, prompt=PROMPT, size=20, before=(), **options):
    """The responses to a prompt."""
    chain = [*before, sampler.processor]
    options = {"sampler": sampler, "logits_processors": chain, "max_tokens": size, **options}
    return list(mlx_lm.stream_generate(*loaded, prompt, **options))


def generate(loaded, params=EVERYTHING, prompt=PROMPT, **options):
    """The tokens of one request alone."""
    responses = stream(loaded, Sampler(params, prompt, VOCAB), prompt, **options)
    return [response.token for response in responses]


def generate_together(model, prompts, each, before=()):
    """The tokens of several requests in one BatchGenerator, and why each ended."""
    generator = BatchGenerator(model, max_tokens=20, stop_tokens=[[2], [0]])
    processors = [[*before, sampler.processor] for sampler in each]
    uids = generator.insert(prompts, samplers=each, logits_processors=processors)
    generated, reasons = {uid: [] for uid in uids}, {}
    while responses := generator.next_generated():
        for response in responses:
            generated[response.uid].append(response.token)
            reasons[response.uid] = response.finish_reason
    return [generated[uid] for uid in uids], [reasons[uid] for uid in uids]


def spoil(tokens, logits):
    """A processor that spoils the fourth token of PROMPT's answer."""
    if tokens[: len(PROMPT)].tolist() == PROMPT and len(tokens) == len(PROMPT) + 3:
        logits[:, 17] = mx.nan
    return logits


def test_importing_the_adapter_does_not_import_the_engine():
    code = "import sys, logitchain.engines.mlx_lm; print({'mlx', 'mlx_lm'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16], ids=str)
def test_the_tokens_are_those_of_the_chain_on_the_engines_logits(loaded, model, dtype, seed):
    model.set_dtype(dtype)
    params, recorder = replace(EVERYTHING, seed=seed), Recorder()
    responses = stream(loaded, Sampler(params, PROMPT, VOCAB), before=[recorder])
    batch, chain = lc.Batch(VOCAB), lc.Chain()
    batch.add(params, PROMPT)
    assert len(responses) > 5
    for response, logits in zip(responses, recorder.logits, strict=False):  # one step ahead
        assert [response.token] == chain.sample(logits, batch).tolist()
        batch.append([response.token])


def test_the_log_probabilities_are_the_models_own(loaded):
    recorder = Recorder()
    responses = stream(loaded, Sampler(EVERYTHING, PROMPT, VOCAB), before=[recorder], size=3)
    for response, logits in zip(responses, recorder.logits, strict=False):
        np.testing.assert_allclose(response.logprobs, lc.logprobs(logits[0]), atol=1e-4)


def test_a_request_gets_the_same_tokens_beside_others_and_again(loaded):
    alone = generate(loaded)
    assert generate(loaded) == alone
    assert generate(loaded, replace(EVERYTHING, seed=2)) != alone
    requests = lc.Params(seed=5), EVERYTHING, lc.Params(temperature=0.5, seed=6)
    prompts = LONGER, PROMPT, LONGER
    each = [Sampler(one, ids, VOCAB) for one, ids in zip(requests, prompts, strict=True)]
    generated, _ = generate_together(loaded[0], prompts, each)
    assert generated[1] == alone


def test_n_samples_are_n_samplers(loaded):
    each = samplers(replace(EVERYTHING, n=3), PROMPT, VOCAB)
    generated, _ = generate_together(loaded[0], [PROMPT] * 3, each)
    batch = lc.Batch(VOCAB)
    rows = batch.add(replace(EVERYTHING, n=3), PROMPT)
    assert generated == [
        generate(loaded, replace(EVERYTHING, seed=batch.seed(row))) for row in rows
    ]
    assert len({tuple(tokens) for tokens in generated}) == 3


def test_drafts_change_no_token(loaded, folder):
    """The draft model has half the layers: it is right at times, and what it adds is taken back."""
    draft, _ = mlx_lm.load(str(folder / "smollm2"))
    draft.model.layers = draft.model.layers[:1]
    sampler = Sampler(EVERYTHING, PROMPT, VOCAB)
    responses = stream(loaded, sampler, draft_model=draft, num_draft_tokens=3)
    assert [response.token for response in responses] == generate(loaded)
    assert len({response.from_draft for response in responses}) == 2


def test_tokens_of_a_prompt_cache_count_as_history(loaded):
    cache = make_prompt_cache(loaded[0])
    loaded[0](mx.array([PROMPT[:8]]), cache=cache)
    sampler = Sampler(EVERYTHING, PROMPT, VOCAB)
    responses = stream(loaded, sampler, PROMPT[8:], prompt_cache=cache)
    assert [response.token for response in responses] == generate(loaded)


@pytest.mark.parametrize("drafts", [False, True])
def test_a_sequence_ends_where_its_request_says(loaded, folder, drafts):
    draft, _ = mlx_lm.load(str(folder / "smollm2"))
    draft.model.layers = draft.model.layers[:1]
    options = {"draft_model": draft, "num_draft_tokens": 3} if drafts else {}
    said = generate(loaded, EVERYTHING)
    loop = {"max_pattern_size": 1, "min_count": 3}
    looping = lc.Params(logit_bias={77: 1000.0}, eos_token=2, repetition_detection=loop)
    for params, expected in (
        (replace(EVERYTHING, stop_tokens=[said[6:8]]), [*said[:8], 2]),
        (replace(EVERYTHING, max_total_tokens=len(PROMPT) + 5), [*said[:5], 2]),
        (looping, [77, 77, 77, 2]),
    ):
        assert generate(loaded, params, **options) == expected
    with pytest.raises(ValueError, match="stop_tokens needs eos_token"):
        Sampler(lc.Params(stop_tokens=[5]), PROMPT, VOCAB)


def test_a_mark_of_the_draw_is_that_of_the_chain(loaded):
    mark = lc.Watermark("gumbel", key=42)
    params = replace(EVERYTHING, mirostat_tau=None, temperature=1.5, watermark=mark)
    tokens = generate(loaded, params, size=60)
    assert lc.detect_watermark(tokens, mark).p_value < 1e-6


def test_a_row_that_is_not_fit_ends_alone_where_the_chain_marks(loaded):
    chain = lc.Chain(on_invalid="mark")
    prompts = PROMPT, LONGER
    each = [Sampler(EVERYTHING, prompt, VOCAB, chain) for prompt in prompts]
    generated, reasons = generate_together(loaded[0], prompts, each, before=[spoil])
    assert generated == [[*generate(loaded)[:3], 2], generate(loaded, prompt=LONGER)]
    assert reasons == ["stop", "length"]
    assert [sampler.status for sampler in each] == ["token 17 is nan", "ok"]


def test_a_row_that_is_not_fit_raises_else(loaded):
    with pytest.raises(ValueError, match="logits: row 0, token 17 is nan"):
        stream(loaded, Sampler(EVERYTHING, PROMPT, VOCAB), before=[spoil])


def test_a_sampler_without_its_processor_says_so(loaded):
    sampler = Sampler(EVERYTHING, PROMPT, VOCAB)
    with pytest.raises(ValueError, match="logits_processors must have this sampler's processor"):
        list(mlx_lm.stream_generate(*loaded, PROMPT, sampler=sampler))
    stream(loaded, sampler, size=2)
    with pytest.raises(ValueError, match="logits_processors must have this sampler's processor"):
        list(mlx_lm.stream_generate(*loaded, PROMPT, sampler=sampler))  # no token is drawn twice


def test_a_sampler_of_another_prompt_says_so(loaded):
    fresh, used = (Sampler(EVERYTHING, PROMPT, VOCAB) for _ in range(2))
    stream(loaded, used, size=2)
    for sampler in (fresh, used):
        with pytest.raises(ValueError, match="prompt_tokens must be those of the prompt"):
            stream(loaded, sampler, LONGER)


def test_a_sampler_for_several_sequences_says_so(loaded):
    sampler = Sampler(EVERYTHING, PROMPT, VOCAB)
    options = {"sampler": sampler, "logits_processors": [sampler.processor]}
    with pytest.raises(ValueError, match="logprobs must be of one sequence, not of 2"):
        mlx_lm.batch_generate(*loaded, [PROMPT, PROMPT], **options)


def test_requests_that_cannot_be_served_are_refused():
    with pytest.raises(ValueError, match="n must be 1, not 2"):
        Sampler(lc.Params(n=2), PROMPT, VOCAB)
    with pytest.raises(ValueError, match="eos_token must name a token"):
        Sampler(lc.Params(), PROMPT, VOCAB, lc.Chain(on_invalid="mark"))
    with pytest.raises(ValueError, match=r"top_k must be in \[0, 49152\], not 50000"):
        samplers(lc.Params(top_k=50_000), PROMPT, VOCAB)


def test_the_snippets_of_the_documentation_run(folder, monkeypatch, capsys):
    text = (ROOT / "docs/engines/mlx_lm.md").read_text()
    alone, together = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(folder)
    names = {}
    exec(alone, names)
    printed = capsys.readouterr().out
    assert len(names["sampler"].batch.output(0)) > 0
    assert names["response"].text in printed
    exec(together, names)
    first, second, third = names["generated"].values()
    assert len({tuple(first), tuple(second), tuple(third)}) == 3
    assert names["tokenizer"].decode(third) in capsys.readouterr().out
