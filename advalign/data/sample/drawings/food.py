"""Food: a burger, a slice of pizza, an ice cream."""

from __future__ import annotations

import math

import numpy as np

from advalign.data.sample.canvas import WHITE, Canvas, Colour, Palette, arc, hsv

LETTUCE: Colour = hsv(0.3, 0.7, 0.75)
PATTY: Colour = hsv(0.04, 0.6, 0.32)
CHEDDAR: Colour = hsv(0.13, 0.8, 0.98)
MOZZARELLA: Colour = hsv(0.13, 0.6, 0.98)
SALAMI: Colour = hsv(0.0, 0.8, 0.8)
HERB: Colour = hsv(0.33, 0.7, 0.5)
WAFFLE_LINE: Colour = hsv(0.08, 0.7, 0.5)
CHERRY: Colour = hsv(0.98, 0.85, 0.85)


def burger(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two halves of a bun with lettuce, a patty, cheese and sauce between them."""
    bun, sauce = _baked(rng), Palette.random(rng).main
    canvas.polygon(arc((0.0, -0.1), (0.82, 0.68), math.pi, 2 * math.pi), bun, importance=0.3)
    for _ in range(8):
        x = rng.uniform(-0.5, 0.5)
        rise = 0.3 * math.sqrt(0.4 - x**2) * rng.uniform(0.3, 1.0)
        canvas.ellipse((x, -0.35 - rise), (0.06, 0.035), WHITE, importance=0.5)
    for leaf in range(7):
        canvas.ellipse((-0.75 + 0.25 * leaf, -0.02), (0.16, 0.1), LETTUCE, importance=1.0)
    canvas.rectangle((-0.82, 0.05), (0.82, 0.28), PATTY, importance=1.0)
    canvas.polygon([(-0.8, 0.22), (0.8, 0.22), (0.3, 0.3), (0.1, 0.45), (-0.2, 0.3)], CHEDDAR, importance=1.0)
    canvas.rectangle((-0.8, 0.3), (0.8, 0.46), sauce, importance=0.7)
    canvas.polygon([(-0.8, 0.46), (0.8, 0.46), (0.65, 0.78), (-0.65, 0.78)], bun, importance=0.2)


def pizza(canvas: Canvas, rng: np.random.Generator) -> None:
    """A slice with a crust, salami and herbs."""
    canvas.polygon([(-0.8, -0.55), (0.0, -0.78), (0.8, -0.55), (0.0, 0.95)], MOZZARELLA, importance=0.25)
    crust = [(-0.82, -0.55), (-0.4, -0.72), (0.0, -0.78), (0.4, -0.72), (0.82, -0.55)]
    canvas.line(crust, 0.2, _baked(rng), importance=0.5)
    for x, y in ((-0.32, -0.35), (0.28, -0.4), (0.0, 0.0), (0.12, 0.42), (-0.2, 0.15)):
        canvas.ellipse((x + rng.uniform(-0.05, 0.05), y), (0.14, 0.13), SALAMI, importance=1.0)
    for _ in range(5):
        canvas.ellipse((rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.1)), (0.05, 0.05), HERB, importance=0.8)


def icecream(canvas: Canvas, rng: np.random.Generator) -> None:
    """Three scoops in a waffle cone, with sprinkles and a cherry."""
    palette = Palette.random(rng)
    canvas.polygon([(-0.36, 0.05), (0.36, 0.05), (0.0, 0.97)], _baked(rng), importance=0.8)
    for row in range(1, 4):
        for side in (-1, 1):
            start, end = (0.36 - 0.16 * row) * side, (-0.1 - 0.06 * row) * side
            canvas.line([(start, 0.05), (end, 0.6 - 0.1 * row)], 0.03, WAFFLE_LINE)
    for x, y, fill in ((-0.2, -0.1, palette.main), (0.2, -0.1, palette.accent), (0.0, -0.45, palette.light)):
        canvas.ellipse((x, y), (0.3, 0.29), fill, importance=0.6)
    canvas.ellipse((0.0, -0.8), (0.1, 0.1), CHERRY, importance=1.0)
    for _ in range(6):
        x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.6, -0.1)
        canvas.line([(x, y), (x + 0.08, y + 0.05)], 0.045, hsv(rng.uniform(), 0.9, 0.9), importance=0.8)


def _baked(rng: np.random.Generator) -> Colour:
    """The golden brown of bun, crust or cone."""
    return hsv(rng.uniform(0.06, 0.11), rng.uniform(0.45, 0.75), rng.uniform(0.7, 0.92))
