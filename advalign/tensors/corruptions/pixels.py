"""What corruptions share: shares of white, smoothing, motion, enlargement."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from advalign.tensors.corruptions.constants import SIDE
from advalign.tensors.corruptions.draws import Bytes, Floats


def shares(images: Bytes) -> Floats:
    """Values in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def smoothed(fields: Floats, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Floats:
    """Convolve the axes 1 and 2 of (N, H, W, ...) with a Gaussian of `sigma` pixels.

    Args:
        fields: images, or fields of one channel.
        sigma: in pixels.
        mode: how SciPy continues them beyond their edges.
        truncate: where the Gaussian ends, in sigmas.
    """
    sigmas = (0.0, sigma, sigma, *[0.0] * (fields.ndim - 3))
    found: Floats = ndimage.gaussian_filter(fields, sigmas, mode=mode, truncate=truncate)
    return found


def moved(images: Floats, radius: float, sigma: float, degrees: Floats) -> Floats:
    """Blur along a direction, as ImageMagick's motion blur does: half a Gaussian, by whole pixels, edges repeated.

    Args:
        images: (N, H, W, C).
        radius: of the Gaussian, which has 2 radius + 1 taps.
        sigma: in pixels.
        degrees: (N,) directions; 0 is along the rows.
    """
    taps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = [math.radians(angle) for angle in degrees.tolist()]  # one by one: NumPy rounds a vector's ends otherwise
    sines, cosines = (np.array([part(angle) for angle in angles]) for part in (math.sin, math.cos))
    height, width = images.shape[1:3]
    flat, member = images.reshape(-1, images.shape[3]), np.arange(len(images))[:, None]
    found = np.zeros_like(images)
    for tap, weight in zip(taps, weights.astype(np.float32), strict=True):
        down, right = (np.ceil(tap * part - 0.5).astype(int) for part in (sines, cosines))
        rows = member * height + np.clip(np.arange(height) + down[:, None], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
        found += weight * flat.take(rows[:, :, None] * width + columns[:, None, :], axis=0)
    return found


def enlarging(zoom: float) -> NDArray[np.float64]:
    """(32, 32) weights that enlarge the middle of a row of pixels: crop, interpolate linearly, crop again.

    The middle 1 / zoom of the row is interpolated to round(zoom x crop) pixels, end to end; the middle 32 of them stay.
    """
    crop = int(np.ceil(SIDE / zoom))
    size = round(crop * zoom)
    places = np.arange(size) * (crop - 1) / (size - 1)
    left = np.minimum(np.floor(places).astype(int), crop - 2)
    weights = np.zeros((size, SIDE))
    first, steps = (SIDE - crop) // 2, np.arange(size)
    weights[steps, first + left] = 1 - (places - left)
    weights[steps, first + left + 1] = places - left
    trim = (size - SIDE) // 2
    return weights[trim : trim + SIDE]
