"""Insects: butterfly and beetle from above, a bee in profile."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, Canvas, Colour, Palette

CLEAR_WING: Colour = (225, 235, 245, 255)


def butterfly(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two pairs of large spotted wings."""
    palette = Palette.random(rng)
    spread = rng.uniform(0.8, 1.05)
    for side in LEFT_AND_RIGHT:
        out = side * spread
        canvas.ellipse((0.48 * out, -0.26), (0.44, 0.38), palette.main, importance=0.2, rotation=-0.5 * side)
        canvas.ellipse((0.38 * out, 0.38), (0.33, 0.34), palette.accent, importance=0.15, rotation=0.4 * side)
        canvas.ellipse((0.55 * out, -0.3), (0.16, 0.14), palette.light, importance=0.75)
        canvas.ellipse((0.42 * out, 0.4), (0.11, 0.11), palette.dark, importance=0.6)
        canvas.line([(0.03 * side, -0.5), (0.22 * side, -0.88)], 0.045, BLACK, importance=0.8)
    canvas.ellipse((0.0, 0.1), (0.08, 0.5), BLACK)
    canvas.ellipse((0.0, -0.48), (0.15, 0.14), BLACK, importance=1.0)
    for side in LEFT_AND_RIGHT:
        canvas.eye((0.09 * side, -0.5), 0.085)


def beetle(canvas: Canvas, rng: np.random.Generator) -> None:
    """A domed back with a seam and spots, six legs and feelers."""
    palette = Palette.random(rng)
    for side in LEFT_AND_RIGHT:
        for hip in (-0.1, 0.22, 0.52):
            leg = [(0.3 * side, hip), (0.72 * side, hip - 0.12), (0.86 * side, hip + 0.14)]
            canvas.line(leg, 0.06, BLACK, importance=0.3)
        canvas.line([(0.1 * side, -0.6), (0.35 * side, -0.95)], 0.05, BLACK, importance=0.8)
    canvas.ellipse((0.0, 0.2), (0.46, 0.6), palette.main, importance=0.15)
    canvas.line([(0.0, -0.3), (0.0, 0.8)], 0.05, BLACK, importance=0.2)
    for side in LEFT_AND_RIGHT:
        for y in (0.0, 0.35):
            canvas.ellipse((0.22 * side, y), (0.09, 0.1), palette.dark, importance=0.25)
    canvas.ellipse((0.0, -0.45), (0.3, 0.22), palette.dark, importance=0.8)
    for side in LEFT_AND_RIGHT:
        canvas.eye((0.17 * side, -0.55), 0.1)


def bee(canvas: Canvas, rng: np.random.Generator) -> None:
    """A striped body with clear wings and a sting."""
    palette = Palette.random(rng)
    for side in LEFT_AND_RIGHT:
        canvas.ellipse((0.1 * side - 0.1, -0.4), (0.2, 0.44), CLEAR_WING, importance=0.4, rotation=0.5 * side)
    canvas.ellipse((-0.12, 0.2), (0.58, 0.36), palette.main)
    for x in (-0.5, -0.2, 0.08):
        canvas.line([(x, -0.1), (x, 0.5)], 0.11, BLACK, importance=0.35)
    for x in (-0.2, 0.0, 0.2):
        canvas.line([(x, 0.5), (x + 0.05, 0.85)], 0.05, BLACK, importance=0.2)
    canvas.ellipse((0.52, 0.1), (0.28, 0.28), palette.dark, importance=0.9)
    canvas.eye((0.6, 0.04), 0.11)
    for tip in (0.65, 0.85):
        canvas.line([(0.55, -0.14), (tip, -0.55)], 0.045, BLACK, importance=0.8)
    canvas.polygon([(-0.66, 0.12), (-0.93, 0.2), (-0.66, 0.3)], BLACK, importance=0.3)
