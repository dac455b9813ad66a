"""Tokens per second of the model alone: what it costs that sequences do not change each other.

    .venv/bin/python docs/examples/rate.py

`smollm2.each_row` multiplies row by row, so that a sequence's logits are the same beside others; at
once would be faster, and rounds in another way for each number of rows.
"""

from statistics import median
from time import perf_counter

import numpy as np
import smollm2

STEPS = 20


def main() -> None:
    """Time both for several batches."""
    model = smollm2.Model.load()
    prompt = model.tokenizer.chat([{"role": "user", "content": "Tell me about whales."}])
    _, cache = model.prefill(prompt)
    row_by_row = smollm2.each_row
    print("sequences  row by row  at once")
    for count in (1, 2, 4, 8, 16):
        rates = []
        for smollm2.each_row in (row_by_row, np.matmul):
            caches = [cache.fork() for _ in range(count)]
            rates.append(count / median(step(model, caches) for _ in range(STEPS)))
        print(f"{count:9}  {rates[0]:10.0f}  {rates[1]:7.0f}")


def step(model: smollm2.Model, caches: list[smollm2.Cache]) -> float:
    """The seconds that one more token for each takes."""
    started = perf_counter()
    model.step(caches, [100] * len(caches))
    return perf_counter() - started


if __name__ == "__main__":
    main()
