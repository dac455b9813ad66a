"""The adapter of onnxruntime-genai against the engine, on two layers of a real model."""

import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import pytest
from asked import EVERYTHING, LONGER, VOCAB
from smollm2_folder import write_folder

import logitchain as lc
from logitchain.engines.onnxruntime_genai import Sampler

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("default")  # what the engine warns of is its own

PROMPT = [1, 9690, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place where the model that the documentation's snippet loads is, in the engine's form."""
    place = tmp_path_factory.mktemp("onnxruntime_genai")
    source = write_folder(place / "smollm2", layers=2)
    options = ["-p", "fp32", "-e", "cpu", "--extra_options", "hf_token=false"]
    paths = ["-i", source, "-o", place / "smollm2-onnx", "-c", place / "cache"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    subprocess.run([*builder, *paths, *options], check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def model(folder):
    return og.Model(str(folder / "smollm2-onnx"))


def start(model, prompts, size=24):
    """A generator of up to `size` more tokens for each prompt."""
    longest = max(map(len, prompts))
    padded = [prompt + [2] * (longest - len(prompt)) for prompt in prompts]
    options = og.GeneratorParams(model)
    options.set_search_options(batch_size=len(prompts), max_length=longest + size)
    generator = og.Generator(model, options)
    generator.append_tokens(np.array(padded, np.int32))
    return generator


def filled(*requests):
    """A batch of these (params, prompt)."""
    batch = lc.Batch(VOCAB)
    for params, prompt in requests:
        batch.add(params, prompt)
    return batch


def finish(generator, sampler):
    """Each step's tokens until the generator is done, (steps, rows)."""
    steps = []
    while not generator.is_done():
        steps.append(sampler.generate_next_token())
    return np.array(steps)


def generate(model, params, prompt=PROMPT, size=24):
    """The tokens of one request alone."""
    generator = start(model, [prompt], size)
    return finish(generator, Sampler(generator, filled((params, prompt))))[:, 0].tolist()


class Watched:
    """A generator that keeps a copy of the logits it gives, and may spoil them."""

    def __init__(self, generator, spoil=lambda step, logits: None):
        self._generator, self._spoil, self.logits = generator, spoil, []

    def __getattr__(self, name):
        return getattr(self._generator, name)

    def get_logits(self):
        logits = self._generator.get_logits()
        self._spoil(len(self.logits), logits)
        self.logits.append(logits[:, -1].copy())
        return logits


def spoil_second_row(step, logits):
    if step >= 3:
        logits[1, -1, 17] = np.nan


def test_importing_the_adapter_does_not_import_the_engine():
    engine = "onnxruntime_genai"
    code = f"import sys, logitchain.engines.{engine}; print({{'{engine}'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("seed", range(4))
def test_the_tokens_are_those_of_the_chain_on_the_engines_logits(model, seed):
    params = replace(EVERYTHING, seed=seed)
    generator = Watched(start(model, [PROMPT, LONGER]))
    requests = (params, PROMPT), (replace(params, temperature=0.0), LONGER)
    steps = finish(generator, Sampler(generator, filled(*requests)))
    batch, chain = filled(*requests), lc.Chain()
    assert len(steps) == len(generator.logits) > 5
    for tokens, logits in zip(steps, generator.logits, strict=True):
        np.testing.assert_array_equal(tokens, chain.sample(logits, batch))
        batch.append(tokens)
    for r, prompt in enumerate((PROMPT, LONGER)):
        sequence = generator.get_sequence(r)
        assert sequence[: len(prompt)].tolist() == prompt
        np.testing.assert_array_equal(sequence[len(LONGER) :], steps[:, r])


def test_a_request_gets_the_same_tokens_beside_others_and_again(model):
    alone = generate(model, EVERYTHING)
    assert generate(model, EVERYTHING) == alone
    assert generate(model, replace(EVERYTHING, seed=2)) != alone
    generator = start(model, [LONGER, PROMPT, LONGER])
    others = lc.Params(seed=5), lc.Params(temperature=0.5, seed=6)
    batch = filled((others[0], LONGER), (EVERYTHING, PROMPT), (others[1], LONGER))
    assert finish(generator, Sampler(generator, batch))[:, 1].tolist() == alone


def test_n_samples_are_n_rows(model):
    generator = start(model, [PROMPT] * 3)
    batch = filled((replace(EVERYTHING, n=3), PROMPT))
    steps = finish(generator, Sampler(generator, batch))
    for r, row in enumerate(batch.rows):
        alone = generate(model, replace(EVERYTHING, seed=batch.seed(row)))
        assert steps[: len(alone), r].tolist() == alone
    assert len({tuple(column) for column in steps.T}) == 3


def test_a_row_ends_at_its_end_and_the_others_go_on(model):
    ends = replace(EVERYTHING, logit_bias={2: 100.0})
    generator = start(model, [PROMPT, PROMPT])
    steps = finish(generator, Sampler(generator, filled((ends, PROMPT), (EVERYTHING, PROMPT))))
    assert steps[:5, 0].tolist().count(2) == 0  # min_tokens
    assert steps[5:, 0].tolist() == [2] * 19  # then the end, and the engine's padding
    assert steps[:, 1].tolist() == generate(model, EVERYTHING)
    assert len(generate(model, ends)) == 6


def test_a_row_ends_where_its_request_says(model):
    said = generate(model, EVERYTHING)
    loop = {"max_pattern_size": 1, "min_count": 3}
    looping = lc.Params(logit_bias={77: 1000.0}, eos_token=2, repetition_detection=loop)
    requests = [
        (replace(EVERYTHING, stop_tokens=[said[6:8]]), PROMPT),
        (replace(EVERYTHING, max_total_tokens=len(PROMPT) + 5), PROMPT),
        (looping, PROMPT),
        (EVERYTHING, PROMPT),
    ]
    generator = start(model, [PROMPT] * 4)
    steps = finish(generator, Sampler(generator, filled(*requests))).T.tolist()
    for row, expected in zip(steps, (said[:8], said[:5], [77] * 3, said), strict=True):
        assert row == expected + [2] * (24 - len(expected))
    with pytest.raises(ValueError, match="stop_tokens needs eos_token"):
        Sampler(start(model, [PROMPT]), filled((lc.Params(stop_tokens=[5]), PROMPT)))


def test_a_mark_of_the_draw_is_that_of_the_chain(model):
    mark = lc.Watermark("gumbel", key=42)
    params = replace(EVERYTHING, mirostat_tau=None, temperature=1.5, watermark=mark)
    tokens = generate(model, params, size=60)
    assert lc.detect_watermark(tokens, mark).p_value < 1e-6


def test_a_row_that_is_not_fit_ends_alone_where_the_chain_marks(model):
    generator = Watched(start(model, [PROMPT, LONGER]), spoil_second_row)
    batch = filled((EVERYTHING, PROMPT), (EVERYTHING, LONGER))
    sampler = Sampler(generator, batch, lc.Chain(on_invalid="mark"))
    steps = finish(generator, sampler)
    assert sampler.status == ["ok", "token 17 is nan"]
    assert steps[:, 0].tolist() == generate(model, EVERYTHING)
    assert steps[:3, 1].tolist() == generate(model, EVERYTHING, LONGER)[:3]
    assert steps[3:, 1].tolist() == [2] * 21


def test_a_row_that_is_not_fit_raises_before_the_generator_moves(model):
    generator = Watched(start(model, [PROMPT, LONGER]), spoil_second_row)
    sampler = Sampler(generator, filled((EVERYTHING, PROMPT), (EVERYTHING, LONGER)))
    for _ in range(3):
        sampler.generate_next_token()
    with pytest.raises(ValueError, match="logits: row 1, token 17 is nan"):
        sampler.generate_next_token()
    assert generator.token_count() == len(LONGER) + 3


def test_a_request_without_an_end_cannot_be_marked(model):
    generator = start(model, [PROMPT])
    with pytest.raises(ValueError, match="eos_token must name a token"):
        Sampler(generator, filled((lc.Params(), PROMPT)), lc.Chain(on_invalid="mark"))


def test_a_batch_of_another_size_is_refused(model):
    requests = [(EVERYTHING, PROMPT)] * 3
    with pytest.raises(ValueError, match="batch must have 2 rows, not 3"):
        Sampler(start(model, [PROMPT] * 2), filled(*requests)).generate_next_token()


def test_a_batch_or_a_generator_that_does_not_begin_is_refused(model):
    batch = filled((EVERYTHING, PROMPT))
    with pytest.raises(ValueError, match="generator must have its prompts"):
        Sampler(og.Generator(model, og.GeneratorParams(model)), batch)
    batch.append([500])
    with pytest.raises(ValueError, match="batch must have rows before their first token"):
        Sampler(start(model, [PROMPT]), batch)


@pytest.mark.parametrize("k", [0, 1, 10])
def test_what_comes_after_a_rewind_is_what_came_before(model, k):
    generator = start(model, [PROMPT])
    sampler = Sampler(generator, filled((EVERYTHING, PROMPT)))
    first = finish(generator, sampler)[:, 0].tolist()
    sampler.rewind(k)
    assert generator.get_sequence(0)[len(PROMPT) :].tolist() == first[:k]
    assert finish(generator, sampler)[:, 0].tolist() == first[k:]
    with pytest.raises(ValueError, match=r"k must be in \[0, 24\], not 25"):
        sampler.rewind(25)


def test_tokens_that_the_caller_appends_count_as_output(model):
    """The logits differ in their last bits when the engine reads tokens at once: compare draws."""
    generator = Watched(start(model, [PROMPT]))
    sampler = Sampler(generator, filled((EVERYTHING, PROMPT)))
    generated = [sampler.generate_next_token().item() for _ in range(3)]
    generator.rewind_to(len(PROMPT) + 1)
    generator.append_tokens([500, 501])
    token = sampler.generate_next_token().item()
    batch = filled((EVERYTHING, PROMPT))
    for past in (generated[0], 500, 501):
        batch.append([past])
    assert token == lc.Chain().sample(generator.logits[-1], batch).item()


def test_drafts_can_be_verified_by_hand(model):
    """With the function of the documentation, and drafts of which some are right."""
    text = (ROOT / "docs/engines/onnxruntime_genai.md").read_text()
    (code,) = re.findall(r"^ {6}def verified.*?return tokens$", text, re.DOTALL | re.MULTILINE)
    names = {"np": np, "lc": lc}
    exec(textwrap.dedent(code), names)
    expected = generate(model, EVERYTHING)
    generator, batch = start(model, [PROMPT]), filled((EVERYTHING, PROMPT))
    said, kept = [], []
    while len(said) < 20:
        place = len(said)
        right = expected[place : place + len(kept) % 4]
        tokens = names["verified"](generator, batch, lc.Chain(), [*right, 500])
        kept.append(len(tokens) - 1)
        said += tokens.tolist()
    assert said == expected[: len(said)]
    assert max(kept) == 3
    assert generator.get_sequence(0)[len(PROMPT) :].tolist() == said == batch.output(batch.rows[0])


def test_the_snippet_of_the_documentation_runs(folder, monkeypatch, capsys):
    text = (ROOT / "docs/engines/onnxruntime_genai.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(folder)
    names = {}
    exec(snippet, names)
    printed = capsys.readouterr().out
    assert len(names["batch"]) == 2
    for row in range(2):
        generated = names["generator"].get_sequence(row)[len(names["prompt"]) :]
        assert len(generated) > 0
        assert names["tokenizer"].decode(generated) in printed
