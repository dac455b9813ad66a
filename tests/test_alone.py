"""Each control alone in a chain is its pure function: on floors, candidates and whole rows."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc

VOCAB = 150
PROMPT, OUTPUT = [3, 3, 70, 149, 5, 129, 1000], [3, 70, 4, 70]
SEEDS, POSITION = [17, 18], len(OUTPUT)


def best_and_rest(rng):
    """One token, and a tail that together has 0.12 of its mass."""
    row = np.full(VOCAB, -7.1)
    row[120] = 0.0
    return row


SHAPES = {
    "normal": lambda rng: rng.normal(0, 2, VOCAB),
    "ties": lambda rng: rng.integers(-3, 2, VOCAB) * 1.0,
    "two levels in many blocks": lambda rng: np.where(np.arange(VOCAB) == 100, 0.3, -0.7),
    "best and rest": best_and_rest,
    "removed": lambda rng: np.where(rng.random(VOCAB) < 0.5, -np.inf, rng.normal(0, 2, VOCAB)),
}


def history(scope):
    return {"all": PROMPT + OUTPUT, "output": OUTPUT, "prompt": PROMPT}[scope]


def penalty(function):
    return lambda rows, value, scope: function(rows, value, history(scope))


def xtc(rows, probability, threshold, seed, **protected):
    keys = {"seed": seed, "position": POSITION}
    return lc.xtc(rows, threshold, probability, **keys, **protected)


def first_mirostat(rows, tau):
    return lc.mirostat(rows, 2 * tau)


#: (control, options, the fields of a request, its pure function of rows and the fields' values)
CASES = [
    *(("temperature", {}, {"temperature": t}, lc.temperature) for t in (0.0, 0.7, 2.0**-20, 3.0)),
    *(("top_k", {}, {"top_k": k}, lc.top_k) for k in (1, 2, 3, 4, 40, 149)),
    *(("top_k", {"ties": "all"}, {"top_k": k}, lc.top_k) for k in (1, 3, 40)),
    *(("top_p", {}, {"top_p": p}, lc.top_p) for p in (0.1, 0.5, 0.7, 0.85, 0.9, 0.97, 0.9999)),
    *(("top_p", {"ties": "all"}, {"top_p": p}, lc.top_p) for p in (0.1, 0.7, 0.97)),
    *(("min_p", {}, {"min_p": p}, lc.min_p) for p in (1e-9, 0.03, 1.0)),
    *(("top_n_sigma", {}, {"top_n_sigma": n}, lc.top_n_sigma) for n in (0.3, 1.0, 2.5)),
    *(("typical_p", {}, {"typical_p": p}, lc.typical_p) for p in (0.2, 0.8)),
    *(("top_a", {}, {"top_a": a}, lc.top_a) for a in (0.01, 0.5)),
    *(("epsilon_cutoff", {}, {"epsilon_cutoff": e}, lc.epsilon_cutoff) for e in (3e-4, 0.02)),
    *(("eta_cutoff", {}, {"eta_cutoff": e}, lc.eta_cutoff) for e in (3e-4, 0.02)),
    *(("tfs", {}, {"tfs": z}, lc.tfs) for z in (0.3, 0.9)),
    *(("top_h", {}, {"top_h": h}, lc.top_h) for h in (0.3, 0.9)),
    *(("mirostat", {}, {"mirostat_tau": t}, first_mirostat) for t in (0.5, 3.0)),
    *(("adaptive_p", {}, {"adaptive_target": t}, lc.adaptive_p) for t in (0.0, 0.2, 1.0)),
    *(
        ("dynamic_temperature", {}, {"temperature": t, "dynatemp_range": r}, lc.dynamic_temperature)
        for t, r in ((1.0, 0.5), (0.5, 0.5), (0.0, 2.0))
    ),
    *(
        (
            "dry",
            {},
            {"dry_multiplier": 0.8, "dry_base": base, "dry_allowed_length": allowed},
            lambda rows, *settings: lc.dry(rows, history("all"), *settings),
        )
        for base in (1.0, 1.75)
        for allowed in (0, 1, 2)
    ),
    ("p_less", {}, {"p_less": True}, lambda rows, on: lc.p_less(rows)),
    *(
        (
            "green_list",
            {"scope": scope},
            {"watermark": lc.Watermark("sbw", key=42, context_width=width)},
            lambda rows, mark, scope: lc.green_list(rows, mark, history(scope)),
        )
        for width in (1, 4, 9)
        for scope in ("output", "all")
    ),
    *(("quadratic", {}, {"smoothing_factor": f}, lc.quadratic) for f in (0.1, 1.5)),
    *(
        (name, {"scope": scope}, {name: value}, penalty(getattr(lc, name)))
        for name, value in [
            ("repetition_penalty", 1.7),
            ("frequency_penalty", 0.3),
            ("presence_penalty", 1.3),
        ]
        for scope in ("all", "output", "prompt")
    ),
    ("logit_bias", {}, {"logit_bias": {7: 2.0, 100: -1.0, 149: 9.0}}, lc.logit_bias),
    *(
        ("xtc", options, {"xtc_probability": 0.5, "xtc_threshold": t}, xtc)
        for t in (0.001, 0.01, 0.3)
        for options in (
            {},
            {"protected_ids": (100, 120, 121), "protected": "exempt"},
            {"protected_ids": (100, 120, 121), "protected": "exclude"},
            {"protected_ids": (100, 120, 121)},
        )
    ),
]


@pytest.mark.parametrize("control", dict.fromkeys(name for name, *_ in CASES))
def test_a_control_alone_is_its_function(control):
    for shape, (name, options, fields, function) in product(SHAPES.values(), CASES):
        if name != control:
            continue
        rows = np.stack([shape(np.random.default_rng(seed)) for seed in SEEDS]).astype(np.float32)
        batch = lc.Batch(VOCAB)
        for seed in SEEDS:
            batch.add(lc.Params(seed=seed, **fields), PROMPT, OUTPUT)
        keys = {"seed": SEEDS} if name == "xtc" else {}
        expected = function(rows, *fields.values(), **keys, **options)
        chain = lc.Chain([(name, options)])
        assert_array_equal(chain(rows, batch), expected, str((options, fields)))
        drawn = lc.sample(expected, seed=SEEDS, position=[POSITION] * 2)
        assert_array_equal(chain.sample(rows, batch), drawn, str((options, fields)))


OFF = {
    "temperature": (lc.temperature, 1.0),
    "top_k": (lc.top_k, 0),
    "top_p": (lc.top_p, 1.0),
    "min_p": (lc.min_p, 0.0),
    "top_n_sigma": (lc.top_n_sigma, 0.0),
    "typical_p": (lc.typical_p, 1.0),
    "top_a": (lc.top_a, 0.0),
    "epsilon_cutoff": (lc.epsilon_cutoff, 0.0),
    "eta_cutoff": (lc.eta_cutoff, 0.0),
    "tfs": (lc.tfs, 1.0),
    "quadratic": (lc.quadratic, 0.0),
}


@pytest.mark.parametrize("name", OFF)
def test_a_control_that_is_off_leaves_the_widest_row_as_it_is(name):
    row = np.array([3e38, 2000.0, 0.0, -0.0, 1e-45, -np.inf, -3e38], np.float32)
    for width in (row, row[1:], row[2:]):
        assert_array_equal(OFF[name][0](width, OFF[name][1]), width)


def test_a_row_does_not_read_the_values_of_the_row_before():
    """xtc has two fields, the others one: their second is whatever was there before."""
    chain = lc.Chain(["xtc", "top_p", "min_p", "temperature"])
    row = np.linspace(0, 1, VOCAB, dtype=np.float32)
    for fields in ({"top_p": 0.6}, {"min_p": 0.8}, {"temperature": 0.5}):
        (name, value), batch = next(iter(fields.items())), lc.Batch(VOCAB)
        batch.add(lc.Params(seed=1, xtc_probability=1.0, xtc_threshold=0.5))
        for seed in range(20):
            batch.add(lc.Params(seed=seed, **fields))
        rows = np.tile(row, (21, 1))
        alone = lc.sample(
            getattr(lc, name)(rows[1:], value), seed=list(range(20)), position=[0] * 20
        )
        assert_array_equal(chain.sample(rows, batch)[1:], alone)


@pytest.mark.parametrize("seed", [82, 86, 94, 178, 258, 776])
def test_the_token_after_the_end_of_a_nucleus_does_not_win(seed):
    """The mass before token 64 is the target to the unit: half of 128 equal tokens."""
    row = np.zeros(128, np.float32)
    assert lc.sample(row, seed=seed, position=0) in (63, 64)
    batch = lc.Batch(128)
    batch.add(lc.Params(seed=seed, top_p=0.5 + 2.0**-20))
    left = np.where(np.arange(128) < 64, 0.0, -np.inf)
    assert lc.Chain(["top_p"]).sample(row, batch) == lc.sample(left, seed=seed, position=0)


def test_a_control_that_empties_what_a_cut_left_invalidates_the_row():
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=0, top_k=1, banned_tokens=[9]))
    row = np.where(np.arange(VOCAB) == 9, 1.0, 0.0)
    chain = lc.Chain(["top_k", "banned_tokens"], on_invalid="mark")
    assert chain.sample(row, batch).tolist() == [-1]
    assert batch.status == ["no finite logit is left after banned_tokens"]


def test_a_chain_may_have_many_steps():
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(temperature=1.25, seed=0))
    row = np.linspace(0, 1, VOCAB, dtype=np.float32)
    expected = row
    for _ in range(50):
        expected = lc.temperature(expected, 1.25)
    assert_array_equal(lc.Chain(["temperature"] * 50)(row, batch), expected)


@pytest.mark.parametrize("cut", [{"min_p": 0.05}, {"top_p": 0.9}, {"top_k": 40}])
def test_a_cut_after_two_temperatures_is_not_that_of_the_first(cut):
    row = np.linspace(-9, 3, VOCAB, dtype=np.float32)
    batch = lc.Batch(VOCAB)
    batch.add(lc.Params(seed=0, temperature=2.0, **cut))
    ((name, value),) = cut.items()
    expected = getattr(lc, name)(lc.temperature(lc.temperature(row, 2.0), 2.0), value)
    assert_array_equal(lc.Chain(["temperature", "temperature", name])(row, batch), expected)
