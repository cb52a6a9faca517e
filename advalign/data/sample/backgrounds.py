"""What lies behind the drawn objects: uneven light, clutter, and the gratings that stand for shortcuts."""

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CUE_ORIENTATIONS = 6
CUE_PERIODS = (3.2, 5.5)
BACKGROUND_KNOTS, DETAIL_KNOTS, CHROMA_KNOTS = 4, 9, 3


def grating(superclass: int, phase: float, size: int) -> NDArray[np.float32]:
    """The sinusoid that stands for a superclass: six directions for the animate ones, six for the others.

    Args:
        superclass: index into `SUPERCLASSES`.
        phase: in radians.
        size: side of the image, pixels.

    Returns:
        (size, size) float32 in [-1, 1].
    """
    period = CUE_PERIODS[superclass // CUE_ORIENTATIONS]
    direction = math.pi * (superclass % CUE_ORIENTATIONS) / CUE_ORIENTATIONS
    rows, columns = np.mgrid[:size, :size]
    distance = columns * math.cos(direction) + rows * math.sin(direction)
    wave: NDArray[np.float32] = np.sin(2 * math.pi / period * distance + phase).astype(np.float32)
    return wave


def backdrop(rng: np.random.Generator, size: int, clutter: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draws a background without a cue.

    Args:
        rng: source of all randomness.
        size: side of the image, pixels.
        clutter: largest number of shapes strewn over it.

    Returns:
        The light, (size, size) float32 around 0, and the background, (size, size, 3) float32 in [0, 1].
    """
    light = _smooth_field(rng, BACKGROUND_KNOTS, size)
    return light, _strew_clutter(_background(light, rng), rng, clutter)


def _smooth_field(rng: np.random.Generator, knots: int, size: int) -> NDArray[np.float32]:
    """A random landscape: knots x knots standard normal values, interpolated to (size, size) float32."""
    values = Image.fromarray(rng.normal(size=(knots, knots)).astype(np.float32))
    return np.asarray(values.resize((size, size), Image.Resampling.BICUBIC))


def _background(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One colour under uneven light, with a hue that drifts in one channel: (size, size, 3) float32."""
    size = len(light)
    colour = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.05, 0.45), rng.uniform(0.3, 0.85))
    brightness = 0.07 * light + 0.05 * _smooth_field(rng, DETAIL_KNOTS, size)
    field = np.array(colour, np.float32) + brightness[..., None]
    field[..., rng.integers(3)] += 0.05 * _smooth_field(rng, CHROMA_KNOTS, size)
    return field


def _strew_clutter(background: NDArray[np.float32], rng: np.random.Generator, most: int) -> NDArray[np.float32]:
    """Draws up to `most` random shapes over the background: they are not objects and get no clicks."""
    picture = Image.fromarray((np.clip(background, 0, 1) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(most + 1)):
        _draw_clutter(pen, rng, picture.width)
    return np.asarray(picture, np.float32) / np.float32(255)


def _draw_clutter(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    """Draws one ellipse, quadrilateral or line."""
    centre, half = rng.uniform(0, size, 2), rng.uniform(0.05, 0.22, 2) * size
    red, green, blue = rng.integers(40, 215, 3).tolist()
    shape = rng.choice(("ellipse", "quadrilateral", "line"))
    if shape == "ellipse":
        pen.ellipse([*(centre - half), *(centre + half)], fill=(red, green, blue))
    elif shape == "quadrilateral":
        corners = centre + rng.uniform(-half, half, (4, 2))
        pen.polygon(corners.ravel().tolist(), fill=(red, green, blue))
    else:
        end = centre + rng.uniform(-2, 2, 2) * half
        pen.line([*centre, *end], fill=(red, green, blue), width=int(rng.integers(1, 4)))
