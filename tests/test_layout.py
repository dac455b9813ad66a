"""What prose and tables say of the repository is so."""

import ast
import re
import subprocess
from inspect import ismodule
from pathlib import Path
from typing import get_args

import pytest

import logitchain as lc
import reference
from logitchain.controls import CONTROLS, ControlName
from logitchain.dialects import DIALECTS, DialectName
from logitchain.presets import DEFAULT_ORDER, PRESETS, PresetName

ROOT = Path(__file__).parent.parent
PROSE = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
CONTROLS_MD = (ROOT / "docs/controls.md").read_text()


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_files_named_in_prose_exist(page):
    text = page.read_text()
    named = re.findall(r"`((?:src|tests|bench|docs)/[\w./-]*\w)`", text)
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in linked if not (page.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_links_by_reference_are_defined(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    used = set(re.findall(r"\]\[([\w-]+)\]", text))
    defined = set(re.findall(r"^\[([\w-]+)\]: ", text, re.MULTILINE))
    assert used == defined


def test_make_targets_named_in_prose_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {t for page in PROSE for t in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named
    assert named <= targets


def test_the_fields_table_is_the_code():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (.+) \|$", CONTROLS_MD, re.MULTILINE
    )
    ours = {
        name: (*(cell.strip("`").replace("-", "", cell == "-") for cell in cells), doc)
        for name, *cells, doc in rows
        if name in lc.FIELDS
    }
    expected = {
        name: (
            field.range,
            field.domain if field.domain != field.range else "",
            repr(field.off),
            field.doc,
        )
        for name, field in lc.FIELDS.items()
    }
    assert ours == expected


@pytest.mark.parametrize("control", DEFAULT_ORDER)
def test_every_control_has_a_definition_and_a_heading(control):
    assert callable(getattr(reference, control))
    assert f"\n## {control}\n" in CONTROLS_MD


def test_no_test_module_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.findall(r"^(?:from|import) test_", path.read_text(), re.MULTILINE), path


def test_dialects_are_documented():
    page = (ROOT / "docs/dialects.md").read_text()
    sections = {text.split()[0].strip(","): text for text in page.split("\n## ")[1:]}
    assert sections.keys() == DIALECTS.keys()
    for dialect, rules in DIALECTS.items():
        named = set(re.findall(r"`([\w.]+)`", sections[dialect]))
        assert not rules.keys() - named, dialect


def test_the_names_that_type_checkers_know_are_those_of_the_tables():
    assert get_args(ControlName) == tuple(control.name for control in CONTROLS)
    assert get_args(PresetName) == tuple(PRESETS)
    assert get_args(DialectName) == tuple(DIALECTS)


def test_tab_completion_shows_the_public_names_and_no_modules():
    assert {"Params", "PRESETS", "DIALECTS", "__version__"} <= set(dir(lc))
    assert not [name for name in dir(lc) if ismodule(getattr(lc, name))]


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


#: What the modules of a folder import of the package; an engine or a test may import anything.
MAY_IMPORT = {
    "numeric": {"numeric"},
    "inputs": {"inputs", "numeric", "params"},
    "controls": {"controls", "inputs", "numeric", "params", "rng"},
    "fused": {
        *["fused", "controls", "inputs", "numeric", "logprobs", "params", "sample", "watermark"]
    },
    "response": {"response", "controls", "inputs", "params", "chain"},
}


def imported(path):
    """The modules of the package that a file imports, without those for type checkers only."""
    here = path.relative_to(ROOT / "src").with_suffix("").parts
    tree = ast.parse(path.read_text())
    for_types = [
        n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    skipped = {id(n) for block in for_types for n in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in skipped:
            base = here[: len(here) - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".".join([*base, name]) for name in names)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_one_way(folder):
    for path in (ROOT / "src/logitchain" / folder).glob("*.py"):
        tops = {name.split(".")[1] for name in imported(path)}
        assert tops <= MAY_IMPORT[folder], path


def test_no_modules_import_each_other():
    graph = {}
    for path in (ROOT / "src/logitchain").rglob("*.py"):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        graph[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = set(imported(path))
    reached = {name: set(found) for name, found in graph.items()}
    for middle in graph:
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    assert not [name for name, found in reached.items() if name in found]


def test_nothing_generated_is_tracked():
    if not (ROOT / ".git").exists():
        return  # an unpacked source archive
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = listed.stdout.splitlines()
    assert not [name for name in tracked if re.search(r"\.venv|__pycache__|\.nb[ic]$", name)]
