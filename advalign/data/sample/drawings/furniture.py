"""Furniture: a chair, a table, a cabinet."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, Canvas, Colour, Palette

BRASS: Colour = (235, 200, 80, 255)


def chair(canvas: Canvas, rng: np.random.Generator) -> None:
    """A seat on four legs with a slatted back."""
    palette = Palette.random(rng)
    top = rng.uniform(-0.92, -0.7)
    for x in (-0.42, 0.42):
        canvas.line([(x, 0.2), (1.1 * x, 0.92)], 0.1, palette.dark, importance=0.8)
    for x in (-0.28, 0.28):
        canvas.line([(x, 0.2), (x, 0.75)], 0.08, palette.dark, importance=0.6)
    for x in (-0.42, 0.42):
        canvas.line([(x, top), (x, 0.15)], 0.09, palette.dark, importance=0.7)
    for slat in np.linspace(top + 0.1, -0.12, 3):
        canvas.rectangle((-0.42, slat - 0.06), (0.42, slat + 0.06), palette.main, importance=1.0)
    canvas.polygon([(-0.5, 0.1), (0.5, 0.1), (0.58, 0.28), (-0.58, 0.28)], palette.accent, importance=0.35)


def table(canvas: Canvas, rng: np.random.Generator) -> None:
    """A top seen from slightly above, on four legs."""
    palette = Palette.random(rng)
    for x in (-0.75, 0.75):
        canvas.line([(x, -0.1), (1.02 * x, 0.9)], 0.12, palette.dark, importance=0.9)
    for x in (-0.5, 0.5):
        canvas.line([(x, -0.1), (x, 0.65)], 0.1, palette.dark, importance=0.7)
    canvas.polygon([(-0.7, -0.45), (0.7, -0.45), (0.98, -0.12), (-0.98, -0.12)], palette.main, importance=0.3)
    canvas.rectangle((-0.98, -0.12), (0.98, 0.02), palette.accent, importance=0.8)


def cabinet(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two doors over two drawers, with knobs and handles."""
    palette = Palette.random(rng)
    canvas.rectangle((-0.62, -0.9), (0.62, 0.85), palette.main, outline=palette.dark)
    canvas.line([(0.0, -0.85), (0.0, 0.3)], 0.04, palette.dark, importance=0.5)
    canvas.rectangle((-0.56, 0.34), (0.56, 0.38), palette.dark)
    canvas.rectangle((-0.56, 0.58), (0.56, 0.62), palette.dark, importance=0.4)
    for side in LEFT_AND_RIGHT:
        middle = 0.31 * side
        canvas.rectangle((middle - 0.22, -0.8), (middle + 0.22, 0.24), palette.accent, importance=0.12)
        canvas.ellipse((0.1 * side, -0.25), (0.07, 0.08), BRASS, importance=1.0, outline=BLACK)
        canvas.line([(0.5 * side, 0.85), (0.5 * side, 0.98)], 0.12, palette.dark, importance=0.5)
    for y in (0.48, 0.72):
        canvas.ellipse((0.0, y), (0.12, 0.05), BRASS, importance=1.0, outline=BLACK)
