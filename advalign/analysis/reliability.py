"""The reliability diagram: how often predictions are right, against how sure the model is of them (Guo et al. 2017)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from advalign.analysis.figures import model_lines
from advalign.analysis.groups import look
from advalign.analysis.plots import DASHES, Axis, Line, Mark, Panel, Plot, Points, Vector
from advalign.metrics.expected_calibration_error import BINS, calibration_bins, calibration_error


def reliability_diagram(rows: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]) -> Plot:
    """Accuracy against mean confidence in each of 15 equal bins, a line per model, beside the line of equality.

    A point below the line of equality is overconfident. Its error bar is half of Wilson's 95 % interval.

    Args:
        rows: Model -> its rows of the probe `predictions`.
        kinds: Model -> kind (`groups.kinds_of`), for the colours.

    Returns:
        The figure; its notes give each model's expected calibration error.
    """
    title = "Reliability"
    usable = {model: _confidences(table) for model, table in rows.items() if len(table)}
    if not usable:
        return Plot(title, "No model here has predictions: evaluate one under a protocol of the probe predictions.")
    bins = {model: _bins(*found) for model, found in usable.items()}
    errors = [f"{model} {calibration_error(*found):.3f}" for model, found in sorted(usable.items())]
    ends = np.array([0.0, 1.0])
    marks: list[Mark] = [
        Line(ends, ends, label="as often right as sure", dash=DASHES[2], guide=True),
        *model_lines({model: (sure, right) for model, (sure, right, _) in bins.items()}, kinds),
        *(_points(model, kinds[model], *found) for model, found in bins.items()),
    ]
    axes = (Axis(f"confidence (mean of the bin, {BINS} bins)", low=0.0, high=1.0), Axis("accuracy", low=0.0, high=1.0))
    note = f"Expected calibration error: {', '.join(errors)}."
    return Plot(title, f"{len(bins)} model{'' if len(bins) == 1 else 's'}", [Panel(*axes, marks)], [note])


def _confidences(table: pd.DataFrame) -> tuple[Vector, np.ndarray]:
    right: np.ndarray = (table["prediction"] == table["label"]).to_numpy(bool)
    return table["probability_top"].to_numpy(np.float64), right


def _bins(confidence: Vector, right: np.ndarray) -> tuple[Vector, Vector, Vector]:
    """Mean confidence, accuracy, and half of the accuracy's interval, of the bins with images."""
    counted = calibration_bins(confidence, right)
    images, accurate, sure = counted[:, counted[0] > 0]
    pairs = zip(accurate, images, strict=True)
    intervals = [stats.binomtest(int(count), int(total)).proportion_ci(method="wilson") for count, total in pairs]
    halves = np.array([(interval.high - interval.low) / 2 for interval in intervals])
    return sure / images, accurate / images, halves


def _points(model: str, kind: str, sure: Vector, right: Vector, halves: Vector) -> Points:
    return Points(sure, right, look(kind).colour, look(kind).marker, "", [model] * len(sure), y_error=halves, area=16.0)
