"""How often a watermark is found in texts of a real model.

    .venv/bin/python docs/examples/watermark.py

Writes texts of SmolLM2-135M-Instruct with each scheme and without, and prints which share of them
the detector finds after 100, 200 and 400 tokens: as they are, and with a quarter of the tokens
replaced by others.
"""

import argparse
from typing import Any

import numpy as np
import smollm2

import logitchain as lc

SCHEMES: dict[str, lc.Watermark | None] = {
    "gumbel": lc.Watermark("gumbel", key=2**40 + 7),
    "sbw": lc.Watermark("sbw", key=2**40 + 7),
    "none": None,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "temperature 1": {},
    "temperature 0.7, top_p 0.9": {"temperature": 0.7, "top_p": 0.9},
}
LENGTHS, LEVELS, REPLACED, KEYS = (100, 200, 400), (1e-3, 1e-6), 0.25, 200
TOPICS = """
    whales volcanoes bridges chess bread glaciers violins bees trains maps coffee clocks
    rivers gardens castles stars paper storms kites pepper lighthouses wool mirrors salt
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=5, help="how many texts of each kind")
    parser.add_argument("--tokens", type=int, default=LENGTHS[-1], help="how long they are")
    arguments = parser.parse_args()
    smollm2.each_row = at_once
    texts = write(smollm2.Model.load(), arguments.texts, arguments.tokens)
    header = [f"{n} at {level:g}" for n in LENGTHS for level in LEVELS]
    print(f"{'watermark':10}{'setting':28}{'tokens':10}", *(f"{x:>13}" for x in header))
    for (scheme, setting), some in texts.items():
        for kind, share in (("all", 0.0), ("3 of 4", REPLACED)):
            cells = [f"{x:13.1%}" for x in shares(scheme, [replaced(x, share) for x in some])]
            print(f"{scheme:10}{setting:28}{kind:10}", *cells)


def at_once(x: smollm2.Floats, weight: smollm2.Floats) -> smollm2.Floats:
    """Many texts in one product: faster, but each text then depends on the others."""
    return x @ weight


def write(model: smollm2.Model, count: int, length: int) -> dict[tuple[str, str], list[list[int]]]:
    """For each scheme and setting the tokens of some texts, each on a topic of its own."""
    chain, batch = lc.Chain(), lc.Batch(model.head.shape[1])
    kinds, rows, caches = [], [], []
    for seed, topic in enumerate(TOPICS.split()[:count]):
        prompt = model.tokenizer.chat([{"role": "user", "content": f"Write about {topic}."}])
        row, cache = model.prefill(prompt)
        for scheme, mark in SCHEMES.items():
            for setting, fields in SETTINGS.items():
                ends = model.tokenizer.eos
                params = lc.Params(watermark=mark, banned_tokens=ends, seed=seed, **fields)
                batch.add(params, prompt)
                kinds.append((scheme, setting))
                rows.append(row)
                caches.append(cache.fork())
    logits = np.stack(rows)
    for _ in range(length):
        tokens = chain.sample(logits, batch)
        batch.append(tokens)
        logits = model.step(caches, tokens.tolist())
    texts: dict[tuple[str, str], list[list[int]]] = {kind: [] for kind in sorted(set(kinds))}
    for kind, handle in zip(kinds, batch.rows, strict=True):
        texts[kind].append(batch.output(handle))
    return texts


def replaced(text: list[int], share: float) -> list[int]:
    """A text with a share of its tokens replaced by random ones."""
    rng, tokens = np.random.default_rng(len(text)), np.array(text)
    places = rng.random(tokens.size) < share
    tokens[places] = rng.integers(0, 49_000, places.sum())
    return list(tokens.tolist())


def shares(scheme: str, texts: list[list[int]]) -> list[float]:
    """Which share of the texts is found, for each length and level.

    Texts without a watermark are searched for that of many keys: it is the rate of false alarms.
    """
    mark = SCHEMES[scheme]
    marks = [mark] if mark else [lc.Watermark("gumbel", key=key) for key in range(KEYS)]
    cells = []
    for n in LENGTHS:
        found = [lc.detect_watermark(x[:n], mark).p_value for x in texts for mark in marks]
        cells += [float(np.mean(np.array(found) < level)) for level in LEVELS]
    return cells


if __name__ == "__main__":
    main()
