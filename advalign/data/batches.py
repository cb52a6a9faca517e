"""Training batches: images with their human maps, shuffled and augmented together, repeatable from (seed, epoch).

What a batch holds depends only on seed, epoch and its number, not on how many processes share the work or decode. So a
training resumes in the middle of an epoch, also on another number of GPUs, with the images that it would have seen.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from advalign.data.augmentation import Augmentation, Sample, create_augmentation
from advalign.data.centre_crop import centre_crop
from advalign.errors import AdvalignError
from advalign.processes import place_sockets
from advalign.settings import TrainSettings

PLAIN_BATCH = 256  # images of a batch that is not trained on
Loaded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class Batch:
    """The images that a recipe computes a loss from.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1].
        labels: (N,) int64 class indices.
        heatmaps: (N, H, W) float32 human maps; any values where there is none.
        has_heatmap: (N,) bool: the token that says whether the image has a human map.
        mixture: (N, classes) float32, each row a distribution over the classes, where images were mixed; else None.
        responses: (N, D) float32 targets in the space of brain responses, 0 where there is none; None in a training
            whose recipe does not ask for them.
        has_response: (N,) bool: the token that says whether the image has a response; None as `responses`.
    """

    images: Tensor
    labels: Tensor
    heatmaps: Tensor
    has_heatmap: Tensor
    mixture: Tensor | None = None
    responses: Tensor | None = None
    has_response: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """The target of the loss, as cross-entropy takes it: (N,) class indices, or (N, classes) shares."""
        return self.labels if self.mixture is None else self.mixture

    def __len__(self) -> int:
        return len(self.labels)


class Images(Protocol):
    """Numbered images; `training_images.TrainingImages` are those of data/."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Sample:
        """Decode an image."""


@dataclass(frozen=True)
class Share:
    """The part of the work that this process does: process `rank` of `ranks`, on a device."""

    rank: int = 0
    ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class TrainingData:
    """Numbered images as batches.

    Attributes:
        images: where they come from.
        settings: batch size, augmentation, workers.
    """

    images: Images
    settings: TrainSettings

    def __len__(self) -> int:
        return len(self.images)

    @property
    def batches(self) -> int:
        """Number of batches in an epoch; the incomplete last one is left out."""
        return len(self) // self.settings.batch_size

    def epoch(self, seed: int, epoch: int, share: Share, start: int = 0) -> Generator[Batch, None, None]:
        """A shuffled, augmented pass, from batch `start` on: this process's share of every batch, in its parts.

        Yields:
            `accumulate` batches for each step, of batch_size / ranks / accumulate images each.

        Raises:
            AdvalignError: an image cannot be read, or a decoding process ended.
        """
        size = self.settings.batch_size
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        order = torch.randperm(len(self), generator=generator)
        augmentation = create_augmentation(self.settings)
        draws = augmentation.draws(self.batches, size, generator)
        part = size // (share.ranks * self.settings.accumulate)
        own = [
            torch.arange(first, first + part)
            for number in range(start, self.batches)
            for first in (
                number * size + (share.rank * self.settings.accumulate + index) * part
                for index in range(self.settings.accumulate)
            )
        ]
        yield from self._load(_Epoch(self.images, order, draws, augmentation), own, share.device)

    def all(self, share: Share) -> Iterator[Batch]:
        """This process's share of all images, in order, each once, at the network's size and not augmented."""
        numbers = torch.arange(len(self))[share.rank :: share.ranks]
        own = [part for part in torch.split(numbers, PLAIN_BATCH) if len(part)]  # none, where there are more processes
        yield from self._load(_Plain(self.images, self.settings), own, share.device)

    def _load(self, source: "_Plain", batches: list[Tensor], device: torch.device) -> Iterator[Batch]:
        if self.settings.workers:
            place_sockets()
        loader: DataLoader[Any] = DataLoader(
            source,
            batch_size=None,
            sampler=batches,
            num_workers=min(self.settings.workers, len(batches)),
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_group,
            generator=torch.Generator(),  # else it draws from the global one
        )
        with decoding():
            for loaded in loader:
                if isinstance(loaded, AdvalignError):
                    raise loaded
                yield _batch(loaded, device)


@contextmanager
def decoding() -> Iterator[None]:
    """Report in one line that a decoding process ended: PyTorch raises it wherever the main thread happens to be.

    Raises:
        AdvalignError: in place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):  # one raised in a worker names it further on
            raise
        said = str(error).splitlines()[0]
        raise AdvalignError(f"a process that decodes images ended ({said}): lower train.workers") from None


def _leave_group(worker: int) -> None:
    """Leave the training's process group: its SIGTERM would end this process before the training has saved."""
    os.setpgrp()


class _Plain(Dataset[Any]):
    """Loads images without augmentation, in a worker process if there are any."""

    def __init__(self, images: Images, settings: TrainSettings) -> None:
        self.images, self.settings = images, settings

    def __getitem__(self, positions: Tensor) -> Loaded | AdvalignError:
        try:
            return _collate([self.sample(position) for position in positions.tolist()])
        except AdvalignError as error:
            return error  # raised in a worker, its line would be lost in a traceback

    def sample(self, position: int) -> Sample:
        """The sample at a position, at the network's size."""
        found, size, crop = self.images.read(position), self.settings.size, self.settings.crop
        heatmap = None if found.heatmap is None else centre_crop(found.heatmap, size, crop)
        return replace(found, image=centre_crop(found.image, size, crop), heatmap=heatmap)


class _Epoch(_Plain):
    """Loads images in the order of an epoch, with augmentation."""

    def __init__(self, images: Images, order: Tensor, draws: Tensor, augmentation: Augmentation) -> None:
        self.images, self.order, self.draws, self.augmentation = images, order, draws, augmentation

    def sample(self, position: int) -> Sample:
        """The sample at a position of the epoch."""
        return self.augmentation(self.images.read(int(self.order[position])), self.draws[position])


def _collate(samples: list[Sample]) -> Loaded:
    """Stack samples as bytes: floats would be four times as much to send."""
    known = next((one.heatmap for one in samples if one.heatmap is not None), None)
    blank = np.zeros(samples[0].image.shape[:2], np.uint8 if known is None else known.dtype)
    heatmaps = np.stack([blank if one.heatmap is None else one.heatmap for one in samples])
    images = np.stack([one.image for one in samples])
    responses = [one.response for one in samples if one.response is not None]
    return (
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.tensor([one.label for one in samples]),
        torch.from_numpy(heatmaps),
        torch.tensor([one.heatmap is not None for one in samples]),
        torch.from_numpy(np.stack(responses)) if responses else None,
    )


def _batch(loaded: Loaded, device: torch.device) -> Batch:
    images, labels, heatmaps, has_heatmap, responses = (
        value if value is None else value.to(device, non_blocking=True) for value in loaded
    )
    assert images is not None and labels is not None and heatmaps is not None and has_heatmap is not None
    maps = heatmaps.contiguous().float()  # in the usual layout: sums over another one round differently
    maps = maps / 255 if heatmaps.dtype == torch.uint8 else maps
    batch = Batch(images.contiguous().float() / 255, labels, maps, has_heatmap)
    if responses is None:
        return batch
    return replace(batch, responses=responses.nan_to_num(0.0), has_response=~responses.isnan().any(1))
