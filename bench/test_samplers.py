"""Each sampler in a chain: one row in the cache, the draw included.

Alone after the temperature; the same with `top_k` 50 before it; and beside them llama.cpp's sampler
and transformers' processor of that name.
"""

import numpy as np
import pytest
from chains import LLAMA_CPP, TRANSFORMERS, history, llama_cpp, ours, transformers
from rows import SHAPES

SAMPLERS = {
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
    "dynamic_temperature": {"dynatemp_range": 0.5},
    "mirostat": {"mirostat_tau": 5.0},
    "adaptive_p": {"adaptive_target": 0.3},
    "dry": {"dry_multiplier": 0.8},
}
#: Besides these two, those in the tables of `chains.py`.
OF_LLAMA_CPP = {*LLAMA_CPP, "dynatemp_range", "mirostat_tau", "adaptive_target"}
WAYS = ("np.max", "alone", "after top_k", "llama.cpp", "transformers")


def call_of(way, name, vocab):
    """What is timed; None where an engine lacks the control."""
    fields = {"temperature": 0.8, **SAMPLERS[name]}
    said = history(vocab) if name == "dry" else ()
    order = [*(["dry"] if name == "dry" else []), "temperature"]
    order += [] if name == "dry" else [name]
    if way == "np.max":
        return np.max
    if way == "alone":
        return ours(vocab, fields, said, order)
    if way == "after top_k":
        return ours(vocab, {**fields, "top_k": 50}, said, ["top_k", *order])
    peer, known = {
        "llama.cpp": (llama_cpp, OF_LLAMA_CPP),
        "transformers": (transformers, {*TRANSFORMERS}),
    }[way]
    return peer(vocab, fields, said) if fields.keys() <= known else None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("shape", ["peaked 128,256", "flat 128,256"])
def test_sampler(over_rows, shape, name, way):
    row = SHAPES[shape]()[:1].copy()
    call = call_of(way, name, row.shape[1])
    if call is None:
        pytest.skip(f"{way} has no {name}")
    over_rows(call, row, rounds=101, table="samplers", shape=shape, control=name, way=way)
