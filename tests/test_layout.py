"""What prose and tables say of the repository is so."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

import logitchain as lc
import reference
import test_laws
from logitchain.chain import DEFAULT, PRESETS
from logitchain.params import DIALECTS
from logitchain.plan import MASKS

ROOT = Path(__file__).parent.parent
PROSE = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
CONTROLS_MD = (ROOT / "docs/controls.md").read_text()


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_files_named_in_prose_exist(page):
    text = page.read_text()
    named = re.findall(r"`((?:src|tests|bench|docs)/[\w./-]*\w)`", text)
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in linked if not (page.parent / name).exists()]
    assert not missing


def test_make_targets_named_in_prose_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {t for page in PROSE for t in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named
    assert named <= targets


def test_the_fields_table_is_the_code():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", CONTROLS_MD, re.MULTILINE
    )
    ours = {
        name: tuple(cell.strip("`").replace("-", "", cell == "-") for cell in cells)
        for name, *cells in rows
        if name in lc.FIELDS
    }
    expected = {
        name: (
            field.interval,
            field.domain if field.domain != field.interval else "",
            repr(field.off),
        )
        for name, field in lc.FIELDS.items()
    }
    assert ours == expected


@pytest.mark.parametrize("control", DEFAULT)
def test_every_control_has_a_definition_laws_and_a_heading(control):
    assert callable(getattr(reference, control))
    assert f"\n## {control}\n" in CONTROLS_MD
    in_laws = {law.name.replace("_threshold", "") for law in test_laws.CONTROLS} | {
        "logit_bias",
        *MASKS,
    }
    assert control in in_laws


def test_presets_and_dialects_are_documented():
    assert all(f"`{name}`" in CONTROLS_MD or f"{name}:" in CONTROLS_MD for name in PRESETS)
    spellings = {key for dialect in DIALECTS.values() for key in dialect}
    assert not [key for key in spellings if f"`{key}`" not in CONTROLS_MD]


def test_every_public_name_is_documented_with_an_example():
    for name in dir(lc):
        thing = getattr(lc, name)
        if callable(thing) and not name.startswith("_"):
            assert ">>>" in (thing.__doc__ or ""), name


def test_the_library_prints_nothing_and_keeps_no_state():
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert "print" not in calls or path.name == "__main__.py", path
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Global)], path


def test_nothing_generated_is_tracked():
    if not (ROOT / ".git").exists():
        return  # an unpacked source archive
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = listed.stdout.splitlines()
    assert not [name for name in tracked if re.search(r"\.venv|__pycache__|\.nb[ic]$", name)]
