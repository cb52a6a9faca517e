"""The validation images with all labels that people accept, under each model's own transform."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from advalign.data.classes import Classes
from advalign.data.imagenet import ValidationImage, read_validation
from advalign.data.sets.base import ImageSet, Items, Transform
from advalign.files import Project
from advalign.inputs import digests
from advalign.strict_settings import digest

DECODERS = 8  # threads that decode images


@dataclass(frozen=True)
class ValidationImages(ImageSet):
    """Files of data/imagenet/val, by name.

    Attributes:
        images: in the order of their names.
        tables: files with the labels.
        remembered: digests of files (`advalign.inputs`).
    """

    images: tuple[ValidationImage, ...]
    tables: tuple[Path, ...]
    remembered: Path

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "ValidationImages":
        """Read data/imagenet; see `read_validation`."""
        folder = project.data / "imagenet"
        tables = tuple(path for path in (folder / "multilabel.json", folder / "labels.csv") if path.is_file())
        return cls(tuple(read_validation(project, classes)), tables, project.digests)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the images' bytes and labels."""
        found = digests([*(image.path for image in self.images), *self.tables], self.remembered)
        images = [(image.path.name, image.label, found[image.path].sha256) for image in self.images]
        return digest([images, [found[table].sha256 for table in self.tables]])

    def reads(self, project: Project) -> list[Path]:
        """The classes, the tables of labels, and the images."""
        return [*super().reads(project), *self.tables, *(image.path for image in self.images)]

    def image_sha256(self, first: int, last: int) -> list[str]:
        """Of the files."""
        paths = [image.path for image in self.images[first:last]]
        found = digests(paths, self.remembered)
        return [found[path].sha256 for path in paths]

    def listing(self) -> pd.DataFrame:
        """One row per image: its file, its original label, and the labels that people accept."""
        return self._table

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "image": [image.path.name for image in self.images],
                "label": [image.label for image in self.images],
                "correct": [sorted(image.labels.correct) for image in self.images],
                "unclear": [sorted(image.labels.unclear) for image in self.images],
                "problematic": [image.labels.problematic for image in self.images],
            }
        )

    def items(self, first: int, last: int, seed: int) -> Items:
        """Images under the model's evaluation transform; the table has the labels that people accept."""
        images = self.images[first:last]
        table = self._table.iloc[first:last].reset_index(drop=True)
        return Items(table, torch.tensor(table["label"].to_numpy()), lambda transform: _decode(images, transform))

    def absent(self) -> list[str]:
        """Say that the labels of the images were not judged by people."""
        if any(image.labels.correct for image in self.images):
            return []
        return ["no multi-label sets (data/imagenet/multilabel.json): top-1 accuracy only"]


def _decode(images: tuple[ValidationImage, ...], transform: Transform) -> Tensor:
    def read(image: ValidationImage) -> Tensor:
        return transform(Image.open(image.path).convert("RGB"))

    with ThreadPoolExecutor(min(DECODERS, os.cpu_count() or 1)) as pool:  # one thread keeps a GPU waiting
        return torch.stack(list(pool.map(read, images)))
