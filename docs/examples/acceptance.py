"""Prints the table of docs/speculative.md: how many tokens a call of `verify` gives on average."""

import numpy as np

import logitchain as lc

CALLS, DRAFTS, VOCAB = 3000, 4, 1000
OTHER = 10**6  # what the drafter adds to a seed to have one of its own

#: How the drafter comes by its tokens, and whether it says what it drew them from.
WAYS = {
    "`proposed` is known": lambda q, seed: (drawn(q, seed + OTHER), q),
    "drawn with the row's seed": lambda q, seed: (drawn(q, seed), None),
    "the drafter's best": lambda q, seed: (q.argmax(axis=1), None),
    "drawn with another seed": lambda q, seed: (drawn(q, seed + OTHER), None),
}


def drawn(logits: np.ndarray, seed: int) -> np.ndarray:
    """A token from each row, at positions 0, 1 ..."""
    return lc.sample(logits, seed=seed, position=np.arange(len(logits)))


def main() -> None:
    """Print it."""
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
            for way, propose in enumerate(WAYS.values()):
                tokens = lc.verify(target, *propose(drafter, seed), seed=seed, position=0)
                lengths[seed, way] = len(tokens)
        cells = " | ".join(f"{mean:.2f}" for mean in lengths.mean(axis=0))
        print(f"| {1 - shared.mean():.0%} | {cells} |")


if __name__ == "__main__":
    main()
