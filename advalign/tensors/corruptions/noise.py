"""Noise: Gaussian, shot, impulse, speckle."""

import numpy as np

from advalign.tensors.corruptions.draws import Bytes, Draws, Floats
from advalign.tensors.corruptions.pixels import shares


def gaussian_noise(images: Bytes, deviation: float, draws: Draws) -> Floats:
    """Add normal noise to every value."""
    return 255 * (shares(images) + np.float32(deviation) * draws.normal(*images.shape[1:]))


def shot_noise(images: Bytes, photons: float, draws: Draws) -> Floats:
    """Count photons: Poisson, with `photons` for white."""
    counted: Floats = draws.poisson(shares(images) * np.float32(photons)).astype(np.float32)
    return counted * np.float32(255 / photons)


def impulse_noise(images: Bytes, amount: float, draws: Draws) -> Bytes:
    """Replace a share of all values (of channels, not of pixels) by black or white, each as often."""
    hit = draws.uniform(0, 1, *images.shape[1:]) <= amount
    salt = draws.uniform(0, 1, *images.shape[1:]) <= 0.5
    return np.where(hit, np.where(salt, np.uint8(255), np.uint8(0)), images)


def speckle_noise(images: Bytes, deviation: float, draws: Draws) -> Floats:
    """Add normal noise in proportion to the value."""
    return np.float32(1) * images * (1 + np.float32(deviation) * draws.normal(*images.shape[1:]))
