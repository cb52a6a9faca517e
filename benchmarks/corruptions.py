"""Time of the corruptions per image and core, beside a computation image by image, as the authors' script works.

The computation image by image reads no photograph of frost, which the script reads from disk for every image. Its fog
is a loop over pixels, which the script's is not, so fog is left out of the total. Spatter needs OpenCV and is left out.
"""

from collections.abc import Iterator
from time import process_time

import numpy as np
from numpy.typing import NDArray

from advalign.data.sample.cifar_world import WorldSettings, images_of
from advalign.tensors.corruptions.apply import corrupt
from advalign.tensors.corruptions.constants import NAMES, SEVERITIES
from benchmarks._corruptions_by_image import corrupted_one

NEEDS_OPENCV = "spatter"
IN_TOTAL = tuple(name for name in NAMES if name not in (NEEDS_OPENCV, "fog"))


def report(count: int) -> Iterator[str]:
    """A table of time relative to that image by image, all five severities, in seconds of a core.

    Args:
        count: drawn images; an eighth of them for the peer.
    """
    drawn = images_of("test", WorldSettings(scale=max(0.01, count / 500)))
    images = np.stack([one.pixels for _, one in zip(range(count), drawn, strict=False)])
    few = images[: max(1, count // 8)]
    for name in NAMES:
        corrupt(images[:1], name, 1)  # what is made once
    yield "| corruption | image by image / ours |"
    yield "| --- | --- |"
    spent = {}
    for name in (name for name in NAMES if name != NEEDS_OPENCV):
        ours, peer = _seconds_of_ours(images, name) / len(images), _seconds_by_image(few, name) / len(few)
        spent[name] = ours, peer
        yield f"| {name} | {peer / ours:.1f} |"
    ours, peer = (sum(spent[name][place] for name in IN_TOTAL) for place in (0, 1))
    yield f"| **all without fog** | {peer / ours:.1f} |"


def _seconds_of_ours(images: NDArray[np.uint8], name: str) -> float:
    begun = process_time()
    for severity in SEVERITIES:
        corrupt(images, name, severity)
    return process_time() - begun


def _seconds_by_image(images: NDArray[np.uint8], name: str) -> float:
    generator, begun = np.random.default_rng(0), process_time()
    for severity in SEVERITIES:
        for image in images:
            corrupted_one(image, name, severity, generator)
    return process_time() - begun
