"""A mean with its uncertainty."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def sem(values: NDArray[np.float64]) -> float:
    """Standard error of the mean (n - 1 in the variance); NaN for fewer than two values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def bootstrap_interval(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float]:
    """BCa 95 % bootstrap interval of the mean (Efron 1987).

    A constant sample gives (value, value); fewer than two values give (NaN, NaN).
    """
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed), batch=1000
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mean_with_interval(name: str, values: NDArray[np.float64], resamples: int, seed: int) -> dict[str, float]:
    """The mean under `name`, with name_sem, name_ci_low and name_ci_high; NaN values must be gone already."""
    low, high = bootstrap_interval(values, resamples, seed)
    mean = float(values.mean()) if len(values) else math.nan
    return {name: mean, f"{name}_sem": sem(values), f"{name}_ci_low": low, f"{name}_ci_high": high}
