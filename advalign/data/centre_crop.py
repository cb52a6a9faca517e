"""The one deterministic way to bring an image to a size: shorter side resized, centre cut out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def centre_crop(pixels: NDArray[Any], size: int, crop: float) -> NDArray[Any]:
    """Resize the shorter side to size / crop (bicubic) and cut the central size x size.

    With crop = 1, an image that already has the wanted size is returned unchanged.

    Args:
        pixels: (H, W) or (H, W, 3) uint8, or (H, W) float32.
        size: in pixels.
        crop: share of the resized image that is kept, in (0, 1].
    """
    if crop == 1 and pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(pixels)
    scale = round(size / crop) / min(image.size)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))
