"""Draws docs/images/fast_path.png: one real row on the fast path."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from smollm2 import Model

import logitchain as lc

PROMPT = [{"role": "user", "content": "Write a story about a whale."}]
PARAMS = lc.Params(temperature=0.8, top_p=0.95, min_p=0.05, seed=3)


def main() -> None:
    """Draw it."""
    model = Model.load()
    logits, _ = model.prefill(model.tokenizer.chat(PROMPT))
    batch = lc.Batch(logits.size)
    (row,) = batch.add(PARAMS)
    chain = lc.Chain()
    explanation = chain.explain(logits, batch, row, lambda token: model.tokenizer.decode([token]))
    peaks = logits.reshape(-1, 64).max(1)
    floor = logits.max() + PARAMS.temperature * np.log(PARAMS.min_p)
    survivors = np.flatnonzero(logits >= floor)
    order = survivors[np.argsort(-logits[survivors])]

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    reach = peaks >= floor
    blocks = np.arange(peaks.size)
    left.vlines(blocks[~reach], peaks.min() - 1, peaks[~reach], color="0.8", linewidth=0.6)
    left.vlines(blocks[reach], peaks.min() - 1, peaks[reach], color="tab:green", linewidth=1.4)
    left.axhline(floor, color="tab:red", linewidth=1)
    left.text(250, floor + 0.3, "the floor of min_p: under it nothing survives", color="tab:red")
    left.set(
        xlabel=f"the row's {peaks.size} blocks of 64 logits",
        ylabel="largest logit",
        title=f"1. one pass finds the blocks' peaks; {reach.sum()} of them reach the floor",
        ylim=(peaks.min() - 1, None),
    )
    left.margins(x=0.01)
    final = explanation.stages[-1].probs[order]
    picked = order == explanation.token
    colours = np.where(picked, "tab:green", "0.6")
    right.barh(range(order.size), np.maximum(final, 0.002), color=colours)
    right.set_yticks(range(order.size), [explanation.text(int(t)) for t in order], fontsize=8)
    right.invert_yaxis()
    right.set(
        xlabel="probability after the chain (green: drawn)",
        title=f"2. the controls run on the {order.size} tokens above it",
    )
    for axes in (left, right):
        axes.title.set_fontsize(9)
        axes.spines[["top", "right"]].set_visible(False)
    for text in right.get_yticklabels():
        text.set_parse_math(False)
    path = Path(__file__).parent.parent / "images" / "fast_path.png"
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
