"""The evaluations of RobustSight: which protocols measure what, and the values of single images.

Protocols are recognised by what they measure and on which images, not by their names.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.corruptions import Corrupted, corrupted_models
from advalign.analysis.evaluated import each_protocol
from advalign.analysis.standing import group_of
from advalign.data.results import Paths, read_rows
from advalign.errors import InputError
from advalign.evaluation.protocols import Protocol
from advalign.files import Project
from advalign.metrics.corruption_error import HEADLINE, errors
from advalign.models.declared import read_zoo
from advalign.rows import NORMS, SCALES, STATUS, Status
from advalign.settings import Settings

IMAGES, SWAPPED = "cifar", "cifar-swapped"  # image sets
NORM = "linf"


@dataclass(frozen=True)
class Measured:
    """One protocol of `evaluate.protocol` and `evaluate.also`, with its models.

    Attributes:
        protocol: the protocol.
        summaries: of the models that can be compared.
        project: owner of the results.
    """

    protocol: Protocol
    summaries: list[dict[str, Any]]
    project: Project

    @property
    def what(self) -> str:
        """Name of the attack, or of the probe that runs none."""
        return str(self.protocol.spec.attack or self.protocol.spec.probe)

    def rows(self, model: str) -> pd.DataFrame:
        """The rows of a model."""
        return read_rows(Paths(self.project.evaluations / self.protocol.name, model).rows)


class Experiment:
    """All evaluations that the tables, figures and findings are made from; read when they are asked for, once.

    Args:
        project: owner of the evaluations.
        settings: `evaluate.protocol` and `evaluate.also` name the protocols.

    Raises:
        InputError: no model is evaluated under one of the protocols.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project, self.settings = project, settings
        self._values: dict[tuple[str, str], Any] = {}

    @cached_property
    def protocols(self) -> list[Measured]:
        """In the order of the settings."""
        return [
            Measured(one, found.summaries, self.project)
            for one, found in each_protocol(self.project, self.settings.evaluate)
        ]

    @cached_property
    def corrupted(self) -> list[Corrupted]:
        """Every model under corruptions."""
        return corrupted_models(self.project, self.settings)

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """Model -> one of its summaries."""
        return {summary["model"]: summary for one in self.protocols for summary in one.summaries}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Model -> group, for colours."""
        zoo = read_zoo(self.project.zoo)
        return {model: group_of(summary, zoo) for model, summary in self.models.items()}

    def under(self, image_set: str, *whats: str) -> Iterator[Measured]:
        """The protocols on an image set whose attack, or probe without attack, is one of these names."""
        yield from (one for one in self.protocols if one.protocol.spec.image_set == image_set and one.what in whats)

    def attacks(self) -> Iterator[Measured]:
        """The protocols that attack data/cifar in linf."""
        for one in self.protocols:
            attack = one.protocol.probe.attack
            if one.protocol.spec.image_set == IMAGES and attack is not None and attack.norm == NORM:
                yield one

    def values(self, measure: str, model: str) -> Any:
        """The values of single images (`MEASURES`), or None where the model is not measured so."""
        if (measure, model) not in self._values:
            self._values[measure, model] = MEASURES[measure](self, model)
        return self._values[measure, model]

    def need_images(self) -> None:
        """Raise InputError where nothing is measured on data/cifar."""
        if not any(one.protocol.spec.image_set == IMAGES for one in self.protocols):
            raise InputError(
                f"no protocol in evaluate.protocol and evaluate.also measures the image set {IMAGES}: add one"
            )


def _rows(found: Iterator[Measured], model: str) -> pd.DataFrame | None:
    """A model's rows under the first of some protocols that has it, by image."""
    for one in found:
        if any(summary["model"] == model for summary in one.summaries):
            return one.rows(model).set_index("image")
    return None


def _right(experiment: Experiment, model: str) -> Any:
    rows = _rows(experiment.under(IMAGES, "predictions"), model)
    return None if rows is None else (rows["prediction"] == rows["label"]).astype(float)


def _column(image_set: str, probe: str, column: str) -> Callable[[Experiment, str], Any]:
    def values(experiment: Experiment, model: str) -> Any:
        rows = _rows(experiment.under(image_set, probe), model)
        return None if rows is None or column not in rows else rows[column].astype(float)

    return values


def _norms(experiment: Experiment, model: str) -> Any:
    """Minimum norms in 1/255, of the images that the model got right; NaN where it is wrong or none was found."""
    searched = (one for one in experiment.attacks() if one.protocol.minimum_norm)
    rows = _rows(searched, model)
    return None if rows is None else (SCALES[NORM] * rows[NORMS[NORM]]).where(rows[STATUS] == Status.OK)


def _survives(experiment: Experiment, model: str) -> Any:
    rows = _rows(experiment.under(IMAGES, "pgd"), model)
    return None if rows is None else (rows[STATUS] == Status.ATTACK_FAILED).astype(float)


def _errors(experiment: Experiment, model: str) -> Any:
    rows = _rows((one for one in experiment.protocols if one.protocol.spec.probe == "corruptions"), model)
    return None if rows is None else pd.Series(errors(rows)[:, HEADLINE].mean((1, 2)), rows.index)


MEASURES: dict[str, Callable[[Experiment, str], Any]] = {
    "accuracy": _right,
    "robust accuracy (PGD)": _survives,
    "minimum linf norm (1/255)": _norms,
    "IoU − shuffled": _column(IMAGES, "saliency", "iou_minus_shuffled"),
    "IoU − centre": _column(IMAGES, "saliency", "iou_minus_centre"),
    "shortcut drop": _column(SWAPPED, "shortcut", "shortcut_drop"),
    "corruption error": _errors,
}
"""What is compared image by image -> its values of a model."""


def mean(values: Any) -> float:
    """The mean over the images that have a value; NaN without values."""
    return math.nan if values is None else float(np.nanmean(values.to_numpy(float))) if values.count() else math.nan
