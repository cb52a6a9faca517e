"""The statistics of the comparison as small pure functions on plain series of numbers.

No function here raises or warns because of its data: a statistic that cannot be computed is nan, and `note` says why in
one sentence. Which rows of a zoo enter which test is decided in `zoo.py` (docs/methods.md, section
Contrasts).
"""

import itertools
import math
import warnings

import numpy as np
import numpy.typing as npt
from scipy import stats

from advalign.analysis.records import Paired, Quadratic, Spearman, Welch
from advalign.averages import Interval, Vector, constant, poor, vector
from advalign.errors import InputError

NAN = float("nan")
EXACT_UP_TO = 8
"""Spearman's p is also counted over all orderings up to this many pairs (8! = 40,320)."""
LEAST_FOR_INTERVAL = 5
"""Least number of pairs for an interval of rho."""
TOO_CLOSE = "the values lie too close together or too far apart for double precision"


def _same_length(a: Vector, b: Vector) -> None:
    if a.size != b.size:
        raise InputError(f"two series of equal length are expected, got {a.size} and {b.size} values")


def _mean(values: Vector) -> float:
    return NAN if poor(values, "the series", 1) else float(np.mean(values))


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> Spearman:
    """Spearman's rank correlation with average ranks for ties (Spearman 1904; Feng section 4, Figs. 2 and 3).

    `p` is the two-sided p of the t approximation, as `scipy.stats.spearmanr` gives it. It is rough for few pairs (it is
    0 for three points in order), so up to 8 pairs `p_exact` counts all orderings.

    Args:
        x: (n,) numbers.
        y: (n,) numbers, paired with x.

    Returns:
        rho, p, p_exact, n; nan with a note for fewer than 3 pairs, a constant series or values that are not finite.

    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]).rho, 6)
    0.8
    """
    first, second = vector(x), vector(y)
    _same_length(first, second)
    note = poor(first, "x", 3) or poor(second, "y", 3)
    if not note and (constant(first) or constant(second)):
        note = f"all values of {'x' if constant(first) else 'y'} are equal, ranks say nothing"
    if note:
        return Spearman(NAN, NAN, NAN, first.size, note)
    result = stats.spearmanr(first, second)
    if first.size > EXACT_UP_TO:
        return Spearman(float(result.statistic), float(result.pvalue), NAN, first.size)
    note = f"with {first.size} pairs p is rough: prefer p_exact, counted over all orderings"
    return Spearman(float(result.statistic), float(result.pvalue), _exact_p(first, second), first.size, note)


def _exact_p(x: Vector, y: Vector) -> float:
    """Twice the smaller share of all orderings of y that go as far up or down (permutation test, Edgington 1969)."""
    ranks_x = stats.rankdata(x) - (x.size + 1) / 2
    ranks_y = stats.rankdata(y) - (y.size + 1) / 2
    products = np.array(list(itertools.permutations(ranks_y))) @ ranks_x
    observed = float(ranks_x @ ranks_y)
    up, down = float(np.mean(products >= observed - 1e-9)), float(np.mean(products <= observed + 1e-9))
    return min(1.0, 2 * min(up, down))


def spearman_interval(x: npt.ArrayLike, y: npt.ArrayLike, resamples: int = 10_000, *, seed: int) -> Interval:
    """BCa bootstrap interval (95 %, Efron 1987) of Spearman's rho over pairs, seeded.

    A resample in which all x or all y are equal ranks nothing and counts as rho 0.

    Args:
        x, y: (n,) numbers, paired: one pair per model, for example.
        resamples: How many resamples of the pairs are drawn.
        seed: Seed of the resampling, from the settings.

    Returns:
        The interval; nan with a note for fewer than 5 pairs, a constant series, values that are not finite, and where
        BCa is not defined, as for pairs in perfect order.
    """
    first, second = vector(x), vector(y)
    _same_length(first, second)
    note = poor(first, "x", LEAST_FOR_INTERVAL) or poor(second, "y", LEAST_FOR_INTERVAL)
    if not note and (constant(first) or constant(second)):
        note = f"all values of {'x' if constant(first) else 'y'} are equal, ranks say nothing"
    if note:
        return Interval(NAN, NAN, "none", note)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # reported below, in the note
        found = stats.bootstrap(
            (first, second),
            _rho,
            paired=True,
            n_resamples=resamples,
            batch=min(resamples, 1000),
            vectorized=True,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    if abs(float(_rho(first, second))) > 1 - 1e-12 or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Interval(NAN, NAN, "none", "the BCa interval is not defined for pairs in perfect order")
    return Interval(float(found.low), float(found.high), "BCa")


def _rho(x: Vector, y: Vector, axis: int = -1) -> Vector:
    """Spearman's rho along an axis; 0 where x or y is constant."""
    ranks = [stats.rankdata(values, axis=axis) for values in (x, y)]
    one, two = (values - values.mean(axis=axis, keepdims=True) for values in ranks)
    spread = np.sqrt((one**2).sum(axis=axis) * (two**2).sum(axis=axis))
    rho: Vector = (one * two).sum(axis=axis) / np.where(spread > 0, spread, 1.0)
    return rho


def quadratic_fit(x: npt.ArrayLike, y: npt.ArrayLike) -> Quadratic:
    """Least-squares polynomial of second degree (Feng section 4, the lines in Figs. 2 and 3).

    Args:
        x: (n,) numbers with at least three different values.
        y: (n,) numbers, paired with x.

    Returns:
        Coefficients, highest power first, and r2; nan with a note where there is no unique fit. r2 is nan for three
        different x or fewer residual degrees of freedom (the curve then passes through the means) and for constant y.

    >>> [round(c, 9) for c in quadratic_fit([0, 1, 2, 3], [1, 2, 5, 10]).coefficients]
    [1.0, 0.0, 1.0]
    """
    first, second = vector(x), vector(y)
    _same_length(first, second)
    nothing = (NAN, NAN, NAN)
    note = poor(first, "x", 3) or poor(second, "y", 3)
    if not note and np.unique(first).size < 3:
        note = "a second-degree fit needs at least three different x"
    if note:
        return Quadratic(nothing, NAN, first.size, note)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        fit = np.polynomial.Polynomial.fit(first, second, 2)
        powers = np.zeros(3)
        converted = fit.convert().coef
        powers[: converted.size] = converted
        total = float(np.sum((second - second.mean()) ** 2))
        residual = float(np.sum((second - fit(first)) ** 2))
    if not (np.all(np.isfinite(powers)) and math.isfinite(residual)):
        return Quadratic(nothing, NAN, first.size, TOO_CLOSE)
    coefficients = (float(powers[2]), float(powers[1]), float(powers[0]))
    if np.unique(first).size == 3:
        return Quadratic(coefficients, NAN, first.size, "three different x fit any parabola: r2 would say nothing")
    if constant(second) or total == 0.0 or not math.isfinite(total):
        return Quadratic(coefficients, NAN, first.size, "all values of y are equal: r2 is not defined")
    return Quadratic(coefficients, 1.0 - residual / total, first.size)


def welch(a: npt.ArrayLike, b: npt.ArrayLike) -> Welch:
    """Welch's t test for unequal variances with its fractional df (Welch 1947) and Cohen's d (Cohen 1988, pooled sd).

    t = (mean a - mean b) / sqrt(va/na + vb/nb); df after Welch and Satterthwaite; Feng section 4 prints T(163) = 9.11.

    Args:
        a: (n1,) numbers, the first group.
        b: (n2,) numbers, the second group.

    Returns:
        t, df, two-sided p, d, sizes and means; nan with a note for fewer than 2 values in a group, values that are not
        finite, or when neither group varies.

    >>> result = welch([1, 2, 3, 4], [2, 4, 6, 8])
    >>> round(result.t, 4), round(result.df, 4)
    (-1.7321, 4.4118)
    """
    first, second = vector(a), vector(b)
    n1, n2, mean1, mean2 = first.size, second.size, _mean(first), _mean(second)
    note = poor(first, "the first group", 2) or poor(second, "the second group", 2)
    if not note and constant(first) and constant(second):
        note = "neither group varies, a t test is not defined"
    if note:
        return Welch(NAN, NAN, NAN, NAN, n1, n2, mean1, mean2, note)
    with np.errstate(all="ignore"):
        v1, v2 = np.var(first, ddof=1), np.var(second, ddof=1)
        e1, e2 = v1 / n1, v2 / n2
        t = (mean1 - mean2) / np.sqrt(e1 + e2)
        df = (e1 + e2) ** 2 / (e1**2 / (n1 - 1) + e2**2 / (n2 - 1))
        d = (mean1 - mean2) / np.sqrt(((n1 - 1) * v1 + (n2 - 1) * v2) / (n1 + n2 - 2))
        p = 2 * stats.t.sf(np.abs(t), df)
    if not np.all(np.isfinite([t, df, d, p])):
        return Welch(NAN, NAN, NAN, NAN, n1, n2, mean1, mean2, TOO_CLOSE)
    return Welch(float(t), float(df), float(p), float(d), n1, n2, mean1, mean2)


def holm(p_values: npt.ArrayLike) -> Vector:
    """Holm's step-down correction for several tests (Holm 1979, Scand. J. Statist. 6).

    Args:
        p_values: (m,) p values in [0, 1]; nan marks a test that could not be made and does not count among the m.

    Returns:
        (m,) corrected p values in [0, 1], nan where the input is nan.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = vector(p_values)
    corrected = np.full(p.size, NAN)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    factors = order.size - np.arange(order.size)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def paired(a: npt.ArrayLike, b: npt.ArrayLike) -> Paired:
    """Paired t test, Wilcoxon's signed-rank test and d_z on a - b (Student 1908; Wilcoxon 1945; Cohen 1988).

    Args:
        a: (n,) numbers, for example one per stimulus of the twin.
        b: (n,) numbers of the same stimuli, for example of the baseline.

    Returns:
        t, df, p, wilcoxon_p (scipy's default: zeros left out, exact where small), d_z = mean / sd of the differences;
        nan with a note for fewer than 2 pairs, values that are not finite, or differences that are all equal.

    >>> result = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    >>> round(result.t, 4), result.difference, result.d_z
    (3.4641, 2.0, 2.0)
    """
    first, second = vector(a), vector(b)
    _same_length(first, second)
    n = first.size
    note = poor(first, "the first series", 2) or poor(second, "the second series", 2)
    if note:
        return Paired(NAN, NAN, NAN, NAN, NAN, _mean(first) - _mean(second), n, note)
    with np.errstate(all="ignore"):
        delta = first - second
        mean, spread = float(np.mean(delta)), float(np.std(delta, ddof=1))
        t = np.float64(mean) / (spread / math.sqrt(n))
    if not math.isfinite(mean):
        return Paired(NAN, NAN, NAN, NAN, NAN, NAN, n, TOO_CLOSE)
    rank_p = float(stats.wilcoxon(delta).pvalue) if np.any(delta != 0) else NAN
    if constant(delta) or spread == 0.0 or not np.isfinite(t):
        note = "all differences are equal, a paired t test is not defined"
        return Paired(NAN, NAN, NAN, rank_p, NAN, mean, n, note)
    p = float(2 * stats.t.sf(abs(t), n - 1))
    return Paired(float(t), float(n - 1), p, rank_p, mean / spread, mean, n)
