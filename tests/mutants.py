"""Break the numerics one line at a time and see whether the tests notice: `make mutants`.

mutmut and cosmic-ray cannot do it here: a compiled caller that numba has cached does not see a
change in what it calls, so their mutants would not run, and each of those that do compiles for half
a minute. Here most mutants are caught with the kernels as plain Python, in a process forked from
one that has imported NumPy and numba already; what survives is compiled into a cache of its own.

A line with a comparison gets its neighbour (< becomes <=), any other line with a number another
number. `tests/mutants.toml` lists the tests of each module, the lines for which the usual change
would say nothing, and the changes that alter no result, with the reason.
"""

import argparse
import ast
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = "logitchain"
TABLE = ROOT / "tests" / "mutants.toml"
RESULTS = ROOT / "build" / "mutants.jsonl"

NEIGHBOUR = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}


# ---- which lines are broken, and how


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    module: str  # such as "numeric.order" or "controls.top_p"
    text: str  # the line without its indent
    change: str  # "old -> new"
    nth: int  # which of the module's lines with this text, if there are several
    line: int = field(compare=False)
    start: int = field(compare=False)  # in the module's bytes
    end: int = field(compare=False)

    @property
    def new(self) -> str:
        return self.change.split(" -> ")[1]

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What stays the same when lines move."""
        return self.module, self.text, self.change, self.nth

    def __str__(self) -> str:
        return f"{self.module}:{self.line}  {self.text}  [{self.change}]"


class Finder(ast.NodeVisitor):
    """Collects (rank, start, end, new text) by line; start and end are offsets in the bytes."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.found: dict[int, list[tuple[int, int, int, str]]] = {}
        self.visit(ast.parse(source))

    def span(self, node: ast.expr) -> tuple[int, int]:
        start = self.lines[node.lineno - 1] + node.col_offset
        return start, self.lines[node.end_lineno - 1] + node.end_col_offset

    def add(self, rank: int, start: int, end: int, new: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        self.found.setdefault(line, []).append((rank, start, end, new))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for statement in node.body:  # neither the annotations nor the defaults
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Messages are left alone."""

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            old, new = NEIGHBOUR[type(operator)]
            start = self.source.index(old.encode(), self.span(left)[1], self.span(right)[0])
            self.add(0, start, start + len(old), new)
            left = right
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        exponent = number(node.right)
        if isinstance(node.op, ast.Pow) and number(node.left) and exponent:
            nearer = exponent - 1 if exponent > 0 else exponent + 1
            self.add(1, *self.span(node.right), repr(nearer))
        else:
            self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.visit_number(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        self.visit_number(node)

    def visit_number(self, node: ast.expr) -> None:
        old = number(node)
        if old is None:
            self.generic_visit(node)
        elif isinstance(old, int):
            self.add(1, *self.span(node), repr(old + 1))
        else:
            self.add(1, *self.span(node), repr(old * 1.5 if old else 1.0))


def number(node: ast.expr) -> int | float | None:
    """The value of a literal number, with its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = number(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    return None


def mutants_of(base: Path, module: str, every: bool = False) -> Iterator[Mutant]:
    """The mutants of a module: of each line the first comparison, else the first number; or every
    one of both.
    """
    source = path_of(base, module).read_bytes()
    seen: Counter[tuple[str, str]] = Counter()
    for line, found in sorted(Finder(source).found.items()):
        text = source.splitlines()[line - 1].decode().strip()
        for _, start, end, new in sorted(found)[: None if every else 1]:
            change = f"{source[start:end].decode()} -> {new}"
            yield Mutant(module, text, change, seen[text, change], line, start, end)
            seen[text, change] += 1


def path_of(folder: Path, module: str) -> Path:
    return folder.joinpath(NAME, *module.split(".")).with_suffix(".py")


# ---- the table


class Table:
    """`mutants.toml`."""

    def __init__(self) -> None:
        import tomllib  # not in Python 3.10, where pytest imports this file for its doctests

        given = tomllib.loads(TABLE.read_text())
        self.tests: dict[str, dict[str, list[str]]] = given["tests"]
        self.replaced = {(e["module"], e["line"]): e["change"] for e in given.get("instead", [])}
        self.reasons = {
            (e["module"], e["line"], e["change"]): e["reason"] for e in given.get("equivalent", [])
        }

    def replace(self, base: Path, mutant: Mutant) -> Mutant:
        """The change that the table names for this line, or the usual one."""
        change = self.replaced.get((mutant.module, mutant.text))
        if change is None:
            return mutant
        old = change.split(" -> ")[0].encode()
        source = path_of(base, mutant.module).read_bytes()
        first = source.rindex(b"\n", 0, mutant.start) + 1
        start = source.index(old, first)
        return Mutant(
            mutant.module, mutant.text, change, mutant.nth, mutant.line, start, start + len(old)
        )

    def reason(self, mutant: Mutant) -> str | None:
        """Why a mutant gives the results of the unbroken line, if it does."""
        return self.reasons.get((mutant.module, mutant.text, mutant.change))

    def check(self, mutants: list[Mutant]) -> None:
        """Every entry is about a line that is there."""
        there = {(m.module, m.text, m.change) for m in mutants}
        lost = [key for key in self.reasons if key not in there]
        lost += [(*key, c) for key, c in self.replaced.items() if (*key, c) not in there]
        if lost:
            raise SystemExit(f"{TABLE.name} has entries of no line: {lost}")


# ---- whether the tests notice


@dataclass(frozen=True)
class Stage:
    """Tests that a mutant meets together."""

    kind: str  # "quick", with the kernels as plain Python, or "compiled"
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    status: str  # "caught" or "survived"
    by: str  # the first test that failed
    seconds: float  # of CPU time


def judge(base: Path, mutant: Mutant | None, stages: list[Stage], limits: list[int]) -> Outcome:
    """Run the stages on a copy of the package, broken unless `mutant` is None, up to a failure."""
    before = cpu_of_children()
    failure = ""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        shutil.copytree(base / NAME, folder / NAME)
        if mutant:
            path = path_of(folder, mutant.module)
            source = path.read_bytes()
            path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
        for stage, limit in zip(stages, limits, strict=True):
            failure = failure or failure_of(base, folder, stage, limit)
    return Outcome(
        "caught" if failure else "survived", failure, round(cpu_of_children() - before, 1)
    )


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def failure_of(base: Path, folder: Path, stage: Stage, limit: int) -> str:
    """Which of the tests fails on the package in a folder; an empty text if none does."""
    log = folder / "log"
    child = get_context("fork").Process(target=run_tests, args=(base, folder, stage, limit, log))
    child.start()
    child.join(20 * limit)  # the limit itself is of CPU time: the machine may be busy
    if child.exitcode is None:
        child.kill()
        child.join()
    if child.exitcode == 0:
        return ""
    if child.exitcode in (-signal.SIGKILL, -signal.SIGXCPU):
        return f"{stage.kind}: no answer within {limit} s"
    lines = log.read_text(errors="replace").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    what = failed[0].split(" - ")[0].split(" ", 1)[1] if failed else f"exit {child.exitcode}"
    return f"{stage.kind}: {what}"


def run_tests(base: Path, folder: Path, stage: Stage, limit: int, log: Path) -> None:
    """In a process of its own: pytest, with the package of that folder."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    import hypothesis
    import numba
    import pytest

    quick = stage.kind == "quick"
    variables = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    os.environ |= variables | ({"NUMBA_DISABLE_JIT": "1"} if quick else {})
    numba.config.CACHE_DIR, numba.config.DISABLE_JIT = variables["NUMBA_CACHE_DIR"], quick
    hypothesis.configuration.set_hypothesis_home_dir(folder / "hypothesis")
    hypothesis.settings.register_profile(
        "mutants",
        max_examples=8 if quick else 60,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # nothing to be shrunk
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    options = ["--hypothesis-profile=mutants", "--hypothesis-seed=0", "-W", IMPORTED]
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    os.chdir(base)
    code = pytest.main(["-x", "-q", "--tb=short", *options, *stage.tests])
    sys.stdout.flush()
    os._exit(code)


IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis came before pytest


# ---- all of them, with what is known of former runs


def digest(folder: Path) -> str:
    """A checksum of the Python files in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def remembered(path: Path, tests: str) -> dict[tuple[object, ...], Outcome]:
    """The outcomes in a file of results; of survivors only those that met the tests of today."""
    outcomes = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        entry = json.loads(line)
        outcome = Outcome(**entry["outcome"])
        if outcome.status == "caught" or entry["tests"] == tests:
            outcomes[tuple(entry["key"])] = outcome
        else:
            outcomes.pop(tuple(entry["key"]), None)
    return outcomes


def limit_of(base: Path, stage: Stage) -> int:
    """How much CPU time a stage may take, from what it takes unbroken; it must be green."""
    unbroken = judge(base, None, [stage], [3600])
    if unbroken.status == "caught":
        raise SystemExit(f"without a mutant: {unbroken.by}")
    print(f"# unbroken: {unbroken.seconds} s  {stage.kind} {' '.join(stage.tests)}", flush=True)
    return int(10 + 2 * unbroken.seconds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--module", action="append", help="such as numeric.order or controls.top_p")
    parser.add_argument("--only", metavar="MODULE:LINE", help="the mutants of one line")
    parser.add_argument("--every", action="store_true", help="every change of each line")
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("--quick", action="store_true", help="without the compiled tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="goes on from what is there")
    parser.add_argument("--fresh", action="store_true", help="forget former results")
    return parser.parse_args()


def main() -> None:
    chosen, table = arguments(), Table()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        base = Path(name)  # a copy, so that work may go on meanwhile
        shutil.copytree(ROOT / "src" / NAME, base / NAME)
        shutil.copytree(ROOT / "tests", base / "tests")
        shutil.copy(ROOT / "pyproject.toml", base)
        choose(base, table, chosen)


def choose(base: Path, table: Table, chosen: argparse.Namespace) -> None:
    """List the mutants that were chosen, or run them."""
    mutants = [
        table.replace(base, mutant)
        for module in table.tests
        for mutant in mutants_of(base, module, chosen.every)
    ]
    if not chosen.every:
        table.check(mutants)
    if chosen.module:
        mutants = [m for m in mutants if m.module in chosen.module]
    if chosen.only:
        mutants = [m for m in mutants if f"{m.module}:{m.line}" == chosen.only]
    if chosen.list:
        for mutant in mutants:
            print(mutant, f"  equivalent: {table.reason(mutant)}" if table.reason(mutant) else "")
        print(len(mutants))
        return
    if chosen.fresh:
        chosen.results.unlink(missing_ok=True)
    run(base, mutants, table, chosen)


def run(base: Path, mutants: list[Mutant], table: Table, chosen: argparse.Namespace) -> None:
    """Judge the mutants of which nothing is known, and report on all."""
    import hypothesis  # noqa: F401 - imported once, for all the processes that are forked
    import ml_dtypes  # noqa: F401
    import mpmath  # noqa: F401
    import numba  # noqa: F401
    import pytest  # noqa: F401

    tests = digest(base / "tests")
    outcomes = remembered(chosen.results, tests)
    todo = [m for m in mutants if not table.reason(m) and m.key not in outcomes]
    kinds = ["quick"] if chosen.quick else ["quick", "compiled"]
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    stages = {
        name: [Stage(kind, tuple(table.tests[name][kind])) for kind in kinds]
        for name in dict.fromkeys(m.module for m in todo)
    }
    context = get_context("fork")
    with ProcessPoolExecutor(chosen.jobs, context) as pool, chosen.results.open("a") as results:
        distinct = list(dict.fromkeys(stage for those in stages.values() for stage in those))
        limits = dict(zip(distinct, pool.map(limit_of, repeat(base), distinct), strict=True))
        waiting = {}
        for mutant in todo:
            those = stages[mutant.module]
            waiting[pool.submit(judge, base, mutant, those, [limits[s] for s in those])] = mutant
        for future in as_completed(waiting):
            mutant, outcome = waiting[future], future.result()
            outcomes[mutant.key] = outcome
            print(f"{outcome.status:8} {outcome.seconds:6} s  {mutant}  {outcome.by}", flush=True)
            entry = {"key": mutant.key, "tests": tests, "outcome": asdict(outcome)}
            print(json.dumps(entry), file=results, flush=True)
    report(mutants, table, outcomes)


def report(
    mutants: list[Mutant], table: Table, outcomes: dict[tuple[object, ...], Outcome]
) -> None:
    """Print the survivors and the count; exit with 1 if there are survivors."""
    equivalent = [m for m in mutants if table.reason(m)]
    survived = [m for m in mutants if m not in equivalent and outcomes[m.key].status == "survived"]
    for mutant in survived:
        print("survived:", mutant)
    caught = len(mutants) - len(equivalent) - len(survived)
    counts = f"caught {caught}, equivalent {len(equivalent)}, survived {len(survived)}"
    print(f"broken {len(mutants)}: {counts}")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
