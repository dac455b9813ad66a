"""`python bench/report.py build/bench.json` writes bench/results.json, and the pages of it.

What the engines' generations took is in build/engines, beside that file. Without an argument the
pages are written again from the results that are there; their pictures need a run.
"""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from chains import CACHED_GOALS, GOALS, REQUESTS, SAMPLERS
from matplotlib.figure import Figure
from rows import ROOT, SHAPES

Result = dict[str, Any]
RESULTS = ROOT / "bench/results.json"
PAGE = ROOT / "docs/benchmarks.md"
PICTURES = ROOT / "docs/images"
CACHED = ("np.max", "logitchain")
MARK = "<!-- speed: written by make bench -->"
PACKAGES = (
    *("numpy", "numba", "llvmlite", "xllamacpp", "transformers", "torch"),
    *("llama-cpp-python", "onnxruntime-genai", "mlx-lm", "vllm"),
)


def microseconds(results: Iterable[Result], **about: Any) -> float:
    """The median of the one result that is about this; NaN if it is not there."""
    for result in results:
        if all(result.get(key) == value for key, value in about.items()):
            return float(result["median"]) * 1e6
    return float("nan")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Microseconds with as many digits as they deserve; empty for what was not timed."""
    if value != value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(ours: float, floor: float, goals: tuple[float, float], shape: str) -> str:
    """How many times the floor, and the goal for rows of this shape: flat ones have the second."""
    goal = goals[shape.startswith("flat")]
    met = "" if ours <= goal * floor else ", missed"
    return f"{ours / floor:.1f} ({goal}{met})"


def chains(results: list[Result]) -> str:
    """A table for each shape: the whole chain, every sampler."""
    parts = []
    for shape in SHAPES:
        rows = []
        for request in REQUESTS:
            here = {"shape": shape, "request": request}
            times = [microseconds(results, table="chains", **here, sampler=s) for s in SAMPLERS]
            ours, floor = times[list(SAMPLERS).index("logitchain")], times[0]
            rows.append([request, *map(number, times), ratio(ours, floor, GOALS[request], shape)])
        header = ["chain", *SAMPLERS, "logitchain / np.max (goal)"]
        parts.append(f"### {shape} logits\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def cached(results: list[Result]) -> str:
    """Whole chains over one row again and again."""
    rows = []
    for shape in SHAPES:
        for request, goals in CACHED_GOALS.items():
            about = {"table": "cached", "shape": shape, "request": request}
            floor, ours = (microseconds(results, **about, sampler=s) for s in CACHED)
            figures = number(floor), number(ours), ratio(ours, floor, goals, shape)
            rows.append([f"{shape}: {request}", *figures])
    return table(["chain", *CACHED, "logitchain / np.max (goal)"], rows)


def penalties(results: list[Result]) -> str:
    """What a history of 2,000 tokens adds."""
    rows = []
    for shape in SHAPES:
        for request in REQUESTS:
            here = {"shape": shape, "request": request}
            without = microseconds(results, table="chains", **here, sampler="logitchain")
            own = microseconds(results, table="penalties", **here, sampler="logitchain")
            peer = microseconds(results, table="penalties", **here, sampler="llama.cpp")
            floor = microseconds(results, table="penalties", **here, sampler="np.max")
            added = (own - without) / floor
            rows.append(
                [f"{shape}: {request}", number(own), number(peer), f"{added:+.2f} x np.max"]
            )
    return table(["chain with all three penalties", "logitchain", "llama.cpp", "added"], rows)


def peers(results: list[Result]) -> str:
    """How many times faster than each peer."""
    rows = []
    for shape in SHAPES:
        for request in REQUESTS:
            here = {"table": "chains", "shape": shape, "request": request}
            ours = microseconds(results, **here, sampler="logitchain")
            times = [microseconds(results, **here, sampler=s) / ours for s in list(SAMPLERS)[3:]]
            rows.append([f"{shape}: {request}", *(f"{number(t)} x" for t in times)])
    return table(["times faster than", *list(SAMPLERS)[3:]], rows)


def controls(results: list[Result]) -> str:
    """Each control by itself."""
    own = [r for r in results if r.get("table") == "controls"]
    floor = microseconds(own, control="np.max")
    rows = [
        [f"`{r['control']}`", number(r["median"] * 1e6), f"{r['median'] * 1e6 / floor:.1f}"]
        for r in own
    ]
    return table(["function, flat 128,256", "us", "times np.max"], rows)


def samplers(results: list[Result]) -> str:
    """Each control that truncates, bends or follows, in a chain."""
    own = [r for r in results if r.get("table") == "samplers"]
    ways = list(dict.fromkeys(r["way"] for r in own))
    rows = []
    for shape, name in dict.fromkeys((r["shape"], r["control"]) for r in own):
        times = {
            r["way"]: r["median"] * 1e6 for r in own if (r["shape"], r["control"]) == (shape, name)
        }
        cells = [number(times[way]) if way in times else "-" for way in ways]
        ratios = [f"{times[way] / times['np.max']:.1f}" for way in ("alone", "after top_k")]
        rows.append([f"{shape}: `{name}`", *cells, *ratios])
    return table(["a row in the cache", *ways, "alone / np.max", "after top_k / np.max"], rows)


def batches(results: list[Result]) -> str:
    """Rows and threads."""
    rows = []
    for count in sorted({r["count"] for r in results if r.get("table") == "batches"}):
        here = {"table": "batches", "count": count}
        floor, one, two = (microseconds(results, **here, threads=t) for t in (0, 1, 2))
        ratios = [f"{one / floor:.2f}", f"{one / two:.2f}"]
        rows.append([str(count), number(floor), number(one), number(two), *ratios])
    header = ["rows", "np.max(axis=1)", "1 thread", "2 threads", "times np.max", "speed-up"]
    return table(header, rows)


def masks(results: list[Result]) -> str:
    """A token bitmask, by itself and in a chain."""
    own = [r for r in results if r.get("table") == "masks"]
    ways = list(dict.fromkeys(r["way"] for r in own))
    rows = []
    for vocab, share in dict.fromkeys((r["vocab"], r["share"]) for r in own):
        times = [microseconds(own, vocab=vocab, share=share, way=way) for way in ways]
        rows.append([f"{vocab:,}, {share:.1%} allowed", *map(number, times)])
    return table(["flat logits", *ways], rows)


def features(results: list[Result]) -> str:
    """What each feature costs, beside the same call without it, which comes first."""
    own = [r for r in results if r.get("table") == "features"]
    rows = []
    for what in dict.fromkeys(r["what"] for r in own):
        times = {r["way"]: r["median"] * 1e6 / r.get("per", 1) for r in own if r["what"] == what}
        first = next(iter(times.values()))
        for place, (way, time) in enumerate(times.items()):
            rows.append(["" if place else what, way, number(time), f"{time / first:.2f}"])
    return table(["call", "with", "us", "times the first"], rows)


def others(results: list[Result]) -> str:
    """Histories, overhead, start and memory."""
    lines = []
    for r in results:
        us = number(r["median"] * 1e6)
        if r.get("table") == "history":
            tokens = f"{r['length']:,} tokens ({r['distinct']:,} distinct)"
            lines.append([f"chain with penalties over {tokens}", f"{us} us"])
        elif r.get("table") == "dry":
            what = f"DRY, top_k 50 and the draw after {r['length']:,} tokens"
            lines.append([f"{what}, {r['sampler']}", f"{us} us"])
        elif r.get("table") == "append":
            lines.append([f"`batch.append` after {r['length']:,} tokens", f"{us} us"])
        elif r.get("table") == "rows":
            lines.append([r["what"], f"{us} us"])
        elif r.get("table") == "overhead":
            lines.append(["a call for one row of 64 logits", f"{us} us"])
        elif r.get("table") == "start":
            lines.append([r["what"], f"{r['median']:.2f} s"])
        elif r.get("table") == "memory":
            what = f"memory that a call takes, {r['rows']} rows of 128,256 logits"
            lines.append([what, f"{r['bytes'] / 1024:.0f} KiB"])
    return table(["what", ""], lines)


def engines(results: list[Result]) -> str:
    """Generations with an engine's own sampler and with ours, as `bench/engines` timed them."""
    rows = []
    for line in results:
        model = [line.get("model", "SmolLM2"), f"{line.get('rows', 1)} rows"]
        what = f"`{line['engine']}`, {', '.join(model[: 1 + ('rows' in line)])}"
        figures = number(line["own"]), number(line["ours"])
        rows.append([f"{what}: {line['controls']}", line["unit"], *figures])
    return table(["generation", "unit", "own sampler", "logitchain"], rows)


def plot_peers(results: list[Result]) -> None:
    """Bars of the first shape: microseconds per token, logarithmic."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(REQUESTS), sharey=True)
    for place, request in zip(axes, REQUESTS, strict=True):
        here = {"table": "chains", "shape": "real 49,152", "request": request}
        times = [microseconds(results, **here, sampler=s) for s in SAMPLERS]
        colours = ["0.75", "0.75", "tab:green", "0.45", "0.45", "0.45"]
        place.barh(range(len(SAMPLERS)), times, color=colours)
        for y, time in enumerate(times):
            place.text(time * 1.1, y, number(time), va="center", fontsize=7)
        place.set(xscale="log", title=request, xlim=(2, 60_000))
        place.title.set_fontsize(8)
        place.set_yticks(range(len(SAMPLERS)), list(SAMPLERS), fontsize=8)
        place.tick_params(axis="x", labelsize=7)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.suptitle("One token from real logits (49,152): microseconds, one thread", fontsize=10)
    figure.savefig(PICTURES / "peers.png", dpi=150)


def plot_vocabulary(results: list[Result]) -> None:
    """How cost grows with the vocabulary."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    own = [r for r in results if r.get("table") == "vocabulary"]
    sizes = sorted({r["vocab"] for r in own})
    for request in REQUESTS:
        times = [microseconds(own, vocab=v, request=request, sampler="logitchain") for v in sizes]
        axes.plot(sizes, times, marker="o", label=request)
    request = next(iter(REQUESTS))
    floor = [microseconds(own, vocab=v, request=request, sampler="np.max") for v in sizes]
    axes.plot(sizes, floor, "k--", label="np.max")
    axes.set(xscale="log", yscale="log", xlabel="vocabulary", ylabel="microseconds per token")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "vocabulary.png", dpi=150)


def quote(results: list[Result]) -> str:
    """What the README says."""
    samplers = ["logitchain", "np.max", "llama.cpp", "transformers"]
    rows = []
    for shape in ("real 49,152", "flat 128,256"):
        for request in REQUESTS:
            here = {"table": "chains", "shape": shape, "request": request}
            times = [number(microseconds(results, **here, sampler=s)) for s in samplers]
            rows.append([f"{shape}: {request}", *times])
    return "Microseconds from logits to a token, one thread, every call another row:\n\n" + table(
        ["logits: chain", *samplers], rows
    )


def versions() -> str:
    """What was timed."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


SECTIONS: dict[str, Callable[[list[Result]], str]] = {
    "A whole chain, one row at a time (microseconds)": chains,
    "The same over a row in the cache (microseconds)": cached,
    "Beside the peers": peers,
    "Penalties over a history of 2,000 tokens (microseconds)": penalties,
    "Batches of mixed requests, 128,256 logits a row (microseconds)": batches,
    "Each sampler in a chain, the draw included (microseconds)": samplers,
    "Each control by itself": controls,
    "Token bitmasks (microseconds)": masks,
    "Kept sets, budgets, ends, watermarks, drafts": features,
    "Histories, start, memory": others,
}


def collect(path: Path) -> dict[str, Any]:
    """What the pages need of a run; tables that were not timed in it stay as they are."""
    report = json.loads(path.read_text())
    cpu = report["machine_info"].get("cpu", {})
    lines = [
        json.loads(text)
        for file in sorted((path.parent / "engines").glob("*.jsonl"))
        for text in file.read_text().splitlines()
        if text.startswith('{"engine"')  # vLLM logs to the same place
    ]
    before = json.loads(RESULTS.read_text())
    results = [
        b["extra_info"] | {"median": float(f"{b['stats']['median']:.5g}")}
        for b in report["benchmarks"]
    ]
    timed = {r.get("table") for r in results}
    return {
        "date": report["datetime"][:10],
        "machine": f"{cpu.get('brand_raw', platform.processor())}, {cpu.get('count', '?')} cores",
        "versions": versions(),
        "results": [r for r in before["results"] if r.get("table") not in timed] + results,
        "engines": lines or before["engines"],
    }


def as_json(data: dict[str, Any]) -> str:
    """The results with a line for each."""
    text = json.dumps(data, indent=0)
    return text.replace("{\n", "{").replace("\n}", "}").replace(',\n"', ', "') + "\n"


def page(data: dict[str, Any]) -> str:
    """The page of benchmarks."""
    parts = [
        "# Benchmarks",
        "`make bench` wrote this page. Medians; every call gets another row, as an engine's does, "
        "so that rows come from memory and not from a cache; `np.max` of the same rows is the "
        "floor. Python's overhead is in every figure. One thread unless it says otherwise.",
        f"{data['date']}, {data['machine']}; {data['versions']}.",
        "![One token from real logits](images/peers.png)",
        *(f"## {title}\n\n{section(data['results'])}" for title, section in SECTIONS.items()),
        "## In the engines\n\n"
        "A real generation with the engine's own sampler and with ours, the same controls, run by "
        "run in turn, at the last `make bench-engines`. [engines.md](engines.md) has the adapters. "
        "vLLM is 0.32.0 and SGLang 0.5.23, both computing on the CPU. Where ours is the slower, it "
        "waits for logits that an engine's own draw need not wait for (mlx-lm), or copies the row "
        "(onnxruntime-genai).\n\n" + engines(data["engines"]),
        "## How cost grows with the vocabulary\n\n"
        "![Microseconds by vocabulary, peaked logits](images/vocabulary.png)",
        "## Where we lose\n\n"
        "A call has a fixed cost (above) that a call in C does not have: llama.cpp is not far off "
        "over a few thousand logits, and with `top_k` over a row that is in the cache. A sampler "
        "that has to weigh every token of a row costs more than 4 times `np.max` alone: a mass or "
        "an entropy takes 5 to 8 times as long, and `tfs` sorts. After a `top_k` each costs about "
        "3 times, and 4 if a state follows it. Several threads gain nothing for a few rows. The "
        "first call in a new environment compiles, for half a minute.",
        "## About the peers\n\n"
        "transformers has no XTC and only the repetition penalty; llama.cpp's figure contains the "
        "filling of its structs, which an engine has to do too. Real logits are the steps of three "
        "answers of SmolLM2-135M-Instruct.",
    ]
    return "\n\n".join(parts) + "\n"


def readme(data: dict[str, Any]) -> str:
    """The README, with its table of these results."""
    before, rest = (ROOT / "README.md").read_text().split(MARK)
    after = rest[rest.index("<!-- end -->") :]
    return f"{before}{MARK}\n{quote(data['results'])}\n\n{after}"


def main(path: str | None = None) -> None:
    """Write the results, the pictures and the pages; or the pages alone."""
    if path:
        RESULTS.write_text(as_json(collect(Path(path))))
    data = json.loads(RESULTS.read_text())
    if path:
        PICTURES.mkdir(exist_ok=True)
        plot_peers(data["results"])
        plot_vocabulary(data["results"])
        print(f"wrote {RESULTS.relative_to(ROOT)}, and two pictures in docs/images")
    PAGE.write_text(page(data))
    (ROOT / "README.md").write_text(readme(data))
    print("wrote docs/benchmarks.md, and the table in README.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
