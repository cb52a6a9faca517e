"""Primates that sit and face us: distinguished by ears, face mask and tail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from advalign.data.sample.canvas import BLACK, LEFT_AND_RIGHT, WHITE, Canvas, Palette, hsv


def monkey(canvas: Canvas, rng: np.random.Generator) -> None:
    """Round ears at the sides, a pale face and a curling tail."""
    palette = Palette.random(rng)
    head = _seated_body(canvas, rng, palette)
    canvas.line([(0.3, 0.8), (0.7, 0.85), (0.85, 0.5), (0.7, 0.35)], 0.08, palette.main, importance=0.3)
    for side in LEFT_AND_RIGHT:
        head.ellipse((0.48 * side, 0.0), (0.17, 0.19), palette.light, importance=0.6)
    _skull(head, palette)
    for side in LEFT_AND_RIGHT:
        head.ellipse((0.16 * side, -0.1), (0.2, 0.2), palette.light, importance=0.8)
    head.ellipse((0.0, 0.18), (0.32, 0.22), palette.light, importance=0.9)
    _features(head)


def gorilla(canvas: Canvas, rng: np.random.Generator) -> None:
    """Dark and heavy, with thick arms and a brow."""
    fur = hsv(rng.uniform(), 0.15, rng.uniform(0.15, 0.32))
    palette = replace(Palette.random(rng), main=fur, light=hsv(0.07, 0.25, 0.5))
    head = _seated_body(canvas, rng, palette, arm_width=0.2)
    _skull(head, palette)
    head.ellipse((0.0, 0.2), (0.3, 0.2), palette.light, importance=0.9)
    head.rectangle((-0.34, -0.26), (0.34, -0.16), palette.dark, importance=0.8)
    _features(head)


def lemur(canvas: Canvas, rng: np.random.Generator) -> None:
    """A white face with black eye patches, and a ringed tail."""
    palette = Palette.random(rng)
    head = _seated_body(canvas, rng, palette)
    tail = [(0.35, 0.8), (0.6, 0.7), (0.75, 0.45), (0.8, 0.15), (0.78, -0.15)]
    for ring in range(4):
        canvas.line(tail[ring : ring + 2], 0.16, BLACK if ring % 2 else WHITE, importance=0.4)
    for side in LEFT_AND_RIGHT:
        head.polygon([(0.15 * side, -0.3), (0.42 * side, -0.56), (0.42 * side, -0.1)], WHITE, importance=0.5)
    _skull(head, palette)
    head.ellipse((0.0, 0.05), (0.36, 0.34), WHITE, importance=0.8)
    for side in LEFT_AND_RIGHT:
        head.ellipse((0.18 * side, -0.06), (0.15, 0.16), BLACK, importance=0.9)
    _features(head)


def _seated_body(canvas: Canvas, rng: np.random.Generator, palette: Palette, arm_width: float = 0.11) -> Canvas:
    """Draws body and arms, and returns the canvas centred on the head."""
    canvas.ellipse((0.0, 0.5), (0.42, 0.48), palette.main)
    for side in LEFT_AND_RIGHT:
        elbow = (side * rng.uniform(0.62, 0.72), 0.5)
        canvas.line([(0.35 * side, 0.2), elbow, (0.55 * side, 0.9)], arm_width, palette.main, importance=0.15)
    return canvas.shifted(0.0, -0.32 + rng.uniform(-0.05, 0.05))


def _skull(head: Canvas, palette: Palette) -> None:
    head.ellipse((0.0, 0.0), (0.44, 0.43), palette.main, importance=0.6)


def _features(head: Canvas) -> None:
    """Draws eyes, nostrils and mouth."""
    for side in LEFT_AND_RIGHT:
        head.eye((0.17 * side, -0.07), 0.095)
        head.ellipse((0.05 * side, 0.13), (0.03, 0.03), BLACK)
    head.line([(-0.16, 0.28), (0.0, 0.31), (0.16, 0.28)], 0.045, BLACK, importance=0.9)
