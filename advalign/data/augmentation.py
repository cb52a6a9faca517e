"""Augmentation of an image and its human map on the way into a network: both are always moved together.

An augmentation draws its random numbers for a whole epoch at once, in the order of the epoch. So what happens to the
image at a position depends only on seed, epoch and position: not on the process that decodes it, and not on where an
interrupted training resumes.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Generator, Tensor

from advalign.data.centre_crop import centre_crop
from advalign.settings import TrainSettings


@dataclass(frozen=True)
class Sample:
    """A decoded image.

    Attributes:
        image: (H, W, 3) uint8.
        heatmap: (H, W) human map, uint8 or, where it was prepared, float32 in [0, 1]; None: there is none.
        label: class index.
        response: (D,) float32 target in the space of brain responses, NaN where the image has none; None: of a training
            without them.
    """

    image: NDArray[np.uint8]
    heatmap: NDArray[Any] | None
    label: int
    response: NDArray[np.float32] | None = None


class Augmentation(Protocol):
    """How the images of an epoch are changed."""

    def draws(self, batches: int, batch_size: int, generator: Generator) -> Tensor:
        """Random numbers for every position of an epoch: (batches * batch_size, k) int64."""

    def __call__(self, sample: Sample, draw: Tensor) -> Sample:
        """The sample at the network's size, changed by its position's draw (k,)."""


@dataclass(frozen=True)
class Shift:
    """Mirror half of the images (`flip`) and shift each batch by up to `shift` pixels, edges repeated."""

    size: int
    shift: int
    flip: bool = True

    def draws(self, batches: int, batch_size: int, generator: Generator) -> Tensor:
        """(mirrored, top, left) of every position."""
        draws = torch.zeros(batches, batch_size, 3, dtype=torch.int64)
        for batch in draws:
            if self.flip:
                batch[:, 0] = torch.rand(batch_size, generator=generator) < 0.5
            if self.shift:
                batch[:, 1:] = self._offsets(batch_size, generator)
        return draws.flatten(0, 1)

    def _offsets(self, batch_size: int, generator: Generator) -> Tensor:
        """One (top, left) for the whole batch."""
        return torch.randint(0, 2 * self.shift + 1, (2,), generator=generator) - self.shift

    def __call__(self, sample: Sample, draw: Tensor) -> Sample:
        """Mirrored, then moved."""
        mirrored, top, left = draw.tolist()

        def changed(pixels: NDArray[Any]) -> NDArray[Any]:
            sized = centre_crop(pixels, self.size, 1.0)
            return self._moved(sized[:, ::-1] if mirrored else sized, top, left)

        heatmap = None if sample.heatmap is None else changed(sample.heatmap)
        return replace(sample, image=changed(sample.image), heatmap=heatmap)

    def _moved(self, pixels: NDArray[Any], top: int, left: int) -> NDArray[Any]:
        side = np.arange(self.size)
        rows, columns = (side + top).clip(0, self.size - 1), (side + left).clip(0, self.size - 1)
        moved: NDArray[Any] = pixels[rows][:, columns]
        return moved


class Pad(Shift):
    """Mirror half of the images (`flip`) and shift each by up to `shift` pixels of its own; what comes in is black.

    This is the random crop with padding that is usual for CIFAR-10; a map comes in with zeros.
    """

    def _offsets(self, batch_size: int, generator: Generator) -> Tensor:
        """A (top, left) for each image."""
        return torch.randint(0, 2 * self.shift + 1, (batch_size, 2), generator=generator) - self.shift

    def _moved(self, pixels: NDArray[Any], top: int, left: int) -> NDArray[Any]:
        edges = [(self.shift, self.shift)] * 2 + [(0, 0)] * (pixels.ndim - 2)
        rows, columns = slice(self.shift + top, None), slice(self.shift + left, None)
        return np.pad(pixels, edges)[rows, columns][: self.size, : self.size]


class Crop:
    """timm's augmentation for ImageNet: random resized crop and flip of image and map, then colours of the image.

    Args:
        settings: size, flip, smallest_crop, color_jitter, three_augment.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.move, self.recolour, _ = transforms_imagenet_train(
            settings.size,
            scale=(settings.smallest_crop, 1.0),
            hflip=0.5 if settings.flip else 0.0,
            color_jitter=settings.color_jitter,
            auto_augment="3a" if settings.three_augment else None,
            interpolation="bicubic",
            separate=True,
        )

    def draws(self, batches: int, batch_size: int, generator: Generator) -> Tensor:
        """A seed for every position."""
        return torch.randint(2**31, (batches * batch_size, 1), generator=generator)

    def __call__(self, sample: Sample, draw: Tensor) -> Sample:
        """Cropped, flipped, recoloured. Image and map are moved with the same seed, so in the same way."""
        seed = int(draw)
        heatmap = sample.heatmap
        with _seeded():
            if heatmap is not None:
                _seed(seed)
                heatmap = np.asarray(self.move(Image.fromarray(heatmap)))
            _seed(seed)
            image = self.recolour(self.move(Image.fromarray(sample.image)))
        return replace(sample, image=np.asarray(image), heatmap=heatmap)


def create_augmentation(settings: TrainSettings) -> Augmentation:
    """The augmentation that the settings name."""
    if settings.augmentation == "crop":
        return Crop(settings)
    return {"shift": Shift, "pad": Pad}[settings.augmentation](settings.size, settings.shift, settings.flip)


@contextmanager
def _seeded() -> Iterator[None]:
    """Restore the global random states afterwards: timm's and torchvision's transforms draw from them."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
