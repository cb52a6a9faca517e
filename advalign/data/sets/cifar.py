"""Test images of data/cifar: 32x32, the same pixels for every model, with object masks where there are any."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from advalign.data.cifar import OWN_CAM, CifarSplit, read_split, split_file
from advalign.data.classes import Classes
from advalign.data.sets.base import ImageSet, Items
from advalign.data.sets.stimuli import derangement
from advalign.files import Project
from advalign.inputs import digests
from advalign.strict_settings import digest


@dataclass(frozen=True)
class CifarImages(ImageSet):
    """data/cifar/test.parquet, in the order of its rows.

    Attributes:
        split: the file as it was read.
        remembered: digests of files (`advalign.inputs`).
    """

    offers: ClassVar[tuple[str, ...]] = ("mask", "has_mask", "other_mask")

    split: CifarSplit
    remembered: Path

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "CifarImages":
        """Read the file; see `read_split`."""
        return cls(read_split(split_file(project, "test"), len(classes)), project.digests)

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, under this set's name."""
        return digest(["cifar", digests([self.split.path], self.remembered)[self.split.path].sha256])

    def reads(self, project: Project) -> list[Path]:
        """The classes and the file."""
        return [*super().reads(project), self.split.path]

    def image_sha256(self, first: int, last: int) -> list[str]:
        """Of the pixels (`CifarSplit.sha256`)."""
        return [self.split.sha256(row) for row in range(len(self))[first:last]]

    def listing(self) -> pd.DataFrame:
        """One row per image: its official index, label, whether it went through JPEG, its mask's source, its cue.

        The last columns are those that `predictions` sums up: no people have said which other labels are right.
        """
        return self._table

    @cached_property
    def _table(self) -> pd.DataFrame:
        found = self.split.table
        return pd.DataFrame(
            {
                "image": found["index"],
                "label": found["label"],
                "lossy": found["lossy"],
                "mask_source": found["mask_source"],
                "cue": found["cue"],
                "correct": [[] for _ in range(len(found))],
                "unclear": [[] for _ in range(len(found))],
                "problematic": False,
            }
        )

    def items(self, first: int, last: int, seed: int) -> Items:
        """Images as they are, values / 255: no scaling per image, so that a radius of 8/255 means what it says.

        Extras: `mask` (N, 32, 32) bool, True on the object; `has_mask` (N,) bool; `other_mask` (N, 32, 32) bool, the
        mask of another image that has one (a seeded derangement of those). Masks from a model's own saliency do not
        count: they are absent here.
        """
        table = self._table.iloc[first:last].reset_index(drop=True)
        pixels = self.split.pixels(first, last)
        fair = self.split.has_fair_mask[first:last]
        masks = self.split.masks(first, last) & fair[:, None, None]
        others = torch.zeros_like(masks)
        for place, row in enumerate(self._others(seed)[first:last].tolist()):
            if row >= 0:
                others[place] = self.split.masks(row, row + 1)[0]
        return Items(
            table,
            torch.tensor(table["label"].to_numpy(dtype="int64")),
            lambda _: pixels,
            {"mask": masks, "has_mask": fair, "other_mask": others},
        )

    def _others(self, seed: int) -> Tensor:
        """(N,) int64: the row whose mask is another's for this one; -1 where there is no mask."""
        masked = self.split.has_fair_mask.nonzero()[:, 0]
        found = torch.full((len(self),), -1)
        found[masked] = masked[derangement(len(masked), seed)]
        return found

    def absent(self) -> list[str]:
        """Name images that went through JPEG, masks that are circular, and masks that are missing."""
        found, told = self.split.table, []
        lossy, circular = int(found["lossy"].sum()), int((found["mask_source"] == OWN_CAM).sum())
        if lossy:
            told.append(f"{lossy} of {len(self)} images went through JPEG: their pixels are not the official ones")
        if circular:
            told.append(f"{circular} masks are from a model's own saliency ({OWN_CAM}): no metric uses them")
        if not self.split.has_fair_mask.any():
            told.append("the images have no object masks: nothing that needs them is measured")
        return told
