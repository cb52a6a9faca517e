"""How well the features of a study's models fit the responses, on images that none of them was trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.responses import ResponseStore
from advalign.data.training_images import validation_images
from advalign.errors import InputError
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint
from advalign.models.layer_features import LayerFeatures
from advalign.settings import TrainSettings
from advalign.tensors.encoding import LEAST_IMAGES, explained, kernel, predicted
from advalign.tensors.representations import linear_cka
from advalign.workflows.simulated_responses import Pixels

Array = NDArray[np.float64]


class Fits:
    """Fits of models to the areas of a study.

    The images are those of split validation, or else test, that are validation images of the project: found by content.

    Args:
        project, train: whose validation images.
        store: of the responses.
        areas, subjects: of the study.
        seed: of the folds.

    Attributes:
        count: of the images; below `LEAST_IMAGES` nothing is fitted.
    """

    def __init__(
        self, project: Project, train: TrainSettings, store: ResponseStore, areas: Sequence[str],
        subjects: Sequence[str], seed: int,
    ) -> None:  # fmt: skip
        classes = read_classes(project.data / "classes.yaml")
        images = validation_images(project, classes, train)
        self.pixels = Pixels(images, len(images), train.size, classes)
        places = {digest: row for row, digest in enumerate(image_digests(images, project.digests)["sha256"])}
        self.seed, self._areas = seed, {}
        for area in areas:
            for subject in subjects or ("",):
                if found := _responses(store, area, subject or None, places):
                    self._areas[area, subject] = found
        self.count = min((len(rows) for rows, *_ in self._areas.values()), default=0)

    @property
    def told(self) -> str:
        """What is fitted, in a sentence."""
        if self.count < LEAST_IMAGES:
            return f"No fit: the responses are to {self.count} of the validation images, {LEAST_IMAGES} are needed."
        return f"Fits are cross-validated over {self.count} images that no model was trained on."

    @torch.no_grad()
    def of(self, checkpoint: Path, area: str, subject: str) -> dict[str, float]:
        """`explained` (cross-validated explained variance over ceiling) and `cka` of a model's penultimate features.

        Args:
            checkpoint: of the model.
            area, subject: whose responses; "" means the mean over all of the study.
        """
        wanted = [value for (roi, whose), value in self._areas.items() if area in ("", roi) and subject in ("", whose)]
        if not wanted or self.count < LEAST_IMAGES:
            return {}
        classifier, _ = load_checkpoint(checkpoint)
        features = []
        with LayerFeatures(classifier) as watched:
            for pixels, *_ in self.pixels.blocks():
                classifier(pixels)
                features.append(watched.values.double())
        seen = torch.cat(features)
        told = [self._fit(seen[rows], values, ceilings) for rows, values, ceilings in wanted]
        return {name: float(np.mean([one[name] for one in told])) for name in told[0]}

    def _fit(self, features: torch.Tensor, values: Array, ceilings: Array) -> dict[str, float]:
        found = explained(predicted([kernel(features.numpy())], values, self.seed), values, ceilings, 100, self.seed)
        share = found.over_ceiling if found.units else found.share
        return {"explained": share, "cka": float(linear_cka(features, torch.from_numpy(values)))}


def _responses(store: ResponseStore, area: str, subject: str | None, places: dict[str, int]) -> Any:
    """Rows of the validation images, their responses (N, units), and the units' ceilings; None where there are none."""
    for split in ("validation", "test"):
        try:
            images, means = store.mean_responses(area, subject, split)
        except InputError:  # no trial of that split
            continue
        digests = store.images["sha256"].to_numpy()[images]
        known = [row for row, digest in enumerate(digests) if digest in places]
        if known:
            ceilings = store.units["noise_ceiling"].to_numpy(np.float64)[store.mask(area, subject)]
            rows = np.array([places[digests[row]] for row in known])
            return rows, means[known].astype(np.float64), ceilings
    return None
