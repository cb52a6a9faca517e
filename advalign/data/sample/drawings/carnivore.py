"""Carnivores that sit and face us: distinguished by ears, whiskers, muzzle and mane."""

from __future__ import annotations

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, WHITE, Canvas, Palette, arc


def cat(canvas: Canvas, rng: np.random.Generator) -> None:
    """Pointed ears, whiskers and a tail."""
    palette = Palette.random(rng)
    head = _seated_body(canvas, rng, palette)
    canvas.line([(0.4, 0.75), (0.75, 0.6), (0.8, 0.2)], 0.1, palette.main, importance=0.2)
    for side in LEFT_AND_RIGHT:
        ear = [(0.08 * side, -0.32), (0.48 * side, -0.78), (0.5 * side, -0.05)]
        inner_ear = [(0.2 * side, -0.36), (0.43 * side, -0.62), (0.43 * side, -0.2)]
        head.polygon(ear, palette.main, importance=0.8)
        head.polygon(inner_ear, palette.accent)
    _skull(head, palette)
    _features(head)
    for side in LEFT_AND_RIGHT:
        for tip in (0.12, 0.32):
            head.line([(0.14 * side, 0.2), (0.62 * side, tip)], 0.03, WHITE, importance=0.4)


def bear(canvas: Canvas, rng: np.random.Generator) -> None:
    """Round ears and a pale muzzle."""
    palette = Palette.random(rng)
    head = _seated_body(canvas, rng, palette)
    _round_ears(head, palette)
    _skull(head, palette)
    head.ellipse((0.0, 0.2), (0.26, 0.2), palette.light, importance=0.9)
    _features(head)


def lion(canvas: Canvas, rng: np.random.Generator) -> None:
    """A mane all around the face."""
    palette = Palette.random(rng)
    head = _seated_body(canvas, rng, palette)
    for x, y in arc((0.0, 0.0), (0.56, 0.54), count=15)[:-1]:
        head.ellipse((x, y), (0.2, 0.2), palette.accent, importance=0.45)
    _round_ears(head, palette)
    _skull(head, palette)
    _features(head)


def _seated_body(canvas: Canvas, rng: np.random.Generator, palette: Palette) -> Canvas:
    """Draws body and front legs, and returns the canvas centred on the head."""
    canvas.ellipse((0.0, 0.6), (0.5, 0.42), palette.main)
    for side in LEFT_AND_RIGHT:
        canvas.line([(0.25 * side, 0.6), (0.28 * side, 0.92)], 0.16, palette.dark)
    return canvas.shifted(0.0, -0.22 + rng.uniform(-0.06, 0.06))


def _round_ears(head: Canvas, palette: Palette) -> None:
    for side in LEFT_AND_RIGHT:
        head.ellipse((0.36 * side, -0.4), (0.17, 0.17), palette.dark, importance=0.6)


def _skull(head: Canvas, palette: Palette) -> None:
    head.ellipse((0.0, 0.0), (0.5, 0.46), palette.main, importance=0.7)


def _features(head: Canvas) -> None:
    """Draws nose, eyes and mouth."""
    head.ellipse((0.0, 0.12), (0.1, 0.07), BLACK, importance=1.0)
    for side in LEFT_AND_RIGHT:
        head.eye((0.2 * side, -0.1), 0.115)
    head.line([(-0.12, 0.29), (0.0, 0.24), (0.12, 0.29)], 0.04, BLACK, importance=0.8)
