"""Images of data/cifar/test.parquet with the 19 corruptions of CIFAR-10-C, made when they are asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from advalign.data.cifar import SIDE
from advalign.data.sets.base import Items
from advalign.data.sets.cifar import CifarImages
from advalign.strict_settings import digest
from advalign.tensors.corruptions.apply import corrupted
from advalign.tensors.corruptions.constants import CONSTANTS


@dataclass(frozen=True)
class CorruptedCifar(CifarImages):
    """Each image beside its 95 corrupted versions, as the authors' script makes them but for frost and seed.

    Attributes:
        as_meant: as the script means to, where it does something else (docs/corruptions.md).
    """

    offers: ClassVar[tuple[str, ...]] = (*CifarImages.offers, "corrupted")
    as_meant: ClassVar[bool] = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the images' digest, the constants and the reading; code and seed are in identities besides it."""
        return digest([type(self).__name__, super().digest, CONSTANTS])

    def items(self, first: int, last: int, seed: int) -> Items:
        """As `CifarImages.items`; the extra `corrupted` is (N, 95, 3, 32, 32) uint8, in the order of `CONDITIONS`.

        What is random follows from an image's pixels and the seed, so it does not depend on first and last.
        """
        found = super().items(first, last, seed)
        images = [self.split.image(row) for row in range(len(self))[first:last]]
        stacked = np.stack(images) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        made = torch.from_numpy(corrupted(stacked, seed, self.as_meant)).permute(0, 1, 4, 2, 3)
        return Items(found.table, found.labels, found.pixels, {**found.extras, "corrupted": made.contiguous()})
