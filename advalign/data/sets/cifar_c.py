"""The official CIFAR-10-C: test images of data/cifar, each beside its corrupted versions as the authors made them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from advalign.data.cifar import read_split, split_file
from advalign.data.classes import Classes
from advalign.data.corrupted_arrays import array_files, open_arrays
from advalign.data.sets.base import Items
from advalign.data.sets.cifar import CifarImages
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import content_digest, digests
from advalign.strict_settings import digest
from advalign.tensors.corruptions.constants import NAMES, SEVERITIES


@dataclass(frozen=True)
class CifarC(CifarImages):
    """Each image beside its 95 corrupted versions in data/cifar/corruptions.

    Attributes:
        folder: of the arrays.
        arrays: corruption -> (5 N, 32, 32, 3) uint8, severity 1 first, read where they lie.
    """

    offers: ClassVar[tuple[str, ...]] = (*CifarImages.offers, "corrupted")

    folder: Path
    arrays: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "CifarC":
        """Read the images, and open the arrays.

        Raises:
            DataError: a file is missing or damaged, or an array is not of the test images.
        """
        split = read_split(split_file(project, "test"), len(classes))
        folder = project.data / "cifar" / "corruptions"
        if not folder.is_dir():
            raise DataError(
                "data/cifar/corruptions is missing: `advalign data import cifar-c FOLDER` brings the official arrays; "
                "the image set cifar-corrupted makes its own"
            )
        return cls(split, project.digests, folder, open_arrays(folder, split.table["label"].to_numpy()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the images' digest and the arrays' bytes, under this set's name."""
        files = array_files(self.folder)
        return digest(["cifar-c", super().digest, content_digest(self.folder, digests(files, self.remembered))])

    def reads(self, project: Project) -> list[Path]:
        """The classes, the images and the arrays."""
        return [*super().reads(project), *array_files(self.folder)]

    def items(self, first: int, last: int, seed: int) -> Items:
        """As `CifarImages.items`; the extra `corrupted` is (N, 95, 3, 32, 32) uint8, in the order of `CONDITIONS`."""
        found, count = super().items(first, last, seed), len(self)
        parts = [self.arrays[name][(severity - 1) * count :][first:last] for name in NAMES for severity in SEVERITIES]
        read = torch.from_numpy(np.stack(parts, 1)).permute(0, 1, 4, 2, 3)
        return Items(found.table, found.labels, found.pixels, {**found.extras, "corrupted": read.contiguous()})
