"""exp, log and masses against mpmath and exact sums; the order's integer keys; the scan."""

import zlib

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from effort import effort
from logitchain.numeric import compile as jit
from logitchain.numeric import functions as numerics
from logitchain.numeric import order
from logitchain.numeric.compile import kernel
from logitchain.numeric.functions import MASS_BITS
from strategies import rows

INTERPRETED = jit.INTERPRETED
COUNT = effort(300, 20_000)


@kernel
def map_exp(x, out):
    for i in range(x.size):
        out[i] = numerics.exp(x[i])


@kernel
def map_log(x, out):
    for i in range(x.size):
        out[i] = numerics.log(x[i])


@kernel
def map_mass(x, out):
    for i in range(x.size):
        out[i] = numerics.mass(x[i])


@kernel
def map_fma(a, b, c, out):
    for i in range(a.size):
        out[i] = numerics.fma(a[i], b[i], c[i])


def mapped(function, *columns, dtype):
    out = np.empty(columns[0].size, dtype)
    function(*columns, out)
    return out


def worst_ulps(x, y, exact):
    """The largest error of y in units of the last place of the exact result."""
    with mpmath.workprec(120):
        truths = [exact(mpmath.mpf(float(value))) for value in x]
        return max(
            float(abs(mpmath.mpf(float(got)) - truth) / float(np.spacing(y.dtype.type(abs(truth)))))
            for got, truth in zip(y, truths, strict=True)
        )


def test_exp_is_within_1_1_ulp_over_its_whole_range():
    rng = np.random.default_rng(0)
    near_halves = (np.arange(-150, 128) + 0.5) * np.log(2)  # where the reduction changes sides
    x = np.concatenate(
        [rng.uniform(-103, 88, COUNT), -(10 ** rng.uniform(-9, 0, COUNT)), near_halves]
    )
    x = x.astype(np.float32)
    assert worst_ulps(x, mapped(map_exp, x, dtype=np.float32), mpmath.exp) < 1.1


def test_exp_far_below_is_zero():
    assert (
        mapped(map_exp, np.array([-1e30, -200, -np.inf], np.float32), dtype=np.float32).max() == 0
    )


def test_log_is_within_0_9_ulp_over_all_positive_numbers():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            2.0 ** rng.uniform(-1074, 1024, COUNT),
            rng.uniform(0.5, 2, COUNT),
            1 + rng.normal(0, 1e-7, COUNT),
            [
                5e-324,
                1.5 * 2.0**-1023,
                2.0**-1022,
                np.nextafter(1, 0),
                np.nextafter(1, 2),
                np.finfo(float).max,
            ],
        ]
    )
    x = x[(x > 0) & (x != 1) & np.isfinite(x)]
    assert worst_ulps(x, mapped(map_log, x, dtype=np.float64), mpmath.log) < 0.9


def test_log_of_one_is_zero():
    assert mapped(map_log, np.ones(1), dtype=np.float64)[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype):
    tiny = np.finfo(dtype).eps
    a = np.full(1, 1 + tiny, dtype)
    product = mapped(map_fma, a, a, np.full(1, -(1 + 2 * tiny), dtype), dtype=dtype)
    assert product[0] == dtype(tiny) ** 2  # 0 if the product had been rounded first


ONE, TIE = 2.0**-23, 1 + 2.0**-12  # the product of such numbers may be halfway between two floats


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (TIE, TIE, 2.0**-60, 1 + 2.0**-11 + ONE),
        (TIE, TIE, -(2.0**-60), 1 + 2.0**-11),
        (TIE, 1 + 3 * 2.0**-12, 2.0**-60, 1 + 2.0**-10 + 2 * ONE),
        (TIE, 1 + 3 * 2.0**-12, -(2.0**-60), 1 + 2.0**-10 + ONE),
        (2.0**-75 * (1 + 2.0**-16), 2.0**-75 * (1 - 2.0**-16), 2.0**-127, 2.0**-127),
        (
            2.0**-75 * (1 + 2.0**-16),
            2.0**-75 * (1 - 2.0**-16),
            2.0**-127 * (1 + 2.0**-22),
            2.0**-127 * (1 + 2.0**-22),
        ),
        (2.0**100, 2.0**100, -1.0, np.inf),
        (-0.0, 1.0, -0.0, -0.0),
        (np.inf, 0.0, 1.0, np.nan),
    ],
)
def test_fma_of_float32_is_not_rounded_to_float64_first(a, b, c, expected):
    columns = (np.full(1, x, np.float32) for x in (a, b, c))
    (ours,) = mapped(map_fma, *columns, dtype=np.float32)
    assert_array_equal(ours, np.float32(expected))
    assert np.isnan(expected) or np.signbit(ours) == np.signbit(expected)


def test_exp_log_and_mass_have_these_bits_on_every_machine():
    """Bounds on the error leave open some changes of a bit, and a token may depend on one."""
    index = np.arange(300, dtype=np.uint64)
    hashed = index * np.uint64(0x9E3779B97F4A7C15)
    logits = (hashed >> np.uint64(41)).astype(np.float32) * np.float32(-(2.0**-16))  # from -128 on
    bits = (hashed >> np.uint64(1)) % np.uint64(0x7FF0000000000000)
    bits[::3] = np.uint64(0x3FD0000000000000) + (hashed[::3] >> np.uint64(10))  # from 1/4 to 4
    bits[1::3] = np.uint64(0x3FE6A09E667F3BCD) + (hashed[1::3] >> np.uint64(17))  # from sqrt(1/2)
    results = (
        mapped(map_exp, logits, dtype="<f4"),
        mapped(map_mass, logits, dtype="<i8"),
        mapped(map_log, bits.view(np.float64), dtype="<f8"),
    )
    assert [zlib.crc32(result.tobytes()) for result in results] == [
        1072233194,
        1360467612,
        2282253353,
    ]


def test_log_changes_its_formula_at_the_root_of_a_half():
    """These lie just below it: by the formula for larger numbers the last bit would differ."""
    below = ["0x1.6a080d2832ca4p-1", "0x1.6a0047c607208p-1", "0x1.6a06683db39dbp-1"]
    logs = ["-0x1.62e96a7ff6870p-2", "-0x1.62ff65ac98592p-2", "-0x1.62ee11107cb8cp-2"]
    x = np.array(list(map(float.fromhex, below)))
    assert [y.hex() for y in mapped(map_log, x, dtype=np.float64).tolist()] == logs


def test_mass_is_exp_in_units_of_the_largest():
    x = -np.random.default_rng(2).uniform(0, 60, COUNT).astype(np.float32)
    masses = mapped(map_mass, x, dtype=np.int64)
    exact = np.exp(x.astype(np.float64)) * 2.0**MASS_BITS
    assert (np.abs(masses - exact) <= 1 + 2e-7 * exact).all()
    ends = np.array([0.0, -0.0, -np.inf, -3e38], np.float32)
    assert_array_equal(mapped(map_mass, ends, dtype=np.int64), [2**MASS_BITS, 2**MASS_BITS, 0, 0])


@given(rows())
def test_a_rows_mass_has_no_order(row):
    total = numerics.total_mass(row, row.max())
    shards = np.array_split(row[::-1], 3)
    parts = [numerics.total_mass(np.ascontiguousarray(part), row.max()) for part in shards]
    assert total == sum(map(int, parts))


@pytest.mark.parametrize("size", [numerics.CHUNK, 1024, 1025])
def test_many_of_the_largest_masses(size):
    assert numerics.total_mass(np.zeros(size, np.float32), np.float32(0)) == size * 2**MASS_BITS


def test_the_longest_row_cannot_overflow():
    assert numerics.MAX_VOCAB * 2**MASS_BITS < numerics.MOST < 2**63
    assert int(float(numerics.MOST)) == numerics.MOST


@given(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
def test_keys_order_as_floats_do(a, b):
    key_a, key_b = (int(order.float_to_key(np.float32(x))) for x in (a, b))
    assert (key_a < key_b) == (a < b)
    assert (key_a == key_b) == (a == b)
    assert order.key_to_float(np.int32(key_a)) == np.float32(a)


@given(st.floats(-3.5e38, 3.3e38))
def test_at_least_is_the_smallest_float32_not_below(cut):
    ours = np.float32(order.at_least(cut))
    lowest = -np.finfo(np.float32).max
    assert float(ours) >= cut
    assert ours == lowest or float(np.nextafter(ours, np.float32(-np.inf))) < cut


@given(rows())
def test_scan_finds_the_maximum(row):
    best, fit = order.scan(row)
    assert (best, fit) == (row.max(), True)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 7, 63, 64, 99])
def test_scan_finds_what_is_not_fit(bad, at):
    row = np.zeros(100, np.float32)
    row[at] = bad
    assert not order.scan(row)[1]
    assert not order.scan(np.full(at + 1, -np.inf, np.float32))[1]


@given(rows(), st.integers(1, 45))
def test_kth_largest(row, k):
    value, equals = order.kth_largest(row, k)
    ranked = np.sort(row[np.isfinite(row)])[::-1]
    if k <= ranked.size:
        assert (value, equals) == (ranked[k - 1], k - (row > ranked[k - 1]).sum())
    else:
        assert value == -np.finfo(np.float32).max
