"""Musical instruments: a guitar, a drum with sticks, an upright piano."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, WHITE, Canvas, Palette

KEY_WIDTH = 0.213


def guitar(canvas: Canvas, rng: np.random.Generator) -> None:
    """A waisted body with a sound hole, a neck, pegs and strings."""
    palette = Palette.random(rng)
    canvas.rectangle((-0.08, -0.85), (0.08, 0.1), palette.dark, importance=0.35)
    canvas.rectangle((-0.14, -0.98), (0.14, -0.78), palette.accent, importance=0.7)
    for side in LEFT_AND_RIGHT:
        for y in (-0.93, -0.84):
            canvas.ellipse((0.19 * side, y), (0.045, 0.04), WHITE)
    canvas.ellipse((0.0, 0.1), (0.34, 0.3), palette.main)
    canvas.ellipse((0.0, 0.52), (0.47, 0.4), palette.main)
    canvas.ellipse((0.0, 0.2), (0.17, 0.17), BLACK, importance=1.0)
    canvas.rectangle((-0.2, 0.62), (0.2, 0.72), palette.dark, importance=0.9)
    for x in (-0.045, 0.0, 0.045):
        canvas.line([(x, -0.9), (x, 0.66)], 0.02, WHITE, importance=0.7)


def drum(canvas: Canvas, rng: np.random.Generator) -> None:
    """A laced drum with two sticks on its skin."""
    palette = Palette.random(rng)
    canvas.rectangle((-0.62, -0.25), (0.62, 0.55), palette.main)
    canvas.ellipse((0.0, 0.55), (0.62, 0.2), palette.main)
    for x in np.linspace(-0.6, 0.4, 4):
        canvas.line([(x, -0.15), (x + 0.12, 0.55), (x + 0.24, -0.15)], 0.04, WHITE, importance=0.6)
    canvas.ellipse((0.0, -0.25), (0.64, 0.22), palette.dark, importance=0.5)
    canvas.ellipse((0.0, -0.27), (0.56, 0.17), palette.light, importance=0.9)
    for side in LEFT_AND_RIGHT:
        canvas.line([(0.1 * side, -0.3), (0.72 * side, -0.85)], 0.06, palette.accent, importance=0.8)
        canvas.ellipse((0.1 * side, -0.3), (0.08, 0.07), palette.accent, importance=1.0)


def piano(canvas: Canvas, rng: np.random.Generator) -> None:
    """A case with a keyboard across it and a sheet of music."""
    palette = Palette.random(rng)
    canvas.rectangle((-0.9, -0.75), (0.9, 0.8), palette.main)
    canvas.rectangle((-0.82, -0.68), (0.82, -0.1), palette.dark, importance=0.1)
    _keyboard(canvas.shifted(-0.96, -0.02))
    for left in (-0.85, 0.68):
        canvas.rectangle((left, 0.36), (left + 0.17, 0.9), palette.dark, importance=0.2)
    canvas.rectangle((-0.3, -0.6), (0.3, -0.2), WHITE, importance=0.4)


def _keyboard(canvas: Canvas) -> None:
    """Draws nine white keys, and black keys in groups of two and three."""
    canvas.rectangle((0.0, 0.0), (1.92, 0.36), WHITE, importance=1.0)
    for key in range(1, 9):
        canvas.line([(KEY_WIDTH * key, 0.0), (KEY_WIDTH * key, 0.36)], 0.02, BLACK)
    for key in (1, 2, 4, 5, 6, 8):
        middle = KEY_WIDTH * key
        canvas.rectangle((middle - 0.065, 0.0), (middle + 0.065, 0.21), BLACK, importance=1.0)
