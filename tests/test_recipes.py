"""docs/recipes.md: its request bodies are understood, and do what it says."""

import json
import re
from pathlib import Path

import pytest

import logitchain as lc

PAGE = (Path(__file__).parents[1] / "docs/recipes.md").read_text()
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
BODIES = {
    name: json.loads(body)
    for name, part in SECTIONS.items()
    for body in re.findall(r"```json\n(.*?)```", part, re.DOTALL)
}


def test_there_is_a_body_for_each_problem():
    assert BODIES.keys() == SECTIONS.keys()


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_understood_and_sets_something(name):
    dialect = "llama_cpp" if "llama.cpp" in name else "openai"
    params = lc.Params.from_request(BODIES[name], dialect=dialect)
    assert params != lc.Params()
    assert lc.Chain.from_request(BODIES[name], dialect=dialect).steps


def test_a_loop_is_ended_as_the_page_says():
    params = lc.Params.from_request(BODIES["It repeats itself"])
    batch = lc.Batch(49_152)
    sentence = list(range(1000, 1022))
    (row,) = batch.add(params, prompt_tokens=[*sentence, 5, *sentence])
    explanation = lc.Chain().explain([0.0] * 5 + [10.0] + [0.0] * 49_146, batch, row)
    (dry,) = (stage for stage in explanation.stages if stage.name == "dry")
    assert dry.before.logits[5] - dry.logits[5] == pytest.approx(0.8 * 1.75**20, rel=1e-5)
