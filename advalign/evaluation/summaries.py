"""The `metrics` of a summary, computed from a model's rows; this code has its own identity."""

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from advalign.metrics.base import Evaluation
from advalign.probes.base import Probe


def metrics_of(
    probes: Iterable[tuple[Probe, Path, float | None]], resamples: int, seed: int
) -> dict[str, float | None]:
    """Numbers over a model's rows under a protocol and its companions.

    Args:
        probes: each with the file of its rows, and the human ceiling of its image set (None without human maps).
        resamples, seed: of bootstrap intervals.

    Returns:
        Name -> number; None where there is nothing to average.
    """
    found: dict[str, float] = {}
    for probe, rows, ceiling in probes:
        evaluation = Evaluation(pd.read_parquet(rows), math.nan if ceiling is None else ceiling, resamples, seed)
        found |= probe.summarise(evaluation)
    return {name: None if math.isnan(value) else value for name, value in found.items()}
