"""One corruption at one severity, or all of them, of images of 32 pixels."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from advalign.errors import InputError, unknown_name
from advalign.tensors.corruptions import blur, digital, noise, weather
from advalign.tensors.corruptions.constants import CONDITIONS, CONSTANTS, NAMES, SEVERITIES, SIDE
from advalign.tensors.corruptions.draws import Bytes, Draws

Corruption = Callable[[Bytes, Any, Draws], Any]
"""(N, 32, 32, 3) uint8, a constant, random numbers -> values from 0 to 255, before they are clipped and cut off."""

_FUNCTIONS: Mapping[str, Corruption] = {
    one.__name__: one
    for one in (
        noise.gaussian_noise, noise.shot_noise, noise.impulse_noise, noise.speckle_noise, blur.defocus_blur,
        blur.glass_blur, blur.motion_blur, blur.zoom_blur, blur.gaussian_blur, weather.snow, weather.frost, weather.fog,
        weather.brightness, weather.spatter, digital.contrast, digital.elastic_transform, digital.pixelate,
        digital.jpeg_compression, digital.saturate,
    )
}  # fmt: skip


def corrupt(images: Bytes, name: str, severity: int, seed: int = 0, as_meant: bool = False) -> Bytes:
    """Corrupt images.

    Args:
        images: (N, 32, 32, 3) uint8.
        name: one of `NAMES`.
        severity: 1 to 5.
        seed: of what is random; an image's numbers follow from its pixels, the seed, `name` and `severity`.
        as_meant: as the authors' script means to, where it does something else (docs/corruptions.md).

    Returns:
        (N, 32, 32, 3) uint8; fractions are cut off, as in the authors' script.

    Raises:
        InputError: an unknown name or severity, or images of another size or type.
    """
    if name not in CONSTANTS:
        raise unknown_name("corruption", name, NAMES)
    if severity not in SEVERITIES:
        raise InputError(f"severity is {severity}, expected 1, 2, 3, 4 or 5")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3):
        raise InputError(
            f"images are {images.dtype} {images.shape}, expected uint8 (N, {SIDE}, {SIDE}, 3): the constants are for "
            f"images of {SIDE} pixels"
        )
    draws = Draws(images, f"{seed}/{name}/{severity}", as_meant)
    found = _FUNCTIONS[name](images, CONSTANTS[name][severity - 1], draws)
    whole: Bytes = np.clip(found, 0, 255).astype(np.uint8)
    return whole


def corrupted(images: Bytes, seed: int = 0, as_meant: bool = False) -> Bytes:
    """All corruptions at all severities: (N, 95, 32, 32, 3) uint8, in the order of `CONDITIONS`.

    Args, Raises: as `corrupt`.
    """
    found = np.empty((len(images), len(CONDITIONS), *images.shape[1:]), dtype=np.uint8)
    for place, (name, severity) in enumerate(CONDITIONS):
        found[:, place] = corrupt(images, name, severity, seed, as_meant)
    return found
