"""Every engine that is installed against its preset, and kernels that are broken on purpose."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import without_cuda

from logitchain import chain
from logitchain.__main__ import main
from logitchain.conformance import ENGINES, check
from logitchain.conformance.compare import compare
from logitchain.conformance.known import ANY

pytestmark = pytest.mark.filterwarnings("default")  # what the engines warn of is theirs

SOURCE = Path(__file__).parents[2] / "src"


def report(engine, rows):
    """The report on an engine; the test is skipped if it is not installed."""
    if engine == "sglang" and find_spec("sglang"):
        without_cuda.stand_in()
    try:
        return check(engine, rows)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_differs_where_we_know_and_nowhere_else(engine):
    found = report(engine, 24)
    assert found.ok, str(found)
    counts = found.counts()
    assert counts["chain"]["cases"] >= 24
    assert all(line["agree"] > 0.7 * line["cases"] for line in counts.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_fixed_cases_alone_show_every_known_difference(engine):
    assert not report(engine, 0).unseen


@pytest.mark.parametrize("engine", ENGINES)
def test_a_known_difference_excuses_no_other_result(engine):
    known = report(engine, 0).explained
    for seen in (seen for one, seen in known.items() if one.control != ANY):
        for difference in seen:
            case = difference.case
            for other in (case.row[::-1], np.zeros_like(case.row), "TypeError: no"):
                if compare(engine, case, difference.engine, other):
                    found = compare(engine, case, difference.library, other)
                    assert not found or not any(one.explains(found) for one in known)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("field", "told", "control"),
    [
        ("temperature", lambda t: t or 1.0, "temperature"),
        ("top_k", lambda k: 0, "top_k"),
        ("top_p", lambda p: p + 0.001, "top_p"),
        ("xtc_threshold", lambda t: 1.01 * t, "xtc"),
    ],
)
def test_an_engine_that_is_told_another_value_is_seen(engine, field, told, control, monkeypatch):
    its = import_module(f"logitchain.conformance.{engine}")
    if control not in its.CONTROLS:
        return
    process = its.process

    def other(case):
        fields = {x: told(value) if x == field else value for x, value in case.fields.items()}
        return process(case._replace(fields=fields))

    monkeypatch.setattr(its, "process", other)
    found = report(engine, 8).unexplained
    assert control in {difference.case.control for difference in found}


@pytest.mark.parametrize("engine", ["llama_cpp", "mlx_lm"])
def test_a_preset_in_another_order_is_seen(engine, monkeypatch):
    preset = chain.PRESETS[engine]
    others = [entry for entry in preset if entry != "temperature"]
    monkeypatch.setitem(chain.PRESETS, engine, ["temperature", *others])
    found = report(engine, 8)
    assert {difference.case.control for difference in found.unexplained} == {"chain"}


def test_a_window_of_the_penalties_is_seen(monkeypatch):
    monkeypatch.setitem(chain.PRESETS, "llama_cpp", [("repetition_penalty", {"scope": "all"})])
    monkeypatch.setattr("logitchain.conformance.llama_cpp.CONTROLS", ("repetition_penalty",))
    assert report("llama_cpp", 8).unexplained


#: A kernel's file, what is replaced in it, and by what; the control in which it shows.
BROKEN = [
    ("temperature.py", "high, low = factors(t)", "high, low = factors(1.001 * t)"),
    ("xtc.py", "key if row[i] >= value", "key if row[i] <= value"),
    ("repetition_penalty.py", "x * factor.view(np.float64)", "x * divisor.view(np.float64)"),
]


@pytest.mark.parametrize(("file", "old", "new"), BROKEN, ids=[file for file, *_ in BROKEN])
def test_a_broken_kernel_is_reported(file, old, new, tmp_path):
    pytest.importorskip("xllamacpp")
    copy = tmp_path / "src"
    shutil.copytree(SOURCE, copy)
    kernel = copy / "logitchain/controls" / file
    text = kernel.read_text()
    assert text.count(old) == 1
    kernel.write_text(text.replace(old, new))
    environment = {**os.environ, "PYTHONPATH": str(copy), "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "logitchain", "conformance", "llama_cpp"]
    done = subprocess.run(
        [*command, "--rows", "0", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert file.removesuffix(".py") in {found["control"] for found in told["unexplained"]}


def test_the_command_line_on_an_engine(capsys):
    report("llama_cpp", 0)
    assert main(["conformance", "llama_cpp", "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Explained by docs/controls.md" in printed
    assert "Not explained" not in printed
