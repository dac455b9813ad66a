"""The conformance kit without an engine: its cases, its comparison, its report, its table."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from logitchain.__main__ import main
from logitchain.conformance import ENGINES, Report, check
from logitchain.conformance.cases import Case
from logitchain.conformance.compare import compare, ours
from logitchain.conformance.drawn import drawn_cases
from logitchain.conformance.edges import edge_cases
from logitchain.conformance.golden import golden_cases
from logitchain.conformance.known import ANY, Known, fewer, instead, invalid_row, tied, within
from logitchain.conformance.run import differences

DOCS = Path(__file__).parent.parent / "docs"
MODULES = [import_module(f"logitchain.conformance.{engine}") for engine in ENGINES]
ROW = np.array([1.0, 3.0, -2.0, 2.0], np.float32)
CASE = Case("made here", ROW, {"temperature": 0.5})


def cases(controls, rows=2):
    """Those on small rows, which interpreted kernels are quick enough for."""
    found = (*golden_cases(), *edge_cases(), *drawn_cases(controls, rows))
    small = [case for case in found if case.row.size <= 200]
    return [case for case in small if set(case.controls) <= set(controls)]


def changed(**tokens):
    """The row with some logits changed."""
    row = ROW.copy()
    for token, value in tokens.items():
        row[int(token[1:])] = value
    return row


@pytest.mark.parametrize("module", MODULES, ids=ENGINES)
def test_every_known_difference_is_a_line_of_the_documentation(module):
    pages = (DOCS / "controls.md").read_text() + (DOCS / "presets.md").read_text()
    text = " ".join(pages.split())
    assert module.KNOWN
    assert not [known.because for known in module.KNOWN if known.because not in text]


@pytest.mark.parametrize("module", MODULES, ids=ENGINES)
def test_an_engine_has_no_controls_that_its_preset_lacks(module):
    preset = {step.name for step in import_module("logitchain").Chain.preset(_name(module)).steps}
    assert set(module.CONTROLS) <= preset


def _name(module):
    return module.__name__.rpartition(".")[2]


def test_the_kit_imports_no_engine_before_it_is_run():
    names = [f"logitchain.conformance.{engine}" for engine in ENGINES]
    code = f"import sys, {', '.join(names)}; print([x for x in sys.modules if '.' not in x])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peers = {*ENGINES, "torch", "mlx", "xllamacpp"}
    assert not peers & set(re.findall(r"'(\w+)'", found.stdout))


@pytest.mark.parametrize("preset", ["llama_cpp", "sglang"])
def test_a_preset_agrees_with_itself(preset):
    asked = cases(import_module(f"logitchain.conformance.{preset}").CONTROLS)
    assert len(asked) > 150
    assert not list(differences(preset, lambda case: ours(preset, case), asked))


def test_another_order_is_seen_in_the_chain_alone():
    """The two presets have these controls alike, in another order."""
    asked = cases(("temperature", "top_p", "min_p"), 12)
    found = list(differences("llama_cpp", lambda case: ours("vllm", case), asked))
    assert found
    assert {difference.case.control for difference in found} == {"chain"}


@pytest.mark.parametrize(
    ("engine", "kind", "tokens"),
    [
        (changed(t2=-np.inf), "tokens", [2]),
        (changed(t0=1.001), "logits", []),
        (changed(t0=np.nan), "logits", []),
        ("ValueError: no", "engine error", []),
    ],
)
def test_what_differs(engine, kind, tokens):
    difference = compare("vllm", CASE, ROW, engine)
    assert difference.kind == kind
    assert difference.tokens.tolist() == tokens


def test_an_error_on_one_side_only_differs():
    assert compare("vllm", CASE, "ValueError: no", "TypeError: nor here") is None
    assert compare("vllm", CASE, "ValueError: no", ROW).kind == "library error"


@pytest.mark.parametrize(
    "engine", [ROW + np.float32(7.0), np.nextafter(ROW, np.float32(9)), changed(t2=-300.0)]
)
def test_what_is_the_same_distribution_does_not_differ(engine):
    library = ROW if engine[2] > -300 else changed(t2=-200.0)
    assert compare("vllm", CASE, library, engine) is None


def test_tokens_that_are_tied():
    case = Case("made here", np.array([1, 2, 2, 2], np.float32), {"top_k": 2})
    library, engine = ours("llama_cpp", case), np.array([-np.inf, 2, -np.inf, 2], np.float32)
    assert tied()(compare("llama_cpp", case, library, engine), "top_k")
    assert not tied()(compare("llama_cpp", case, engine, library), "top_k")
    only = np.array([-np.inf, 2, -np.inf, -np.inf], np.float32)
    assert not tied()(compare("llama_cpp", case, library, only), "top_k")
    assert tied(fewer)(compare("llama_cpp", case, library, only), "top_k")
    none = np.array([1, -np.inf, -np.inf, -np.inf], np.float32)
    assert not tied(fewer)(compare("llama_cpp", case, library, none), "top_k")


def test_tokens_at_the_edge_of_a_nucleus():
    row = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    case = Case("made here", row, {"top_p": 0.8})
    difference = compare("vllm", case, ours("vllm", case), row)
    assert difference.tokens.tolist() == [2]
    assert within(1e-6)(difference, "top_p")
    case = case._replace(fields={"top_p": 0.75})
    assert not within(1e-6)(compare("vllm", case, ours("vllm", case), row), "top_p")


def test_what_an_engine_takes_instead():
    off = instead(lambda case: case.get("top_k") == -1, top_k=0)
    case = CASE._replace(fields={"top_k": -1})
    refused = "ValueError: top_k must be in [0, 4], not -1"
    assert off(compare("vllm", case, refused, ROW), "top_k")
    assert not off(compare("vllm", case, refused, changed(t2=-np.inf)), "top_k")
    assert not off(compare("vllm", case, ROW, "ValueError: nor there"), "top_k")
    assert not off(compare("vllm", CASE, refused, ROW), "top_k")
    case = case._replace(fields={"top_k": -1, "top_p": 0.0})  # refused here all the same
    assert not off(compare("vllm", case, refused, ROW), "top_k")


def test_a_fit_row_that_is_refused_is_no_row_that_is_not_fit():
    left, none = ROW, np.full(4, -np.inf, np.float32)
    refused = "ValueError: logits: row 0, no finite logit is left"
    assert not invalid_row(compare("vllm", CASE, refused, left), ANY)
    assert invalid_row(compare("vllm", CASE, refused, none), ANY)
    nan = CASE._replace(row=changed(t1=np.nan))
    assert invalid_row(compare("vllm", nan, refused, left), ANY)
    assert not invalid_row(compare("vllm", nan, "TypeError: no", left), ANY)


def test_what_a_report_makes_of_differences():
    difference = compare("vllm", CASE, ROW, changed(t2=-np.inf))
    known = Known("temperature", lambda d, control: True, "a line")
    on_last_bits = Known("temperature", lambda d, control: True, "another", rounding=True)
    explained = Report("vllm", "vLLM 1", [CASE], {known: [difference], on_last_bits: []}, [])
    assert explained.ok
    assert explained.counts() == {
        "temperature": {"cases": 1, "agree": 0, "explained": 1, "unexplained": 0}
    }
    assert "temperature, 1 case: a line" in str(explained)
    unseen = Report("vllm", "vLLM 1", [CASE], {known: []}, [])
    assert not unseen.ok
    assert "Known, but not seen any more:\n\ntemperature: a line" in str(unseen)
    unexplained = Report("vllm", "vLLM 1", [CASE], {}, [difference])
    assert not unexplained.ok
    assert "token 2" not in str(explained)  # a short row is shown whole
    assert "engine:     logits [1.0, 3.0, -inf, 2.0]" in str(unexplained)
    told = json.loads(json.dumps(unexplained.as_dict()))
    assert told["unexplained"][0]["differs"] == "tokens"


def test_the_golden_cases_that_no_request_can_ask_for():
    path = Path(import_module("logitchain.conformance").__file__).with_name("golden.json")
    names = {case["id"] for case in json.loads(path.read_text())["cases"]}
    asked = {case.name.removeprefix("golden ").rpartition(", row")[0] for case in golden_cases()}
    assert asked <= names
    assert len(names - asked) == 32
    why = ("vllm_topk", "vllm_params", "nonfinite", "min_keep", "ignored", "hf/min_length")
    why += ("protected", "special", "bitmask", "restore", "vllm_sampler", "uniform_ties")
    assert not [name for name in names - asked if not any(word in name for word in why)]


def test_an_engine_that_is_not_there(monkeypatch, capsys):
    def missing():
        raise ModuleNotFoundError("one of xllamacpp, llama_cpp must be installed")

    monkeypatch.setattr("logitchain.conformance.llama_cpp.version", missing)
    assert main(["conformance", "llama_cpp"]) == 2
    assert capsys.readouterr().err == (
        "logitchain: llama_cpp cannot be run here: one of xllamacpp, llama_cpp must be installed\n"
    )


def test_names_and_numbers_that_are_refused():
    with pytest.raises(ValueError, match="engine must be one of llama_cpp, transformers"):
        check("ollama")
    with pytest.raises(SystemExit, match="2"):
        main(["conformance", "llama_cpp", "--rows", "-1"])


def test_the_command_line_prints_what_a_run_gives(monkeypatch, capsys):
    module = MODULES[0]
    monkeypatch.setattr("logitchain.conformance.run.golden_cases", lambda: [])
    monkeypatch.setattr(module, "version", lambda: "llama.cpp of today")
    monkeypatch.setattr(module, "process", lambda case: ours("llama_cpp", case))
    assert main(["conformance", "llama_cpp", "--rows", "1", "--json"]) == 1  # no known one is seen
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == "llama.cpp of today"
    assert not told["unexplained"]
    monkeypatch.setattr(module, "KNOWN", ())
    assert main(["conformance", "llama_cpp", "--rows", "1"]) == 0
    assert capsys.readouterr().out.startswith("llama.cpp of today against")


def test_a_reader_that_has_gone_changes_no_status():
    code = (
        "import sys; from logitchain import __main__ as it; from logitchain.conformance import *\n"
        "sys.modules['logitchain.conformance'].check = "
        "lambda engine, rows: Report(engine, 'x' * 10**6, [], {}, [])\n"
        "sys.exit(it.main(['conformance', 'llama_cpp']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.read(1)
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait() == 0
