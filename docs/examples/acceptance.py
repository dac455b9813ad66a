"""Prints tables of docs/speculative.md: how many tokens a call of `verify` gives on average.

By default of random logits; with `--model` of SmolLM2-135M, whose drafter is the model without some
of its layers (self-speculative decoding, Zhang et al., arXiv:2309.08168).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import logitchain as lc

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]

CALLS, DRAFTS, VOCAB = 3000, 4, 1000
METHODS: tuple[Literal["block", "token"], ...] = "block", "token"
OTHER = 10**6  # what the drafter adds to a seed to have one of its own
PROMPTS = (
    "Write a short story about a lighthouse keeper.",
    "Explain how a bicycle stays upright.",
    "Write a Python function that merges two sorted lists.",
    "List five things to do on a rainy day, with a sentence on each.",
)
APART = 5  # tokens between two calls that are measured in a text


def drawn(logits: Rows, seed: int, position: int = 0) -> Ids:
    """A token from each row, at `position` and those that follow."""
    return lc.sample(logits, seed=seed, position=position + np.arange(len(logits)))


def with_leaves(logits: Rows, first: Ids, seed: int, position: int = 0) -> tuple[Ids, Ids]:
    """A tree: the drafts one after the other, and beside each what would be drawn without it."""
    sequences = [first]
    for depth, (row, token) in enumerate(zip(logits, first, strict=True)):
        others = row.copy()
        others[token] = -np.inf
        if np.isfinite(others).any():
            second = lc.sample(others, seed=seed, position=position + depth)
            sequences.append(np.append(first[:depth], second))
    return lc.draft_tree(sequences)


# ---- random logits

Verified = Callable[[Rows, Rows, int], Ids]


def known(method: Literal["block", "token"]) -> Verified:
    """The drafter draws with a seed of its own, and says from what."""

    def verified(target: Rows, q: Rows, seed: int) -> Ids:
        return lc.verify(target, drawn(q, seed + OTHER), q, seed=seed, position=0, method=method)

    return verified


def unknown(propose: Callable[[Rows, int], Ids]) -> Verified:
    """The drafter does not say how it came by its tokens."""
    return lambda target, q, seed: lc.verify(target, propose(q, seed), seed=seed, position=0)


def tree(target: Rows, q: Rows, seed: int) -> Ids:
    """Drawn with the row's seed, and the runner-up at each place."""
    first = drawn(q, seed)
    drafts, parents = with_leaves(q, first, seed)
    depths = [0]
    for parent in parents.tolist():
        depths.append(depths[parent + 1] + 1)
    return lc.verify(target[depths], drafts, seed=seed, position=0, parents=parents)


#: How the drafter comes by its tokens, and whether it says what it drew them from.
WAYS: dict[str, Verified] = {
    '`proposed`, "block"': known("block"),
    '`proposed`, "token"': known("token"),
    "drawn with the row's seed": unknown(drawn),
    "the same, with runners-up": tree,
    "the drafter's best": unknown(lambda q, seed: q.argmax(axis=1)),
    "drawn with another seed": unknown(lambda q, seed: drawn(q, seed + OTHER)),
}


def random_logits() -> None:
    """Print how many tokens a call gives, by how far the drafter is off."""
    print("| drafter off by |", " | ".join(WAYS), "|")
    print("| --- |", " | ".join("---:" for _ in WAYS), "|")
    for noise in (0.25, 0.5, 1.0, 2.0):
        lengths = np.zeros((CALLS, len(WAYS)))
        shared = np.zeros(CALLS)
        for seed in range(CALLS):
            rng = np.random.default_rng(seed)
            target = rng.normal(0, 4, (DRAFTS + 1, VOCAB)).astype(np.float32)
            drafter = target[:-1] + noise * rng.normal(0, 1, (DRAFTS, VOCAB)).astype(np.float32)
            p, q = np.exp(lc.logprobs(target[0])), np.exp(lc.logprobs(drafter[0]))
            shared[seed] = np.minimum(p, q).sum()
            for way, verified in enumerate(WAYS.values()):
                lengths[seed, way] = len(verified(target, drafter, seed))
        cells = " | ".join(f"{mean:.2f}" for mean in lengths.mean(axis=0))
        print(f"| {1 - shared.mean():.0%} | {cells} |")


# ---- a real model


class Drafting:
    """A model, a drafter that is the model without some layers, and the chain of both."""

    def __init__(self, skipped: Sequence[int]) -> None:
        """Load the model."""
        from smollm2 import Model  # needs the packages of `make demo`

        self.model = Model.load()
        self.all = self.model.layers
        self.kept = [number for number in range(len(self.all)) if number not in skipped]
        self.chain = lc.Chain()
        self.batch = lc.Batch(self.model.tokenizer.vocab_size)
        self.batch.add(lc.Params(temperature=0.8, top_p=0.95, seed=0))

    def after(self, cache: Any, tokens: Sequence[int]) -> list[Rows]:
        """The processed row after each of the tokens; the cache grows."""
        rows = (self.model.step([cache], [int(token)]) for token in tokens)
        return [self.chain(row, self.batch)[0] for row in rows]

    def drafts(self, cache: Any, last: int, pick: Callable[[Rows, int], Ids]) -> tuple[Ids, Rows]:
        """Tokens that the drafter picks one after the other, and from what."""
        cache, tokens, rows = cache.fork(), [last], list[Rows]()
        cache.keys, cache.values = cache.keys[self.kept], cache.values[self.kept]
        self.model.layers = [self.all[number] for number in self.kept]
        for place in range(DRAFTS):
            rows += self.after(cache, tokens[-1:])
            tokens.append(int(pick(rows[-1][None], place)[0]))
        self.model.layers = self.all
        return np.array(tokens[1:]), np.stack(rows)

    def target(self, cache: Any, last: int, nodes: Ids, parents: Ids) -> Rows:
        """The model's processed rows before the drafts and after each."""
        caches = [cache.fork()]
        rows = self.after(caches[0], [last])
        for node, parent in zip(nodes.tolist(), parents.tolist(), strict=True):
            caches.append(caches[parent + 1].fork())
            rows += self.after(caches[-1], [node])
        return np.stack(rows)

    def measured(self, cache: Any, last: int, seed: int, position: int) -> dict[str, float]:
        """The tokens that a call gives at one place of a text, by way."""
        key, found = {"seed": seed, "position": position}, dict[str, float]()

        def picks(seed: int) -> Callable[[Rows, int], Ids]:
            return lambda row, place: drawn(row, seed, position + place)

        drafts, q = self.drafts(cache, last, picks(lc.draft_seed(seed, position)))
        rows = self.target(cache, last, *lc.draft_tree([drafts]))
        for method in METHODS:  # over more coins than one
            keys = [{"seed": seed + OTHER * i, "position": position} for i in range(20)]
            calls = [lc.verify(rows, drafts, q, **one, method=method) for one in keys]
            found[f'`proposed`, "{method}"'] = float(np.mean([len(tokens) for tokens in calls]))
        drafts, q = self.drafts(cache, last, picks(seed))
        nodes, parents = with_leaves(q, drafts, seed, position)
        rows = self.target(cache, last, nodes, parents)
        path = rows[[0, *(lc.accepted_drafts([*drafts, 0], nodes, parents) + 1)]]
        found["drawn with the row's seed"] = len(lc.verify(path, drafts, **key))
        tokens = lc.verify(rows, nodes, parents=parents, **key)
        found["the same, with runners-up"] = len(tokens)
        best, _ = self.drafts(cache, last, lambda row, _: row.argmax(axis=1))
        rows = self.target(cache, last, *lc.draft_tree([best]))
        found["the drafter's best"] = len(lc.verify(rows, best, **key))
        return found


@dataclass
class Text:
    """A text that the model writes: the cache lacks the last token."""

    cache: Any
    last: int
    seed: int
    position: int = 0


def real_model(skipped: Sequence[int], calls: int) -> None:
    """Print the tokens of a call along texts of the model, with 95 % intervals."""
    drafting, texts = Drafting(skipped), list[Text]()
    for seed, question in enumerate(PROMPTS):
        prompt = drafting.model.tokenizer.chat([{"role": "user", "content": question}])
        texts.append(Text(drafting.model.prefill(prompt[:-1])[1], prompt[-1], seed))
    found = []
    for number in range(calls):
        text = texts[number % len(texts)]
        found.append(drafting.measured(text.cache, text.last, text.seed, text.position))
        for _ in range(APART):
            (row,) = drafting.after(text.cache, [text.last])
            text.last = int(drawn(row[None], text.seed, text.position)[0])
            text.position += 1
    table = np.array([list(one.values()) for one in found])
    errors = 1.96 * table.std(axis=0, ddof=1) / np.sqrt(calls)
    print("| way | tokens a call |\n| --- | ---: |")
    for way, mean, error in zip(found[0], table.mean(axis=0), errors, strict=True):
        print(f"| {way} | {mean:.2f} ± {error:.2f} |")
    gain = table[:, 0] - table[:, 1]
    error = 1.96 * gain.std(ddof=1) / np.sqrt(calls)
    print(f'"block" less "token", for the same drafts: {gain.mean():.3f} ± {error:.3f}')


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="store_true", help="measure a real model")
    parser.add_argument(
        "--skip", type=int, nargs="*", default=[12, 14, 16], help="layers that the drafter lacks"
    )
    parser.add_argument("--calls", type=int, default=120, help="how many calls are measured")
    arguments = parser.parse_args()
    if arguments.model:
        real_model(arguments.skip, arguments.calls)
    else:
        random_logits()


if __name__ == "__main__":
    main()
