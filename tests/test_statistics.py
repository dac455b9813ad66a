"""The statistics of a row: over the whole row, over its blocks, and through a control's kernel."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
from in_blocks import blocks_of
from logitchain.controls import temperature
from logitchain.controls.record import ADD
from logitchain.fused.candidates import measure
from logitchain.numeric import compile as jit
from logitchain.numeric import functions as numerics
from logitchain.numeric import statistics

SHAPES = {
    "normal": lambda rng: rng.normal(0, 2, 330),
    "ties": lambda rng: rng.integers(-3, 4, 330) * 0.5,
    "far apart": lambda rng: rng.normal(0, 1, 330) * 1e30,
    "denormal": lambda rng: rng.integers(-9, 9, 330) * 1e-44,
    "equal": lambda rng: np.full(330, 2.5),
    "removed": lambda rng: np.where(rng.random(330) < 0.6, -np.inf, rng.normal(0, 2, 330)),
    "an empty block": lambda rng: np.where(
        np.arange(330) // 64 == 2, -np.inf, rng.normal(0, 1, 330)
    ),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)


def row_of(shape):
    return SHAPES[shape](np.random.default_rng(3)).astype(np.float32)


def addresses(*asked):
    return np.array(
        [
            jit.address_of(name, add, ADD) if name in asked else 0
            for name, add in statistics.STATISTICS.items()
        ],
        np.int64,
    )


def exact_deviation(row):
    """The square root of the variance, to 2**-100 of it."""
    numbers = [Fraction(float(x)) for x in row if x > -np.inf]
    mean = sum(numbers) / len(numbers)
    variance = sum((x - mean) ** 2 for x in numbers) / len(numbers)
    shift = 2 * (100 - math.floor(math.log2(variance) / 2)) if variance else 0
    return math.isqrt(int(variance * Fraction(2) ** shift)) / Fraction(2) ** (shift // 2)


@every_shape
@pytest.mark.parametrize("divisor", [1.0, 0.7, 3.0])
def test_they_are_the_same_over_blocks_and_over_the_row(shape, divisor):
    row = row_of(shape)
    after = row.copy()
    temperature.scale_ordinary(after, divisor)
    best = after.max()
    mass = int(numerics.total_mass(after, best))
    blocks = blocks_of(row, copied=(1, 4))
    q = np.exp(after.astype(np.float64) - best)
    q /= q.sum()
    left = q[q > 0]
    for asked in (("mass",), ("deviation",), ("mass", "deviation"), ("entropy",), ("squares",), ()):
        add = addresses(*asked)
        whole = measure(blocks, divisor, add, after, False)
        assert whole.mass == mass * bool({"mass", "entropy", "squares"} & {*asked})
        if "deviation" in asked:
            exact = exact_deviation(after)
            assert abs(Fraction(whole.deviation) - exact) <= exact * Fraction(2.0**-24)
        entropy = -(left * np.log(left)).sum() * ("entropy" in asked)
        assert_allclose(whole.entropy, entropy, rtol=1e-6, atol=1e-9)
        assert_allclose(whole.squares, (q * q).sum() * ("squares" in asked), rtol=1e-6)
        few = np.sort(after)[::-1][:5].copy()
        assert measure(blocks, divisor, add, few, True) == whole


@every_shape
def test_a_permuted_row_has_the_same(shape):
    row = row_of(shape)
    add, blocks = addresses(*statistics.STATISTICS), blocks_of(row)
    permuted = np.random.default_rng(0).permutation(row)
    assert measure(blocks, 1.0, add, row, False) == measure(blocks, 1.0, add, permuted, False)


@numba.njit
def keep_near(row, ids, request):
    """It reads both: neither may be that of the candidates alone, nor stand for the other."""
    cut = row.max() - request.deviation * request.values[0] - 2.0**42 / request.mass
    for i in range(row.size):
        if row[i] < cut:
            row[i] = -np.inf


FIELD = lc.Field("both", off=0.0, range="[0, 4]")
BOTH = lc.Control(
    name="both",
    fields=[FIELD],
    kind="cut",
    kernel=keep_near,
    statistics=("mass", "deviation"),
)


@dataclass(frozen=True, kw_only=True)
class MyParams(lc.Params):
    both: float = lc.field(0.0, "[0, 4]")


@pytest.mark.parametrize("following", [{}, {"top_k": 5}, {"min_p": 0.2}])
@pytest.mark.parametrize("both", [0.3, 1.5])
def test_a_control_of_a_user_reads_both(following, both):
    """Before a `top_k` or a `min_p` its kernel gets the candidates that their floors leave."""
    row = row_of("normal")
    known = measure(blocks_of(row), 1.0, addresses("mass", "deviation"), row, False)
    cut = np.float64(row.max()) - known.deviation * both - 2.0**42 / known.mass
    expected = np.where(row < cut, -np.inf, row)
    for name, value in following.items():
        expected = getattr(lc, name)(expected, value)
    batch = lc.Batch(row.size)
    batch.add(MyParams(both=both, **following))
    assert_array_equal(lc.Chain([BOTH, *following])(row, batch), expected)


@numba.njit
def remove_best(row, ids, request):
    """Its statistic says nothing of what stays."""
    if request.mass > 0:
        row[row.argmax()] = -np.inf


def test_a_control_that_is_no_cut_ends_the_search_for_floors_though_it_reads_a_statistic():
    """The floor of `min_p` would be that of the token that is removed."""
    record = lc.Control(
        name="both", fields=[FIELD], kind="free", kernel=remove_best, statistics=("mass",)
    )
    row = np.linspace(-2, 2, 330, dtype=np.float32)
    row[5] = 9.0
    left = np.where(row == 9.0, -np.inf, row)
    batch = lc.Batch(row.size)
    batch.add(MyParams(both=1.0, min_p=0.1))
    assert_array_equal(lc.Chain([record, "min_p"])(row, batch), lc.min_p(left, 0.1))


@numba.njit
def keep_upper_half(row, ids, request):
    cut = np.median(row)
    for i in range(row.size):
        if row[i] < cut:
            row[i] = -np.inf


def test_a_cut_without_floor_and_statistics_gets_the_whole_row():
    record = lc.Control(name="both", fields=[FIELD], kind="cut", kernel=keep_upper_half)
    row = np.linspace(-2, 2, 330, dtype=np.float32)
    batch = lc.Batch(row.size)
    batch.add(MyParams(both=1.0, min_p=0.5))
    left = np.where(row < np.median(row), -np.inf, row)
    assert_array_equal(lc.Chain([record, "min_p"])(row, batch), lc.min_p(left, 0.5))
