"""Time of the corruptions per image and core, beside a computation image by image, as the authors' script works.

python -m benchmarks.corruptions [--images N]

The computation image by image reads no photograph of frost, which the script reads from disk for every image. Its fog
is a loop over pixels, which the script's is not, so fog is left out of the total. Spatter needs OpenCV and is left out.
"""

import argparse
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray

from advalign.data.sample.cifar_world import WorldSettings, images_of
from advalign.tensors.corruptions.apply import corrupt
from advalign.tensors.corruptions.constants import NAMES, SEVERITIES
from benchmarks._corruptions_by_image import corrupted_one

NEEDS_OPENCV = "spatter"


def main() -> None:
    """Print milliseconds of a core per image, of all five severities, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=96)
    count = parser.parse_args().images
    torch.set_num_threads(1)
    drawn = images_of("test", WorldSettings(scale=max(0.01, count / 500)))
    images = np.stack([one.pixels for _, one in zip(range(count), drawn, strict=False)])
    few = images[: max(1, count // 8)]
    for name in NAMES:
        corrupt(images[:1], name, 1)  # what is made once
    total = np.zeros(2)
    print(f"{'corruption':20} {'ours':>8} {'by image':>9} {'ratio':>6}")
    for name in NAMES:
        if name == NEEDS_OPENCV:
            continue
        ours = _seconds_of_ours(images, name) / len(images)
        one_by_one = _seconds_by_image(few, name) / len(few)
        print(f"{name:20} {1e3 * ours:8.2f} {1e3 * one_by_one:9.2f} {one_by_one / ours:6.1f}")
        if name != "fog":
            total += ours, one_by_one
    print(f"{'without fog':20} {1e3 * total[0]:8.2f} {1e3 * total[1]:9.2f} {total[1] / total[0]:6.1f}")


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


if __name__ == "__main__":
    main()
