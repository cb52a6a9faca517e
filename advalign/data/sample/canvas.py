"""A drawing board that keeps two pictures of the same object: what it looks like and which of its parts matter.

Objects are described in a frame of their own, [-1, 1] x [-1, 1] with y pointing down, and reach the image through a
random `Pose`. Each shape carries an `importance`: the chance, relative to other places, that a person asked "what
tells you what this is?" would click there. Eyes, beaks, wheels and keys are near 1, bodies and walls near 0.
"""

from __future__ import annotations

import colorsys
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int, int]
Point = tuple[float, float]
Points = Sequence[Point] | NDArray[np.float64]

SUPERSAMPLING = 2
LEFT_AND_RIGHT = (-1, 1)

MAX_TILT_DEGREES = 14.0
STRETCH = (0.88, 1.1)
# How far from its centre an object may reach, in its own units: drawings go up to about 1.
REACH = 1.02

ELLIPSE_CORNERS = 22
# Wider strokes (in supersampled pixels) get round ends; on thinner ones they would not be visible.
WIDEST_BUTT_STROKE = 3

BLACK: Colour = (22, 18, 18, 255)
WHITE: Colour = (245, 245, 240, 255)
EYEBALL: Colour = (250, 250, 245, 255)
PUPIL: Colour = (15, 12, 10, 255)
TYRE: Colour = (30, 30, 34, 255)
RIM: Colour = (190, 190, 195, 255)
HUB: Colour = (60, 60, 60, 255)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """An opaque colour from hue (a turn is 1, wraps around), saturation and value (both cut to [0, 1]).

    Returns:
        Four ints in [0, 255]: red, green, blue and an alpha of 255.

    >>> hsv(1.0, 1.0, 2.0)
    (255, 0, 0, 255)
    """
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return int(255 * red), int(255 * green), int(255 * blue), 255


def glass(rng: np.random.Generator) -> Colour:
    """A random pale blue, for windows."""
    return hsv(rng.uniform(0.5, 0.62), rng.uniform(0.2, 0.5), rng.uniform(0.75, 0.98))


def arc(centre: Point, radii: Point, start: float = 0.0, stop: float = 2 * math.pi, count: int = 16) -> Points:
    """Points along an ellipse, clockwise on the image from angle `start` to `stop` (radians, 0 points right).

    Returns:
        (count, 2) float64 in the caller's frame; both ends are included. From pi to 2 pi it is the upper half.
    """
    angles = np.linspace(start, stop, count)
    return np.stack([centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], axis=1)


@dataclass(frozen=True)
class Palette:
    """The colours of one object. Hue does not depend on the category, so colour alone is no clue.

    Attributes:
        main: most of the object.
        accent: a second colour, of a near or an opposite hue, clearly lighter or darker than `main`.
        dark: a shade of `main`.
        light: a tint of `main`.
    """

    main: Colour
    accent: Colour
    dark: Colour
    light: Colour

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        """Draws the four colours."""
        hue, saturation, value = rng.uniform(), rng.uniform(0.25, 0.85), rng.uniform(0.4, 0.95)
        near, far = rng.uniform(-0.06, 0.06), rng.uniform(0.3, 0.7)
        accent_hue = hue + (near if rng.uniform() < 0.5 else far)
        accent_value = 0.62 * value if value > 0.6 else 1.55 * value
        return cls(
            main=hsv(hue, saturation, value),
            accent=hsv(accent_hue, saturation * rng.uniform(0.5, 1.0), accent_value),
            dark=hsv(hue, 0.8 * saturation, 0.45 * value),
            light=hsv(hue, 0.35 * saturation, 0.5 * value + 0.55),
        )


@dataclass(frozen=True)
class Cell:
    """The part of the image an object should stay in, as fractions of half a side (the image is [-1, 1]^2).

    Attributes:
        centre: the cell's middle.
        half_size: half its width and half its height.
    """

    centre: Point = (0.0, 0.0)
    half_size: Point = (1.0, 1.0)


WHOLE_IMAGE = Cell()


@dataclass(frozen=True)
class Pose:
    """How an object sits in the image: point p of the object lies at `matrix @ p + origin` in the image's [-1, 1]^2.

    Attributes:
        matrix: (2, 2) float64, scale, stretch, tilt and mirroring.
        origin: (2,) float64, the object's centre.
        unit: the length of one object unit before stretching, in half image sides; stroke widths follow it.
    """

    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]
    unit: float

    @classmethod
    def random(cls, rng: np.random.Generator, scale: tuple[float, float], cell: Cell = WHOLE_IMAGE) -> Self:
        """Draws a size within `scale`, a tilt, a mirroring, a stretch per axis, and a place inside `cell`.

        Args:
            rng: source of all randomness.
            scale: smallest and largest `unit`; 1 fills the image.
            cell: where the object should stay; one that is too large for it is centred.
        """
        unit = rng.uniform(*scale)
        tilt = math.radians(rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES))
        mirror = 1 if rng.uniform() < 0.5 else -1
        stretch_x, stretch_y = unit * rng.uniform(*STRETCH), unit * rng.uniform(*STRETCH)
        cosine, sine = math.cos(tilt), math.sin(tilt)
        matrix = np.array(
            [[cosine * stretch_x * mirror, -sine * stretch_y], [sine * stretch_x * mirror, cosine * stretch_y]]
        )
        room = np.maximum(np.array(cell.half_size) - REACH * unit, 0.0)
        return cls(matrix, np.array(cell.centre) + rng.uniform(-room, room), unit)


class Canvas:
    """Draws shapes of one object, given in the object's frame, as colours and as importance.

    Later shapes cover earlier ones. A shape of importance 0 leaves the importance below it as it was: a pupil does not
    make an eye less important.
    """

    def __init__(self, size: int, pose: Pose) -> None:
        fine_size = size * SUPERSAMPLING
        half_side = fine_size / 2
        self._matrix = pose.matrix.T * half_side
        self._offset = (pose.origin + 1.0) * half_side
        self._unit = pose.unit * half_side
        self._picture = Image.new("RGBA", (fine_size, fine_size))
        self._map = Image.new("L", (size, size))
        self._picture_pen = ImageDraw.Draw(self._picture)
        self._map_pen = ImageDraw.Draw(self._map)

    def picture(self) -> NDArray[np.float32]:
        """What was drawn: (size, size, 4) float32 in [0, 1], colours multiplied by alpha, then alpha."""
        # Averaging plain RGBA would darken the outline: the colour of uncovered pixels must not count.
        return np.asarray(self._picture.convert("RGBa").reduce(SUPERSAMPLING), np.float32) / np.float32(255)

    def importance(self) -> NDArray[np.float64]:
        """How important each place is: (size, size) float64 in [0, 1]."""
        return np.asarray(self._map, np.float64) / 255

    def shifted(self, right: float, down: float) -> Canvas:
        """The same canvas seen from another origin, so that a head can be drawn around (0, 0) wherever it sits."""
        view = copy.copy(self)
        view._offset = self._offset + np.array((right, down)) @ self._matrix
        return view

    def polygon(
        self, corners: Points, fill: Colour | None, *, importance: float = 0.0, outline: Colour | None = None
    ) -> None:
        """Fills a polygon.

        Args:
            corners: (n, 2) points.
            fill: its colour; None marks the importance only.
            importance: in [0, 1].
            outline: colour of a thin border, if any.
        """
        pixels = self._to_pixels(corners)
        if fill is not None:
            self._picture_pen.polygon(_flat(pixels), fill=fill, outline=outline)
        if importance:
            self._map_pen.polygon(_flat(pixels / SUPERSAMPLING), fill=_grey(importance))

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        fill: Colour | None,
        *,
        importance: float = 0.0,
        rotation: float = 0.0,
        outline: Colour | None = None,
    ) -> None:
        """Fills an ellipse turned by `rotation` radians, clockwise on the image; the rest as in `polygon`."""
        rim = _CIRCLE * radii
        if rotation:
            cosine, sine = math.cos(rotation), math.sin(rotation)
            rim = rim @ np.array([[cosine, sine], [-sine, cosine]])
        self.polygon(rim + centre, fill, importance=importance, outline=outline)

    def rectangle(
        self, corner: Point, opposite: Point, fill: Colour, *, importance: float = 0.0, outline: Colour | None = None
    ) -> None:
        """Fills the rectangle between two opposite corners; the rest as in `polygon`."""
        (left, top), (right, bottom) = corner, opposite
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        self.polygon(corners, fill, importance=importance, outline=outline)

    def line(self, points: Points, width: float, fill: Colour, *, importance: float = 0.0) -> None:
        """Strokes a path of `width` object units through `points`, (n, 2), with round joints and ends."""
        pixels = self._to_pixels(points)
        stroke = max(1, round(width * self._unit))
        self._picture_pen.line(_flat(pixels), fill=fill, width=stroke, joint="curve")
        if stroke > WIDEST_BUTT_STROKE:
            for x, y in (pixels[0], pixels[-1]):
                self._picture_pen.ellipse((x - stroke / 2, y - stroke / 2, x + stroke / 2, y + stroke / 2), fill=fill)
        if importance:
            width_on_map = max(1, stroke // SUPERSAMPLING)
            self._map_pen.line(_flat(pixels / SUPERSAMPLING), fill=_grey(importance), width=width_on_map)

    def eye(self, centre: Point, radius: float, *, importance: float = 1.0) -> None:
        """Draws an eye with its pupil."""
        self.ellipse(centre, (radius, radius), EYEBALL, importance=importance)
        self.ellipse((centre[0] + 0.1 * radius, centre[1]), (0.55 * radius, 0.6 * radius), PUPIL)

    def wheel(self, centre: Point, radius: float, *, importance: float = 1.0) -> None:
        """Draws a wheel: tyre, rim and hub."""
        self.ellipse(centre, (radius, radius), TYRE, importance=importance)
        self.ellipse(centre, (0.55 * radius, 0.55 * radius), RIM)
        self.ellipse(centre, (0.2 * radius, 0.2 * radius), HUB)

    def _to_pixels(self, points: Points) -> NDArray[np.float64]:
        pixels: NDArray[np.float64] = np.asarray(points, np.float64) @ self._matrix + self._offset
        return pixels


_CIRCLE = np.asarray(arc((0.0, 0.0), (1.0, 1.0), count=ELLIPSE_CORNERS + 1))[:-1]


def _flat(pixels: NDArray[np.float64]) -> list[float]:
    coordinates: list[float] = pixels.ravel().tolist()
    return coordinates


def _grey(importance: float) -> int:
    return int(255 * importance)
