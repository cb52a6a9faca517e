"""Images of data/cifar/swapped.parquet: those of test with another class's background, each beside its original."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from advalign.data.cifar import CifarSplit, read_split, split_file
from advalign.data.classes import Classes
from advalign.data.sets.base import Items
from advalign.data.sets.cifar import CifarImages
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import digests
from advalign.strict_settings import digest


@dataclass(frozen=True)
class SwappedCifar(CifarImages):
    """The drawn world's second test split: a model that relies on backgrounds is wrong here.

    Attributes:
        originals: test.parquet: the same rows with their own backgrounds.
    """

    offers: ClassVar[tuple[str, ...]] = (*CifarImages.offers, "original")

    originals: CifarSplit

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "SwappedCifar":
        """Read both files.

        Raises:
            DataError: one is missing or damaged, or they are not of the same images.
        """
        swapped, test = (read_split(split_file(project, name), len(classes)) for name in ("swapped", "test"))
        same = ["index", "label"]
        if not swapped.table[same].equals(test.table[same]) or swapped.encoded_masks != test.encoded_masks:
            raise DataError(
                f"{swapped.path} is not of the images of {test.path.name}: index, label and mask must agree in each "
                "row: draw both with `advalign data sample --world cifar`"
            )
        return cls(swapped, project.digests, test)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of both files' bytes, under this set's name."""
        files = [self.split.path, self.originals.path]
        found = digests(files, self.remembered)
        return digest(["cifar-swapped", *(found[file].sha256 for file in files)])

    def reads(self, project: Project) -> list[Path]:
        """The classes and both files."""
        return [*super().reads(project), self.originals.path]

    def items(self, first: int, last: int, seed: int) -> Items:
        """As `CifarImages.items`; the extra `original` (N, 3, 32, 32) in [0, 1] is the image of test.parquet."""
        found = super().items(first, last, seed)
        originals = self.originals.pixels(first, last)
        return Items(found.table, found.labels, found.pixels, {**found.extras, "original": originals})
