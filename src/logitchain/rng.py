"""Random numbers as a function of (seed, position, stream, index): Philox4x32-10, keyed, no state.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. `docs/rng.md` says
how its words become uniforms, which streams there are and why.
"""

import secrets
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .inputs.values import Integer, items, show
from .numeric.compile import inlined, kernel
from .numeric.functions import F64, I64, U64

#: Streams below 16 are this library's; the others are free for callers of `uniform`.
DRAW_FIRST, DRAW_DELAY, XTC, CHILD_SEED, VERIFY, WATERMARK, DRAFT_SEED = range(7)

#: Seeds that the library chooses stay below 2**53, so that JSON clients keep every digit.
SEED_BITS = 53

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_12 = np.uint64(12)
_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@inlined
def philox4x32(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Words:
    """Ten rounds of Philox4x32: four counter words and two key words, each below 2**32, to four."""
    s = _round(c0, c1, c2, c3, k0, k1)
    s = _round(*s)
    s = _round(*s)
    s = _round(*s)
    s = _round(*s)
    s = _round(*s)  # written out: in a loop, LLVM runs one block at a time, 3.6 times slower
    s = _round(*s)
    s = _round(*s)
    s = _round(*s)
    s = _round(*s)
    return s[0], s[1], s[2], s[3]


@inlined
def _round(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Any:
    product_0 = (c0 & _LOW) * _MULTIPLY_0
    product_1 = (c2 & _LOW) * _MULTIPLY_1
    return (
        (product_1 >> _32) ^ c1 ^ k0,
        product_1 & _LOW,
        (product_0 >> _32) ^ c3 ^ k1,
        product_0 & _LOW,
        (k0 + _WEYL_0) & _LOW,
        (k1 + _WEYL_1) & _LOW,
    )


@inlined
def words(seed: U64, position: U64, stream: I64, index: I64) -> Words:
    """The four 32-bit words of one (seed, position, stream, index), each in a uint64."""
    key, at = np.uint64(seed), np.uint64(position)
    return philox4x32(
        at & _LOW, at >> _32, np.uint64(index), np.uint64(stream), key & _LOW, key >> _32
    )


@inlined
def unit(high: U64, low: U64) -> F64:
    """Two words as a uniform in (0, 1): the midpoints of 2**52 equal cells."""
    return (np.float64((high << _32 | low) >> _12) + 0.5) * 2.0**-52


@inlined
def joined(high: U64, low: U64) -> U64:
    """Two words as one 64-bit number."""
    return high << _32 | low


@kernel
def uniform_at(seed: U64, position: U64, stream: I64, index: I64) -> F64:
    """`uniform` of one (seed, position, stream, index)."""
    high, low, _, _ = words(seed, position, stream, index)
    return unit(high, low)


@overload
def uniform(seed: Integer, position: Integer, stream: Integer = 0, index: Integer = 0) -> float: ...
@overload
def uniform(seed: Any, position: Any, stream: Any = 0, index: Any = 0) -> NDArray[np.float64]: ...
def uniform(seed: Any, position: Any, stream: Any = 0, index: Any = 0) -> Any:
    """A uniform number in (0, 1) that depends on its four arguments alone.

    seed       any 64-bit integer, signed or not
    position   0 .. 2**64 - 1; for a token's draw, the number of tokens generated before it
    stream     0 .. 2**32 - 1; below 16 the library's own, from 16 on the caller's
    index      0 .. 2**32 - 1; which number of the stream

    Arguments broadcast against each other; the result is a float, or a float64 array of their
    common shape. It has 52 random bits and is never 0 or 1. Raises ValueError for an argument out
    of range, TypeError for one that is no integer.

    >>> uniform(7, 0)
    0.9545971261687
    >>> uniform(7, [0, 1]).round(4)
    array([0.9546, 0.407 ])
    """
    wide = (-(2**63), 2**64), (0, 2**64), (0, 2**32), (0, 2**32)
    names = "seed", "position", "stream", "index"
    columns = [
        integers(name, value, *bounds)
        for name, value, bounds in zip(names, (seed, position, stream, index), wide, strict=True)
    ]
    try:
        grid = np.broadcast_arrays(*columns)
    except ValueError:
        shapes = ", ".join(f"{n} {c.shape}" for n, c in zip(names, columns, strict=True))
        raise ValueError(f"shapes do not broadcast: {shapes}") from None
    out = np.empty(grid[0].size)
    _fill_uniform(out, *(np.array(column).reshape(-1) for column in grid))
    return out.reshape(grid[0].shape) if grid[0].ndim else float(out[0])


@kernel
def _fill_uniform(
    out: NDArray[np.float64],
    seed: NDArray[np.uint64],
    position: NDArray[np.uint64],
    stream: NDArray[np.uint64],
    index: NDArray[np.uint64],
) -> None:
    for i in range(out.size):
        out[i] = uniform_at(seed[i], position[i], stream[i], index[i])


def integers(name: str, value: Any, low: int, end: int) -> NDArray[np.uint64]:
    """An integer or an array of them, each in [low, end), as uint64 modulo 2**64."""
    shape, given = items(name, value)
    for x in given:
        if not isinstance(x, int) or isinstance(x, bool):
            raise TypeError(f"{name} must be an integer, not {show(x)}")
        if not low <= x < end:
            raise ValueError(f"{name} must be in [{low}, {end - 1}], not {show(x)}")
    return np.array([x % 2**64 for x in given], np.uint64).reshape(shape)


def keys(seed: Any, position: Any, rows: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Seeds and positions, each one for all rows or one per row, as checked columns."""
    columns = {"seed": (seed, -(2**63)), "position": (position, 0)}
    checked = {name: integers(name, given, low, 2**64) for name, (given, low) in columns.items()}
    for name, column in checked.items():
        if column.shape not in ((), (rows,)):
            raise ValueError(
                f"{name} must be one value or one per row ({rows}), not {column.shape}"
            )
    return np.full(rows, checked["seed"]), np.full(rows, checked["position"])


@overload
def draft_seed(seed: Integer, position: Integer) -> int: ...
@overload
def draft_seed(seed: Any, position: Any) -> NDArray[np.uint64]: ...
def draft_seed(seed: Any, position: Any) -> Any:
    """A seed for a drafter whose drafts are verified with `proposed`.

    seed       of the row, a scalar or (rows,)
    position   of the first draft of the block, a scalar or (rows,)

    Returns an int, or uint64 (rows,). All drafts of a block are drawn with this one seed, each at
    its own position. `verify` may have looked at drafts that it drops, so their positions need
    other noise when they come up again, in a later block: it is what `method="block"` requires, and
    it shares nothing with the draws of the row. Raises as `uniform` does.

    >>> seed = draft_seed(7, position=3)
    >>> seed == draft_seed(7, position=3), seed == draft_seed(7, position=4)
    (True, False)
    """
    size = np.size(seed) if np.ndim(seed) else np.size(position)
    both = (words(*key, DRAFT_SEED, 0)[:2] for key in zip(*keys(seed, position, size), strict=True))
    seeds = [int(high) << 32 | int(low) for high, low in both]
    return np.array(seeds, np.uint64) if np.ndim(seed) or np.ndim(position) else seeds[0]


def fresh_seed() -> int:
    """A seed from the system's entropy, below 2**53."""
    return secrets.randbits(SEED_BITS)


def child_seed(seed: int, sample: int) -> int:
    """The seed of a request's sample: the request's own for number 0, else one below 2**53.

    >>> child_seed(7, 0)
    7
    >>> child_seed(7, 1) != child_seed(7, 2)
    True
    """
    if sample == 0:
        return seed
    high, low, _, _ = words(np.uint64(seed % 2**64), np.uint64(0), CHILD_SEED, sample)
    return (int(high) << 32 | int(low)) >> (64 - SEED_BITS)


def sample_seeds(seed: int | Sequence[int] | None, n: int) -> list[int]:
    """The seeds of a request's `n` samples, derived from its seed unless it lists them all.

    Without a seed, one is drawn first.

    >>> sample_seeds(7, 2) == [7, child_seed(7, 1)], sample_seeds([5, 6], 2)
    (True, [5, 6])
    """
    if seed is None:
        seed = fresh_seed()
    if isinstance(seed, int):
        return [child_seed(seed, sample) for sample in range(n)]
    return list(seed)
