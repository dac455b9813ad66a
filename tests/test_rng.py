"""Philox against its published known answers; uniforms and derived seeds as they are promised."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc
from logitchain import rng

# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def hex_words(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, answer):
    assert_array_equal(rng.philox4x32(*hex_words(counter), *hex_words(key)), hex_words(answer))


def test_words_put_each_argument_in_its_place():
    seed, position = (0x299F31D0 << 32) | 0xA4093822, (0x85A308D3 << 32) | 0x243F6A88
    words = rng.words(np.uint64(seed), np.uint64(position), 0x03707344, 0x13198A2E)
    assert_array_equal(words, hex_words(KNOWN_ANSWERS[2][2]))


def test_uniform_is_the_first_two_words():
    high, low, _, _ = rng.words(np.uint64(3), np.uint64(4), 5, 6)
    assert lc.uniform(3, 4, 5, 6) == ((int(high) << 32 | int(low)) >> 12) * 2.0**-52 + 2.0**-53


def test_uniform_never_reaches_its_ends():
    everything = np.uint64(0xFFFFFFFF)
    assert rng.unit(np.uint64(0), np.uint64(0)) == 2.0**-53
    assert rng.unit(everything, everything) == 1 - 2.0**-53


def test_uniforms_are_uniform_and_independent_of_their_neighbours():
    u = lc.uniform(
        np.arange(20)[:, None, None], np.arange(30)[:, None], stream=16, index=np.arange(40)
    )
    assert u.shape == (20, 30, 40)
    counts = np.histogram(u, 64, (0, 1))[0]
    expected = u.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)
    for axis in range(3):
        a, b = np.delete(u, 0, axis).ravel(), np.delete(u, -1, axis).ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(a.size)


def test_each_argument_matters_and_scalars_give_floats():
    one = lc.uniform(1, 2, 3, 4)
    assert isinstance(one, float)
    others = [
        lc.uniform(2, 2, 3, 4),
        lc.uniform(1, 3, 3, 4),
        lc.uniform(1, 2, 4, 4),
        lc.uniform(1, 2, 3, 5),
    ]
    assert len({one, *others}) == 5


def test_seeds_are_taken_modulo_two_to_the_64():
    assert lc.uniform(-1, 0) == lc.uniform(2**64 - 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2**64, 0), r"seed must be in \[-9223372036854775808, 18446744073709551615\], not 18446"),
        ((0, -1), r"position must be in \[0, 18446744073709551615\], not -1"),
        ((0, 0, 2**32), r"stream must be in \[0, 4294967295\], not 4294967296"),
        ((0, 0, 0, -1), r"index must be in \[0, 4294967295\], not -1"),
        (([1, 2], [1, 2, 3]), r"shapes do not broadcast: seed \(2,\), position \(3,\)"),
    ],
)
def test_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        lc.uniform(*arguments)


@pytest.mark.parametrize("bad", [1.5, True, "7", None, [1, 2.0]])
def test_only_integers(bad):
    with pytest.raises(TypeError, match="seed must be an integer"):
        lc.uniform(bad, 0)


def test_child_seeds():
    assert rng.child_seed(-5, 0) == -5
    children = {rng.child_seed(seed, sample) for seed in range(30) for sample in range(1, 30)}
    assert len(children) == 30 * 29
    assert all(0 <= seed < 2**53 for seed in children)


def test_fresh_seeds():
    seeds = {rng.fresh_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_a_draft_seed_is_a_function_of_seed_and_position():
    seeds, positions = np.array([7, 8, 2**64 - 1], np.uint64), np.array([0, 5, 2**40])
    both = [
        rng.words(np.uint64(s), np.uint64(p), rng.DRAFT_SEED, 0)[:2]
        for s, p in zip(seeds, positions, strict=True)
    ]
    expected = [int(high) << 32 | int(low) for high, low in both]
    ours = lc.draft_seed(seeds, positions)
    assert ours.dtype == np.uint64
    assert ours.tolist() == expected
    assert lc.draft_seed(-1, 2**40) == expected[2]
    assert type(lc.draft_seed(7, 0)) is int
    many = np.arange(100)
    assert len({*lc.draft_seed(7, many).tolist(), *lc.draft_seed(many, 7).tolist()}) == 199
    assert lc.draft_seed([], 3).tolist() == []
    with pytest.raises(ValueError, match="position must be in"):
        lc.draft_seed(1, -1)
    with pytest.raises(ValueError, match="one value or one per row"):
        lc.draft_seed([1, 2], [1, 2, 3])
