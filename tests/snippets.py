"""The Python in README and docs, which `test_docs.py` runs and `make lint` checks for types.

`python tests/snippets.py build/snippets` writes a file for each page, in which each line of code
has the number that it has on the page.
"""

import json
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/engines/*.md")]
NOTEBOOKS = [*ROOT.glob("docs/*.ipynb")]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """A block of Python on a page."""

    line: int  # how many lines are before its code
    code: str
    printed: str  # what it prints: the block of text right after it


def snippets(text: str) -> Iterator[Snippet]:
    """The snippets of a page, in order."""
    fences = list(_FENCE.finditer(text))
    for fence, following in zip_longest(fences, fences[1:]):
        if fence[1] != "python":
            continue
        is_next = following and not text[fence.end() : following.start()].strip()
        printed = following[2] if is_next and following[1] == "text" else ""
        yield Snippet(text[: fence.start(2)].count("\n"), fence[2], printed)


def as_file(text: str) -> str:
    """The snippets of a page one after the other, each line where it is on the page."""
    lines = [""] * (text.count("\n") + 1)
    for snippet in snippets(text):
        code = snippet.code.splitlines()
        lines[snippet.line : snippet.line + len(code)] = code
    return "\n".join(lines) + "\n"


def write(folder: Path) -> list[Path]:
    """Write the files of all pages and notebooks that have code."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    files = {page: as_file(page.read_text()) for page in PAGES}
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        files[notebook] = "\n\n".join(code) + "\n"
    written = []
    for page, code in files.items():
        if code.strip():
            name = "_".join(page.relative_to(ROOT).with_suffix(".py").parts)
            written.append(folder / name)
            written[-1].write_text(code)
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1]))
