"""`python bench/conformance.py llama_cpp ...` writes what these engines' runs count into the docs.

The counts are kept in bench/conformance.json; docs/conformance.md has the tables of them. Without
an argument the tables are written again.
"""

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from logitchain import DEFAULT_ORDER
from logitchain.conformance import check
from logitchain.conformance.report import count_table

ROOT = Path(__file__).parents[1]
COUNTS = ROOT / "bench/conformance.json"
PAGE = ROOT / "docs/conformance.md"
START, END = "<!-- counts: written by make conformance -->\n", "\n<!-- end -->"

Counts = dict[str, dict[str, Any]]


def run(engine: str) -> dict[str, Any]:
    """An engine's version and counts; an error if a difference is not as we know it."""
    if engine == "sglang" and find_spec("sglang"):
        sys.path.insert(0, str(ROOT / "tests/engines"))
        from without_cuda import stand_in

        stand_in()
    report = check(engine)
    if not report.ok:
        raise SystemExit(str(report))
    return {"version": report.version, "controls": report.counts()}


def table(engines: Counts) -> Iterator[str]:
    """How many cases of each control differ, of how many, for each engine."""
    found = {name for counts in engines.values() for name in counts["controls"]}
    yield f"| control | {' | '.join(engines)} |"
    yield f"| --- |{' ---: |' * len(engines)}"
    for name in (name for name in (*DEFAULT_ORDER, "chain") if name in found):
        lines = (counts["controls"].get(name) for counts in engines.values())
        cells = (f"{x['cases'] - x['agree']} of {x['cases']}" if x else "-" for x in lines)
        yield f"| {'the chain' if name == 'chain' else f'`{name}`'} | {' | '.join(cells)} |"


def page(text: str, engines: Counts) -> str:
    """The page, with the table and the counts of llama.cpp in its example."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    text = f"{before}{START}\n" + "\n".join(table(engines)) + f"\n{END}{after}"
    start = text.index("\ncontrol  ") + 1
    counts = count_table(engines["llama_cpp"]["controls"])
    return text[:start] + "\n".join(counts) + text[text.index("\n\n", start) :]


def main(names: list[str]) -> None:
    """Run these engines and write counts and page."""
    engines: Counts = json.loads(COUNTS.read_text())
    for name in names:
        engines[name] = run(name)
    COUNTS.write_text(json.dumps(engines, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(), engines))


if __name__ == "__main__":
    main(sys.argv[1:])
