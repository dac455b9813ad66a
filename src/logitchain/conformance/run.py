"""A run: the cases through an installed engine and through its preset."""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

from ..inputs.values import one_of
from ..params import whole_number
from ..presets import PresetName
from .cases import Case, Row
from .compare import Difference, attempt, compare, ours
from .drawn import drawn_cases
from .edges import edge_cases
from .golden import golden_cases
from .report import Report

#: The engines that can be run, by the names of their presets.
ENGINES: tuple[PresetName, ...] = ("llama_cpp", "transformers", "vllm", "sglang", "mlx_lm")


def check(engine: str, rows: int = 64) -> Report:
    """Run all cases that ask for controls that an engine has.

    engine   one of `ENGINES`, which must be installed
    rows     on how many random rows each control is asked for, beside the fixed cases

    Raises ModuleNotFoundError if the engine is not there.
    """
    name = one_of("engine", engine, ENGINES)
    its = import_module(f".{name}", __package__)
    version = its.version()
    count = whole_number("rows", rows, "[0, inf)")
    found = (*golden_cases(), *edge_cases(), *drawn_cases(its.CONTROLS, count))
    runs = getattr(its, "runs", lambda case: True)
    cases = [case for case in found if set(case.controls) <= set(its.CONTROLS) and runs(case)]
    report = Report(name, version, cases, {known: [] for known in its.KNOWN}, [])
    for difference in differences(name, its.process, cases):
        known = next((known for known in its.KNOWN if known.explains(difference)), None)
        (report.unexplained if known is None else report.explained[known]).append(difference)
    return report


def differences(
    preset: PresetName, process: Callable[[Case], Row], cases: Iterable[Case]
) -> Iterator[Difference]:
    """The cases on which an engine's `process` and its preset do not agree."""
    for case in cases:
        here, there = attempt(lambda case: ours(preset, case), case), attempt(process, case)
        difference = compare(preset, case, here, there)
        if difference is not None:
            yield difference
