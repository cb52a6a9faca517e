"""Base of image sets: a digest, and items by position as probes read them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
from PIL.Image import Image
from torch import Tensor

from advalign.data.classes import Classes
from advalign.errors import InputError
from advalign.files import Project

Transform = Callable[[Image], Tensor]
"""A model's own evaluation transform: image -> (3, size, size) pixels in [0, 1]."""


@dataclass(frozen=True)
class Items:
    """Some members of an image set.

    Attributes:
        table: one row per item: the first columns of a result's rows.
        labels: (N,) int64: the right class, or the right decision where the set's labels are decisions.
        pixels: returns (N, 3, H, W) float32 in [0, 1] for a model's transform. Images with one size for all models are
            returned unchanged; others pass through the transform.
        extras: further data of each item, by name: (N, ...) each.
    """

    table: pd.DataFrame
    labels: Tensor
    pixels: Callable[[Transform], Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)


class ImageSet(ABC):
    """Base of all image sets: items in a fixed order, identified by a digest.

    Attributes:
        grouped: whether labels are decisions (groups of classes), not classes.
        offers: names of the extras that items have.
    """

    grouped: ClassVar[bool] = False
    offers: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def open(cls, project: Project, classes: Classes) -> "ImageSet":
        """Read the set of a project.

        Raises:
            DataError: the set is missing or damaged.
        """

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all data of the items: the identity of the set."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def items(self, first: int, last: int, seed: int) -> Items:
        """The members first .. last - 1.

        Args:
            first, last: positions in the set.
            seed: for extras that are drawn at random (another item's map).
        """

    def image_sha256(self, first: int, last: int) -> list[str]:
        """SHA-256 of the image of each member first .. last - 1, as `image_digests` has it of training images.

        Raises:
            InputError: the set does not know them, so that responses to its images cannot be found.
        """
        raise InputError(
            "the image set does not know the SHA-256 of its images, by which responses are found: name another, such "
            "as stimuli, validation or cifar"
        )

    @abstractmethod
    def listing(self) -> pd.DataFrame:
        """One row per item: its description and source."""

    def reads(self, project: Project) -> list[Path]:
        """Files below data/ that items, labels and the human ceiling come from; by default the classes alone."""
        return [project.data / "classes.yaml"]

    def is_stale(self, project: Project, remembered: Path | None) -> bool:
        """Whether the set is a frozen one, and data/ is not what it was frozen from any more.

        Args:
            project: of the set.
            remembered: as `inputs.digests`.
        """
        return False

    def human_ceiling(self, project: Project) -> float | None:
        """Rank correlation between halves of the participants; None for a set without human maps."""
        return None

    def absent(self) -> list[str]:
        """What cannot be measured on the set as it is, one sentence each."""
        return []

    @classmethod
    def check_offers(cls, name: str, needs: tuple[str, ...], probe: str) -> None:
        """Refuse a probe whose extras the set does not have.

        Raises:
            InputError: some are missing; the message names them.
        """
        missing = [need for need in needs if need not in cls.offers]
        if missing:
            raise InputError(
                f"probe {probe!r} needs {', '.join(missing)} of each image, image set {name!r} offers "
                f"{', '.join(cls.offers) or 'none'}: name another image set"
            )
