"""Training batches: images with their human maps, shuffled and augmented together, repeatable from (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from advalign.data.clickme import read_clickme, split_shards
from advalign.errors import DataError
from advalign.files import Project
from advalign.tensors.heatmaps import training_maps


@dataclass(frozen=True)
class Batch:
    """What a recipe turns into a loss.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1].
        labels: (N,) int64 class indices.
        heatmaps: (N, H, W) float32 human maps; any values where there is none.
        has_heatmap: (N,) bool: the token that says whether the image has a human map.
    """

    images: Tensor
    labels: Tensor
    heatmaps: Tensor
    has_heatmap: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move all tensors to a device."""
        return Batch(*(value.to(device) for value in (self.images, self.labels, self.heatmaps, self.has_heatmap)))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TrainingData:
    """A split in memory: uint8 pixels, float maps.

    Attributes:
        pixels: (N, 3, H, W) uint8.
        heatmaps: (N, H, W) float32.
        labels: (N,) int64.
    """

    pixels: Tensor
    heatmaps: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def all(self, batch_size: int) -> Iterator[Batch]:
        """Every sample once, in order, not augmented."""
        for start in range(0, len(self), batch_size):
            yield self._batch(torch.arange(start, min(start + batch_size, len(self))))

    def epoch(self, batch_size: int, shift: int, seed: int, epoch: int) -> Iterator[Batch]:
        """One shuffled, augmented pass without the incomplete last batch; the same (seed, epoch), the same bytes."""
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        order = torch.randperm(len(self), generator=generator)
        for number in range(self.batches(batch_size)):
            batch = self._batch(order[number * batch_size : (number + 1) * batch_size])
            yield augment(batch, shift, generator)

    def batches(self, batch_size: int) -> int:
        """Number of batches in an epoch."""
        return len(self) // batch_size

    def _batch(self, index: Tensor) -> Batch:
        ones = torch.ones(len(index), dtype=torch.bool)
        return Batch(self.pixels[index].float() / 255, self.labels[index], self.heatmaps[index], ones)


def augment(batch: Batch, shift: int, generator: torch.Generator) -> Batch:
    """Mirror half of the images and shift the batch by up to `shift` pixels (edges repeated); maps go along."""
    mirrored = torch.rand(len(batch), generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], batch.images.flip(3), batch.images)
    heatmaps = torch.where(mirrored[:, None, None], batch.heatmaps.flip(2), batch.heatmaps)
    if shift:
        height, width = images.shape[2:]
        top, left = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
        both = F.pad(torch.cat([images, heatmaps[:, None]], 1), (shift,) * 4, mode="replicate")
        both = both[:, :, top : top + height, left : left + width]
        images, heatmaps = both[:, :3].contiguous(), both[:, 3].contiguous()
    return replace(batch, images=images, heatmaps=heatmaps)


def load_training_data(project: Project, split: str, classes: int, blur_maps: bool) -> TrainingData:
    """Decode a ClickMe split into memory.

    Raises:
        DataError: missing or corrupt shards, or images of several sizes.
    """
    pixels: list[NDArray[np.uint8]] = []
    heatmaps: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for record in read_clickme(split_shards(project, split), classes):
        if pixels and record.image.shape != pixels[0].shape:
            raise DataError(f"{record.source}: image of another size than those before: {record.image.shape[:2]}")
        pixels.append(record.image)
        heatmaps.append(record.heatmap)
        labels.append(record.label)
    if not pixels:
        raise DataError(f"the {split}-*.tfrecords hold no record: get the data with `dvc pull data.dvc`")
    maps = torch.from_numpy(np.stack(heatmaps)).float() / 255
    if blur_maps:
        maps = training_maps(maps, maps.shape[-1])
    return TrainingData(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), maps, torch.tensor(labels))
