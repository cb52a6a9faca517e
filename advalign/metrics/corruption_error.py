"""Errors under corruption (Hendrycks and Dietterich 2019): means over severities, corruptions and categories.

The headline is the plain mean over the 15 corruptions of the benchmark. The authors' mCE divides by the errors of an
AlexNet on ImageNet-C. There is none for CIFAR-10-C, so an error is divided by that of a named model only
(`advalign.analysis.corruptions`).
"""

import math
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.averages import mean_with_interval
from advalign.metrics.base import Evaluation, Metric
from advalign.rows import CLEAN_PREDICTION, Descriptor, corrupted_prediction
from advalign.tensors.corruptions.constants import BENCHMARK, CONDITIONS, FAMILIES, NAMES, SEVERITIES
from advalign.vocabulary import with_spread

NAME, ALL, CLEAN = "corruption_error", "corruption_error_19", "corruption_error.none"
HEADLINE = [NAMES.index(name) for name in BENCHMARK]


def errors(rows: pd.DataFrame) -> NDArray[np.float64]:
    """1 where the prediction is wrong, 0 where it is right: (N, 19, 5), corruptions in the order of `NAMES`.

    Args:
        rows: of the probe `corruptions`.
    """
    predicted = rows[[corrupted_prediction(*condition) for condition in CONDITIONS]].to_numpy()
    wrong: NDArray[np.float64] = (predicted != rows["label"].to_numpy()[:, None]).astype(np.float64)
    return wrong.reshape(len(rows), len(NAMES), len(SEVERITIES))


class CorruptionError(Metric):
    """Shares of wrong predictions."""

    probe = "corruptions"
    describes: ClassVar[tuple[Descriptor, ...]] = (
        *with_spread(Descriptor(NAME, NAME, "error, 15 corruptions", "share", "lower")),
        Descriptor(ALL, ALL, "error, 19 corruptions", "share", "lower"),
        Descriptor(f"{NAME}.{{}}", f"within/{NAME}/{{}}", "error, {}", "share", "lower"),
    )

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`corruption_error` with its interval over the images, `corruption_error_19`, and parts of it.

        `corruption_error.PART` is the error of a category (over its corruptions among the 15), of a severity (over the
        15), of a corruption, or of a corruption at a severity: noise, severity_1, fog, fog_1. And
        `corruption_error.none`, of the same images without corruption.
        """
        rows = evaluation.rows
        found = errors(rows)
        by_image = found[:, HEADLINE].mean((1, 2)) if len(rows) else np.zeros(0)
        told = mean_with_interval(NAME, by_image, evaluation.resamples, evaluation.seed)
        if not len(rows):
            return {**told, ALL: math.nan, CLEAN: math.nan}
        shares = found.mean(0)
        clean = float((rows[CLEAN_PREDICTION] != rows["label"]).mean())
        return {**told, ALL: float(shares.mean()), CLEAN: clean, **_parts(shares)}


def _parts(shares: NDArray[np.float64]) -> dict[str, float]:
    """Errors by category, severity, corruption, and corruption at a severity; `shares` is (19, 5)."""
    parts = {family: shares[members].mean() for family, members in benchmark_members().items()}
    parts |= {f"severity_{severity}": shares[HEADLINE, severity - 1].mean() for severity in SEVERITIES}
    for name, by_severity in zip(NAMES, shares, strict=True):
        parts[name] = by_severity.mean()
        parts |= {f"{name}_{severity}": share for severity, share in zip(SEVERITIES, by_severity, strict=True)}
    return {f"{NAME}.{part}": float(share) for part, share in parts.items()}


def benchmark_members() -> dict[str, list[int]]:
    """Category -> places in `NAMES` of its corruptions among the 15.

    >>> benchmark_members()["noise"]
    [0, 1, 2]
    """
    return {
        family: [NAMES.index(name) for name in members if name in BENCHMARK] for family, members in FAMILIES.items()
    }
