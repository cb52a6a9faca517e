"""Figures of RobustSight: robust accuracy at every eps, certificates, calibration, corruptions, the trade-off plane.

In the curves of robust accuracy both the curve and the points of attacks within one radius are upper bounds of the same
number. So a point below its model's curve shows where the search for minimum norms missed something, and a point above
it what the attack missed.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from advalign.analysis.certified_figure import certified_accuracy_figure
from advalign.analysis.corruptions import corruption_heat_map
from advalign.analysis.figures import Curve, robust_accuracy_curves
from advalign.analysis.groups import look
from advalign.analysis.plots import Axis, Panel, Plot, Points, Words
from advalign.analysis.reliability import reliability_diagram
from advalign.analysis.robustsight.measured import IMAGES, NORM, Experiment, Measured
from advalign.analysis.scatter import points_of
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.rows import NORMS, SCALES

LARGEST, POINTS = 64.0, 513  # the last eps in 1/255, where a curve does not end before; radii of a curve
MARKERS = ("circle", "square", "triangle-up", "diamond")
RADIUS = 8.0  # 1/255, of robust accuracy in the trade-off plane


def robustsight_plots(experiment: Experiment) -> dict[str, Plot]:
    """Every figure that is a plot, by the name of its file.

    Raises:
        As `Experiment`.
    """
    project, settings = experiment.project, experiment.settings
    return {
        "trade_off": trade_off_plane(experiment),
        "robust_accuracy": robust_accuracy_figure(experiment),
        "certified_accuracy": certified_accuracy_figure(project, settings),
        "corruptions": corruption_heat_map(experiment.corrupted),
        "reliability": _reliability(experiment),
    }


def robust_accuracy_figure(experiment: Experiment) -> Plot:
    """A curve per model from minimum linf norms, a point per model and attack within a radius; both on data/cifar."""
    curves: dict[str, Curve] = {}
    marks: list[Points] = []
    for one in experiment.attacks():
        if one.protocol.minimum_norm:
            curves |= {summary["model"]: _curve(one, summary["model"]) for summary in one.summaries}
        else:
            marks += _points(experiment, one, MARKERS[len({mark.marker for mark in marks}) % len(MARKERS)])
    plot = robust_accuracy_curves({NORM: curves}, experiment.kinds)
    return replace(plot, panels=[replace(panel, marks=[*panel.marks, *marks]) for panel in plot.panels])


def trade_off_plane(experiment: Experiment) -> Plot:
    """Robust accuracy at linf 8/255 and IoU over another image's mask, each against clean accuracy, and both together.

    Robust accuracy is that of the minimum norms. Source: the question of Kannappan 2025, Figure 4, whose axes have no
    controls.
    """
    title = "Accuracy, robustness and saliency"
    rows = pd.DataFrame([_place(experiment, model) for model in sorted(experiment.models)])
    names = {
        "accuracy": "clean accuracy",
        "robust": f"robust accuracy (linf {RADIUS:g}/255)",
        "iou": "IoU − another image's mask",
    }
    panels = []
    for x, y in (("accuracy", "robust"), ("accuracy", "iou"), ("robust", "iou")):
        usable = rows.dropna(subset=[x, y])
        if len(usable) < 2:
            continue
        labels = [Words(at_x, at_y, name) for name, at_x, at_y in usable[["model", x, y]].itertuples(index=False)]
        panels.append(Panel(Axis(names[x]), Axis(names[y]), points_of(usable, x, y, experiment.kinds), labels))
    if not panels:
        return Plot(title, "Fewer than two models have accuracy, minimum linf norms or saliency on data/cifar.")
    return Plot(title, f"{len(rows)} models; bars: standard errors", panels, size=(5.2 * len(panels), 5.0))


def _place(experiment: Experiment, model: str) -> dict[str, float | str]:
    found: dict[str, float | str] = {"model": model}
    for column, measure in (("accuracy", "accuracy"), ("iou", "IoU − shuffled")):
        values = experiment.values(measure, model)
        if values is not None:
            found |= {column: float(values.mean()), f"{column}_sem": float(values.sem())}
    for one in experiment.attacks():
        if one.protocol.minimum_norm and model in {summary["model"] for summary in one.summaries}:
            share = float(robust_accuracy(one.rows(model), np.array([RADIUS]))[0])
            found |= {"robust": share, "robust_sem": (share * (1 - share) / len(one.rows(model))) ** 0.5}
    return found


def _curve(one: Measured, model: str) -> Curve:
    rows = one.rows(model)
    largest = min(LARGEST, float(np.nanmax([0.0, *(rows[NORMS[NORM]] * SCALES[NORM])])) or 1.0)
    radii = np.linspace(0, largest, POINTS)
    return radii, robust_accuracy(rows, radii)


def _points(experiment: Experiment, one: Measured, shape: str) -> list[Points]:
    """Hollow points of one attack, in the colours of the models."""
    eps = np.array([float(one.protocol.attack.settings.eps) * SCALES[NORM]])
    marks = []
    for place, summary in enumerate(one.summaries):
        model, share = summary["model"], np.array([float(summary["metrics"]["robust_accuracy"])])
        label = one.protocol.name if place == 0 else ""
        marks.append(Points(eps, share, look(experiment.kinds[model]).colour, shape, label, [model], hollow=True))
    return marks


def _reliability(experiment: Experiment) -> Plot:
    rows = {
        summary["model"]: one.rows(summary["model"])
        for one in experiment.under(IMAGES, "predictions")
        for summary in one.summaries
    }
    return reliability_diagram(rows, experiment.kinds)
