"""What a REPL and a notebook show of an object: short, useful, and never a million characters."""

import dataclasses
import pydoc
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import ClassVar, Generic, TypeVar

import numpy as np
import pytest

import logitchain as lc
from logitchain.controls import CONTROLS

T = TypeVar("T")
VOCAB = 50_000
PARAMS = lc.Params(
    temperature=0.8, top_k=2, seed=1, stop="<b>", logit_bias=dict.fromkeys(range(VOCAB), 1.0)
)


def batch_of(params=PARAMS):
    batch = lc.Batch(VOCAB)
    return batch, batch.add(params)[0]


def explained(decode=None):
    batch, row = batch_of()
    return lc.Chain().explain(np.arange(VOCAB) % 7.0, batch, row, decode)


OBJECTS = {
    "chain": lc.Chain(),
    "step": lc.Chain.preset("llama_cpp").steps[7],
    "batch": batch_of()[0],
    "params": PARAMS,
    "control": CONTROLS[12],
    "field": lc.FIELDS["top_k"],
    "explanation": explained(),
    "stage": explained().stages[-1],
    "presets": lc.PRESETS["vllm"],
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_repr_is_short_and_names_no_address(name):
    text = repr(OBJECTS[name])
    assert len(text) < 2000
    assert " at 0x" not in text
    assert "functools" not in text


def test_reprs_are_code_where_they_can_be():
    params = lc.Params(temperature=0.5, stop=["a"], logit_bias={1: 2.0}, top_h=0.5)
    assert eval(repr(params), {"Params": lc.Params}) == params
    assert repr(lc.Params()) == "Params()"
    chain = lc.Chain(["temperature", ("top_k", {"ties": "all"})], on_invalid="mark", threads=2)
    again = eval(repr(chain), {"Chain": lc.Chain})
    assert (again.steps, again.on_invalid, again.threads) == (chain.steps, "mark", 2)


def test_a_subclass_keeps_the_short_repr_and_may_have_its_own():
    @dataclass(frozen=True, kw_only=True)
    class Mine(lc.Params):
        top_cube: float = lc.field(0.0, "[0, 1]")
        weights: object = None

    @dataclass(frozen=True, kw_only=True)
    class Named(lc.Params):
        def __repr__(self):
            return "named"

    assert repr(Mine(top_cube=0.5, top_k=3)) == "Mine(top_k=3, top_cube=0.5)"
    array = "an array of shape (100,) and float64"
    assert repr(Mine(weights=np.zeros(100))) == f"Mine(weights={array})"
    assert repr(Named(top_k=3)) == "named"


def test_batches_choices_and_stages_say_how_far_they_are():
    batch, _ = batch_of()
    assert repr(batch) == "<Batch of 1 row, vocab_size 50000>"
    assert repr(lc.Batch(7)) == "<Batch of 0 rows, vocab_size 7>"
    vocabulary = [b"</s>", b"Call", b" me"]
    choice = lc.Choice(lc.Params(eos_token=0), vocabulary.__getitem__, seed=1)
    choice.append(1)
    assert repr(choice) == "<Choice 0 of 1 tokens, finish_reason None: 'Call'>"
    choice.append(0)
    assert repr(choice) == "<Choice 0 of 2 tokens, finish_reason stop: 'Call'>"
    stream = lc.TextStream("me")
    stream.feed(b"Call me")
    assert repr(stream) == "<TextStream of 5 characters, stopped by 'me'>"
    stages = {stage.name: stage for stage in explained().stages}
    assert repr(stages["top_k"]) == "<Stage top_k: 2 of 50,000 tokens left>"


def test_an_explanation_is_its_table():
    explanation = explained()
    assert repr(explanation) == str(explanation)
    assert "top_k" in repr(explanation)
    assert explanation == explanation
    assert explanation != dataclasses.replace(explanation)
    assert len({explanation, explanation}) == 1


class Tags(HTMLParser):
    """Reads a table; every tag must be closed by the one that opened last."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.rows = [], [], 0
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


def test_notebooks_show_tables():
    explanation = explained()
    table = Tags(explanation._repr_html_())
    assert {"top_k", "control", "best"} <= set(table.cells)
    assert f"picked {explanation.token}" in table.cells[0]
    assert table.rows == 5  # the header, logits, logit_bias, temperature, top_k

    chain = lc.Chain.preset("llama_cpp")
    table = Tags(chain._repr_html_())
    assert table.rows == 1 + len(chain.steps)
    assert {"dry", "adjust", "window: 64"} <= set(table.cells)

    table = Tags(PARAMS._repr_html_())
    assert {"Params", "temperature", "0.8", "[0, inf)", "('<b>',)"} <= set(table.cells)
    assert table.rows == 1 + 5


def test_texts_of_tokens_are_escaped():
    explanation = explained(decode=lambda token: f"<script>{token}&")
    table = Tags(explanation._repr_html_())
    assert any(cell.startswith("'<script>") for cell in table.cells)
    assert "<script>" not in explanation._repr_html_()


def test_a_callable_and_a_mask_have_their_line():
    def halve(rows, batch):
        rows *= 0.5

    table = Tags(lc.Chain(["allowed_tokens", halve])._repr_html_())
    assert {"halve", "callable", "allowed_tokens"} <= set(table.cells)


@pytest.mark.parametrize("kind", [lc.Batch, lc.Chain, lc.Choice, lc.TextStream, lc.Explanation])
def test_help_tells_every_attribute(kind):
    made = {
        lc.Batch: lambda: lc.Batch(3),
        lc.Chain: lc.Chain,
        lc.Choice: lambda: lc.Choice(lc.Params(), [b""].__getitem__, seed=0),
        lc.TextStream: lc.TextStream,
        lc.Explanation: explained,
    }[kind]()
    public = {name for name in vars(made) if not name.startswith("_")} - {"running"}
    text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []
    assert "Literal['token_bitmask'" not in text


def test_a_subclass_of_several_classes_is_one():
    class Registry:
        names: ClassVar[list[str]] = []

        def __init_subclass__(cls, tag="", **rest):
            super().__init_subclass__(**rest)
            Registry.names.append(cls.__name__ + tag)

    @dataclass(frozen=True, kw_only=True)
    class Tagged(lc.Params, Registry, tag="!"):
        pass

    @dataclass(frozen=True, kw_only=True)
    class Holding(lc.Params, Generic[T]):
        held: T | None = None

    @dataclass(frozen=True, kw_only=True)
    class Loud(lc.Params):
        def __repr__(self):
            return "loud"

    @dataclass(frozen=True, kw_only=True)
    class Louder(Loud):
        more: int = 1

    assert Registry.names == ["Tagged!"]
    assert repr(Holding[int](held=3)) == "Holding(held=3)"
    assert repr(Louder()) == "loud"


def test_what_is_set_is_shown_however_long_it_is():
    @dataclass(frozen=True, kw_only=True)
    class Mine(lc.Params):
        text: str = "a" * 100
        words: tuple[int, ...] = tuple(range(30))

    assert repr(Mine()) == "Mine()"
    assert repr(Mine(text="a" * 100 + "b")).startswith("Mine(text='aaa")
    assert repr(Mine(words=(*range(20), *range(100)))).startswith("Mine(words=(0, 1, ")


def test_an_option_is_cut():
    chain = lc.Chain([("xtc", {"protected_ids": range(100_000)})])
    assert len(repr(chain)) < 200
    assert len(chain._repr_html_()) < 1000
