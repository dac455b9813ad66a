"""Mirostat 2: the truncation follows the surprise of the tokens that are drawn."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..inputs.logits import DType, Reading
from ..inputs.values import Real
from ..numeric.blocks import Ids
from ..numeric.compile import kernel
from ..numeric.float_mode import in_standard_mode
from ..numeric.functions import F32, F64, I64, MASS_BITS, SLACK, Row, log, total_mass
from ..numeric.order import at_least, keep_from, largest
from ..params import reals
from .record import Control, Request, Values

_LN2 = 0.6931471805599453
_MOST = 1.7976931348623157e308  # the largest float64


@in_standard_mode
def mirostat(logits: Any, mu: Any, *, dtype: DType = None, out: Any = None) -> NDArray[np.float32]:
    """Keep the tokens with a surprise of at most `mu` bits, and always the best.

    logits   (vocab,) or (rows, vocab); -inf is removed
    mu       scalar or (rows,), finite: the largest surprise, -log2 of a probability. A sequence
             begins with twice the surprise that is aimed at, and `mirostat_update` gives the next

    If no token is that probable, the most probable one stays, with its equals. Returns a new
    float32 array of the same shape, or `out`. Raises ValueError if `mu` is not finite or a row is
    invalid. Source: Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
    Perplexity", arXiv:2007.14966, in llama.cpp's form.

    >>> mirostat([3.0, 2.0, 1.0, 0.0], 2.5)
    array([  3.,   2., -inf, -inf], dtype=float32)
    """
    reading = Reading(logits, out, dtype)
    rows = reading.checked()
    for row, most in zip(rows, reals("mu", mu, "(-inf, inf)", len(rows)), strict=True):
        best = largest(row)
        keep_expected(row, best, most, total_mass(row, best))
    return reading.result()


@overload
def mirostat_update(mu: Real, logprob: Real, tau: Real, eta: Real) -> float: ...
@overload
def mirostat_update(mu: Any, logprob: Any, tau: Any, eta: Any) -> NDArray[np.float64]: ...
def mirostat_update(mu: Any, logprob: Any, tau: Any, eta: Any) -> Any:
    """The `mu` for the next token, after one was drawn.

    mu        float or (rows,), what `mirostat` got
    logprob   float or (rows,), in (-inf, 0]: the natural log-probability of the token that was
              drawn, among those that `mirostat` kept
    tau       float or (rows,), in (0, inf): the surprise that is aimed at, in bits
    eta       float or (rows,), in (0, 1]: how fast `mu` follows

    Returns a float, or float64 (rows,). Raises ValueError if an argument is out of range.

    >>> round(mirostat_update(4.0, np.log(0.5), tau=2.0, eta=0.1), 12)
    4.1
    """
    sizes = [np.size(given) for given in (mu, logprob, tau, eta) if np.ndim(given)]
    rows = sizes[0] if sizes else 1
    given = (
        reals("mu", mu, "(-inf, inf)", rows),
        reals("logprob", logprob, "(-inf, 0]", rows),
        reals("tau", tau, "(0, inf)", rows),
        reals("eta", eta, "(0, 1]", rows),
    )
    result = np.array([_next(*one) for one in zip(*given, strict=True)])
    return result if sizes else float(result[0])


@kernel
def keep_expected(row: Row, best: F32, mu: F64, mass: I64) -> None:
    """The kernel, in place, for a row of this mass: q >= 2 ** -mu."""
    cut = log((1.0 - SLACK) * (mass * 2.0**-MASS_BITS)) - mu * _LN2
    keep_from(row, min(at_least(cut, np.float64(best)), best))


@kernel
def _next(mu: F64, logprob: F64, tau: F64, eta: F64) -> F64:
    return min(max(mu - eta * (-logprob / _LN2 - tau), -_MOST), _MOST)


@kernel
def _mu(values: Values) -> F64:
    return 2.0 * values[0] if np.isnan(values[2]) else values[2]


@kernel
def _floor(best: F32, temperature: F64, peaks: Row, values: Values, vocab_size: I64) -> F64:
    lowest = log(1.0 - SLACK) - _mu(values) * _LN2  # the best token's probability is at most 1
    return np.float64(best) + temperature * min(lowest, 0.0)


@kernel
def _apply(row: Row, ids: Ids, request: Request) -> None:
    keep_expected(row, largest(row), _mu(request.values), request.mass)


@kernel
def _update(values: Values, logprob: F64, state: Values) -> None:
    state[0] = _next(_mu(values), logprob, values[0], values[1])


CONTROL = Control(
    name="mirostat",
    fields=("mirostat_tau", "mirostat_eta"),
    kind="cut",
    kernel=_apply,
    floor=_floor,
    statistics=("mass",),
    state=("mirostat_mu",),
    update=_update,
)
