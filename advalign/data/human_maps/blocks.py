"""Cleaned trials in blocks of images: what one process works on at a time, and what waits on disk until then."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advalign.data.cleaning import Cleaned
from advalign.data.participants import PARTICIPANT, X, Y
from advalign.tensors.click_maps import Clicks

IMAGES_PER_BLOCK = 64  # fixed, since an image's floor is measured with another one of its block


@dataclass(frozen=True)
class ImageTrials:
    """The cleaned trials of one image, one per participant.

    Attributes:
        image: its name.
        sha256: of its file.
        size: width and height in pixels.
        participants: N names.
        clicks: N pairs (x, y), each (clicks,) float32 in pixels of the image.
    """

    image: str
    sha256: str
    size: tuple[int, int]
    participants: tuple[str, ...]
    clicks: tuple[Clicks, ...]

    @property
    def count(self) -> int:
        """Clicks of all participants."""
        return sum(len(x) for x, _ in self.clicks)


def of_cleaned(cleaned: Cleaned, image: Mapping[Hashable, Any]) -> ImageTrials:
    """The trials that cleaning kept, with their image's row of data/participants/images.parquet."""
    pairs = zip(cleaned.trials[X], cleaned.trials[Y], strict=True)
    return ImageTrials(
        cleaned.image,
        str(image["sha256"]),
        (int(image["width"]), int(image["height"])),
        tuple(cleaned.trials[PARTICIPANT]),
        tuple((np.asarray(x, np.float32), np.asarray(y, np.float32)) for x, y in pairs),
    )


def in_blocks(images: Iterator[ImageTrials]) -> Iterator[list[ImageTrials]]:
    """Consecutive images in blocks of `IMAGES_PER_BLOCK`; the last has fewer, or one more rather than one alone."""
    held: list[ImageTrials] = []
    for image in images:
        held.append(image)
        if len(held) == IMAGES_PER_BLOCK + 2:
            yield held[:IMAGES_PER_BLOCK]
            held = held[IMAGES_PER_BLOCK:]
    if held:
        yield held


def save_block(path: Path, images: Sequence[ImageTrials]) -> None:
    """Write a block to an uncompressed archive of plain arrays."""
    trials = [trial for image in images for trial in image.clicks]
    empty = np.zeros(0, np.float32)
    np.savez(
        path,
        images=np.array([image.image for image in images]),
        sha256=np.array([image.sha256 for image in images]),
        sizes=np.array([image.size for image in images], np.int64),
        trials=np.array([len(image.clicks) for image in images], np.int64),
        participants=np.array([name for image in images for name in image.participants]),
        clicks=np.array([len(x) for x, _ in trials], np.int64),
        x=np.concatenate([empty, *(x for x, _ in trials)]),
        y=np.concatenate([empty, *(y for _, y in trials)]),
    )


def load_block(path: Path) -> list[ImageTrials]:
    """Read what `save_block` wrote."""
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files}
    ends = np.cumsum(held["clicks"])[:-1]
    clicks = list(zip(np.split(held["x"], ends), np.split(held["y"], ends), strict=True))
    images, start = [], 0
    for name, digest, size, count in zip(held["images"], held["sha256"], held["sizes"], held["trials"], strict=True):
        names = tuple(map(str, held["participants"][start : start + count]))
        own = tuple(clicks[start : start + count])
        images.append(ImageTrials(str(name), str(digest), (int(size[0]), int(size[1])), names, own))
        start += count
    return images
