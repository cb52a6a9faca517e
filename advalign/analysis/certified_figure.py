"""Certified accuracy at every l2 radius, from the evaluations under protocols of the probe `smoothing`.

A certificate is a lower bound in l2; attacks give upper bounds. Robust accuracy in linf is in a figure of its own.
"""

import numpy as np

from advalign import catalog
from advalign.analysis.evaluated import each_protocol
from advalign.analysis.figures import Curve, certified_accuracy_curves
from advalign.analysis.plots import Plot
from advalign.analysis.standing import group_of
from advalign.data.results import Paths, read_rows
from advalign.files import Project
from advalign.models.declared import read_zoo
from advalign.probes.smoothing import RADIUS, Smoothing, certified_accuracy
from advalign.recipes.noise import GaussianNoise
from advalign.settings import Settings

POINTS = 513  # radii of a curve
BEYOND = 1.05  # the last radius of a curve, relative to the largest certified one


def certified_accuracy_figure(project: Project, settings: Settings) -> Plot:
    """A panel per protocol of the probe `smoothing`, a curve per model.

    Models that were not trained with noise are named below: their certificates are valid, and smaller than could be.

    Args:
        project: owner of the evaluations.
        settings: `evaluate.protocol` and `evaluate.also` name the protocols.

    Raises:
        InputError: no model is evaluated under one of the protocols, or registry/zoo.yaml lacks a model's architecture.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    evaluate, zoo = settings.evaluate, read_zoo(project.zoo)
    curves: dict[str, dict[str, Curve]] = {}
    kinds: dict[str, str] = {}
    without: set[str] = set()
    notes: list[str] = []
    for one, found in each_protocol(project, evaluate, lambda one: isinstance(one.probe, Smoothing)):
        name = one.name
        notes += [_early(name, one.probe.settings.radii)] if one.probe.settings.sequential else []
        for summary in found.summaries:
            model = summary["model"]
            kinds[model] = group_of(summary, zoo)
            curves.setdefault(name, {})[model] = _curve(project, name, model)
            without |= set() if trained_with_noise(summary["recipe"]) else {model}
    names = ", ".join(sorted(without))
    told = f"Not trained with noise: {names}. Their certificates are valid, and smaller than could be."
    return certified_accuracy_curves(curves, kinds, [*notes, *([told] if without else [])])


def _early(protocol: str, radii: tuple[float, ...]) -> str:
    wanted = ", ".join(f"{radius:g}" for radius in radii)
    return f"{protocol} stops counting votes once an image is decided at {wanted}: beyond, all votes would show more."


def trained_with_noise(recipe: str) -> bool:
    """Whether models of a recipe saw Gaussian noise in training, as the smoothed model's votes need.

    >>> trained_with_noise("noise"), trained_with_noise("baseline"), trained_with_noise("pretrained")
    (True, False, False)
    """
    return recipe in catalog.names("recipe") and issubclass(catalog.load("recipe", recipe).inputs, GaussianNoise)


def _curve(project: Project, name: str, model: str) -> Curve:
    rows = read_rows(Paths(project.evaluations / name, model).rows)
    radii = np.linspace(0, BEYOND * (float(rows[RADIUS].max()) or 1.0), POINTS)
    return radii, certified_accuracy(rows, radii)
