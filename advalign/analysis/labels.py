"""Names next to points, placed without covering each other or the points (greedy, deterministic)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from advalign.analysis.plots import INK, Words

Places = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.float64]
"""(n, 4): left, bottom, right, top in pixels."""

SIZE = 7.5
RADII = (7.0, 11.0, 16.0, 24.0, 34.0, 46.0, 60.0, 78.0)
"""Gaps between point and name to try, in points; each gap counts in a place's cost, and the lowest cost wins."""
NEAR = 2
"""Number of gaps to try where names may be left out: a name far from its point would mislead."""
LEADER = 9.0
"""Gap in points from which a thin line joins name and point."""
COVER, CROSS, CONFUSE, TOUCH = 1000.0, 60.0, 40.0, 10.0
"""Cost of covering a point or a name, of a leader through a name, of a name nearer to another point than to its own,
and of lying over a thin line."""
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 113, 247, 293)


@dataclass(frozen=True)
class _Page:
    """Marks and names that are on the page already, in pixels; `scale` is pixels per point."""

    frame: Bbox
    points: Boxes
    lines: Boxes
    names: Boxes
    scale: float


def place_labels(
    figure: Figure, axes: Axes, labels: Sequence[Words], points: Places, lines: Places, *, keep_all: bool
) -> int:
    """Write names in order, each clear of points and earlier names and, where possible, of thin lines.

    Args:
        figure: The figure; its layout is computed here and must not change afterwards.
        axes: Axes of the points, with final limits.
        labels: In order of importance.
        points: (n, 2) data coordinates of all markers, the named ones among them.
        lines: (m, 2) data coordinates along arrows and error bars.
        keep_all: Whether a name without a free place is written where it covers least; otherwise it is left out.

    Returns:
        Number of names written.
    """
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    marker = _around(axes, points, (5.0 if keep_all else 2.5) * scale)
    page = _Page(axes.get_window_extent(), marker, _around(axes, lines, 0.7 * scale), np.empty((0, 4)), scale)
    written = 0
    for label in labels:
        text = axes.annotate(label.text, (label.x, label.y), fontsize=SIZE)
        size = text.get_window_extent()
        text.remove()
        half = np.array([size.width / 2 + scale, size.height / 2 + scale / 2])
        anchor = np.asarray(axes.transData.transform((label.x, label.y)), dtype=np.float64)
        cost, centre = _best_place(page, anchor, half, RADII if keep_all else RADII[:NEAR])
        if centre is None or (cost >= CONFUSE and not keep_all):
            continue
        _write(axes, label, (centre - anchor) / scale, half / scale)
        names = np.vstack([page.names, np.concatenate([centre - half, centre + half])])
        page = _Page(page.frame, page.points, page.lines, names, scale)
        written += 1
    return written


def _around(axes: Axes, places: Places, margin: float) -> Boxes:
    if not len(places):
        return np.empty((0, 4))
    centres = axes.transData.transform(places)
    return np.column_stack([centres - margin, centres + margin])


def _hits(boxes: Boxes, low: Places, high: Places) -> int:
    inside = (boxes[:, 0] < high[0]) & (boxes[:, 2] > low[0]) & (boxes[:, 1] < high[1]) & (boxes[:, 3] > low[1])
    return int(np.count_nonzero(inside))


def _nearer_to_another(points: Boxes, anchor: Places, centre: Places, half: Places) -> bool:
    """Whether readers would take a name for that of another point than the one at `anchor`."""
    markers = (points[:, :2] + points[:, 2:]) / 2
    others = markers[np.hypot(*(markers - anchor).T) > 0.5]
    gaps = np.hypot(*np.maximum(np.abs(others - centre) - half, 0).T)
    own = float(np.hypot(*np.maximum(np.abs(anchor - centre) - half, 0)))
    return bool(np.any(gaps <= own))


def _best_place(page: _Page, anchor: Places, half: Places, radii: Sequence[float]) -> tuple[float, Places | None]:
    """Cheapest centre of a box (half size in pixels) near `anchor` inside the frame, and its cost in points."""
    best: tuple[float, Places | None] = (float("inf"), None)
    for radius in radii:
        if radius >= best[0]:
            break
        for angle in np.deg2rad(ANGLES):
            direction = np.array([np.cos(angle), np.sin(angle)])
            centre = anchor + direction * radius * page.scale + np.round(direction) * half
            low, high = centre - half, centre + half
            if low[0] < page.frame.x0 or low[1] < page.frame.y0 or high[0] > page.frame.x1 or high[1] > page.frame.y1:
                continue
            cost = radius + COVER * (_hits(page.points, low, high) + _hits(page.names, low, high))
            cost += TOUCH * (_hits(page.lines, low, high) > 0)
            cost += CONFUSE * _nearer_to_another(page.points, anchor, centre, half)
            if radius > LEADER:
                way = anchor + np.linspace(0, 1, 12)[:, None] * (centre - anchor)
                cost += CROSS * any(_hits(page.names, step, step) for step in way)
            if cost < best[0]:
                best = (cost, centre)
    return best


def _write(axes: Axes, label: Words, offset: Places, half: Places) -> None:
    """Write one name with its centre `offset` points away, joined to its point where the gap is wide."""
    far = float(np.hypot(*np.maximum(np.abs(offset) - half, 0))) > LEADER
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(float(offset[0]), float(offset[1])),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=SIZE,
        color=INK,
        zorder=6,
        arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkB": 3} if far else None,
    )
    text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    text.set_in_layout(False)
