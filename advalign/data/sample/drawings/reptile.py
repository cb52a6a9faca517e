"""Reptiles: a winding snake, a turtle under its shell, a lizard seen from above."""

from __future__ import annotations

import math

import numpy as np

from advalign.data.sample.canvas import BLACK, Canvas, Colour, Palette, arc

TONGUE: Colour = (220, 40, 50, 255)


def snake(canvas: Canvas, rng: np.random.Generator) -> None:
    """A banded winding body with a head and a tongue at one end."""
    palette = Palette.random(rng)
    along = np.linspace(0, 1, 22)
    start, swing = rng.uniform(), rng.uniform(0.32, 0.5)
    waves = swing * np.sin(8 * along + start) * (1 - 0.325 * along)
    spine = np.stack([-0.85 + 1.35 * along, 0.3 - 0.35 * along + waves], axis=1)
    canvas.line(spine, 0.2, palette.main)
    for band in range(2, len(spine) - 3, 3):
        canvas.line(spine[band : band + 2], 0.2, palette.accent)
    head = canvas.shifted(*spine[-1])
    head.line([(0.2, 0.0), (0.46, 0.02)], 0.05, TONGUE, importance=1.0)
    head.ellipse((0.08, 0.0), (0.24, 0.17), palette.main, importance=0.85)
    head.eye((0.12, -0.08), 0.085)


def turtle(canvas: Canvas, rng: np.random.Generator) -> None:
    """A domed shell with plates, and a head on a long neck."""
    palette = Palette.random(rng)
    for hip in (-0.5, 0.3):
        canvas.ellipse((hip, 0.5), (0.17, 0.24), palette.light, importance=0.25, rotation=0.3)
    canvas.polygon([(-0.6, 0.35), (-0.95, 0.5), (-0.6, 0.48)], palette.light, importance=0.2)
    canvas.line([(0.4, 0.25), (0.7, 0.0)], 0.2, palette.light, importance=0.4)
    canvas.ellipse((0.74, -0.08), (0.24, 0.2), palette.light, importance=0.9)
    canvas.eye((0.8, -0.13), 0.085)
    canvas.polygon(arc((-0.1, 0.4), (0.66, 0.72), math.pi, 2 * math.pi), palette.main, importance=0.3)
    for x, y in ((-0.4, 0.15), (-0.1, -0.08), (0.2, 0.15), (-0.1, 0.24)):
        _plate(canvas.shifted(x, y), palette)
    canvas.rectangle((-0.76, 0.36), (0.56, 0.46), palette.dark)


def _plate(canvas: Canvas, palette: Palette) -> None:
    hexagon = [(-0.14, 0.0), (-0.07, -0.13), (0.07, -0.13), (0.14, 0.0), (0.07, 0.12), (-0.07, 0.12)]
    canvas.polygon(hexagon, palette.accent, importance=0.4)


def lizard(canvas: Canvas, rng: np.random.Generator) -> None:
    """A spotted slim body with four spread legs, a curling tail and a pointed head."""
    palette = Palette.random(rng)
    curl = rng.uniform(-0.3, 0.3)
    canvas.line([(-0.3, 0.1), (-0.65, 0.2 + curl), (-0.97, 0.1 - curl)], 0.11, palette.main)
    for hip in (-0.28, 0.2):
        for up_or_down in (-1, 1):
            leg = [(hip, 0.1), (hip + 0.12, 0.1 + 0.32 * up_or_down), (hip + 0.3, 0.1 + 0.42 * up_or_down)]
            canvas.line(leg, 0.09, palette.dark, importance=0.3)
    canvas.ellipse((-0.03, 0.1), (0.42, 0.2), palette.main)
    for x in (-0.28, -0.11, 0.06, 0.23):
        canvas.ellipse((x, 0.05), (0.06, 0.06), palette.accent)
    snout = [(0.25, -0.06), (0.55, -0.14), (0.95, 0.06), (0.95, 0.14), (0.55, 0.3), (0.25, 0.24)]
    canvas.polygon(snout, palette.main, importance=0.85)
    canvas.eye((0.6, -0.03), 0.09)
    canvas.line([(0.7, 0.17), (0.94, 0.13)], 0.04, BLACK, importance=0.9)
