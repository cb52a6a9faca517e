"""Blur: defocus, glass, motion, zoom, Gaussian."""

from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from advalign.tensors.corruptions.constants import SIDE
from advalign.tensors.corruptions.draws import Bytes, Draws, Floats, Integers
from advalign.tensors.corruptions.pixels import enlarging, moved, shares, smoothed


def gaussian_blur(images: Bytes, sigma: float, draws: Draws) -> Floats:
    """Smooth with a Gaussian."""
    found: Floats = 255 * smoothed(shares(images), sigma)
    return found


def defocus_blur(images: Bytes, constant: tuple[float, float], draws: Draws) -> Floats:
    """Convolve with a disk whose edge is smoothed by a 3x3 Gaussian."""
    found: Floats = 255 * ndimage.correlate(shares(images), _disk(*constant)[None, :, :, None], mode="mirror")
    return found


@lru_cache
def _disk(radius: float, alias: float) -> Floats:
    """(5, 5) weights that sum to 1."""
    down, right = np.mgrid[-2:3, -2:3]
    disk = (down**2 + right**2 <= radius**2).astype(np.float64)
    edge = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    edge /= edge.sum()
    found = ndimage.correlate(disk / disk.sum(), np.outer(edge, edge), mode="constant")
    weights: Floats = found.astype(np.float32)
    return weights


def motion_blur(images: Bytes, constant: tuple[float, float], draws: Draws) -> Floats:
    """Blur along a direction within 45 degrees of the rows; values are rounded, as ImageMagick's are."""
    found: Floats = np.rint(moved(images.astype(np.float32), *constant, draws.uniform(-45, 45)))
    return found


def zoom_blur(images: Bytes, end: float, draws: Draws) -> Floats:
    """Average the image and enlargements of it, 1, 1.01, 1.02, ... times."""
    pixels = images.transpose(1, 2, 0, 3).reshape(SIDE * SIDE, -1).astype(np.float32)
    averaged = (_zooms(end) @ pixels).reshape(SIDE, SIDE, len(images), 3)
    found: Floats = averaged.transpose(2, 0, 1, 3)
    return found


@lru_cache
def _zooms(end: float) -> sparse.csr_array:
    """(1024, 1024) weights of the average, from pixels to pixels.

    They are sparse: a sum then has one order, however many images there are, which it has not in a dense product.
    """
    zooms = np.arange(1, end, 0.01)
    flat = np.stack([enlarging(zoom) for zoom in zooms]).reshape(len(zooms), -1)
    both = (flat.T @ flat).reshape([SIDE] * 4).transpose(0, 2, 1, 3)  # to row and column, from row and column
    total = np.eye(SIDE * SIDE) + both.reshape(SIDE * SIDE, -1)
    return sparse.csr_array((total / (len(zooms) + 1)).astype(np.float32))


def glass_blur(images: Bytes, constant: tuple[float, float, float], draws: Draws) -> Floats:
    """Smooth, exchange pixels with neighbours at random, smooth again.

    The authors' script means to exchange a pixel with one at most `delta` away in each direction (`Draws.as_meant`).
    But it assigns views: the neighbour keeps its value, so pixels are copied. And its neighbours are never below or to
    the right.
    """
    sigma, delta, iterations = constant[0], int(constant[1]), int(constant[2])
    mixed = (255 * smoothed(shares(images), sigma)).astype(np.uint8)
    for _ in range(iterations):
        order = _exchanged(len(images), delta, draws) if draws.as_meant else _copied(delta, draws)
        flat = mixed.reshape(len(images), SIDE * SIDE, 3)
        mixed = np.take_along_axis(flat, order[:, :, None], axis=1).reshape(images.shape)
    return 255 * smoothed(shares(mixed), sigma)


def _exchanged(count: int, delta: int, draws: Draws) -> Integers:
    """(N, 1024) where each pixel comes from, after exchanges from the lower right to the upper left."""
    places = _places(SIDE - 1 - delta, delta)
    moves = draws.integers(-delta, delta + 1, len(places), 2)
    partners = (places[:, None] + moves[..., 0].T * SIDE + moves[..., 1].T).astype(np.int64)
    order = np.repeat(np.arange(SIDE * SIDE)[:, None], count, axis=1)
    members = np.arange(count)
    for place, partner in zip(places.tolist(), partners, strict=True):
        here = order[place].copy()
        order[place] = order[partner, members]
        order[partner, members] = here
    return np.ascontiguousarray(order.T)


def _copied(delta: int, draws: Draws) -> Integers:
    """(N, 1024) where each pixel comes from: a neighbour above or to the left, which no copy has reached before."""
    places = _places(SIDE - delta, delta + 1)
    moves = draws.integers(-delta, delta, len(places), 2)
    order = np.repeat(np.arange(SIDE * SIDE)[None], len(moves), axis=0)
    order[:, places] = places + moves[..., 1] * SIDE + moves[..., 0]
    return order


def _places(last: int, first: int) -> Integers:
    """Positions of the rows and columns last .. first, from the lower right on."""
    lines = np.arange(last, first - 1, -1)
    return (lines[:, None] * SIDE + lines).ravel()
