"""Docstrings of this library as reStructuredText, for autodoc.

A docstring lists its parameters in two columns, the name and what it is. Its sentences "Returns
...", "Raises ..." and "Source: ..." begin a field of their own on the page. It names pages by their
files, as in `docs/controls.md`.
"""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

_SENTENCE = re.compile(r"(?:^|(?<=[.)] ))(Returns|Yields|Raises|Source):? ")
_COLUMNS = re.compile(r"\w+(?:, \w+)*( {2,})\S")
_PAGE = re.compile(r"`docs/(\w+)\.md`")
_ARRAY = re.compile(
    r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], "
    r"~?(?:numpy\.)?dtype\[([~.\w]+)\]\]"
)
_ALIAS = re.compile(r"~?(?:[\w.]+\.)?TypeAliasForwardRef\('(\w+)'\)")


def as_rest(lines: list[str]) -> list[str]:
    """Convert a docstring: tables of arguments and sentences such as "Returns" become fields."""
    result: list[str] = []
    for paragraph in _paragraphs(lines):
        if paragraph[0].startswith(" "):
            result += [".. code-block:: python", "", *paragraph]
        elif paragraph[0].startswith(">>>"):
            result += paragraph
        elif column := _column(paragraph):
            result += [":Parameters:", *_parameters(paragraph, column)]
        else:
            result += _sentences(paragraph)
        result.append("")
    return [_PAGE.sub(r":doc:`/\1`", line) for line in result]


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _column(paragraph: list[str]) -> int:
    """Where the second column of a table begins; 0 for another paragraph."""
    starts = [match.start(1) for line in paragraph if (match := _COLUMNS.match(line))]
    if not starts:
        return 0
    line = next(line for line in paragraph if _COLUMNS.match(line))
    column = len(line) - len(line[starts[0] :].lstrip())
    fits = (not line[:column].strip() or line[column - 1] == " " for line in paragraph)
    return column if all(fits) else 0


def _parameters(paragraph: list[str], column: int) -> Iterator[str]:
    """A list of the names in the first column; words in quotes make a list within it."""
    for line in paragraph:
        name, text = line[:column].strip(), line[column:]
        nested = re.match(r'(".+?") {2,}(.*)', text)
        if name:
            yield f"    * **{name}**: {'' if nested else text}"
        if nested:
            yield from ("", f"      * ``{nested[1]}``: {nested[2]}")
        elif not name:
            yield f"      {text}" if text.startswith("  ") else f"      {text.strip()}"


def _sentences(paragraph: list[str]) -> list[str]:
    text = " ".join(line.strip() for line in paragraph)
    found = list(_SENTENCE.finditer(text))
    if not found:
        return paragraph
    before, ends = text[: found[0].start()], [match.start() for match in found[1:]]
    fields = [
        f":{match[1]}: {text[match.end() : end]}"
        for match, end in zip(found, [*ends, len(text)], strict=True)
    ]
    return [before, "", *fields]


def _rewrite(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rest(lines)
    module = getattr(obj, "__module__", "") or ""
    control = module.rpartition(".")[2]
    if what == "function" and module == f"logitchain.controls.{control}":
        anchor = control.replace("_", "-")
        last = max((i for i, line in enumerate(lines) if line.startswith(":")), default=0)
        lines.insert(last + 1, f":Definition: `{control} <../controls.html#{anchor}>`__")


def _shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, returned: str
) -> tuple[str | None, ...]:
    """Write the types of arrays as the source does, and a default that Sphinx cannot parse."""
    texts = (text and text.replace("<factory>", "{}") for text in (arguments, returned))
    texts = (text and _ALIAS.sub(r"\1", text) for text in texts)
    return tuple(text and _ARRAY.sub(r"NDArray[\1]", text) for text in texts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Have autodoc call these."""
    app.connect("autodoc-process-docstring", _rewrite)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}
