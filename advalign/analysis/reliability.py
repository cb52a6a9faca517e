"""The reliability diagram: how often predictions are right, against how sure the model is of them (Guo et al. 2017)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from advalign.analysis.figures import model_lines
from advalign.analysis.groups import look
from advalign.analysis.plots import DASHES, Axis, Line, Mark, Panel, Plot, Points, Vector
from advalign.metrics.expected_calibration_error import BINS, calibration_bins, calibration_error

MOST_PANELS = 8
FEWEST = 5  # images in a bin that is drawn


def reliability_diagram(rows: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]) -> Plot:
    """Accuracy against mean confidence in each of 15 equal bins, beside the line of equality; a panel per model.

    A point below the line of equality is overconfident. Its error bar is half of Wilson's 95 % interval. Bins of fewer
    than `FEWEST` images are not drawn: there accuracy jumps between 0 and 1. Many models share one panel.

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
    bins = {model: _bins(*found) for model, found in sorted(usable.items())}
    errors = [f"{model} {calibration_error(*found):.3f}" for model, found in sorted(usable.items())]
    alone = len(bins) <= MOST_PANELS
    panels = [_panel({model: found}, kinds, model) for model, found in bins.items()] if alone else [_panel(bins, kinds)]
    note = f"Expected calibration error, over all bins: {', '.join(errors)}. Bins of fewer than {FEWEST} are not drawn."
    detail = f"{len(bins)} model{'' if len(bins) == 1 else 's'}; {BINS} bins, bars: 95 % intervals"
    return Plot(title, detail, panels, [note], (3.2 * len(panels) + 2.0 if alone else 7.5, 4.4 if alone else 5.0))


def _panel(bins: Mapping[str, tuple[Vector, Vector, Vector]], kinds: Mapping[str, str], name: str = "") -> Panel:
    ends = np.array([0.0, 1.0])
    marks: list[Mark] = [
        Line(ends, ends, label="accuracy equals confidence", dash=DASHES[2], guide=True),
        *model_lines({model: (sure, right) for model, (sure, right, _) in bins.items()}, kinds),
        *(_points(model, kinds[model], *found) for model, found in bins.items()),
    ]
    title = f"confidence\n{name}" if name else f"confidence (mean of the bin, {BINS} bins)"
    return Panel(Axis(title, low=0.0, high=1.0), Axis("accuracy", low=-0.02, high=1.02), marks)


def _confidences(table: pd.DataFrame) -> tuple[Vector, np.ndarray]:
    right: np.ndarray = (table["prediction"] == table["label"]).to_numpy(bool)
    return table["probability_top"].to_numpy(np.float64), right


def _bins(confidence: Vector, right: np.ndarray) -> tuple[Vector, Vector, Vector]:
    """Mean confidence, accuracy, and half of the accuracy's interval, of the bins with enough images."""
    counted = calibration_bins(confidence, right)
    images, accurate, sure = counted[:, counted[0] >= FEWEST]
    pairs = zip(accurate, images, strict=True)
    intervals = [stats.binomtest(int(count), int(total)).proportion_ci(method="wilson") for count, total in pairs]
    halves = np.array([(interval.high - interval.low) / 2 for interval in intervals])
    return sure / images, accurate / images, halves


def _points(model: str, kind: str, sure: Vector, right: Vector, halves: Vector) -> Points:
    return Points(sure, right, look(kind).colour, look(kind).marker, "", [model] * len(sure), y_error=halves, area=16.0)
