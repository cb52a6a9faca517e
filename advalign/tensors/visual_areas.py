"""What simulated visual areas compute of an image: Gabor energy (V1), and products of it (V4).

Sources: Adelson and Bergen 1985 (energy of a quadrature pair), Freeman et al. 2013 (products of V1 responses in higher
areas). Simple stand-ins whose content is known, no models of a brain.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ORIENTATIONS = 4
WAVELENGTHS = (4.0, 8.0, 16.0)  # pixels at a side of 32; larger images have larger ones
SIDE = 32
GRID, COARSE = 4, 2


def gabor_energy(images: Tensor) -> Tensor:
    """Energies of quadrature pairs, averaged over the cells of a 4 x 4 grid.

    Args:
        images: (N, 3, H, W) float32 in [0, 1], square.

    Returns:
        (N, 192) float32: orientation x wavelength x place; unchanged where the brightness of the image changes.
    """
    return F.adaptive_avg_pool2d(_energies(images), GRID).flatten(1)


def second_order(images: Tensor) -> Tensor:
    """Products of the energies of every two channels at the same place, averaged over the cells of a 2 x 2 grid.

    Args:
        images: as of `gabor_energy`.

    Returns:
        (N, 312) float32: square roots, so that they are in the unit of energies.
    """
    energies = F.avg_pool2d(_energies(images), 2)
    first, second = torch.triu_indices(energies.shape[1], energies.shape[1])
    products = (energies[:, first] * energies[:, second]).sqrt()
    return F.adaptive_avg_pool2d(products, COARSE).flatten(1)


def _energies(images: Tensor) -> Tensor:
    """(N, 12, H, W): orientation x wavelength."""
    grey = images.mean(1, keepdim=True)
    scale = images.shape[-1] / SIDE
    found = []
    for wavelength in WAVELENGTHS:
        even, odd = _pair(wavelength * scale)
        padded = F.pad(grey, [even.shape[-1] // 2] * 4, mode="reflect")
        found.append((F.conv2d(padded, even) ** 2 + F.conv2d(padded, odd) ** 2).sqrt())
    return torch.stack(found, 2).flatten(1, 2)


def _pair(wavelength: float) -> tuple[Tensor, Tensor]:
    """Even and odd Gabor filters of every orientation, (4, 1, k, k) each, of mean zero and norm one."""
    reach = math.ceil(0.75 * wavelength)
    y, x = torch.meshgrid(*(torch.arange(-reach, reach + 1.0),) * 2, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * (0.4 * wavelength) ** 2))
    angles = torch.arange(ORIENTATIONS) * math.pi / ORIENTATIONS
    along = x * angles.cos()[:, None, None] + y * angles.sin()[:, None, None]
    pair = []
    for wave in (torch.cos, torch.sin):
        filters = window * wave(2 * math.pi * along / wavelength)
        filters -= window * (filters.sum((1, 2), keepdim=True) / window.sum())
        pair.append((filters / filters.flatten(1).norm(dim=1)[:, None, None])[:, None])
    return pair[0], pair[1]
