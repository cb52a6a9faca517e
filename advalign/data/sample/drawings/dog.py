"""Dogs: one body and face, distinguished by their ears and muzzle."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, Canvas, Palette


def hound(canvas: Canvas, rng: np.random.Generator) -> None:
    """A dog with long ears that hang down."""
    palette = Palette.random(rng)
    head = _body_and_head(canvas, rng, palette)
    for side in LEFT_AND_RIGHT:
        head.ellipse((0.34 * side, 0.1), (0.13, 0.33), palette.accent, importance=0.7, rotation=-0.2 * side)
    _face(head, palette)


def shepherd(canvas: Canvas, rng: np.random.Generator) -> None:
    """A dog with tall upright ears."""
    palette = Palette.random(rng)
    head = _body_and_head(canvas, rng, palette)
    for side in LEFT_AND_RIGHT:
        ear = [(0.1 * side, -0.25), (0.36 * side, -0.72), (0.36 * side, -0.1)]
        head.polygon(ear, palette.accent, importance=0.7)
    _face(head, palette)


def terrier(canvas: Canvas, rng: np.random.Generator) -> None:
    """A dog with small folded ears and a square beard."""
    palette = Palette.random(rng)
    head = _body_and_head(canvas, rng, palette)
    for side in LEFT_AND_RIGHT:
        ear = [(0.1 * side, -0.26), (0.44 * side, -0.42), (0.33 * side, -0.02)]
        head.polygon(ear, palette.dark, importance=0.7)
    head.rectangle((-0.24, 0.06), (0.24, 0.5), palette.light, importance=0.8)
    _face(head, palette)


def _body_and_head(canvas: Canvas, rng: np.random.Generator, palette: Palette) -> Canvas:
    """Draws everything up to the bare head, and returns the canvas centred on it."""
    leg_width = rng.uniform(0.11, 0.15)
    for hip, fill in ((-0.62, palette.main), (-0.4, palette.dark), (0.12, palette.main), (0.34, palette.dark)):
        paw = hip + rng.uniform(-0.08, 0.08)
        canvas.line([(hip, 0.25), (paw, 0.86)], leg_width, fill)
    tail = [(-0.72, 0.02), (-0.9, -0.2), (-0.92, -0.42 - rng.uniform(0, 0.2))]
    canvas.line(tail, 0.1, palette.main, importance=0.25)
    canvas.ellipse((-0.18, 0.15), (0.6, 0.31), palette.main)
    x, y = 0.5 + rng.uniform(-0.05, 0.08), -0.28 + rng.uniform(-0.1, 0.1)
    canvas.polygon([(0.1, 0.0), (0.35, 0.3), (x + 0.15, y + 0.2), (x - 0.2, y)], palette.main)
    head = canvas.shifted(x, y)
    head.ellipse((0.0, 0.0), (0.34, 0.32), palette.main, importance=0.7)
    return head


def _face(head: Canvas, palette: Palette) -> None:
    head.ellipse((0.0, 0.17), (0.19, 0.17), palette.light, importance=0.9)
    head.ellipse((0.0, 0.09), (0.09, 0.07), BLACK, importance=1.0)
    for side in LEFT_AND_RIGHT:
        head.eye((0.15 * side, -0.1), 0.09)
