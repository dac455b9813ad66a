"""A control of your own on the fast path: `python docs/examples/own_control.py`.

top_cube keeps the tokens whose probability is at least `top_cube` times the cube of the best one's.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

import logitchain as lc
from logitchain.testing import check_control


@njit(cache=True)
def keep_top_cube(row, ids, request):
    """Remove the tokens of one row that fall short; the row may hold candidates only.

    A mass counts in units of 2**-42 of the best token's, so `best_prob` is that token's probability
    among all that are left.
    """
    best_prob = 2.0**42 / request.mass
    cut = row.max() + np.log(request.values[0] * best_prob**2)
    for i in range(row.size):
        if row[i] < cut:
            row[i] = -np.inf


@njit(cache=True)
def top_cube_floor(best, temperature, peaks, values, vocab_size):
    """A logit below which no token survives: the best token has at least 1 / vocab_size."""
    return best + temperature * np.log(values[0] / vocab_size**2) - 1.0


TOP_CUBE = lc.Control(
    name="top_cube",
    fields=[lc.Field("top_cube", off=0.0, range="[0, 1]")],
    kind="cut",
    kernel=keep_top_cube,
    floor=top_cube_floor,
    statistics=("mass",),
)


@dataclass(frozen=True, kw_only=True)
class MyParams(lc.Params):
    """The fields of a request, with one more."""

    top_cube: float = lc.field(0.0, "[0, 1]")


def main() -> None:
    """Check the control, sample with it, explain a row."""
    check_control(TOP_CUBE, rounds=1)
    print("top_cube obeys the laws of a cut")

    chain = lc.Chain(["temperature", TOP_CUBE, "min_p"])
    batch = lc.Batch(vocab_size=6)
    body = {"temperature": 0.8, "top_cube": 0.4, "seed": 1}
    (first,) = batch.add(MyParams.from_request(body))
    batch.add(lc.Params(temperature=0.8, seed=2))  # a request that does not know top_cube
    logits = np.log([[0.5, 0.2, 0.15, 0.1, 0.04, 0.01]] * 2)
    print("tokens:", chain.sample(logits, batch).tolist())
    print(chain.explain(logits, batch, first))


if __name__ == "__main__":
    main()
