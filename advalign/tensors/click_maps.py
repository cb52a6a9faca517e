"""Clicks -> blurred maps, one per trial, without a grid of the image in between.

A click is one point of the resized image. Blur, centre crop and scaling to the map's size are linear and, for a
Gaussian, separable: one matrix per axis holds all three, and a trial's map is the sum over its clicks of the outer
product of two columns. The image's edges are mirrors (scipy.ndimage's mode "reflect"): no mass is lost at them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Clicks = tuple[NDArray[np.float32], NDArray[np.float32]]
"""x and y of a trial's clicks in pixels of the image as it is stored, from the left and the top; 0 is the first."""

AT_ONCE = 64  # trials whose grids are held together where the kernel is not separable


@dataclass(frozen=True)
class Blur:
    """The kernel, in pixels of the resized image.

    Attributes:
        kernel: "gaussian", or "disc": a flat disc of diameter `window`, applied twice.
        window: side of the kernel, odd.
        sigma: of the Gaussian, which is cut off at the window.
    """

    kernel: str
    window: int
    sigma: float


def resized(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Rows and columns of an image whose short side is resized, as `data.centre_crop` does it."""
    scale = short_side / min(width, height)
    return round(height * scale), round(width * scale)


def click_maps(
    trials: Sequence[Clicks],
    size: tuple[int, int],
    short_side: int,
    blur: Blur,
    kept: tuple[int, int],
    out: tuple[int, int],
    device: str = "cpu",
) -> Tensor:
    """Blurred click counts of trials on one image: (N, *out) float32 >= 0.

    Before scaling, a map sums to its number of clicks (less what falls outside the crop); scaling averages.

    Args:
        trials: N pairs (x, y); a click falls on pixel floor((x + 0.5) * scale) of the resized image, and what lies
            beyond its edge on the edge.
        size: width and height of the image as it is stored.
        short_side: of the resized image, in pixels.
        blur: in the same pixels.
        kept: rows and columns of the centre crop of the resized image.
        out: rows and columns of the map that the crop is scaled to (bilinear, antialiased).
        device: where the maps are computed and lie.
    """
    lengths = resized(*size, short_side)
    if not trials:
        return torch.zeros(0, *out, device=device)
    columns, rows, counted = _pixels(trials, size, lengths)
    if blur.kernel == "disc":
        return _disc_maps(rows, columns, counted, lengths, blur.window, kept, out, device)
    down = _axis(lengths[0], blur.window, blur.sigma, kept[0], out[0]).to(device)
    across = _axis(lengths[1], blur.window, blur.sigma, kept[1], out[1]).to(device)
    # (N, out, C) @ (N, C, out), where the columns of clicks that pad the shorter trials are zero
    left = down.T[rows.to(device)] * counted.to(device)[:, :, None]
    return left.transpose(1, 2) @ across.T[columns.to(device)]


def _pixels(trials: Sequence[Clicks], size: tuple[int, int], lengths: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Columns and rows of all clicks, (N, C) int64, and 1.0 where there is a click: trials are padded with zeros."""
    most = max(1, *(len(x) for x, _ in trials))
    places = np.zeros((2, len(trials), most), np.int64)
    counted = np.zeros((len(trials), most), np.float32)
    for number, trial in enumerate(trials):
        for axis, (clicks, side, length) in enumerate(zip(trial, size, lengths[::-1], strict=True)):
            pixel = np.floor((clicks.astype(np.float64) + 0.5) * (length / side)).astype(np.int64)
            places[axis, number, : len(clicks)] = pixel.clip(0, length - 1)
        counted[number, : len(trial[0])] = 1
    return torch.from_numpy(places[0]), torch.from_numpy(places[1]), torch.from_numpy(counted)


@lru_cache(maxsize=512)  # one per length of a resized image's side
def _axis(length: int, window: int, sigma: float, kept: int, out: int) -> Tensor:
    """Blur with mirrored edges, centre crop and scaling of one axis: (out, length) float32."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    start = (length - kept) // 2
    blurred = np.zeros((kept, length))
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        np.add.at(blurred, (np.arange(kept), _mirrored(np.arange(start, start + kept) + offset, length)), weight)
    return _scaled(torch.from_numpy(blurred).T[None], (length, out))[0].T.float().contiguous()


def _mirrored(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Positions beyond the edges, mirrored in them: d c b a | a b c d | d c b a."""
    inside = places % (2 * length)
    return np.where(inside < length, inside, 2 * length - 1 - inside)


def _scaled(maps: Tensor, out: tuple[int, int]) -> Tensor:
    """(N, H, W) -> (N, *out); unchanged where the size is that already."""
    if maps.shape[1:] == out:
        return maps
    return F.interpolate(maps[:, None], size=out, mode="bilinear", antialias=True)[:, 0]


def _disc_maps(
    rows: Tensor,
    columns: Tensor,
    counted: Tensor,
    lengths: tuple[int, int],
    window: int,
    kept: tuple[int, int],
    out: tuple[int, int],
    device: str,
) -> Tensor:
    """Maps under a kernel that is not separable: by Fourier transform of the grid and its mirror images."""
    high, wide = lengths
    spectrum = _disc_spectrum(high, wide, window).to(device)
    top, left = (high - kept[0]) // 2, (wide - kept[1]) // 2
    maps = []
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        flat = (rows[part] * wide + columns[part]).to(device)
        counts = torch.zeros(len(flat), high * wide, device=device)
        counts.scatter_add_(1, flat, counted[part].to(device))
        grid = counts.reshape(-1, high, wide)
        mirrored = torch.cat([grid, grid.flip(1)], 1)
        mirrored = torch.cat([mirrored, mirrored.flip(2)], 2)
        blurred = torch.fft.irfft2(torch.fft.rfft2(mirrored) * spectrum, s=mirrored.shape[1:]).clamp(min=0)
        maps.append(_scaled(blurred[:, top : top + kept[0], left : left + kept[1]], out))
    return torch.cat(maps)


@lru_cache(maxsize=64)
def _disc_spectrum(high: int, wide: int, window: int) -> Tensor:
    """Spectrum of the disc, squared since it is applied twice, on the grid of twice the image: complex64."""
    offsets = torch.arange(window) - window // 2
    disc = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= (window / 2) ** 2).double()
    placed = torch.zeros(2 * high, 2 * wide, dtype=torch.float64)
    places = (offsets % (2 * high))[:, None] * (2 * wide) + (offsets % (2 * wide))[None, :]
    placed.view(-1).scatter_add_(0, places.flatten(), (disc / disc.sum()).flatten())
    spectrum: Tensor = torch.fft.rfft2(placed).square()
    return spectrum.to(torch.complex64)
