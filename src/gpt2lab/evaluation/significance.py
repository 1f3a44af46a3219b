"""Whether two samples differ by more than chance: Welch's t-test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import mpmath


@dataclass(frozen=True)
class Welch:
    """Welch's test of two means (Welch 1947): variances may differ, values are taken to be normal.

    Attributes:
        difference: mean of the first sample less that of the second.
        t: the statistic.
        freedom: degrees of freedom (Welch and Satterthwaite).
        p: chance of a difference at least so large, either way, if there were none.
    """

    difference: float
    t: float
    freedom: float
    p: float


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Compare two means; None where a sample has fewer than two values, or neither scatters at all.

    >>> round(welch([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]).p, 4)
    0.2879
    """
    if min(len(first), len(second)) < 2:
        return None
    share_1, share_2 = variance(first) / len(first), variance(second) / len(second)
    if share_1 + share_2 == 0:
        return None
    difference = fmean(first) - fmean(second)
    t = difference / math.sqrt(share_1 + share_2)
    freedom = (share_1 + share_2) ** 2 / (share_1**2 / (len(first) - 1) + share_2**2 / (len(second) - 1))
    return Welch(difference, t, freedom, _two_sided(t, freedom))


def _two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's distribution, by the regularised incomplete beta function."""
    share = freedom / (freedom + t * t)
    return float(mpmath.betainc(freedom / 2, 0.5, 0, share, regularized=True))
