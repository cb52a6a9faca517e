"""Robust accuracy at every eps on data/cifar, with what attacks within one radius say at theirs.

Both are upper bounds of the same number, so a point below its model's curve shows where the search for minimum norms
missed something, and a point above it what the attack missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from advalign.analysis.evaluated import evaluated
from advalign.analysis.figures import Curve, robust_accuracy_curves
from advalign.analysis.groups import look
from advalign.analysis.plots import Plot, Points
from advalign.analysis.robustsight_tables import IMAGES
from advalign.analysis.standing import group_of
from advalign.data.results import Paths, read_rows
from advalign.evaluation.protocols import Protocol, protocol
from advalign.files import Project
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.models.declared import read_zoo
from advalign.rows import NORMS, SCALES
from advalign.settings import Settings

NORM = "linf"
LARGEST, POINTS = 64.0, 513  # the last eps in 1/255, where a curve does not end before; radii of a curve
MARKERS = ("circle", "square", "triangle-up", "diamond")


@dataclass
class _Found:
    """Kinds and curves by model, points by protocol."""

    kinds: dict[str, str]
    curves: dict[str, Curve]
    points: dict[str, list[tuple[str, float, float]]]


def robust_accuracy_figure(project: Project, settings: Settings) -> Plot:
    """A curve per model from minimum linf norms, a point per model and attack within a radius; both on data/cifar.

    Args:
        project: owner of the evaluations.
        settings: `evaluate.protocol` and `evaluate.also` name the protocols; those that attack within linf count.

    Raises:
        InputError: no model is evaluated under one of the protocols.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    found, zoo = _Found({}, {}, {}), read_zoo(project.zoo)
    for attacked, summary in _summaries(project, settings):
        found.kinds[summary["model"]] = group_of(summary, zoo)
        if attacked.minimum_norm:
            found.curves[summary["model"]] = _curve(project, attacked.name, summary["model"])
        else:
            eps = float(attacked.attack.settings.eps) * SCALES[NORM]
            point = summary["model"], eps, float(summary["metrics"]["robust_accuracy"])
            found.points.setdefault(attacked.name, []).append(point)
    plot = robust_accuracy_curves({NORM: found.curves}, found.kinds)
    return replace(plot, panels=[replace(panel, marks=[*panel.marks, *_marks(found)]) for panel in plot.panels])


def _summaries(project: Project, settings: Settings) -> Iterator[tuple[Protocol, dict[str, Any]]]:
    """Every protocol that attacks data/cifar in linf, with each model's summary under it."""
    evaluate = settings.evaluate
    for name in dict.fromkeys((evaluate.protocol, *evaluate.also)):
        one = protocol(name, evaluate.protocols, evaluate.metrics or None)
        if one.spec.image_set == IMAGES and one.probe.attack is not None and one.attack.norm == NORM:
            yield from ((one, summary) for summary in evaluated(project, evaluate, name).summaries)


def _curve(project: Project, name: str, model: str) -> Curve:
    rows = read_rows(Paths(project.evaluations / name, model).rows)
    largest = min(LARGEST, float(np.nanmax([0.0, *(rows[NORMS[NORM]] * SCALES[NORM])])) or 1.0)
    radii = np.linspace(0, largest, POINTS)
    return radii, robust_accuracy(rows, radii)


def _marks(found: _Found) -> list[Points]:
    """Hollow points in the colours of their models, a shape for each attack."""
    marks = []
    for number, (name, points) in enumerate(found.points.items()):
        for place, (model, eps, share) in enumerate(points):
            colour, shape = look(found.kinds[model]).colour, MARKERS[number % len(MARKERS)]
            label = name if place == 0 else ""
            at = np.array([eps]), np.array([share])
            marks.append(Points(*at, colour, shape, label, [model], hollow=True))
    return marks
