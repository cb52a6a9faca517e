"""Wheeled vehicles in profile: a car, a bus, a bicycle."""

from __future__ import annotations

import math

import numpy as np

from advalign.data.sample.canvas import BLACK, Canvas, Colour, Palette, arc, glass

HEADLIGHT: Colour = (255, 240, 150, 255)
TAIL_LIGHT: Colour = (220, 40, 40, 255)
SPOKE: Colour = (200, 200, 200, 255)


def car(canvas: Canvas, rng: np.random.Generator) -> None:
    """A low body with a cabin of two windows."""
    palette, pane = Palette.random(rng), glass(rng)
    roof = rng.uniform(-0.4, -0.15)
    sill, window_top = 0.1, roof + 0.08
    canvas.polygon([(-0.5, sill), (-0.3, roof), (0.25, roof), (0.52, sill)], palette.main)
    rear_window = [(-0.4, sill), (-0.25, window_top), (-0.04, window_top), (-0.04, sill)]
    front_window = [(0.04, sill), (0.04, window_top), (0.2, window_top), (0.4, sill)]
    canvas.polygon(rear_window, pane, importance=0.5)
    canvas.polygon(front_window, pane, importance=0.5)
    body = [(-0.95, 0.14), (-0.9, 0.05), (0.7, 0.05), (0.96, 0.2), (0.96, 0.52), (-0.95, 0.52)]
    canvas.polygon(body, palette.main)
    canvas.line([(-0.95, 0.4), (0.95, 0.4)], 0.04, palette.dark)
    canvas.ellipse((0.88, 0.24), (0.09, 0.08), HEADLIGHT, importance=0.8)
    canvas.rectangle((-0.95, 0.16), (-0.85, 0.3), TAIL_LIGHT, importance=0.5)
    for axle in (-0.52, 0.52):
        canvas.wheel((axle, 0.54), 0.25)


def bus(canvas: Canvas, rng: np.random.Generator) -> None:
    """A long box with a stripe and a row of windows."""
    palette, pane = Palette.random(rng), glass(rng)
    canvas.rectangle((-0.95, -0.55), (0.95, 0.5), palette.main)
    canvas.rectangle((-0.95, 0.15), (0.95, 0.25), palette.accent)
    for window in range(5):
        left = -0.86 + 0.34 * window
        canvas.rectangle((left, -0.4), (left + 0.26, 0.02), pane, importance=0.55)
    canvas.ellipse((0.87, 0.35), (0.07, 0.07), HEADLIGHT, importance=0.8)
    for axle in (-0.55, 0.5):
        canvas.wheel((axle, 0.54), 0.24)


def bicycle(canvas: Canvas, rng: np.random.Generator) -> None:
    """Two large spoked wheels, a frame, a saddle and a handlebar."""
    palette = Palette.random(rng)
    radius = rng.uniform(0.34, 0.4)
    rear, pedals, front = (-0.55, 0.4), (0.05, 0.4), (0.55, 0.4)
    for axle in (rear, front):
        _spoked_wheel(canvas.shifted(*axle), radius)
    frame = [rear, (-0.2, -0.15), (0.4, -0.15), pedals, rear]
    canvas.line(frame, 0.08, palette.main, importance=0.4)
    canvas.line([pedals, (-0.26, -0.32)], 0.08, palette.main)
    canvas.line([front, (0.36, -0.4)], 0.08, palette.main)
    canvas.rectangle((-0.42, -0.4), (-0.12, -0.31), BLACK, importance=0.8)
    canvas.line([(0.22, -0.45), (0.36, -0.42), (0.55, -0.5)], 0.08, BLACK, importance=0.9)


def _spoked_wheel(canvas: Canvas, radius: float) -> None:
    centre = (0.0, 0.0)
    # People click on the whole wheel, though one looks through it.
    canvas.ellipse(centre, (radius + 0.03, radius + 0.03), None, importance=0.55)
    canvas.line(arc(centre, (radius, radius), count=20), 0.08, BLACK)
    for angle in (0.0, math.pi / 3, 2 * math.pi / 3):
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        canvas.line([(-x, -y), (x, y)], 0.02, SPOKE)
