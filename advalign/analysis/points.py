"""Parts of the scatter figures: points with error bars, legend, Pareto front, arrows between twins, fitted line."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from advalign.analysis.drawing import COLOURS, INK, MARKER_AREA, MARKERS, NAMES, in_order, kinds_by_model, kinds_of
from advalign.analysis.statistics import quadratic_fit

Vector = npt.NDArray[np.float64]

LABELLED = 15
"""Up to this many models every point has its name; beyond, only the ones that stand out."""
FITTED = 6
"""From this many models a second-degree fit is drawn: through fewer points it would pass almost anyhow."""


def wide_range(pt: "pd.Series[float]") -> bool:
    """Whether the largest PT is over 8 times the smallest."""
    return bool(pt.min() > 0 and pt.max() / pt.min() > 8)


def spread_out(axes: Axes, pt: "pd.Series[float]") -> None:
    """Take a logarithmic PT axis where the largest is over 8 times the smallest: else most points lie on a heap."""
    if not wide_range(pt):
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{axes.get_xlabel()[:-1]}, log scale)", fontsize=10, color=INK)


def fix_limits(axes: Axes) -> None:
    """Freeze the limits that the points gave, so that lines drawn afterwards reach the edge but do not move it."""
    axes.autoscale_view()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())


def draw_points(axes: Axes, rows: pd.DataFrame, x: str, y: str, *, reference: bool) -> None:
    """Draw points with SEM bars, group by group; standard models are paler where others stand against many of them."""
    kinds = np.array(kinds_of(rows))
    crowded = len(rows) > LABELLED
    for kind in in_order(kinds):
        part = rows[kinds == kind]
        special = kind in MARKER_AREA
        alpha = 0.45 if crowded and reference and not special else 0.75 if crowded else 1.0
        bars = {f"{axis}err": part[f"{name}_sem"] for axis, name in (("x", x), ("y", y)) if f"{name}_sem" in part}
        if bars:
            axes.errorbar(
                part[x], part[y], **bars, fmt="none", ecolor=COLOURS[kind], elinewidth=0.8, alpha=alpha * 0.6, zorder=2
            )
        area = MARKER_AREA.get(kind, 45.0) * (0.45 if crowded else 1.0)
        axes.scatter(
            part[x],
            part[y],
            s=area,
            c=COLOURS[kind],
            marker=MARKERS[kind],
            edgecolors="white",
            linewidths=0.4,
            alpha=alpha,
            zorder=4 if special else 3,
        )


def legend_of(rows: pd.DataFrame, front: pd.DataFrame) -> list[Line2D]:
    """Legend entries: every kind of model with its number, and the front where there is one."""
    kinds = kinds_of(rows)
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=MARKERS[kind],
            color=COLOURS[kind],
            markersize=9 if kind == "harmonized" else 6,
            label=f"{NAMES[kind]} ({kinds.count(kind)})",
        )
        for kind in in_order(kinds)
    ]
    if len(front):
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle="--", label="Pareto front,\nstandard models"))
    return handles


def draw_front(axes: Axes, front: pd.DataFrame) -> None:
    """Draw the border of what the front dominates: down and to the left of it lies every standard model."""
    if not len(front):
        return
    ordered = front.sort_values("pt")
    pt, aa = ordered["pt"].to_numpy(dtype=float), ordered["aa"].to_numpy(dtype=float)
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    x = np.concatenate([[left], np.repeat(pt, 2)])
    y = np.concatenate([np.repeat(aa, 2), [bottom]])
    axes.plot(x, y, color=INK, linewidth=1.2, linestyle="--", zorder=2.5)


def draw_arrows(axes: Axes, rows: pd.DataFrame, twins: Sequence[tuple[str, str]]) -> tuple[Vector, list[str]]:
    """Draw an arrow per pair; give points along them (for labels to avoid) and what could not be drawn."""
    places = dict(zip(rows["model"], rows[["pt", "aa"]].to_numpy(dtype=float), strict=True))
    kinds = kinds_by_model(rows)
    drawn = [(baseline, twin) for baseline, twin in twins if baseline in kinds and twin in kinds]
    path = [np.empty((0, 2))]
    for baseline, twin in drawn:
        start, end = places[baseline], places[twin]
        style = {"arrowstyle": "-|>", "color": COLOURS[kinds[twin]], "linewidth": 1.1, "alpha": 0.8}
        ends = (float(end[0]), float(end[1])), (float(start[0]), float(start[1]))
        axes.annotate("", *ends, arrowprops={**style, "shrinkA": 4, "shrinkB": 5}, zorder=2.8)
        path.append(_between(axes, start, end))
    if not drawn:
        return path[0], ["No model here has its harmonized or robust twin beside it: no arrows."]
    left_out = len(twins) - len(drawn)
    return np.vstack(path), [f"{left_out} of {len(twins)} twins have no point here."] if left_out else []


def _between(axes: Axes, start: Vector, end: Vector) -> Vector:
    """Points (60, 2) on the straight line that is seen between two points, in data units."""
    first, last = axes.transData.transform([start, end])
    seen: Vector = axes.transData.inverted().transform(first + np.linspace(0.03, 0.97, 60)[:, None] * (last - first))
    return seen


def along_bars(rows: pd.DataFrame, x: str, y: str) -> Vector:
    """Points on the SEM bars of every model, in data units."""
    points = rows[[x, y]].to_numpy(dtype=float)
    found = [np.empty((0, 2))]
    for place, name in enumerate((x, y)):
        if f"{name}_sem" in rows:
            step = np.zeros_like(points)
            step[:, place] = rows[f"{name}_sem"].fillna(0)
            found += [points + share * step for share in (-1, -0.5, 0.5, 1)]
    return np.vstack(found)


def draw_fit(axes: Axes, x: "pd.Series[float]", y: "pd.Series[float]") -> bool:
    """Draw the second-degree fit over the range of x; False where there is none worth drawing."""
    fit = quadratic_fit(x, y)
    if np.isnan(fit.r2) or fit.n < FITTED:
        return False
    grid = np.linspace(float(x.min()), float(x.max()), 200)
    axes.plot(grid, np.polyval(fit.coefficients, grid), color=INK, linewidth=1.2, zorder=3.5)
    return True
