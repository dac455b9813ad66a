"""What the kernels share: exp and log of our own, the exact mass.

Everything here gives the same bits on every CPU. Floating point is IEEE addition, multiplication,
division and explicit fused multiply-add, in a fixed order; sums that many lanes share are integers.
"""

import math
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compile import inlined, instructions, kernel

Row = NDArray[np.float32]  # (vocab,), C-contiguous

# Scalars inside kernels are numba's, or NumPy's where numba does not compile.
F32: TypeAlias = Any
F64: TypeAlias = Any
I32: TypeAlias = Any
I64: TypeAlias = Any
U64: TypeAlias = Any


#: Slack of every comparison with a probability, so that decimal thresholds behave as written.
SLACK = 2.0**-20

#: Masses count in units of 2**-42 of the most probable token's mass.
MASS_BITS = 42
#: The longest row whose masses cannot overflow a signed 64-bit sum.
MAX_VOCAB = 2 ** (63 - MASS_BITS) - 1
#: More than the mass of any row, and a float64.
MOST = 2**63 - 2**10

FLT_MAX = float(np.finfo(np.float32).max)
REMOVED = np.float32(-np.inf)


# ---- fused multiply-add -----------------------------------------------------------------------


@intrinsic
def _llvm_fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    if isinstance(a, types.Float) and a == b == c:
        return a(a, a, a), codegen
    return None


@instructions(_llvm_fma)
def fma(a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` with one rounding, for three numbers of one type, float32 or float64.

    This body runs only where numba does not compile, for reading and coverage.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(map(math.isfinite, (a, b, c))):
            return a * b + c
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        if exact == 0:  # only the floats know the sign of a zero
            return a * b + c
        return _rounded_once(exact, type(a))


def _rounded_once(exact: Fraction, kind: Any) -> Any:
    """A fraction as float32 or float64: by way of float64 it would be rounded twice."""
    try:
        near = float(exact)
    except OverflowError:
        near = math.copysign(math.inf, exact)
    bits = int(np.float64(near).view(np.int64))
    may_be_tie = bits & 0x1FFFFFFF == 0x10000000 or 0.0 < abs(near) < 2.0**-126
    if kind is np.float32 and may_be_tie and bits & 1 == 0 and Fraction(near) != exact:
        # Round to odd: then only a fraction that is halfway between two float32 is a tie.
        near = math.nextafter(near, math.inf if exact > near else -math.inf)
    return kind(near)


# ---- exp, in float32: masses ------------------------------------------------------------------

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HI = np.float32(0.693145751953125)
_LN2_LO = np.float32(1.428606765330187e-06)
ROUND = np.float32(1.5 * 2**23)  # adding it rounds to an integer, which the low bits then hold
_ONE = np.float32(1.0)
# Minimax for (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, relative error of e^r below 2**-26.
_E2 = np.float32(0.5)
_E3 = np.float32(0.16666576846)
_E4 = np.float32(0.0416665544377)
_E5 = np.float32(0.00836320297158)
_E6 = np.float32(0.00139262134663)


@inlined
def _exp_fraction(x: F32, n: F32) -> F32:
    """e**x / 2**n in [0.70, 1.42], n being the integer nearest to x / ln 2."""
    r = fma(-n, _LN2_LO, fma(-n, _LN2_HI, x))
    p = fma(r, _E6, _E5)
    p = fma(r, p, _E4)
    p = fma(r, p, _E3)
    p = fma(r, p, _E2)
    return fma(r * r, p, r) + _ONE


@kernel
def exp(x: F32) -> F32:
    """e**x in float32 within 1.1 ulp, for x up to 88; below -104 the result is 0."""
    x = max(x, np.float32(-104.0))
    n = fma(x, _LOG2_E, ROUND) - ROUND
    half = np.int32(n) >> 1  # two steps: a result below the smallest normal float is rounded once
    rest = np.int32(n) - half
    return _exp_fraction(x, n) * _power_of_two(rest) * _power_of_two(half)


@kernel
def _power_of_two(n: I32) -> F32:
    return np.int32((n + 127) << 23).view(np.float32)


MASS_FLOOR = np.float32(-44.0)  # e**-44 is below half a unit of mass
HALF = MASS_BITS // 2
_HALF_EXPONENT = np.int32(HALF << 23)
_HALF_SCALE = np.float32(2.0**HALF)
_23 = np.int32(23)
CHUNK = 512  # so many halves of masses sum to less than 2**31


@inlined
def mass_halves(x: F32) -> tuple[np.int32, np.int32]:
    """(high, low) of the mass high * 2**21 + low: 32-bit lanes, twice as many as 64-bit ones."""
    return halves(scaled_mass(x))


@inlined
def scaled_mass(x: F32) -> F32:
    """A mass as a float32, in units of 2**-21: e**x for x <= 0."""
    x = max(x, MASS_FLOOR)
    shifted = fma(x, _LOG2_E, ROUND)  # its low bits are the exponent
    p = _exp_fraction(x, shifted - ROUND)
    exponent = np.int32(np.float32(shifted).view(np.int32) << _23)
    bits = np.int32(np.int32(np.float32(p).view(np.int32) + exponent) + _HALF_EXPONENT)
    return bits.view(np.float32)


@inlined
def halves(scaled: F32) -> tuple[np.int32, np.int32]:
    """(high, low) of a number in units of 2**-21, rounded down to high + low * 2**-21."""
    high = np.int32(scaled)
    return high, np.int32((scaled - np.float32(high)) * _HALF_SCALE)


@inlined
def join(high: I32, low: I32) -> I64:
    """A mass from its halves, or a sum of masses from sums of halves."""
    return (np.int64(high) << HALF) + np.int64(low)


@inlined
def mass(x: F32) -> I64:
    """e**x for x <= 0, in units of 2**-42, rounded down: sums of such integers have no order."""
    return join(*mass_halves(x))


@kernel
def total_mass(row: Row, best: F32) -> I64:
    """The mass of a row: the sum over all its logits, relative to the largest, `best`."""
    total = np.int64(0)
    top = np.float32(best)
    for start in range(0, row.size, CHUNK):
        part = row[start : start + CHUNK]
        highs, lows = np.int32(0), np.int32(0)
        for i in range(part.size):
            high, low = mass_halves(part[i] - top)
            highs, lows = np.int32(highs + high), np.int32(lows + low)
        total += join(highs, lows)
    return total


# ---- log, in float64: noise, log-probabilities, cuts ------------------------------------------

_LN2_HI_64 = 0.693147180369123816490  # 32 trailing zero bits: times an exponent it is exact
_LN2_LO_64 = 1.90821492927058770002e-10
_SQRT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
ONE_BITS = 0x3FF0000000000000  # of 1.0
_FRACTION = 0x000FFFFFFFFFFFFF
_SMALLEST_NORMAL = 2.0**-1022


@kernel
def log(x: F64) -> F64:
    """Natural logarithm in float64, within 0.9 ulp, of a positive, finite x."""
    shift = 0.0
    if x < _SMALLEST_NORMAL:
        x, shift = x * 2.0**54, 54.0
    bits = np.float64(x).view(np.int64) + (ONE_BITS - _SQRT_HALF)
    k = np.float64((bits >> 52) - 1023) - shift
    m = np.int64((bits & _FRACTION) + _SQRT_HALF).view(np.float64)  # in [sqrt(1/2), sqrt(2))
    f = m - 1.0
    s = f / (2.0 + f)  # log(1 + f) = 2 atanh(s)
    z = s * s
    series = 2.0 / 21.0
    for c in (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        series = fma(z, series, 2.0 / c)
    half = 0.5 * f * f
    return k * _LN2_HI_64 - ((half - fma(k, _LN2_LO_64, s * fma(z, series, half))) - f)


@inlined
def finite(x: F64) -> F32:
    """A float64 result as float32, saturated: arithmetic on finite logits makes no infinity."""
    return np.float32(min(max(x, -FLT_MAX), FLT_MAX))


@inlined
def one_unless_nan(x: F32) -> F32:
    """1.0 for a number, which the compiler does not know.

    It makes a masked store of `row[i] = row[i] if kept else REMOVED`, which takes some processors
    five times as long as a plain one. It cannot if the logit that stays is multiplied by this.
    """
    return np.float32(x == x)
