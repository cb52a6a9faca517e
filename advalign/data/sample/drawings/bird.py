"""Birds: two that stand in profile, distinguished by neck and beak, and an owl that faces us."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import LEFT_AND_RIGHT, Canvas, Colour, Palette, hsv

# The wing is large: with more, most clicks would land on it and few on the head.
WING_IMPORTANCE = 0.12


def songbird(canvas: Canvas, rng: np.random.Generator) -> None:
    """A bird with a round head on its shoulders and a short pointed beak."""
    palette, horn = Palette.random(rng), _horn(rng)
    _standing_body(canvas, rng, palette, horn)
    head = canvas.shifted(0.42, -0.28)
    head.ellipse((0.0, 0.0), (0.31, 0.3), palette.main, importance=0.8)
    head.polygon([(0.24, -0.1), (0.58, 0.03), (0.24, 0.13)], horn, importance=1.0)
    head.eye((0.08, -0.06), 0.1)


def duck(canvas: Canvas, rng: np.random.Generator) -> None:
    """A bird with a long neck and a flat bill."""
    palette, horn = Palette.random(rng), _horn(rng)
    _standing_body(canvas, rng, palette, horn)
    canvas.line([(0.36, 0.1), (0.48, -0.45)], 0.24, palette.main, importance=0.3)
    head = canvas.shifted(0.5, -0.55)
    head.ellipse((0.0, 0.0), (0.25, 0.22), palette.accent, importance=0.8)
    head.polygon([(0.16, -0.06), (0.5, 0.04), (0.5, 0.15), (0.14, 0.15)], horn, importance=1.0)
    head.eye((0.08, -0.06), 0.1)


def owl(canvas: Canvas, rng: np.random.Generator) -> None:
    """An upright bird with two large eyes in pale discs, and ear tufts."""
    palette, horn = Palette.random(rng), _horn(rng)
    canvas.ellipse((0.0, 0.3), (0.48, 0.6), palette.main)
    canvas.ellipse((0.0, 0.45), (0.28, 0.38), palette.light)
    for side in LEFT_AND_RIGHT:
        canvas.ellipse((0.46 * side, 0.35), (0.14, 0.42), palette.dark, importance=0.2, rotation=0.15 * side)
        tuft = [(0.15 * side, -0.6), (0.48 * side, -0.92), (0.5 * side, -0.4)]
        canvas.polygon(tuft, palette.main, importance=0.7)
        canvas.line([(0.16 * side, 0.85), (0.16 * side, 0.97)], 0.09, horn, importance=0.2)
    canvas.ellipse((0.0, -0.3), (0.52, 0.44), palette.main, importance=0.5)
    for side in LEFT_AND_RIGHT:
        canvas.ellipse((0.22 * side, -0.32), (0.22, 0.22), palette.light, importance=0.8)
        canvas.eye((0.22 * side, -0.32), 0.15)
    canvas.polygon([(-0.1, -0.22), (0.1, -0.22), (0.0, 0.02)], horn, importance=1.0)


def _horn(rng: np.random.Generator) -> Colour:
    """The yellow to orange of beak and feet."""
    return hsv(rng.uniform(0.06, 0.14), 0.85, 0.95)


def _standing_body(canvas: Canvas, rng: np.random.Generator, palette: Palette, horn: Colour) -> None:
    """Draws legs, tail, body and wing of a bird in profile."""
    for hip, foot in ((-0.02, -0.05), (0.16, 0.18)):
        canvas.line([(hip, 0.5), (foot, 0.9)], 0.05, horn, importance=0.25)
    tail_tip = (-0.97, rng.uniform(-0.3, 0.2))
    canvas.polygon([(-0.4, 0.1), tail_tip, (-0.9, 0.35), (-0.4, 0.4)], palette.dark, importance=0.15)
    canvas.ellipse((-0.02, 0.22), (0.52, 0.38), palette.main)
    shoulder, lift = 0.2 + rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.5)
    wing = [(0.2, shoulder - 0.12), (-0.3, shoulder - 0.2 - lift), (-0.66, shoulder + 0.15), (0.0, shoulder + 0.22)]
    canvas.polygon(wing, palette.accent, importance=WING_IMPORTANCE)
