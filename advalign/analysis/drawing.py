"""Figures in print: a `Plot` drawn with matplotlib and saved as PNG or SVG.

Only matplotlib's object interface is used: no global figure, no window system, nothing changed at import.
"""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from advalign.analysis.labels import Places, place_labels
from advalign.analysis.plots import (
    BAR_HEIGHT,
    FILLED,
    INK,
    Arrow,
    Axis,
    Band,
    Bars,
    Cells,
    Columns,
    Line,
    Mark,
    Panel,
    Plot,
    Points,
    Words,
)
from advalign.errors import InputError
from advalign.files import replacing

MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "X", "star": "*", "cross": "P",
    "triangle-down": "v", "pentagon": "p", "hexagon": "h", "triangle-left": "<", "triangle-right": ">",
}  # fmt: skip
"""Plotly's name of a marker -> matplotlib's."""
FAINT = "#555555"
DPI = 150
FEW_TICKS = 5  # intervals between those of a narrow panel, whose numbers must fit beside each other
DARK = 0.6  # share of a full colour from which on what is written on it is white
literally = mpl.rc_context({"text.parse_math": False})
"""Decorator for functions that draw users' names: a dollar sign starts no formula."""


@literally
def draw(plot: Plot) -> Figure:
    """Draw a figure; of one without panels, write its sentence."""
    figure = Figure(figsize=plot.size if plot.panels else (7.5, 3.0), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if not plot.panels:
        figure.text(0.5, 0.86, plot.title, ha="center", va="center", fontsize=11, color=INK)
        figure.text(0.5, 0.45, textwrap.fill(plot.detail, 56), ha="center", va="center", fontsize=11, color=FAINT)
        return figure
    for axes, panel in zip(figure.subplots(1, len(plot.panels), squeeze=False)[0], plot.panels, strict=True):
        _draw_panel(axes, panel)
        if len(plot.panels) > 2 and not (panel.x.log or panel.x.ticks):
            axes.xaxis.set_major_locator(MaxNLocator(FEW_TICKS))
    _title(figure, plot.title, plot.detail)
    handles = _legend([mark for panel in plot.panels for mark in panel.marks])
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False, handlelength=3)
    if plot.notes:
        text = "\n".join(textwrap.fill(note, 118) for note in plot.notes)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color=FAINT)
    for axes, panel in zip(figure.axes, plot.panels, strict=True):
        if panel.labels:
            points = [np.column_stack([mark.x, mark.y]) for mark in panel.marks if isinstance(mark, Points)]
            thin = np.vstack([np.empty((0, 2)), *(_along(axes, mark) for mark in panel.marks)])
            place_labels(figure, axes, panel.labels, np.vstack(points), thin, keep_all=panel.keep_all)
    return figure


def save(figure: Figure | Plot, path: Path | str) -> Path:
    """Write a figure as PNG or SVG, whichever the suffix says; the same figure gives the same bytes.

    The file is written under a temporary name and moved into place, so that no half-written file is left.

    Args:
        figure: The figure, written at its own size and resolution.
        path: Of the file, ending in `.png` or `.svg`; missing folders are made.

    Returns:
        The path written.

    Raises:
        InputError: Another suffix.
    """
    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise InputError(f"{target}: figures are written as .png or .svg, got {target.suffix or 'no suffix'!r}")
    drawn = draw(figure) if isinstance(figure, Plot) else figure
    metadata: dict[str, str | None] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with replacing(target) as temporary, mpl.rc_context({"svg.hashsalt": "advalign", "svg.fonttype": "path"}):
        drawn.savefig(temporary, format=kind, dpi="figure", metadata=metadata, facecolor="white")
    return target


def _title(figure: Figure, text: str, detail: str) -> None:
    """Write the title and, in smaller type below it, the detail; reserve room for both."""
    figure.suptitle(f"{text}\n", x=0.01, ha="left", fontsize=11, color=INK, linespacing=1.5)
    below = ScaledTranslation(0, -16 / 72, figure.dpi_scale_trans)
    figure.text(0.01, 0.98, detail, va="top", fontsize=9, color=FAINT, transform=figure.transFigure + below)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw axes and marks: guides last, after the limits are set, but each in the order of the marks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)
    _prepare(axes, "x", panel.x)
    _prepare(axes, "y", panel.y)
    for guides in (False, True):
        for place, mark in enumerate(panel.marks):
            if guides == (isinstance(mark, Band | Arrow | Words) or (isinstance(mark, Line) and mark.guide)):
                _draw_mark(axes, mark, 2 + place / 1000)
        if not guides:
            axes.autoscale_view()
            x, y = axes.get_xlim(), axes.get_ylim()
            axes.set(xlim=_limits(panel.x, *x), ylim=_limits(panel.y, *y))


def _limits(axis: Axis, low: float, high: float) -> tuple[float, float]:
    return low if axis.low is None else axis.low, high if axis.high is None else axis.high


def _prepare(axes: Axes, which: Literal["x", "y"], axis: Axis) -> None:
    """Title, scale and ticks of the "x" or "y" axis."""
    axes.set(**{f"{which}label": axis.title})
    drawn = axes.xaxis if which == "x" else axes.yaxis
    drawn.label.set(fontsize=10, color=INK)
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
        drawn.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        drawn.set_minor_locator(NullLocator())
    if axis.ticks:
        drawn.set_ticks(range(len(axis.ticks)), axis.ticks)
        drawn.set_inverted(True)
        axes.grid(visible=False, axis=which)


def _draw_mark(axes: Axes, mark: Mark, order: float) -> None:
    style: dict[str, Any]
    match mark:
        case Points():
            _draw_points(axes, mark, order)
        case Bars():
            axes.barh(mark.places, mark.lengths, height=BAR_HEIGHT, color=mark.colour, zorder=order)
            for rim, width in (("white", 2.6), (INK, 1.0)):  # the white rim keeps the bar visible on black
                style = {"xerr": np.nan_to_num(mark.errors), "ecolor": rim, "elinewidth": width, "capsize": 2.5}
                for artist in axes.errorbar(mark.lengths, mark.places, fmt="none", **style).get_children():
                    artist.set_zorder(3)
        case Line():
            style = {"color": mark.colour, "linewidth": mark.width, "alpha": mark.alpha, "label": mark.label}
            axes.plot(*_to_the_edge(axes, mark).T, linestyle=(0, mark.dash or None), zorder=order, **style)
        case Columns():
            style = {"color": mark.colour, "alpha": FILLED, "label": mark.label, "zorder": order}
            axes.stairs(mark.heights, mark.edges, fill=True, **style)
        case Band():
            axes.axvspan(mark.low, mark.high, color=mark.colour, alpha=0.35, linewidth=0, zorder=0)
        case Arrow():
            style = {"arrowstyle": "-|>", "color": mark.colour, "linewidth": 1.1, "alpha": 0.8}
            axes.annotate("", mark.end, mark.start, arrowprops={**style, "shrinkA": 4, "shrinkB": 5}, zorder=order)
        case Words():
            style = {"xytext": (6, 0), "textcoords": "offset points"}
            axes.annotate(mark.text, (mark.x, mark.y), **style, va="center", fontsize=8.5, color=INK)
        case Cells():
            _draw_cells(axes, mark)


def _draw_points(axes: Axes, mark: Points, order: float) -> None:
    """Draw markers, with all error bars below them."""
    style: dict[str, Any] = {"ecolor": mark.colour, "elinewidth": 0.8, "alpha": mark.alpha * 0.6, "zorder": 1.9}
    axes.errorbar(mark.x, mark.y, xerr=mark.x_error, yerr=mark.y_error, fmt="none", **style)
    face, rim, width = ("none", mark.colour, 0.9) if mark.hollow else (mark.colour, "white", 0.4)
    style = {"facecolors": face, "edgecolors": rim, "linewidths": width, "marker": MARKERS[mark.marker]}
    axes.scatter(mark.x, mark.y, s=mark.area, alpha=mark.alpha, zorder=order, **style)


def _draw_cells(axes: Axes, mark: Cells) -> None:
    rows, columns = mark.values.shape
    edges = np.arange(columns + 1) + mark.first - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(*edges, mark.values, cmap="RdBu_r", vmin=-mark.limit, vmax=mark.limit, zorder=2)
    for (row, column), value in np.ndenumerate(mark.values):
        colour = "white" if abs(value) > DARK * mark.limit else INK
        place = column + mark.first, row
        axes.text(*place, mark.texts[row][column], ha="center", va="center", fontsize=7.5, color=colour, zorder=3)


def _to_the_edge(axes: Axes, line: Line) -> Places:
    """Places (n, 2) of a line, with infinite coordinates moved to the ends of the axes."""
    places = np.column_stack([line.x, line.y])
    low, high = np.sort([axes.get_xlim(), axes.get_ylim()]).T
    return np.where(np.isinf(places), np.clip(places, low, high), places)


def _along(axes: Axes, mark: Mark) -> Places:
    """Points (n, 2) in data units along the thin lines of a mark, which names must avoid."""
    match mark:
        case Points():
            points, found = np.column_stack([mark.x, mark.y]), [np.empty((0, 2))]
            for place, error in enumerate((mark.x_error, mark.y_error)):
                if error is not None:
                    step = np.zeros_like(points)
                    step[:, place] = np.nan_to_num(error)
                    found += [points + share * step for share in (-1, -0.5, 0.5, 1)]
            return np.vstack(found)
        case Line():
            corners = _to_the_edge(axes, mark)
        case Arrow():
            corners = np.array([mark.start, mark.end])
        case _:
            return np.empty((0, 2))
    steps = np.linspace(0, 1, 60)[:, None]
    seen = [first + steps * (last - first) for first, last in pairwise(axes.transData.transform(corners))]
    places: Places = axes.transData.inverted().transform(np.vstack(seen))
    return places


def _legend(marks: Sequence[Mark]) -> list[Line2D]:
    """Legend entries, each label once: points, then lines, bars, columns and bands."""
    handles: dict[str, Line2D] = {}
    for kind in (Points, Line, Bars, Columns, Band):
        for mark in marks:
            if isinstance(mark, kind) and mark.label:
                handles.setdefault(mark.label, _handle(mark))
    return list(handles.values())


def _handle(mark: Points | Line | Bars | Columns | Band) -> Line2D:
    if isinstance(mark, Points):
        size = mark.area**0.5 if mark.hollow else 9 if mark.marker == "star" else 6
        style: dict[str, Any] = {"linestyle": "", "marker": MARKERS[mark.marker], "markersize": size}
        style |= {"markerfacecolor": "none"} if mark.hollow else {}
    elif isinstance(mark, Line):
        style = {"linestyle": (0, mark.dash or None), "linewidth": max(mark.width, 1.2)}
    else:
        style = {"linewidth": 7} if isinstance(mark, Bars) else {"linewidth": 9, "alpha": 0.5}
    return Line2D([], [], color=mark.colour, label=mark.label, **style)
