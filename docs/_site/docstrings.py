"""Docstrings of this library as reStructuredText: their tables of parameters and their sentences.

A docstring lists its parameters in two columns, the name and what it is. Its sentences "Returns
...", "Raises ..." and "Source: ..." begin a field of their own on the page.
"""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

Paragraph = list[str]
FIELDS = ("Returns", "Yields", "Raises", "Source")
_SENTENCE = re.compile(rf"(?:^|(?<=[.)] ))({'|'.join(FIELDS)}):? ")
_COLUMNS = re.compile(r"(\w+(?:, \w+)*)( {2,})\S")


def as_rest(lines: list[str]) -> list[str]:
    """A docstring's lines with lists of fields in the place of tables and sentences."""
    result: list[str] = []
    for paragraph in _paragraphs(lines):
        if paragraph[0].startswith((" ", ">>>")):
            result += paragraph
        elif column := _column(paragraph):
            result += [":Parameters:", *_parameters(paragraph, column)]
        else:
            result += _sentences(paragraph)
        result.append("")
    return result


def _paragraphs(lines: list[str]) -> Iterator[Paragraph]:
    paragraph: Paragraph = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _column(paragraph: Paragraph) -> int:
    """Where the second column begins; 0 if the paragraph is no table."""
    columns = (_COLUMNS.match(line) for line in paragraph)
    column = next((match.end() - 1 for match in columns if match), 0)
    fits = (not line[:column].strip() or line[column - 1 : column] == " " for line in paragraph)
    return column if all(fits) else 0


def _parameters(paragraph: Paragraph, column: int) -> Iterator[str]:
    for line in paragraph:
        name, text = line[:column].strip(), line[column:].strip()
        nested = re.match(r'(".+?") {2,}(.*)', text)
        if name:
            yield f"    * **{name}** -- {'' if nested else text}"
        if nested:
            yield from ("", f"      * ``{nested[1]}`` -- {nested[2]}")
        elif not name:
            deep = re.match(r" {2,}", line[column:])
            yield f"        {text}" if deep else f"      {text}"


def _sentences(paragraph: Paragraph) -> list[str]:
    text = " ".join(line.strip() for line in paragraph)
    found = list(_SENTENCE.finditer(text))
    if not found:
        return paragraph
    ends = [match.start() for match in found[1:]] + [len(text)]
    fields = [
        f":{match[1]}: {text[match.end() :][: end - match.end()].strip()}"
        for match, end in zip(found, ends, strict=True)
    ]
    before = text[: found[0].start()].strip()
    return [*([before, ""] if before else []), *fields]


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rest(lines)


_ARRAY = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]")


def _shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, returned: str
) -> tuple[str | None, ...]:
    """Write the types of arrays as they are in the source."""
    return tuple(text and _ARRAY.sub(r"NDArray[\1]", text) for text in (arguments, returned))


def setup(app: Sphinx) -> dict[str, Any]:
    """Have autodoc call it."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}
