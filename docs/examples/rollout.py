"""A rollout for RL from a real model: kept sets while sampling, then a ratio of exactly 1.

`python docs/examples/rollout.py` samples answers, writes tokens, log-probabilities and kept sets to
a file, reads it again, and computes the logits a second time, as a trainer does.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smollm2 import Floats, Model

import logitchain as lc

Record = dict[str, NDArray[Any]]  # what a file has of one answer

QUESTION = "Tell me a fact about whales."
PARAMS = lc.Params(n=3, seed=7, temperature=0.8, top_p=0.95, min_p=0.02, logprobs_of="processed")


def main() -> None:
    """Sample, write, read, compute again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=24, help="how many tokens an answer has")
    parser.add_argument("--file", default="build/rollout.npz", help="where the records go")
    arguments = parser.parse_args()
    model, path = Model.load(), Path(arguments.file)
    prompt = model.tokenizer.chat([{"role": "user", "content": QUESTION}])

    records = sample(model, PARAMS, prompt, arguments.tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, prompt, records)
    size = path.stat().st_size
    print(f"{len(records)} answers of {arguments.tokens} tokens; {size} bytes in {path}")

    prompt, records = load(path)
    for number, record in enumerate(records):
        sizes, text = np.diff(record["kept_offsets"]), model.tokenizer.decode(record["tokens"])
        logits = second_pass(model, prompt, record)
        again = trained(logits, record, PARAMS.temperature)
        ratio = np.exp(again - record["logprobs"])
        unscaled = np.exp(trained(logits, record, 1.0) - record["logprobs"])
        every = lc.token_logprobs(lc.temperature(logits, PARAMS.temperature), record["tokens"])
        whole = np.exp(every - record["logprobs"])
        print(f"\nanswer {number}: {text!r}")
        print(f"  kept tokens            {sizes.min()} to {sizes.max()}, mean {sizes.mean():.1f}")
        print(f"  their own probability  mean {record['kept_mass'].mean():.3f}")
        print(f"  ratio                  {ratio.min()} to {ratio.max()}")
        print(f"  without temperature    {unscaled.min():.3f} to {unscaled.max():.3f}")
        print(f"  without kept sets      {whole.min():.3f} to {whole.max():.3f}")


def sample(model: Model, params: lc.Params, prompt: list[int], tokens: int) -> list[Record]:
    """For each answer of so many tokens its record."""
    chain, batch = lc.Chain(), lc.Batch(model.tokenizer.vocab_size)
    batch.add(params, prompt)
    logits, prefix = model.prefill(prompt)
    caches = [prefix.fork() for _ in batch.rows]
    logits = np.tile(logits, (len(batch), 1))
    steps = []
    for _ in range(tokens):
        drawn = chain.sample_with_logprobs(logits, batch, kept=True, details=True)
        steps.append(drawn)
        batch.append(drawn.tokens)
        logits = model.step(caches, drawn.tokens.tolist())
    return [record_of(steps, r) for r in range(len(batch))]


def record_of(steps: list[Any], r: int) -> Record:
    """One answer's part of the steps."""
    sets = [drawn.kept_set(r) for drawn in steps]
    names = "tokens", "logprobs", "entropy", "kept_mass"
    return {
        **{name: np.array([getattr(drawn, name)[r] for drawn in steps]) for name in names},
        "kept_offsets": np.cumsum([0, *(ids.size for ids, _ in sets)]),
        "kept_ids": np.concatenate([ids for ids, _ in sets]),
        "kept_logprobs": np.concatenate([logprobs for _, logprobs in sets]),
    }


def save(path: Path, prompt: list[int], records: list[Record]) -> None:
    """Write the records to a file."""
    arrays = {f"{number}/{name}": x for number, y in enumerate(records) for name, x in y.items()}
    np.savez_compressed(path, prompt=np.array(prompt), **arrays)


def load(path: Path) -> tuple[list[int], list[Record]]:
    """The prompt and the records in a file."""
    arrays: Mapping[str, NDArray[Any]] = np.load(path)
    records: dict[str, Record] = {}
    for key in arrays:
        if "/" in key:
            number, name = key.split("/")
            records.setdefault(number, {})[name] = arrays[key]
    return arrays["prompt"].tolist(), list(records.values())


def second_pass(model: Model, prompt: list[int], record: Record) -> Floats:
    """(tokens, vocab): the logits before each token of an answer."""
    logits, cache = model.prefill(prompt)
    earlier = record["tokens"][:-1].tolist()
    return np.stack([logits, *(model.step([cache], [token])[0] for token in earlier)])


def trained(logits: Floats, record: Record, temperature: float) -> Floats:
    """(tokens,): the log-probabilities of an answer's tokens over its kept sets."""
    scaled = lc.temperature(logits, temperature)
    return lc.kept_logprobs(scaled, record["kept_offsets"], record["kept_ids"], record["tokens"])


if __name__ == "__main__":
    main()
