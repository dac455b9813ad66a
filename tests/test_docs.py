"""Every Python snippet of README and docs runs, and prints what the page says that it prints."""

import json
import re
from importlib import import_module
from inspect import isfunction
from itertools import dropwhile

import pytest

import logitchain as lc
from logitchain.presets import MASKS
from snippets import PAGES, ROOT, as_file, snippets

#: Pages whose snippets need what is not installed here, and the tests that run them.
ELSEWHERE = {
    "docs/engines/llama_cpp.md": "tests/engines/test_llama_cpp.py",
    "docs/engines/mlx_lm.md": "tests/engines/test_mlx_lm.py",
    "docs/engines/onnxruntime_genai.md": "tests/engines/test_onnxruntime_genai.py",
    "docs/engines/sglang.md": "tests/engines/test_sglang.py",
    "docs/engines/transformers.md": "tests/engines/test_transformers.py",
    "docs/engines/vllm.md": "tests/engines/test_vllm.py",
    "docs/server.md": "tests/server/test_clients.py",
}
WITH_CODE = {str(page.relative_to(ROOT)): page for page in PAGES if any(snippets(page.read_text()))}


@pytest.mark.parametrize("name", sorted(WITH_CODE.keys() - ELSEWHERE.keys()))
def test_the_snippets_of_a_page_run_one_after_the_other(name, tmp_path, capsys):
    text = WITH_CODE[name].read_text()
    file = tmp_path / "page.py"  # numba caches what stands in a file
    file.write_text(as_file(text))
    names = {"__name__": "page", "__file__": str(file)}
    for snippet in snippets(text):
        exec(compile("\n" * snippet.line + snippet.code, file, "exec"), names)
        assert capsys.readouterr().out == snippet.printed, f"{name}:{snippet.line}"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_snippets_of_other_pages_are_run_by_their_tests(name):
    assert name in WITH_CODE
    test = (ROOT / ELSEWHERE[name]).read_text()
    assert name in test
    assert "python\\n" in test


@pytest.mark.parametrize("name", lc.__all__)
def test_the_docstrings_of_functions_say_what_the_reference_needs(name):
    function = getattr(lc, name)
    if not isfunction(function):
        return
    text = " ".join(function.__doc__.split())
    assert "Raises " in text or name == "field"
    if name in lc.DEFAULT_ORDER:
        assert "logits (vocab,) or (rows, vocab)" in text
        assert "Returns a new float32 array of the same shape" in text
        assert " Source: " in text


@pytest.mark.parametrize("name", lc.__all__)
def test_the_reference_has_every_public_name(name):
    pages = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    assert re.search(rf"^\.\. (autofunction|autoclass|py:data):: logitchain\.{name}$", pages, re.M)


def test_the_tables_are_those_of_their_data(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    report, conformance = import_module("report"), import_module("conformance")
    results = json.loads(report.RESULTS.read_text())
    assert report.PAGE.read_text() == report.page(results)
    assert (ROOT / "README.md").read_text() == report.readme(results)
    text = conformance.PAGE.read_text()
    assert text == conformance.page(text, json.loads(conformance.COUNTS.read_text()))


def entry_on_the_page(entry):
    name, options = (entry, {}) if isinstance(entry, str) else entry
    settings = ", ".join(f"{option}={json.dumps(value)}" for option, value in options.items())
    return f"`{name}` ({settings})" if options else f"`{name}`"


def test_the_page_of_presets_has_their_orders():
    first, *sections = (ROOT / "docs/presets.md").read_text().split("\n## ")
    orders = {part.split("\n")[0]: " ".join(part.split("\n\n")[1].split()) for part in sections}
    expected = {}
    for name, order in lc.PRESETS.items():
        entries = dropwhile(MASKS.__contains__, order)
        expected[name] = f"Masks, {', '.join(map(entry_on_the_page, entries))}."
    assert orders == expected
    assert "`reasoning`; " in first
    assert lc.DEFAULT_ORDER[len(MASKS) - 1] == MASKS[-1] == "reasoning"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_marked_as_python(page):
    for code in re.findall(r"^```\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        with pytest.raises(SyntaxError):
            compile(code, page, "exec")


def test_a_block_of_text_after_code_is_what_it_prints():
    page = "```python\nprint(1)\n```\n\n```text\n1\n```\n\nand\n\n```python\nx = 2\n```\n"
    first, second = snippets(page)
    assert first == (1, "print(1)\n", "1\n")
    assert second == (11, "x = 2\n", "")
    assert as_file(page).splitlines()[11] == "x = 2"
