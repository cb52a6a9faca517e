"""Responses to the images of an image set, found by content: what features of these images are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from advalign.data.responses import ResponseStore, need_responses
from advalign.errors import InputError, shown
from advalign.files import Project
from advalign.inputs import digests
from advalign.names import as_word
from advalign.strict_settings import Strict


class ResponseSettings(Strict):
    """Which responses count."""

    responses: str | None = Field(None, description="a set of responses; null: the only one in data/responses")
    rois: tuple[str, ...] = Field((), description="areas; none: all")
    subject: str | None = Field(None, description="null: every subject on its own")
    units: int = Field(1000, ge=1, description="of an area; of more, so many are drawn, which bounds the rows")
    seed: int = Field(0, ge=0, description="of drawn units, of folds, and of a projection")


@dataclass(frozen=True)
class Area:
    """An area of a subject.

    Attributes:
        label: PROVENANCE.ROI, or PROVENANCE.SUBJECT.ROI in a store of several subjects: no number of it is ever seen
            without its provenance.
        roi, subject: as in the store.
    """

    label: str
    roi: str
    subject: str


@dataclass(frozen=True)
class ImageResponses:
    """A store's responses by the images' SHA-256, averaged over all trials of an image.

    Attributes:
        store: of the responses.
        areas: those that are asked for.
        settings: which responses count.
    """

    store: ResponseStore
    areas: tuple[Area, ...]
    settings: ResponseSettings
    _read: dict[Area, tuple[dict[str, int], NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)

    def count(self, area: Area, images: Sequence[str]) -> int:
        """How many of some images, given by their SHA-256, have a response in every unit of an area."""
        return sum(image in self._of(area)[0] for image in images)

    def of(self, area: Area, images: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Responses of an area to some images.

        Args:
            area: one of `areas`.
            images: SHA-256 of each.

        Returns:
            (N, U) float32, NaN throughout for an image without a response; and (U,) float32, the units' noise ceilings
            (a share; NaN: unknown).
        """
        place, values, ceilings = self._of(area)
        rows = np.array([place.get(image, -1) for image in images], dtype=np.int64)
        found = np.where(rows[:, None] >= 0, values[rows], np.float32(np.nan))
        return torch.from_numpy(found), torch.from_numpy(ceilings)

    def _of(self, area: Area) -> tuple[dict[str, int], NDArray[np.float32], NDArray[np.float32]]:
        """Row of each image, the responses, and the ceilings; read once."""
        if area not in self._read:
            images, means = self.store.mean_responses(area.roi, area.subject)
            ceilings = self.store.units["noise_ceiling"].to_numpy(np.float32)[self.store.mask(area.roi, area.subject)]
            if means.shape[1] > self.settings.units:
                random = np.random.default_rng(self.settings.seed)
                kept = np.sort(random.choice(means.shape[1], self.settings.units, replace=False))
                means, ceilings = means[:, kept], ceilings[kept]
            names = self.store.images["sha256"].to_numpy()[images]
            self._read[area] = {name: row for row, name in enumerate(names) if name}, means, ceilings
        return self._read[area]


def image_responses(project: Project, settings: ResponseSettings) -> ImageResponses:
    """Open the responses that are asked for.

    Raises:
        InputError: no such responses, areas or subject, several sets and no name, or no responses to single images.
        DataError: the file is damaged.
    """
    path = need_responses(project, settings.responses or _only(project))
    state, own = path.stat(), settings.model_dump(include={*ResponseSettings.model_fields})
    return _opened(path, (state.st_ino, state.st_size, state.st_mtime_ns), ResponseSettings(**own))


@lru_cache(maxsize=2)
def _opened(path: Path, state: tuple[int, ...], settings: ResponseSettings) -> ImageResponses:
    """As `image_responses`; a file that has changed (`state`) is read again."""
    store = ResponseStore.open(path)
    if not len(store.trials):
        raise InputError(f"{path} holds dissimilarities: `advalign neural fit` compares them; give responses to images")
    for roi in settings.rois or [None]:
        store.mask(roi, settings.subject)  # refuses what is not there
    areas = tuple(
        Area(label(store, roi, subject), roi, subject)
        for subject, roi in store.areas
        if (not settings.rois or roi in settings.rois) and settings.subject in (None, subject)
    )
    if len({area.label for area in areas}) < len(areas):
        raise InputError(f"{path}: names of its areas differ in special characters alone: name one of them as rois")
    return ImageResponses(store, areas, settings)


def label(store: ResponseStore, roi: str, subject: str) -> str:
    """See `Area.label`."""
    parts = [store.provenance, *([subject] if len(store.subjects) > 1 else []), roi]
    return ".".join(as_word(part) for part in parts)


def told(project: Project, found: ImageResponses, images: Sequence[str]) -> dict[str, Any]:
    """What a result says of the responses that it stands on, in plain values.

    Args:
        project: of the responses.
        found: the responses.
        images: SHA-256 of the images that features are computed of.
    """
    path = found.store.path
    return {
        "responses": path.stem,
        "provenance": found.store.provenance,
        "normalisation": found.store.normalisation,
        "responses_sha256": digests([path], project.digests)[path].sha256,
        "images": {area.label: found.count(area, images) for area in found.areas},
    }


def _only(project: Project) -> str:
    names = sorted(path.stem for path in (project.data / "responses").glob("*.h5"))
    if len(names) == 1:
        return names[0]
    there = f"data/responses has {', '.join(map(shown, names))}" if names else "data/responses has none"
    raise InputError(
        f"neural fit: responses is null, and {there}: name one in a protocol, such as "
        "fit: {probe: neural-fit, settings: {responses: NAME}}"
    )
