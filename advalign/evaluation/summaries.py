"""The `metrics` of a summary, computed from a model's rows; this code has its own identity."""

import math
from pathlib import Path

from advalign.data.results import read_rows
from advalign.metrics.base import Evaluation
from advalign.probes.base import Probe


def metrics_of(
    probe: Probe, rows: Path, human_ceiling: float | None, resamples: int, seed: int
) -> dict[str, float | None]:
    """Numbers over a model's rows under one protocol.

    Args:
        probe: the protocol's.
        rows: the file of rows.
        human_ceiling: of the image set; None without human maps.
        resamples, seed: of bootstrap intervals.

    Returns:
        Name -> number; None where there is nothing to average.
    """
    ceiling = math.nan if human_ceiling is None else human_ceiling
    found = probe.summarise(Evaluation(read_rows(rows), ceiling, resamples, seed))
    return {name: None if math.isnan(value) else value for name, value in found.items()}
