"""top_k and top_p on long rows, against the order sorted and the exact masses summed, to the token.

`test_laws.py` compares short rows with float64 and leaves a little open at the end of a nucleus.
Nothing is left open here: the target is an integer, and many a target is a prefix's very mass.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import reference
from effort import effort
from logitchain.controls import top_p
from logitchain.numeric import compile as jit
from logitchain.numeric import functions as numerics
from logitchain.numeric import order, prefix

INTERPRETED = jit.INTERPRETED
#: One piece; all that is bisected at once, and one token more; several pieces and a part.
SIZES = effort((64, 1100), (64, 1024, 1025, 1500, 4096, 50_000))
KS = (1, 2, 15, 16, 17, 40, 64, 700, 1024, 1300)


def spread(rng, size):
    return rng.normal(0, 10, size)


def periodic(rng, size):
    return np.where(np.arange(size) % 64 == 5, 3.0, rng.normal(0, 1, size))


SHAPES = {
    "flat": lambda rng, size: rng.normal(0, 1.5, size),
    "spread": spread,
    "ties": lambda rng, size: rng.integers(-6, 7, size) * 0.5,
    "two levels": lambda rng, size: np.where(rng.random(size) < 0.3, 1.0, -1.0),
    "all equal": lambda rng, size: np.full(size, -2.5),
    "descending": lambda rng, size: -np.arange(size) * 2.0**-7,
    "ascending": lambda rng, size: np.arange(size) * 2.0**-7,
    "one of 64 is likely": periodic,
    "best last": lambda rng, size: np.where(np.arange(size) == size - 1, 9.0, spread(rng, size)),
    "most removed": lambda rng, size: np.where(rng.random(size) < 0.8, -np.inf, spread(rng, size)),
    "neighbours": lambda rng, size: 3.0 + rng.integers(0, 40, size) * 2.0**-22,
    "far apart": lambda rng, size: rng.normal(0, 1, size) * 1e30,
    "about zero": lambda rng, size: rng.integers(-3, 4, size) * 2.0**-149,
}
every_shape = pytest.mark.parametrize("shape", list(SHAPES)[:: effort(3, 1)])
every_size = pytest.mark.parametrize("size", SIZES)


def row_of(shape, size):
    row = SHAPES[shape](np.random.default_rng(size), size).astype(np.float32)
    row[size // 2] = 0.0
    return row


@jit.kernel
def weigh_each(row, best, masses):
    for i in range(row.size):
        masses[i] = numerics.mass(np.float32(row[i] - best))


def nucleus(row, ids, masses, p):
    """How many tokens of the order the nucleus has."""
    target = max(math.ceil(int(masses.sum()) * (p - numerics.SLACK)), 1)
    return int((np.cumsum(masses[ids]) - masses[ids] < target).sum())


def whole_tie(row, ids, count):
    return ids[: (row[ids] >= row[ids[count - 1]]).sum()]


@every_shape
@every_size
def test_top_k_keeps_the_first_of_the_order(shape, size):
    row = row_of(shape, size)
    ids = reference.order(row)
    for k in KS[:: effort(3, 1)]:
        kept = ids[: min(k, size)]
        assert_array_equal(lc.top_k(row, k), reference.keep(row, kept))
        tie = whole_tie(row, ids, kept.size)
        assert_array_equal(lc.top_k(row, k, ties="all"), reference.keep(row, tie))


@every_shape
@every_size
def test_top_p_ends_at_the_token_that_reaches_the_target(shape, size):
    row = row_of(shape, size)
    ids, masses = reference.order(row), np.empty(size, np.int64)
    weigh_each(row, row.max(), masses)
    shares = np.cumsum(masses[ids]) / masses.sum() + numerics.SLACK
    wanted = {0.05, 0.9, 0.999}
    for place in np.unique(np.geomspace(1, ids.size, effort(1, 8)).astype(int)) - 1:
        at = shares[place]  # where one token ends and the next begins
        wanted |= {at, np.nextafter(at, 0), np.nextafter(at, 2), at - 2.0**-44, at + 2.0**-44}
    for p in sorted(float(p) for p in wanted if 0 < p < 1)[:: effort(2, 1)]:
        count = nucleus(row, ids, masses, p)
        assert_array_equal(lc.top_p(row, p), reference.keep(row, ids[:count]))
        tie = whole_tie(row, ids, count)
        assert_array_equal(lc.top_p(row, p, ties="all"), reference.keep(row, tie))


@pytest.mark.parametrize(
    "row",
    [[0.5], [2.0, 1.0], [1.0, 1.0, 1.0], [3.0, -1.0, 3.0, 0.0, -np.inf, 2.0, 3.0], np.arange(9)],
    ids=["one", "two", "equal", "ties", "ascending"],
)
def test_short_rows_for_every_k(row):
    row = np.array(row, np.float32)
    ids = reference.order(row)
    ranked = row[ids]
    for k in range(1, ranked.size + 1):
        assert_array_equal(lc.top_k(row, k), reference.keep(row, ids[:k]))
        value, equals = order.kth_largest(row, k)
        assert (value, equals) == (ranked[k - 1], k - (row > ranked[k - 1]).sum())
    assert order.kth_largest(row, ranked.size + 1)[0] == -np.finfo(np.float32).max


@every_shape
@pytest.mark.parametrize("size", effort([67, 130], [64, 67, 130, 200]))
def test_every_end_where_few_logits_are_bisected_at_once(shape, size, monkeypatch):
    """Short rows go through all that long rows do."""
    monkeypatch.setattr(prefix, "_FEW", 8)
    end = getattr(prefix.prefix_end, "py_func", prefix.prefix_end)
    row = row_of(shape, size)
    ids, masses = reference.order(row), np.ones(size, np.int64)
    for best in (prefix.COUNTED, row.max()):
        if best < np.inf:
            weigh_each(row, best, masses)
        reached = np.cumsum(masses[ids])
        total = int(reached[-1])
        step = effort(9, 2)
        targets = {1, total, *reached[::step].tolist(), *(reached[1:-1:step] + 1).tolist()}
        for target in sorted(x for x in targets if x <= total):
            last = int(np.searchsorted(reached, target))
            value = row[ids[last]]
            first = int((row > value).sum())
            found = end(row, best, total, target)
            assert found == (value, last - first + 1, reached[last]), (target, best)


def test_an_end_that_is_one_float_below_the_largest_logits(monkeypatch):
    """The largest logits are looked at first: sixteen pieces of 64 have one."""
    monkeypatch.setattr(prefix, "_FEW", 8)
    end = getattr(prefix.prefix_end, "py_func", prefix.prefix_end)
    row = np.random.default_rng(1).uniform(-3, 0.9, 20 * 64).astype(np.float32)
    row[1::128] = 1.0
    row[: 16 * 64 : 64] = best = np.nextafter(np.float32(1.0), np.float32(2.0))
    masses = np.ones(row.size, np.int64)
    weigh_each(row, best, masses)
    total, target = int(masses.sum()), int(16 * masses[0] + 5 * masses[1])
    assert end(row, best, total, target) == (1.0, 5, target)


# ---- how much work it is


def levels(rng, size):
    """Tokens in a few clusters of any weight, some of them periodic."""
    centres = rng.normal(0, rng.choice([0.1, 1.0, 5.0, 10.0]), rng.integers(1, 9))
    weights = 10.0 ** rng.uniform(-5, 0, centres.size)
    row = rng.choice(centres, size, p=weights / weights.sum())
    row += rng.normal(0, rng.choice([0.0, 1e-6, 0.01, 0.3, 2.0]), size)
    row[:: rng.choice([3, 64, 100])] += rng.choice([0.0, 0.0, 0.5, 4.0])
    return row.astype(np.float32)


def passes(row, p):
    """How many times as many logits as the row has the search for the end of a nucleus looks at."""
    looked_at = 0

    def counted(kernel):
        def call(values, *arguments):
            nonlocal looked_at
            looked_at += values.size
            return kernel(values, *arguments)

        return call

    best = row.max()
    total = int(numerics.total_mass(row, best))
    arguments = row, best, total, int(top_p.target(total, p))
    prefix.prefix_end.py_func(*arguments)  # the kernels are compiled before their names are changed
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_mass_over", "_weighed", "_within"):
            patch.setattr(prefix, name, counted(getattr(prefix, name)))
        prefix.prefix_end.py_func(*arguments)
    return looked_at / row.size


@pytest.mark.skipif(INTERPRETED, reason="it counts what compiled kernels are given")
@given(st.integers(0, 2**32), st.sampled_from([5000, 50_000]), st.floats(1e-6, 1 - 1e-6))
def test_no_nucleus_takes_many_passes_over_the_row(seed, size, p):
    """Where few tokens have most of the mass, a sample of the row says little: it took 19."""
    assert passes(levels(np.random.default_rng(seed), size), p) < 8
