"""Descriptions of images that need no network: what an encoding model predicts responses from.

Every space is computed from grey images of `SIDE` pixels. Amplitudes are those of Gabor filters in quadrature: the
square root of what is called energy, which says how much of an orientation and a scale is at a place, not its phase.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64  # pixels
PIXELS = 32  # side of the images in `pixels`
CELLS = 8  # cells in a row, over which amplitudes are pooled
WAVELENGTHS = (3.0, 4.5, 7.0, 10.5, 16.0, 24.0)  # of the filters, pixels of `SIDE`
ORIENTATIONS = 8
SECOND_WAVELENGTHS = (8.0, 16.0, 32.0)  # of the filters on amplitude maps
SECOND_ORIENTATIONS = 4
COARSER = 1.9  # a filter on an amplitude map is at least so many times as coarse as the map's own
BANDWIDTH = 0.56  # standard deviation of the envelope, wavelengths: an octave
SMALL = 0.001  # added before the logarithm, relative to the amplitude of a grating of full contrast
AT_ONCE = 64  # images


def gabor_amplitudes(images: Tensor, wavelengths: Sequence[float], orientations: int) -> list[Tensor]:
    """Amplitudes of complex Gabor filters of gain 1 at the centre frequency; the image repeats beyond its edges.

    Args:
        images: (N, H, W) float32.
        wavelengths: pixels per cycle, at least 2.
        orientations: evenly spaced from 0; orientation k varies along the angle pi k / orientations from the x axis.

    Returns:
        For each wavelength (N, orientations, H, W), in the unit of the images: half the contrast of a matching grating.
    """
    height, width = images.shape[1:]
    rows, columns = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")
    spectra = torch.fft.fft2(images - images.mean((1, 2), keepdim=True))
    found = []
    for wavelength in wavelengths:
        spread = 2 * (math.pi * BANDWIDTH * wavelength) ** 2
        maps = []
        for orientation in range(orientations):
            angle = math.pi * orientation / orientations
            along = columns * math.cos(angle) + rows * math.sin(angle)
            across = rows * math.cos(angle) - columns * math.sin(angle)
            passed = torch.exp(-spread * ((along - 1 / wavelength) ** 2 + across**2))
            maps.append(torch.fft.ifft2(spectra * passed).abs())
        found.append(torch.stack(maps, 1))
    return found


def pixels(images: Tensor) -> Tensor:
    """Luminance: (N, SIDE, SIDE) -> (N, PIXELS^2)."""
    return F.adaptive_avg_pool2d(images[:, None], PIXELS).flatten(1)


def gabor_energy(images: Tensor) -> Tensor:
    """Logarithms of Gabor amplitudes, root mean square over cells: a model of complex cells in V1.

    (N, SIDE, SIDE) -> (N, wavelengths * orientations * cells).
    """
    return torch.cat([_pooled(maps) for maps in gabor_amplitudes(images, WAVELENGTHS, ORIENTATIONS)], 1)


def second_order(images: Tensor) -> Tensor:
    """The same of Gabor filters on the amplitude maps: how amplitudes vary together, as in V2 and V4.

    It is the second layer of a scattering transform (Bruna and Mallat 2013, IEEE TPAMI 35). Plain products of the
    pooled amplitudes predict V4 no better than the amplitudes (docs/geometry.md).
    """
    found = []
    for wavelength, maps in zip(WAVELENGTHS, gabor_amplitudes(images, WAVELENGTHS, ORIENTATIONS), strict=True):
        coarse = [one for one in SECOND_WAVELENGTHS if one > COARSER * wavelength]
        for orientation in range(ORIENTATIONS if coarse else 0):
            again = gabor_amplitudes(maps[:, orientation], coarse, SECOND_ORIENTATIONS)
            found += [_pooled(one) for one in again]
    return torch.cat(found, 1)


SPACES: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": pixels,
    "gabor-energy": gabor_energy,
    "second-order": second_order,
}
"""Name of a space -> function of grey images (N, SIDE, SIDE) float32 in [0, 1]: (N, F)."""


def in_batches(space: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A space's features, a few images at a time: filters take much more memory than images."""
    return torch.cat([space(some) for some in torch.split(images, AT_ONCE)])


def _pooled(maps: Tensor) -> Tensor:
    """(N, O, H, W) amplitudes -> (N, O * cells) logarithms of their root mean squares."""
    cells = F.adaptive_avg_pool2d(maps.square(), CELLS).sqrt()
    return torch.log(cells + SMALL / 2).flatten(1)
