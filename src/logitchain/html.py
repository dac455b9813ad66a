"""Tables for notebooks, in the colours of the page: what `_repr_html_` returns."""

from collections.abc import Container, Iterable, Sequence
from html import escape

_NUMBER = "text-align: right; font-variant-numeric: tabular-nums"
_TEXT = "text-align: left; white-space: nowrap"
_BAR = "linear-gradient(to right, rgba(64, 128, 255, .28) {0:.1%}, transparent {0:.1%})"


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[int] = ()
) -> str:
    """A table of texts; columns of `numbers` are aligned to the right."""
    styles = [_NUMBER if i in numbers else _TEXT for i in range(len(header))]
    lines = [_line("th", header, styles), *(_line("td", row, styles) for row in rows)]
    title = f'<caption style="text-align: left">{escape(caption)}</caption>'
    return f"<table>{title}\n{chr(10).join(lines)}\n</table>"


class Html(str):
    """A cell that is HTML already."""


def bar(text: str, share: float) -> Html:
    """A text on a bar whose length is a share of the cell's width."""
    style = f"background: {_BAR.format(share)}; padding: 0 .5em"
    return Html(f'<span style="{style}">{escape(text)}</span>')


def _line(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    inner = (cell if isinstance(cell, Html) else escape(cell) for cell in cells)
    pairs = zip(styles, inner, strict=True)
    return "".join(["<tr>", *(f'<{tag} style="{s}">{cell}</{tag}>' for s, cell in pairs), "</tr>"])
