"""The total order on rows of every length around a block, against NumPy, token by token."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from effort import effort
from logitchain.numeric import order, simd
from logitchain.numeric.compile import kernel

MAX = np.finfo(np.float32).max
TINY = np.float32(2.0**-149)
SIZES = (1, 2, 63, 64, 65, 127, 128, 129, 191)
#: Few values, so that there are ties in every block; both zeros, neighbours, the ends.
VALUES = np.float32([-np.inf, -MAX, -1.0, -TINY, -0.0, 0.0, TINY, 1.0, 1.0 + 2.0**-23, MAX])
every_size = pytest.mark.parametrize("size", SIZES)


def rows_of(size):
    """Rows with ties and without, of which each has a finite logit."""
    rng = np.random.default_rng(size)
    for _ in range(6):
        row = rng.choice(VALUES, size)
        row[rng.integers(size)] = rng.choice(VALUES[1:])
        yield row
    yield np.full(size, np.float32(2.5))
    yield rng.permutation(size).astype(np.float32)


def ranked(row):
    """Token ids in order: descending logits, of equal ones ascending ids."""
    return np.lexsort((np.arange(row.size), -row))


def finite_values(row):
    return np.unique(row[row > -np.inf])


def test_keys_are_integers_in_the_order_of_floats_without_a_gap_around_zero():
    floats = np.sort(np.concatenate([VALUES[1:], [-2 * TINY, 2 * TINY]]).astype(np.float32))
    keys = [int(order.float_to_key(x)) for x in floats]
    assert keys == sorted(keys)
    assert int(order.float_to_key(np.float32(0.0))) == int(order.float_to_key(np.float32(-0.0)))
    near = [int(order.float_to_key(np.float32(k) * TINY)) for k in range(-2, 3)]
    assert near == [-2, -1, 0, 1, 2]
    assert int(order.float_to_key(np.float32(1.0 + 2.0**-23))) == 1 + int(
        order.float_to_key(np.float32(1.0))
    )
    for x in floats:
        assert np.float32(order.key_to_float(order.float_to_key(x))) == x


@every_size
def test_scan(size):
    for row in rows_of(size):
        best, is_valid = order.scan(row)
        assert (best, is_valid) == (row.max(), True)
        for place in {0, size // 2, size - 1}:
            for bad in (np.nan, -np.nan, np.inf):
                broken = row.copy()
                broken[place] = bad
                assert not order.scan(broken)[1]
    assert not order.scan(np.full(size, -np.inf, np.float32))[1]
    assert order.scan(np.full(size, -MAX))[1]


@every_size
def test_the_k_th_largest(size):
    for row in rows_of(size):
        left = ranked(row)[: int((row > -np.inf).sum())]
        for k in range(1, left.size + 1, 1 if size < 70 else 9):
            value, equals = order.kth_largest(row, k)
            assert value == row[left[k - 1]]
            assert equals == k - int((row > value).sum())
        assert order.kth_largest(row, left.size + 1)[0] == -MAX


@every_size
def test_keep_first(size):
    for row in rows_of(size):
        for value in finite_values(row):
            present = int((row == value).sum())
            above = int((row > value).sum())
            for equals in sorted({1, 2, present // 2, present - 1, present, present + 5} - {0, -1}):
                kept = row.copy()
                order.keep_first(kept, value, equals)
                expected = np.full(size, -np.inf, np.float32)
                ids = ranked(row)[: above + min(equals, present)]
                expected[ids] = row[ids]
                assert_array_equal(kept, expected)
                assert_array_equal(np.signbit(kept[ids]), np.signbit(row[ids]))


@every_size
def test_keep_from(size):
    for row in rows_of(size):
        for value in finite_values(row):
            kept = row.copy()
            order.keep_from(kept, value)
            assert_array_equal(kept, np.where(row >= value, row, np.float32(-np.inf)))


@every_size
def test_the_places_of_equals(size):
    for row in rows_of(size):
        for value in finite_values(row):
            (places,) = np.nonzero(row == value)
            assert order.last_equal(row, value) == places[-1]
            for n in sorted({1, places.size // 2, places.size} - {0}):
                assert order.nth_equal(row, value, n) == places[n - 1]
        assert order.last_equal(row, np.float32(77.5)) == -1
        assert order.nth_equal(row, np.float32(77.5), 1) == size - 1


def test_at_least_is_relative_to_the_best():
    at = order.at_least
    assert at(-1.0, 3.0) == np.float32(2.0)
    assert at(-1.0 + 2.0**-40, 3.0) == np.nextafter(np.float32(2.0), np.float32(3.0))
    assert at(-1.0 - 2.0**-40, 3.0) == np.float32(2.0)
    assert at(-(2.0**-60), 2.0**100) == np.float32(2.0**100)
    assert at(-np.inf, 0.0) == at(-1e39) == -MAX


# ---- 64 logits at a time


@kernel
def lowest_bit(bits):
    return simd.lowest_bit(bits)


@kernel
def highest_bit(bits):
    return simd.highest_bit(bits)


@kernel
def count_bits(bits):
    return simd.count_bits(bits)


@kernel
def peak(row, start):
    return simd.peak(row, start)


@kernel
def reaching(row, start, floor):
    return simd.reaching(row, start, floor)


@kernel
def equal_to(row, start, value, above):
    return simd.equal_to(row, start, value, above)


@kernel
def remove(row, start, word):
    simd.remove(row, start, word)


@kernel
def move(row, start, target, to):
    simd.move(row, start, target, to)


def test_bits():
    assert [lowest_bit(np.uint64(x)) for x in (1, 2, 12, 2**63)] == [0, 1, 2, 63]
    assert [highest_bit(np.uint64(x)) for x in (1, 2, 12, 2**63 + 1)] == [0, 1, 3, 63]
    assert [count_bits(np.uint64(x)) for x in (0, 1, 12, 2**64 - 1)] == [0, 1, 2, 64]


@pytest.mark.parametrize("start", [0, 1, 64, 100])
def test_blocks(start):
    for row in rows_of(191):
        block = row[start : start + 64]
        assert peak(row, start) == (block.max(), False)
        for value in finite_values(row):
            bits = int(reaching(row, start, value))
            assert [bits >> j & 1 for j in range(64)] == (block >= value).astype(int).tolist()
            above = np.float32(order.key_to_float(order.float_to_key(value) + 1))
            bits = int(equal_to(row, start, value, above))
            assert [bits >> j & 1 for j in range(64)] == (block == value).astype(int).tolist()
        for place in (0, 31, 32, 63):
            broken = row.copy()
            broken[start + place] = np.nan
            assert peak(broken, start)[1]
        word = np.uint64(0x8000_0001_F0F0_00FF)
        left = row.copy()
        remove(left, start, word)
        stays = np.ones(191, bool)
        stays[start : start + 64] = [int(word) >> j & 1 for j in range(64)]
        assert_array_equal(left, np.where(stays, row, np.float32(-np.inf)))
        target = np.zeros(200, np.float32)
        move(row, start, target, 7)
        assert_array_equal(target[7:71], block)
        assert not target[:7].any()
        assert not target[71:].any()


@pytest.mark.parametrize("size", [0, 1, 5, 999, 1000, 1001, effort(1500, 20_000)])
def test_in_ascending_order(size):
    rng = np.random.default_rng(size)
    for row in (
        rng.normal(0, 3, size),
        rng.integers(-3, 3, size) * 0.5,
        -np.abs(rng.normal(0, 1e30, size)),
        rng.normal(0, 1, size) * 10.0 ** rng.integers(-44, 38, size),
        np.where(rng.random(size) < 0.5, -np.inf, rng.normal(0, 1, size)),
        np.zeros(size),
    ):
        row = row.astype(np.float32)
        assert_array_equal(order.in_ascending_order(row), np.sort(row))
