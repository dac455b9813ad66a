"""What each control that truncates or bends costs: `python bench/cuts.py`.

One row in the cache, a draw included: the temperature and the control; the same with `top_k` 50
before it; and beside them llama.cpp's sampler and transformers' processor of that name, where they
are installed (`make .venv-peers/.bench`). Medians of many calls, as multiples of `np.max` of the
row. Ours take turns with it; the engines, which need more of the cache, with each other.
"""

import contextlib
from functools import partial

from chains import llama_cpp, transformers
from own_control import medians
from rows import flat, peaked

import logitchain as lc

REQUESTS = {
    "top_n_sigma": {"top_n_sigma": 1.0},
    "min_p": {"min_p": 0.05},
    "typical_p": {"typical_p": 0.9},
    "top_a": {"top_a": 0.2},
    "epsilon_cutoff": {"epsilon_cutoff": 3e-4},
    "eta_cutoff": {"eta_cutoff": 3e-4},
    "tfs": {"tfs": 0.95},
    "p_less": {"p_less": True},
    "top_h": {"top_h": 0.4},
    "quadratic": {"smoothing_factor": 0.2},
}


PEERS = {
    llama_cpp: {"top_n_sigma", "min_p", "typical_p"},
    transformers: {"min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h"},
}


def call(row, fields, order):
    """One draw of this library."""
    batch, chain = lc.Batch(row.size), lc.Chain(order)
    batch.add(lc.Params(temperature=0.8, top_k=50, seed=1, **fields))
    return partial(chain.sample, row, batch)


def peers(row, name, fields):
    """The same draw of the engines that have the control and are installed."""
    found = {}
    for peer, controls in PEERS.items():
        if name in controls:
            with contextlib.suppress(ImportError):
                sampler = peer(row.size, {"temperature": 0.8, **fields})
                found[peer.__name__] = partial(sampler, row)
    return found


def main():
    for kind, rows in (("flat", flat(count=1)), ("peaked", peaked(count=1))):
        row = rows[0]
        print(f"{kind} row of {row.size:,} logits: times np.max")
        print(f"{'':16}{'alone':>8}{'after top_k':>13}{'llama.cpp':>11}{'transformers':>14}")
        for name, fields in REQUESTS.items():
            order, others = ["temperature", name], peers(row, name, fields)
            calls = [row.max, call(row, fields, order), call(row, fields, ["top_k", *order])]
            best, alone, after = medians(calls, repeat=101)
            theirs = dict(zip(others, medians(others.values(), repeat=21), strict=True))
            cells = [
                f"{theirs[peer.__name__] / best:.0f}" if peer.__name__ in theirs else "-"
                for peer in PEERS
            ]
            print(f"{name:16}{alone / best:8.1f}{after / best:13.1f}{cells[0]:>11}{cells[1]:>14}")
        print(f"np.max {best * 1e6:.1f} us\n")


if __name__ == "__main__":
    main()
