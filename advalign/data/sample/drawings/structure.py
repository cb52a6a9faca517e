"""Structures: a house, a castle, a suspension bridge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advalign.data.sample.canvas import BLACK, WHITE, Canvas, Colour, Palette, glass


def house(canvas: Canvas, rng: np.random.Generator) -> None:
    """Walls under a gable roof, with a door, two windows and often a chimney."""
    palette, pane = Palette.random(rng), glass(rng)
    canvas.rectangle((-0.65, -0.1), (0.65, 0.85), palette.main)
    gable = [(-0.85, -0.08), (0.0, -0.85 - rng.uniform(0, 0.1)), (0.85, -0.08)]
    canvas.polygon(gable, palette.accent, importance=0.5, outline=palette.dark)
    canvas.rectangle((-0.14, 0.32), (0.16, 0.85), palette.dark, importance=0.9)
    canvas.ellipse((0.1, 0.6), (0.03, 0.03), WHITE)
    for x in (-0.45, 0.42):
        _window(canvas.shifted(x, 0.23), pane)
    if rng.uniform() < 0.6:
        canvas.rectangle((0.35, -0.85), (0.52, -0.4), palette.dark, importance=0.3)


def _window(canvas: Canvas, pane: Colour) -> None:
    canvas.rectangle((-0.16, -0.15), (0.16, 0.15), WHITE, importance=1.0)
    canvas.rectangle((-0.12, -0.11), (0.12, 0.11), pane)
    canvas.line([(0.0, -0.13), (0.0, 0.13)], 0.03, WHITE)


def castle(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two towers and a wall, all with battlements, a gate and arrow slits."""
    palette = Palette.random(rng)
    towers = (-0.62, 0.62)
    canvas.rectangle((-0.45, -0.35), (0.45, 0.9), palette.main)
    for x in towers:
        canvas.rectangle((x - 0.2, -0.55), (x + 0.2, 0.9), palette.main)
    for x, top in ((-0.62, -0.55), (0.62, -0.55), (0.0, -0.35)):
        for merlon in (x - 0.16, x, x + 0.16):
            canvas.rectangle((merlon - 0.06, top - 0.16), (merlon + 0.06, top + 0.02), palette.dark, importance=0.9)
    canvas.rectangle((-0.16, 0.5), (0.16, 0.9), palette.dark, importance=0.8)
    canvas.ellipse((0.0, 0.5), (0.16, 0.16), palette.dark, importance=0.8)
    for x in towers:
        canvas.rectangle((x - 0.06, -0.25), (x + 0.06, 0.02), BLACK, importance=0.9)


def bridge(canvas: Canvas, rng: np.random.Generator) -> None:
    """A deck hung by cables from two towers."""
    palette = Palette.random(rng)
    canvas.rectangle((-0.98, 0.0), (0.98, 0.18), palette.main, importance=0.3)
    for x in (-0.55, 0.55):
        canvas.rectangle((x - 0.07, -0.75), (x + 0.07, 0.85), palette.dark, importance=0.7)
    along = np.linspace(0, 1, 9)
    # Image rows grow downwards: the cables hang from the tower tops (-0.72) to just above the deck.
    _cable(canvas, -1.0 + 0.45 * along, -0.02 - 0.7 * along**1.5, palette)
    _cable(canvas, -0.55 + 1.1 * along, -0.06 - 0.66 * (2 * along - 1) ** 2, palette)
    _cable(canvas, 0.55 + 0.45 * along, -0.02 - 0.7 * (1 - along) ** 1.5, palette)


def _cable(canvas: Canvas, x: NDArray[np.float64], y: NDArray[np.float64], palette: Palette) -> None:
    """Draws a cable and the hangers from it to the deck."""
    cable = np.stack([x, y], axis=1)
    canvas.line(cable, 0.05, palette.accent, importance=0.9)
    for top in cable[1:-1:2]:
        canvas.line([(top[0], top[1]), (top[0], 0.05)], 0.025, palette.accent, importance=0.6)
