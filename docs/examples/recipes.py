"""Draws docs/images/recipe_*.png, the pictures of docs/recipes.md, from real rows of SmolLM2."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from smollm2 import Model

import logitchain as lc

IMAGES = Path(__file__).parent.parent / "images"
SHOWN = 9

#: A heading, a row of logits, and the token that is picked there, or None.
Panel = tuple[str, NDArray[np.float32], int | None]

STORY = [{"role": "user", "content": "Write a long story about a whale."}]
LOOP = (
    "Once upon a time, there was a magnificent whale named Whiskerer. Whiskerer was a gentle and "
    "majestic creature with a massive body. Whiskerer was a gentle and majestic creature with a "
    "massive body. Whiskerer was a"
)
AHAB = [
    {
        "role": "user",
        "content": "Describe Captain Ahab as a JSON object with the keys name, ship and crew.",
    }
]
CREW = '{"name": "Ahab", "ship": "Pequod", "crew": ["Ishmael", "Queequeg", "Starbuck'
#: What may follow inside that list: characters of the string, its end, and what comes after.
IN_A_LIST = re.compile(
    rb'[^"\\\x00-\x1f]*("\s*(,\s*("[^"\\\x00-\x1f]*)?|\](\s*(,\s*("\w*)?|\}\s*))?)?)?'
)
KEEPER = [
    {
        "role": "user",
        "content": "Write the opening of a short story about a lighthouse keeper and a whale.",
    }
]
CLIMBED = "Every night the keeper climbed the stairs and looked out at the"
DOOR = "Late at night the keeper opened the door, and there stood a"
SEASON = [{"role": "user", "content": "What is the best season to see whales?"}]
OCCURS = (
    "The best season to see whales is usually considered to be the peak of the humpback whale "
    "migration, which occurs"
)


class Row:
    """One real row: the logits after a chat and the beginning of its answer."""

    def __init__(self, model: Model, chat: Sequence[dict[str, str]], answer: str) -> None:
        """Run the model over it."""
        self.tokenizer = model.tokenizer
        self.prompt = self.tokenizer.chat(chat)
        self.output = self.tokenizer.encode(answer)
        self.logits, _ = model.prefill(self.prompt + self.output)

    def explain(
        self,
        body: dict[str, Any],
        chain: lc.Chain | None = None,
        mask: NDArray[np.int32] | None = None,
    ) -> lc.Explanation:
        """What a chain does to the row under a request."""
        batch = lc.Batch(self.logits.size)
        (row,) = batch.add(lc.Params.from_request(body), self.prompt, self.output)
        batch.set_mask(row, mask)
        return (chain or lc.Chain()).explain(self.logits, batch, row)

    def text(self, token: int) -> str:
        """A token as a picture shows it."""
        return self.tokenizer.decode([token]).replace(" ", "\N{OPEN BOX}").replace("\n", "\\n")

    def mask(self, allowed: Callable[[bytes], Any]) -> NDArray[np.int32]:
        """The tokens whose bytes are allowed, as `Batch.set_mask` takes them."""
        pieces = map(self.tokenizer.token_bytes, range(self.logits.size))
        bits = np.array([piece != b"" and bool(allowed(piece)) for piece in pieces])
        bits = np.pad(bits, (0, -bits.size % 32))
        return np.packbits(bits, bitorder="little").view(np.int32)


def main() -> None:
    """Draw all of them."""
    model = Model.load()
    for draw in (repeats, json, creative, again, styles, greedy):
        draw(model)


def repeats(model: Model) -> None:
    """It repeats itself."""
    row = Row(model, STORY, LOOP)
    exempt = [28, 30, 198]  # comma, full stop, newline
    body = {"repetition_penalty": 1.1, "penalty_window": 256, "penalty_exempt": exempt}
    penalised = row.explain(body).stages[-1].logits
    both = lc.dry(penalised, row.prompt + row.output, 0.8, 1.75, 2)
    panels(
        "recipe_repeats",
        row,
        [
            ("the model", row.logits, None),
            ("repetition_penalty 1.1", penalised, None),
            ("and dry_multiplier 0.8", both, None),
        ],
    )


def json(model: Model) -> None:
    """My JSON breaks."""
    row = Row(model, AHAB, CREW)
    mask = row.mask(IN_A_LIST.fullmatch)
    marks = set(b' \n"{}[]:,')
    pieces = [set(row.tokenizer.token_bytes(token)) for token in range(row.logits.size)]
    exempt = [token for token, piece in enumerate(pieces) if piece and piece <= marks]
    penalty = {"repetition_penalty": 1.2}
    headings = "the grammar's mask", "and repetition_penalty 1.2", "with penalty_exempt"
    bodies: list[dict[str, Any]] = [{}, penalty, {**penalty, "penalty_exempt": exempt}]
    panels(
        "recipe_json",
        row,
        [
            ("the model", row.logits, None),
            *(
                (heading, row.explain(body, mask=mask).stages[-1].logits, None)
                for heading, body in zip(headings, bodies, strict=True)
            ),
        ],
    )


def creative(model: Model) -> None:
    """Creative but coherent."""
    row = Row(model, KEEPER, CLIMBED)
    body = {"temperature": 1.2, "min_p": 0.05, "xtc_probability": 0.5, "xtc_threshold": 0.1}
    step = row.explain({**body, "seed": 7})
    headings = {
        "logits": "the model",
        "temperature": "temperature 1.2",
        "min_p": "min_p 0.05",
        "xtc": "xtc_threshold 0.1",
    }
    stages = {stage.name: stage.logits for stage in step.stages}
    last = list(headings)[-1]
    panels(
        "recipe_creative",
        row,
        [
            (heading, stages[name], step.token if name == last else None)
            for name, heading in headings.items()
        ],
    )


def again(model: Model) -> None:
    """The same answer again tomorrow: what each seed draws, alone and in a batch."""
    row = Row(model, KEEPER, CLIMBED)
    seeds = range(24)
    params = [
        lc.Params(temperature=0.8, min_p=min_p, seed=seed)
        for min_p in (0.05, 0.2)
        for seed in seeds
    ]
    chain = lc.Chain()
    alone = []
    for one in params:
        batch = lc.Batch(row.logits.size)
        batch.add(one, row.prompt, row.output)
        alone.append(int(chain.sample(row.logits, batch)[0]))
    batch = lc.Batch(row.logits.size)
    for one in reversed(params):
        batch.add(one, row.prompt, row.output)
    together = chain.sample(np.tile(row.logits, (len(params), 1)), batch)[::-1].tolist()
    if alone != together:
        raise SystemExit("a batch changed a token")

    wide, narrow = alone[: len(seeds)], alone[len(seeds) :]
    tokens = [t for t in np.argsort(-row.logits).tolist() if t in alone]
    place = {token: y for y, token in enumerate(tokens)}
    figure = Figure(figsize=(8.4, 0.6 + 0.24 * len(tokens)), layout="constrained")
    axes = figure.subplots()
    for heading, drawn, style in (
        ("min_p 0.05, alone", wide, {"s": 90, "facecolors": "none", "edgecolors": "tab:blue"}),
        ("min_p 0.05, in a batch of 48", together[: len(seeds)], {"s": 22, "color": "tab:blue"}),
        ("min_p 0.2", narrow, {"s": 130, "marker": "_", "color": "tab:red", "linewidths": 1.6}),
    ):
        axes.scatter(seeds, [place[token] for token in drawn], label=heading, **style)
    axes.set_yticks(range(len(tokens)), list(map(row.text, tokens)), fontsize=8)
    axes.set_xticks(seeds, list(map(str, seeds)), fontsize=8)
    axes.set_xlabel("seed", fontsize=9)
    axes.invert_yaxis()
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    save(figure, "recipe_again", axes.get_yticklabels())


def styles(model: Model) -> None:
    """From llama.cpp to vLLM: one request in the two orders."""
    row = Row(model, KEEPER, DOOR)
    body = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "seed": 7}
    panels(
        "recipe_styles",
        row,
        [
            ("the model", row.logits, None),
            *(
                (f'preset "{name}"', step.stages[-1].logits, step.token)
                for name in ("llama_cpp", "vllm")
                for step in [row.explain(body, lc.Chain.preset(name))]
            ),
        ],
        shown=16,
    )


def greedy(model: Model) -> None:
    """Greedy gives two answers: a near tie, and what bfloat16 makes of it."""
    row = Row(model, SEASON, OCCURS)
    bits = row.logits.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to nearest, ties to even
    rounded = (bits << 16).astype(np.uint32).view(np.float32)
    panels(
        "recipe_greedy",
        row,
        [
            (heading, logits, int(lc.sample(lc.temperature(logits, 0.0), seed=0, position=0)))
            for heading, logits in (("float32 logits", row.logits), ("bfloat16 logits", rounded))
        ],
        label=lambda token, logits, share: f"logit {logits[token]:.4f}",
        shown=4,
    )


def panels(
    name: str,
    row: Row,
    stages: Sequence[Panel],
    label: Callable[[int, NDArray[np.float32], float], str] | None = None,
    shown: int = SHOWN,
) -> None:
    """Bars of the likeliest tokens' probabilities, a panel for each stage, the picked one green."""
    probs = [np.exp(lc.logprobs(logits)) for _, logits, _ in stages]
    picked = {token for _, _, token in stages if token is not None}
    tokens = np.argsort(-np.max(probs, axis=0), kind="stable")[:shown].tolist()
    tokens += sorted(picked - set(tokens))
    tokens.sort(key=lambda token: -row.logits[token])
    figure = Figure(
        figsize=(1.2 + 2.1 * len(stages), 0.6 + 0.24 * len(tokens)), layout="constrained"
    )
    every = figure.subplots(1, len(stages), sharey=True)
    for axes, (heading, logits, pick), share in zip(every, stages, probs, strict=True):
        left = int(np.isfinite(logits).sum())
        colours = ["tab:green" if token == pick else "tab:blue" for token in tokens]
        axes.barh(range(len(tokens)), share[tokens], 0.72, color=colours)
        for y, token in enumerate(tokens):
            is_left = bool(np.isfinite(logits[token]))
            text = f"{share[token]:.1%}" if is_left else "removed"
            if label and is_left:
                text = label(token, logits, float(share[token]))
            colour = "0.2" if is_left else "tab:red"
            axes.text(
                share[token] + 0.01 * np.max(probs), y, text, va="center", fontsize=7, color=colour
            )
        axes.set_title(f"{heading}\n{left:,} left", fontsize=8.5)
        axes.set_xlim(0, 1.3 * np.max(probs) * (1.2 if label else 1))
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    every[0].set_yticks(range(len(tokens)), list(map(row.text, tokens)), fontsize=8)
    every[0].invert_yaxis()
    save(figure, name, every[0].get_yticklabels())


def save(figure: Figure, name: str, texts: Sequence[Any]) -> None:
    """Write a picture; a dollar in a token is a dollar."""
    for text in texts:
        text.set_parse_math(False)
    path = IMAGES / f"{name}.png"
    figure.savefig(path, dpi=110, pil_kwargs={"optimize": True})
    print(f"wrote {path}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
