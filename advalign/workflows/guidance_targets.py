"""Responses that a study needs as controls: of an untrained network, and areas at one ceiling and dimension.

Both are written to outputs/responses, under their own names.
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore, responses_digest
from advalign.data.training_images import training_images
from advalign.files import Project
from advalign.models.layer_features import LayerFeatures
from advalign.models.zoo import create_classifier
from advalign.settings import GuidanceSettings, Settings, TrainSettings
from advalign.strict_settings import parse
from advalign.workflows.guidance_arms import degraded_name, random_name
from advalign.workflows.simulated_responses import Pixels, random_units

Array = NDArray[np.float64]
UNITS = 64
VARIANCE = 0.95  # whose components are a dimension of an area, as the recipe counts them
UNTRAINED = 10_007  # added to the seed: no network that is trained begins with these weights


@torch.no_grad()
def write_random(project: Project, settings: Settings, asked: GuidanceSettings) -> None:
    """Penultimate features of an untrained network, to all training images: 64 random directions of them."""
    classes = read_classes(project.data / "classes.yaml")
    train = parse(TrainSettings, {**settings.train.model_dump(), **asked.train}, "train")
    images = training_images(project, classes, train)
    classifier = create_classifier(asked.model, len(classes), train.size, seed=settings.seed + UNTRAINED).eval()
    found = []
    with LayerFeatures(classifier) as watched:
        for pixels, *_ in Pixels(images, len(images), train.size, classes).blocks():
            classifier(pixels)
            found.append(watched.values.double().numpy())
    values = random_units(np.concatenate(found), len(images), UNITS, [settings.seed, UNTRAINED])
    known = image_digests(images, project.digests).assign(id=[f"train/{number:05}" for number in range(len(images))])
    about = About("simulated", "z-scored", f"Features of {asked.model} with random weights.")
    units = pd.DataFrame({"roi": ["random"] * UNITS, "noise_ceiling": np.float32(1)})
    path = project.root / "outputs" / "responses" / f"{random_name(asked)}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_responses(path, about, known, units) as writer:
        writer.add_trials(np.arange(len(values)), values, "train", 0)


def write_degraded(
    project: Project, study: str, asked: GuidanceSettings, store: ResponseStore, areas: list[str], seed: int
) -> str:
    """The areas of a study with the lowest ceiling and dimension among them: noise is added, components are cut.

    Args:
        project: where to.
        study, asked: name and settings.
        store: of the responses.
        areas: those that guide.
        seed: of the noise.

    Returns:
        What was done, in a sentence.
    """
    parts = {
        (area, subject): _Area.of(store, area, subject or None) for subject in asked.subjects or ("",) for area in areas
    }
    dimensions = min(part.dimensions for part in parts.values())
    known = [part.ceiling for part in parts.values() if not np.isnan(part.ceiling)]
    ceiling = min(known) if len(known) == len(parts) else np.nan
    images, random = store.images, np.random.default_rng([seed, 11])
    names = [(area, subject) for (area, subject), part in parts.items() for _ in range(part.values.shape[1])]
    units = pd.DataFrame(names, columns=["roi", "subject"]).assign(noise_ceiling=np.float32(ceiling))
    told = f"All areas have {dimensions} dimensions and a ceiling of {ceiling:.3f}." if ceiling == ceiling else (
        f"All areas have {dimensions} dimensions; their ceilings are not all known, so no noise is added."
    )  # fmt: skip
    about = About(
        store.provenance,
        f"{store.normalisation}; averaged, degraded",
        told,
        {store.path.name: responses_digest(store.path)},
    )
    path = project.root / "outputs" / "responses" / f"{degraded_name(study, asked)}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_responses(path, about, images, units) as writer:
        first = 0
        for number, part in enumerate(parts.values()):
            values = part.degraded(dimensions, ceiling, random)
            writer.add_trials(part.images, values, "train", number, first_unit=first)
            first += values.shape[1]
    return told


class _Area:
    """Average responses of an area, standardised, and their components."""

    def __init__(self, images: NDArray[np.int64], values: Array, ceiling: float) -> None:
        self.images, self.values, self.ceiling = images, values, ceiling
        self._left, self._sizes, self._right = np.linalg.svd(values, full_matrices=False)

    @classmethod
    def of(cls, store: ResponseStore, area: str, subject: str | None) -> "_Area":
        """Of the training images."""
        images, means = store.mean_responses(area, subject, "train")
        values = means.astype(np.float64)
        values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
        ceilings = store.units["noise_ceiling"].to_numpy(np.float64)[store.mask(area, subject)]
        return cls(images, values, float(ceilings.mean()))

    @property
    def dimensions(self) -> int:
        """Components that hold 95 % of the variance."""
        held = np.cumsum(self._sizes**2) / np.sum(self._sizes**2)
        return int(np.searchsorted(held, VARIANCE - 1e-9)) + 1

    def degraded(self, dimensions: int, ceiling: float, random: np.random.Generator) -> Array:
        """The first components alone, with noise in them that lowers the ceiling, in the space of the units."""
        scores = self._left[:, :dimensions] * self._sizes[:dimensions]
        if self.ceiling > ceiling:
            noise = np.sqrt(self.ceiling / ceiling - 1) * scores.std(0)
            scores = scores + noise * random.standard_normal(scores.shape)
        return np.asarray(scores @ self._right[:dimensions])
