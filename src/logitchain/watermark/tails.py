"""How probable a score is at least, in a text that knows nothing of the key."""

import math

import numpy as np
from numpy.typing import NDArray

from ..controls.green_list import green_share
from ..params import Watermark


def gamma_tail(score: float, n: int) -> float:
    """P(Gamma(n, 1) >= score): that of fewer than n arrivals in this time."""
    if n == 0 or score <= 0.0:
        return 1.0
    return min(1.0, _sum_of_exps(_poisson_logs(score, n)))


def _poisson_logs(mean: float, n: int) -> NDArray[np.float64]:
    """The logarithms of the probabilities of 0 .. n - 1 arrivals."""
    return np.arange(n) * math.log(mean) - mean - _log_factorials(n)


def _log_factorials(n: int) -> NDArray[np.float64]:
    """ln k! for k = 0 .. n - 1."""
    return np.array([math.lgamma(k + 1.0) for k in range(n)])


def _sum_of_exps(logs: NDArray[np.float64]) -> float:
    top = float(logs.max())
    with np.errstate(under="ignore"):
        return math.exp(top + math.log(math.fsum(np.exp(logs - top)))) if top > -745.0 else 0.0


def weighted_tail(score: float, n: int, alpha: float) -> float:
    """P((1 - alpha) X + alpha Y >= score), X and Y being independent and Gamma(n, 1).

    The larger scale's Gamma(n) is, in units of the smaller, Gamma(n + K) with K negative binomial.
    """
    small, large = sorted((alpha, 1.0 - alpha))
    if n == 0 or score <= 0.0:
        return 1.0
    if small < _SMALLEST_SHARE:
        return gamma_tail(score / large, n)
    if small == large:
        return gamma_tail(score / large, 2 * n)
    share, scaled = small / large, score / small
    spread = math.sqrt(n * (1.0 - share)) / share
    count = int(n * (1.0 - share) / share + 40.0 * spread + 40.0 / share) + 1
    logs, factorials = np.empty(count), _log_factorials(2 * n + count)
    k = np.arange(count)
    logs = factorials[n - 1 + k] - factorials[k] - factorials[n - 1]
    logs += n * math.log(share) + k * math.log1p(-share)
    tails = np.logaddexp.accumulate(_poisson_logs(scaled, 2 * n + count))
    return min(1.0, _sum_of_exps(logs + tails[2 * n - 1 + k]))


#: A smaller weight of one of two keys does not show in the sum.
_SMALLEST_SHARE = 1e-4


def binomial_tail(count: int, n: int, mark: Watermark) -> float:
    """P(at least so many of n tokens are green)."""
    if count <= 0:
        return 1.0
    share, log_factorials = green_share(mark.numbers), _log_factorials(n + 1)
    k = np.arange(count, n + 1)
    logs = log_factorials[n] - log_factorials[k] - log_factorials[n - k]
    return min(1.0, _sum_of_exps(logs + k * math.log(share) + (n - k) * math.log1p(-share)))
