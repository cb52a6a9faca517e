"""The corruptions of CIFAR-10-C one image at a time, as the authors' script goes about them.

Written for comparison, from the same constants, with SciPy, Pillow and matplotlib in the place of scikit-image, OpenCV
and ImageMagick; `spatter` needs OpenCV. Nothing of `advalign.tensors.corruptions` is used but its constants and its
pictures of frost. Each function takes an image, the constant at a severity, and a source of random numbers.
"""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import matplotlib.colors as colours
import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

from advalign.tensors.corruptions.constants import CONSTANTS, SIDE
from advalign.tensors.corruptions.frost_pictures import frost_pictures

Array = Any  # of NumPy; SciPy and matplotlib say no more of theirs


def corrupted_one(image: Array, name: str, severity: int, generator: Generator) -> Array:
    """A corrupted image: (32, 32, 3) uint8 -> the same."""
    function: Callable[[Array, Any, Generator], Array] = globals()[name]
    found = function(image, CONSTANTS[name][severity - 1], generator)
    return np.clip(found, 0, 255).astype(np.uint8)


def gaussian_noise(image: Array, c: float, generator: Generator) -> Array:
    return 255 * (image / 255 + generator.normal(0, c, image.shape))


def shot_noise(image: Array, c: float, generator: Generator) -> Array:
    return 255 * generator.poisson(image / 255 * c) / c


def impulse_noise(image: Array, c: float, generator: Generator) -> Array:
    chance = generator.random(image.shape)
    return np.where(chance < c / 2, 0, np.where(chance < c, 255, image))


def speckle_noise(image: Array, c: float, generator: Generator) -> Array:
    return image + image * generator.normal(0, c, image.shape)


def _smooth(image: Array, sigma: float, **more: Any) -> Array:
    if image.ndim == 2:
        return ndimage.gaussian_filter(image, sigma, **more)
    return np.stack([ndimage.gaussian_filter(image[..., one], sigma, **more) for one in range(3)], -1)


def gaussian_blur(image: Array, c: float, generator: Generator) -> Array:
    return 255 * _smooth(image / 255, c, mode="nearest")


def glass_blur(image: Array, c: tuple[float, int, int], generator: Generator) -> Array:
    sigma, delta, iterations = c
    found = (255 * _smooth(image / 255, sigma, mode="nearest")).astype(np.uint8)
    for _ in range(iterations):
        for row in range(SIDE - delta, delta, -1):
            for column in range(SIDE - delta, delta, -1):
                right, down = generator.integers(-delta, delta, 2)
                found[row, column], found[row + down, column + right] = (
                    found[row + down, column + right],
                    found[row, column],
                )  # views: the second assignment changes nothing
    return 255 * _smooth(found / 255, sigma, mode="nearest")


def defocus_blur(image: Array, c: tuple[float, float], generator: Generator) -> Array:
    radius, alias = c
    across, down = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    disk = (across**2 + down**2 <= radius**2) / (across**2 + down**2 <= radius**2).sum()
    taps = np.exp(-np.array([1, 0, 1]) / (2 * alias**2))
    for axis in (0, 1):
        disk = ndimage.convolve1d(disk, taps / taps.sum(), axis=axis)
    return np.stack([ndimage.correlate(image[..., one].astype(float), disk, mode="mirror") for one in range(3)], -1)


def _motion(image: Array, radius: float, sigma: float, angle: float) -> Array:
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    padded = np.pad(image.astype(float), [(40, 40), (40, 40), *[(0, 0)] * (image.ndim - 2)], mode="edge")
    found = np.zeros(image.shape)
    for tap, weight in zip(taps, weights / weights.sum(), strict=True):
        down, right = (int(np.ceil(tap * part(np.deg2rad(angle)) - 0.5)) for part in (np.sin, np.cos))
        found += weight * padded[40 + down : 72 + down, 40 + right : 72 + right]
    return np.round(found)


def motion_blur(image: Array, c: tuple[int, float], generator: Generator) -> Array:
    return _motion(image, *c, generator.uniform(-45, 45))


def _enlarged(image: Array, zoom: float) -> Array:
    crop = int(np.ceil(SIDE / zoom))
    top = (SIDE - crop) // 2
    part = image[top : top + crop, top : top + crop]
    found = ndimage.zoom(part, (zoom, zoom, *[1] * (image.ndim - 2)), order=1)
    trim = (found.shape[0] - SIDE) // 2
    return found[trim : trim + SIDE, trim : trim + SIDE]


def zoom_blur(image: Array, c: float, generator: Generator) -> Array:
    zooms = np.arange(1, c, 0.01)
    return (image + sum(_enlarged(image.astype(float), zoom) for zoom in zooms)) / (len(zooms) + 1)


def _plasma(decay: float, generator: Generator) -> Array:
    field, step, rough = np.zeros((SIDE, SIDE)), SIDE, 100.0
    while step >= 2:
        half = step // 2
        beside = [(-half, 0), (half, 0), (0, -half), (0, half)]
        corners = [(-half, -half), (-half, half), (half, -half), (half, half)]
        for first, start, around in ((half, half, corners), (0, half, beside), (half, 0, beside)):
            for row in range(first, SIDE, step):
                for column in range(start, SIDE, step):
                    four = [field[(row + down) % SIDE, (column + right) % SIDE] for down, right in around]
                    field[row, column] = sum(four) / 4 + rough * generator.uniform(-rough, rough)
        step, rough = half, rough / decay
    field -= field.min()
    return field / field.max()


def fog(image: Array, c: tuple[float, float], generator: Generator) -> Array:
    most = image.max() / 255
    return 255 * (image / 255 + c[0] * _plasma(c[1], generator)[..., None]) * most / (most + c[0])


def frost(image: Array, c: tuple[float, float], generator: Generator) -> Array:
    picture = frost_pictures()[generator.integers(5)]
    top, left = (generator.integers(0, length - SIDE) for length in picture.shape[:2])
    return c[0] * image + c[1] * picture[top : top + SIDE, left : left + SIDE]


def snow(image: Array, c: tuple[float, ...], generator: Generator) -> Array:
    layer = _enlarged(generator.normal(c[0], c[1], (SIDE, SIDE)), c[2])
    layer[layer < c[3]] = 0
    layer = (255 * np.clip(layer, 0, 1)).astype(np.uint8)
    layer = _motion(layer, int(c[4]), c[5], generator.uniform(-135, -45))[..., None]
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    whitened = c[6] * image + (1 - c[6]) * np.maximum(image, 1.5 * grey + 127.5)
    return whitened + layer + np.rot90(layer, 2)


def spatter(image: Array, c: tuple[float, ...], generator: Generator) -> Array:
    liquid = ndimage.gaussian_filter(generator.normal(c[0], c[1], (SIDE, SIDE)), c[2], mode="nearest")
    liquid[liquid < c[3]] = 0
    if c[5]:
        cover = ndimage.gaussian_filter((liquid > c[3]).astype(float), c[4], mode="nearest")[..., None]
        cover[cover < 0.8] = 0
        return image * (1 - cover) + np.array([63, 42, 20]) * cover
    return image + c[4] * water_by_opencv(liquid)[..., None] * np.array([175, 238, 238])


def water_by_opencv(liquid: Array) -> Array:
    """The strength of the colour of water, from 0 to 1; needs OpenCV."""
    import cv2

    thickness = (255 * np.clip(liquid, 0, 1)).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(thickness, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    amount = thickness * cv2.blur(relief, (3, 3)).astype(np.float32)
    return amount / max(float(amount.max()), 1.0)


def _in_hsv(image: Array, channel: int, factor: float, offset: float) -> Array:
    told = colours.rgb_to_hsv(image / 255)
    told[..., channel] = np.clip(told[..., channel] * factor + offset, 0, 1)
    return 255 * colours.hsv_to_rgb(told)


def brightness(image: Array, c: float, generator: Generator) -> Array:
    return _in_hsv(image, 2, 1, c)


def saturate(image: Array, c: tuple[float, float], generator: Generator) -> Array:
    return _in_hsv(image, 1, *c)


def contrast(image: Array, c: float, generator: Generator) -> Array:
    means = image.mean((0, 1), keepdims=True)
    return (image - means) * c + means


def jpeg_compression(image: Array, c: int, generator: Generator) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=c)
    return np.asarray(Image.open(buffer))


def pixelate(image: Array, c: float, generator: Generator) -> Array:
    small = Image.fromarray(image).resize((int(SIDE * c),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))


@cache
def _grid() -> tuple[Array, Array]:
    down, right = np.mgrid[:SIDE, :SIDE].astype(float)
    return down, right


def elastic_transform(image: Array, c: tuple[float, float, float], generator: Generator) -> Array:
    amplitude, sigma, shift = (SIDE * one for one in c)
    down, right = _grid()
    corners = np.array([[26.0, 26], [26, 6], [6, 6]])
    moved = corners + generator.uniform(-shift, shift, corners.shape)
    forth = np.linalg.solve(np.column_stack([corners, np.ones(3)]), moved)  # x, y, 1 -> x, y
    linear, offset = np.linalg.inv(forth[:2].T), forth[2]
    x, y = (linear @ (np.stack([right, down]).reshape(2, -1) - offset[:, None])).reshape(2, SIDE, SIDE)
    found = np.stack([_read(image[..., one].astype(float), y, x, "mirror") for one in range(3)], -1)
    dx, dy = (
        amplitude * ndimage.gaussian_filter(generator.uniform(-1, 1, (SIDE, SIDE)), sigma, mode="reflect", truncate=3)
        for _ in "xy"
    )
    return np.stack([_read(found[..., one], down + dy, right + dx, "reflect") for one in range(3)], -1)


def _read(channel: Array, rows: Array, columns: Array, mode: str) -> Array:
    return ndimage.map_coordinates(channel, [rows, columns], order=1, mode=mode)
