"""Where a prefix of the order ends: against a sort of the whole row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from effort import effort
from logitchain.numeric import functions as numerics
from logitchain.numeric import prefix as crossing
from logitchain.numeric.compile import kernel
from logitchain.numeric.prefix import first_k, prefix_end

VOCABS = effort((65, 700), (65, 700, 1025, 5000, 40_001, 128_256))
SHAPES = {
    "normal": lambda g, v: g.normal(0, 1.5, v),
    "narrow": lambda g, v: g.normal(0, 1e-4, v),
    "peaked": lambda g, v: g.normal(0, 2, v) + 12 * (g.random(v) < 12 / v),
    "all equal": lambda g, v: np.full(v, 0.25),
    "two levels": lambda g, v: np.where(g.random(v) < 0.3, 2.0, -1.0),
    "coarse": lambda g, v: g.integers(-20, 20, v) * 0.5,
    "ascending": lambda g, v: np.arange(v) * 1e-4,
    "descending, an ulp apart": lambda g, v: 2.0 - np.arange(v) * 2.0**-23,
    "neighbours and outliers": lambda g, v: np.where(
        g.random(v) < 0.999, 1.0 + g.integers(0, 6, v) * 2.0**-23, -30.0
    ),
    "one hot token a block": lambda g, v: np.where(np.arange(v) % 64 == 7, 5.0, g.normal(-3, 1, v)),
    "powers": lambda g, v: -(2.0 ** -g.integers(0, 140, v).astype(float)),
    "a dominant token": lambda g, v: np.where(np.arange(v) == v // 2, 20.0, g.normal(0, 1, v)),
    "mostly removed": lambda g, v: np.where(g.random(v) < 0.9, -np.inf, g.normal(0, 1, v)),
}


@kernel
def masses_of(row, best, out):
    for i in range(row.size):
        out[i] = numerics.mass(np.float32(row[i] - best))


def check(row, shares, counts):
    best, masses = row.max(), np.empty(row.size, np.int64)
    masses_of(row, best, masses)
    ranked = row[np.lexsort((np.arange(row.size), -row))]
    reached = np.cumsum(masses[np.lexsort((np.arange(row.size), -row))])
    total = int(reached[-1])
    for share in shares:
        target = min(max(1, int(share * total)), total)
        end = int(np.searchsorted(reached, target))
        equals = end + 1 - int((row > ranked[end]).sum())
        ours = prefix_end(row, best, np.int64(total), np.int64(target))
        assert ours == (ranked[end], equals, reached[end])
    finite = int(np.isfinite(row).sum())
    for k in {min(max(1, int(share * row.size)), row.size) for share in shares} | set(counts):
        value, equals = first_k(row, k)
        if k < finite:
            assert (value, equals) == (ranked[k - 1], k - int((row > ranked[k - 1]).sum()))
        else:
            assert (value, equals) == (-np.finfo(np.float32).max, row.size)


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape, vocab):
    rng = np.random.default_rng(vocab)
    row = SHAPES[shape](rng, vocab).astype(np.float32)
    if not np.isfinite(row).any():
        row[0] = 0.0
    shares = [0.0, 1e-6, 0.3, 0.9, 0.999, 1 - 1e-9, 1.0, *rng.random(3)]
    check(row, shares, [1, 2, 16, 17, vocab - 1, vocab])


@given(strategies.rows(max_vocab=300), st.lists(st.floats(0, 1), max_size=4), st.integers(1, 300))
def test_small_rows(row, shares, k):
    check(row, shares, [k])


WORK = ("_mass_over", "_within", "_masses")


@given(
    shape=st.sampled_from(list(SHAPES)),
    counted=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    share=st.one_of(st.floats(0, 1), st.sampled_from((0.5, 0.999))),
)
def test_no_row_takes_many_passes(shape, counted, seed, share):
    """However the row looks, little is left for the bisection after a few of them."""
    row = SHAPES[shape](np.random.default_rng(seed), effort(3000, 20_000))
    row = row.astype(np.float32)
    touched = []

    def noted(function):
        return lambda values, *args: touched.append(values.size) or function(values, *args)

    search = getattr(prefix_end, "py_func", prefix_end)
    best = crossing.COUNTED if counted else row.max()
    total = np.isfinite(row).sum() if counted else numerics.total_mass(row, best)
    arguments = row, best, np.int64(total), np.int64(max(1, int(share * int(total))))
    expected = search(*arguments)  # what it calls is compiled before it is replaced
    with pytest.MonkeyPatch.context() as patch:
        for name in WORK:
            patch.setattr(crossing, name, noted(getattr(crossing, name)))
        assert search(*arguments) == expected
    assert sum(touched) < 12 * row.size
