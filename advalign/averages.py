"""Means and shares with their uncertainty: standard errors, and intervals of plain series of numbers and of counts."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Vector = npt.NDArray[np.float64]

NAN = float("nan")
LARGEST = 1e100
"""Numbers from here on count as not finite: their squares would not be."""


@dataclass(frozen=True)
class Interval:
    """Bootstrap interval of a mean, in the unit of the values; `method` is "BCa", "constant" or "none"."""

    low: float
    high: float
    method: str
    note: str = ""


def vector(values: npt.ArrayLike) -> Vector:
    """Any series of numbers as a flat float64 array."""
    return np.asarray(values, dtype=np.float64).ravel()


def poor(values: Vector, name: str, least: int) -> str:
    """Why `values` cannot be used; "" if there are at least `least` numbers and all are finite."""
    bad = int(np.count_nonzero(~(np.abs(values) < LARGEST)))
    if bad:
        return f"{bad} of {values.size} values in {name} are not finite"
    if values.size < least:
        return f"{name} has {values.size} value{'' if values.size == 1 else 's'}, at least {least} are needed"
    return ""


def constant(values: Vector) -> bool:
    """Whether all values of a series, which is not empty, are equal."""
    return bool(np.all(values == values[0]))


def sem(values: npt.ArrayLike) -> float:
    """Standard error of the mean, s / sqrt(n) with the unbiased variance (any textbook; Feng's error bars).

    Args:
        values: (n,) numbers.

    Returns:
        The standard error in the unit of the values; nan for fewer than two values or any that is not finite.

    >>> round(sem([1.0, 2.0, 3.0, 4.0]), 6)
    0.645497
    """
    series = vector(values)
    if poor(series, "the series", 2):
        return NAN
    return 0.0 if constant(series) else float(np.std(series, ddof=1) / math.sqrt(series.size))


def bootstrap_interval(values: npt.ArrayLike, resamples: int = 10_000, *, seed: int, level: float = 0.95) -> Interval:
    """BCa bootstrap interval of the mean (Efron 1987), seeded; the same seed gives the same interval.

    Args:
        values: (n,) numbers, for example one norm per stimulus.
        resamples: How many resamples are drawn.
        seed: Seed of the resampling, from the settings.
        level: Coverage in (0, 1).

    Returns:
        The interval; (value, value) for a constant series, nan with a note for fewer than 2 values or values that are
        not finite, and where BCa is not defined.
    """
    series = vector(values)
    note = poor(series, "the series", 2)
    if note:
        return Interval(NAN, NAN, "none", note)
    if constant(series):
        return Interval(float(series[0]), float(series[0]), "constant", "all values are equal, nothing varies")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # reported below, in the note
        found = stats.bootstrap(
            (series,),
            np.mean,
            n_resamples=resamples,
            batch=min(resamples, 1000),
            vectorized=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Interval(NAN, NAN, "none", "the BCa interval is not defined for these values")
    return Interval(float(found.low), float(found.high), "BCa")


def mean_with_interval(name: str, values: npt.ArrayLike, resamples: int, seed: int) -> dict[str, float]:
    """The mean under `name`, with name_sem, name_ci_low and name_ci_high (BCa, 95 %); all NaN for an empty series."""
    series = vector(values)
    interval = bootstrap_interval(series, resamples, seed=seed)
    mean = float(series.mean()) if series.size else NAN
    return {name: mean, f"{name}_sem": sem(series), f"{name}_ci_low": interval.low, f"{name}_ci_high": interval.high}


def share_with_interval(name: str, count: int, total: int) -> dict[str, float]:
    """A share under `name`, with name_ci_low and name_ci_high (Wilson 1927, 95 %); all NaN where `total` is 0.

    >>> {name: round(value, 3) for name, value in share_with_interval("robust", 0, 100).items()}
    {'robust': 0.0, 'robust_ci_low': 0.0, 'robust_ci_high': 0.037}
    """
    if not total:
        return dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high"), NAN)
    interval = stats.binomtest(count, total).proportion_ci(method="wilson")
    return {name: count / total, f"{name}_ci_low": float(interval.low), f"{name}_ci_high": float(interval.high)}
