"""Clothing: a buttoned shirt, a laced shoe, a hat with a band."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, WHITE, Canvas, Palette


def shirt(canvas: Canvas, rng: np.random.Generator) -> None:
    """Short sleeves, a collar and a row of buttons."""
    palette = Palette.random(rng)
    droop = rng.uniform(0.0, 0.3)
    right_half = [(0.42, -0.6), (0.95, -0.15 + droop), (0.72, 0.14 + droop), (0.45, -0.1), (0.45, 0.85)]
    left_half = [(-x, y) for x, y in reversed(right_half)]
    canvas.polygon(right_half + left_half, palette.main, importance=0.12, outline=palette.dark)
    for side in LEFT_AND_RIGHT:
        cuff = [(0.93 * side, -0.12 + droop), (0.72 * side, 0.12 + droop)]
        canvas.line(cuff, 0.08, palette.accent, importance=0.5)
    canvas.polygon([(-0.24, -0.62), (0.24, -0.62), (0.0, -0.25)], palette.dark, importance=0.9)
    canvas.line([(-0.24, -0.6), (0.0, -0.24), (0.24, -0.6)], 0.1, palette.light, importance=1.0)
    canvas.line([(0.0, -0.2), (0.0, 0.82)], 0.03, palette.dark, importance=0.4)
    for y in (-0.05, 0.22, 0.5):
        canvas.ellipse((0.0, y), (0.055, 0.055), palette.light, importance=0.9, outline=BLACK)


def shoe(canvas: Canvas, rng: np.random.Generator) -> None:
    """A laced shoe or boot in profile."""
    palette = Palette.random(rng)
    top = rng.uniform(-0.75, -0.2)
    upper = [(-0.75, top), (-0.2, top), (-0.1, -0.02), (0.5, 0.2), (0.9, 0.38), (0.95, 0.6), (-0.8, 0.6)]
    canvas.polygon(upper, palette.main, importance=0.12)
    canvas.rectangle((-0.84, 0.55), (0.98, 0.76), palette.dark, importance=0.45)
    for lace in range(4):
        x, y = -0.12 + 0.17 * lace, -0.05 + 0.085 * lace
        canvas.line([(x - 0.1, y + 0.18), (x + 0.12, y - 0.02)], 0.065, WHITE, importance=1.0)
    canvas.rectangle((-0.78, top - 0.04), (-0.17, top + 0.1), palette.accent, importance=0.5)
    canvas.polygon([(0.55, 0.22), (0.9, 0.38), (0.94, 0.56), (0.55, 0.56)], palette.accent, importance=0.3)


def hat(canvas: Canvas, rng: np.random.Generator) -> None:
    """A wide brim, a dented crown and a band with a feather."""
    palette = Palette.random(rng)
    canvas.ellipse((0.0, 0.42), (0.95, 0.24), palette.main, importance=0.35)
    top = rng.uniform(-0.6, -0.3)
    dented_top = [(-0.42, top), (-0.2, top - 0.12), (0.0, top - 0.02), (0.2, top - 0.12), (0.42, top)]
    canvas.polygon([(-0.5, 0.4), *dented_top, (0.5, 0.4)], palette.main, importance=0.12)
    canvas.polygon([(-0.5, 0.14), (0.5, 0.14), (0.52, 0.4), (-0.52, 0.4)], palette.accent, importance=1.0)
    canvas.polygon([(0.32, 0.16), (0.62, 0.05), (0.62, 0.45)], palette.dark, importance=0.9)
