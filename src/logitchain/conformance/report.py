"""What came of a run, as tables and for JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..chain import Chain
from ..presets import PresetName
from .cases import Case, Row
from .compare import Difference, unlike
from .known import ANY, Known

COLUMNS = ("cases", "agree", "explained", "unexplained")

#: How many logits, tokens or differences are shown of more.
SHOWN = 6


@dataclass(frozen=True)
class Report:
    """What came of a run. `print` shows it."""

    engine: PresetName  # the name of its preset
    version: str  # what was run
    cases: list[Case]
    explained: dict[Known, list[Difference]]  # for each known difference where it was seen
    unexplained: list[Difference]

    @property
    def unseen(self) -> list[Known]:
        """Known differences that were not seen; without those that hang on last bits."""
        return [known for known, seen in self.explained.items() if not seen and not known.rounding]

    @property
    def ok(self) -> bool:
        """Whether all differences are known and all known ones were seen."""
        return not self.unexplained and not self.unseen

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each control, and of the chain, how many cases there are and what came of them."""
        order = [step.name for step in Chain.preset(self.engine).steps]
        found = {case.control for case in self.cases}
        controls = [control for control in (*order, "chain") if control in found]
        table = {control: dict.fromkeys(COLUMNS, 0) for control in controls}
        for case in self.cases:
            table[case.control]["cases"] += 1
        for seen in self.explained.values():
            for difference in seen:
                table[difference.case.control]["explained"] += 1
        for difference in self.unexplained:
            table[difference.case.control]["unexplained"] += 1
        for line in table.values():
            line["agree"] = line["cases"] - line["explained"] - line["unexplained"]
        return table

    def as_dict(self) -> dict[str, Any]:
        """All of it, of what JSON has."""
        return {
            "engine": self.engine,
            "version": self.version,
            "ok": self.ok,
            "controls": self.counts(),
            "explained": [
                {"control": k.control, "because": k.because, "cases": list(map(_entry, seen))}
                for k, seen in self.explained.items()
            ],
            "unexplained": list(map(_entry, self.unexplained)),
        }

    def __str__(self) -> str:
        """The counts, then the differences, each kind with an example."""
        return "\n".join(_lines(self))


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.version} against logitchain's Chain.preset({report.engine!r})"
    yield ""
    yield from count_table(report.counts())
    if any(report.explained.values()):
        yield "\nExplained by docs/controls.md and docs/presets.md, with one case of each:"
    place = [*report.counts(), ANY].index
    for known, seen in sorted(report.explained.items(), key=lambda item: place(item[0].control)):
        if seen:
            yield f"\n{known.control}, {_cases(len(seen))}: {known.because}"
            yield from _example(seen[0])
    if report.unseen:
        yield "\nKnown, but not seen any more:\n"
    for known in report.unseen:
        yield f"{known.control}: {known.because}"
    if report.unexplained:
        yield f"\nNot explained, {_cases(len(report.unexplained))}:"
    for control in report.counts():
        found = [x for x in report.unexplained if x.case.control == control]
        for difference in found[:SHOWN]:
            yield f"\n{control}:"
            yield from _example(difference)
        if len(found) > SHOWN:
            yield f"\n{control}: {_cases(len(found) - SHOWN)} more"
    yield f"\n{_verdict(report)}"


def _verdict(report: Report) -> str:
    if report.ok:
        return "All differences are known."
    return (
        f"Not as we know it: {_cases(len(report.unexplained))} not explained, "
        f"{len(report.unseen)} of {len(report.explained)} known differences not seen."
    )


def count_table(counts: dict[str, dict[str, int]]) -> Iterator[str]:
    """The counts as `Report.counts` gives them, a line for each control."""
    width = max(map(len, counts), default=0)
    yield f"{'control':{width}}" + "".join(f"  {column:>11}" for column in COLUMNS)
    for control, line in counts.items():
        yield f"{control:{width}}" + "".join(f"  {line[column]:>11,}" for column in COLUMNS)


def _cases(count: int) -> str:
    return f"{count:,} case{'' if count == 1 else 's'}"


def _example(difference: Difference) -> Iterator[str]:
    yield f"    {difference.case.name}: {_request(difference.case)}"
    yield from (f"    {line}" for line in _outcomes(difference))


def _entry(difference: Difference) -> dict[str, Any]:
    case = difference.case
    found = {"case": case.name, "control": case.control, "request": _request(case)}
    return {**found, "differs": difference.kind, "outcomes": list(_outcomes(difference))}


def _request(case: Case) -> str:
    """The request and its row, not too long."""
    fields = ", ".join(f"{field} {_some(value)}" for field, value in case.fields.items())
    parts = [("prompt", case.prompt), ("output", case.output)]
    history = "".join(f", {name} {_some(tokens)}" for name, tokens in parts if len(tokens))
    return f"{fields}{history}; {_row(case.row)}"


def _some(value: Any) -> str:
    if isinstance(value, Sequence) and len(value) > SHOWN:
        return f"of {len(value):,}"
    return str(value)


def _row(row: Row) -> str:
    if row.size > SHOWN:
        return f"{row.size:,} logits"
    return f"logits [{', '.join(map(str, row))}]"


def _outcomes(difference: Difference) -> Iterator[str]:
    """What each side gave, as far as they differ."""
    library, engine = difference.library, difference.engine
    if isinstance(library, str) or isinstance(engine, str) or library.size <= SHOWN:
        yield f"logitchain: {library if isinstance(library, str) else _row(library)}"
        yield f"engine:     {engine if isinstance(engine, str) else _row(engine)}"
        return
    tokens = difference.tokens if difference.tokens.size else unlike(library, engine)
    for token in tokens[:SHOWN].tolist():
        yield f"token {token:,}: {library[token]} of logitchain, {engine[token]} of the engine"
    if tokens.size > SHOWN:
        yield f"and {tokens.size - SHOWN:,} more tokens"
