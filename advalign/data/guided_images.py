"""Training images with a target in the space of brain responses, for the recipes that are guided by them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.augmentation import Sample
from advalign.data.batches import Images


@dataclass(frozen=True)
class Targets:
    """What some of the training images are guided towards (`response_targets`).

    Attributes:
        rows: (images,) row of `values` of each training image; -1: it has no response.
        values: (n, D) float32: mean 0 in every dimension, mean square 1 over all of them.
        labels: (n,) int64 class indices of the images with a response.
        told: for cards and runs: name, provenance and SHA-256 of the responses, area, its mean noise ceiling (None:
            unknown), control, numbers of images and dimensions.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    told: dict[str, Any]


@dataclass(frozen=True)
class GuidedImages:
    """Numbered images whose samples have a response.

    Attributes:
        images: without responses.
        targets: of these images.
    """

    images: Images
    targets: Targets

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> Sample:
        """Decode an image; its response is NaN throughout where it has none."""
        row, values = self.targets.rows[number], self.targets.values
        response = values[row] if row >= 0 else np.full(values.shape[1], np.nan, np.float32)
        return replace(self.images.read(number), response=response)
