"""Figures on the screen: a `Plot` drawn with plotly, with hover and zoom."""

import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

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

TOP, BOTTOM, LEGEND = 20, 110, 75  # pixels above and below the axes, and down to the legend
LAYOUT = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": TOP, "b": BOTTOM},
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "legend": {"orientation": "h", "yanchor": "top"},
    "hovermode": "closest",
    "barmode": "overlay",
}
PIXELS = 96  # per inch
POINT = 96 / 72  # pixels


def interact(plot: Plot) -> go.Figure:
    """Draw a figure that has panels; the page around it shows title, detail and notes."""
    figure = make_subplots(1, len(plot.panels))
    height = round(max(3.0, plot.size[1]) * PIXELS)
    figure.update_layout(**LAYOUT, height=height, legend_y=-LEGEND / (height - TOP - BOTTOM))
    for place, panel in enumerate(plot.panels, 1):
        for mark in panel.marks:
            _draw_mark(figure, mark, panel, place)
        figure.update_xaxes(_axis(panel.x), col=place)
        figure.update_yaxes(_axis(panel.y), col=place)
    return figure


def _axis(axis: Axis) -> dict[str, Any]:
    title = {"text": "<br>".join(textwrap.wrap(axis.title, 48)), "font": {"size": 13}}
    found: dict[str, Any] = {"title": title, "automargin": True}
    if axis.log:
        found |= {"type": "log", "dtick": "D1"}
    if axis.low is not None or axis.high is not None:
        found |= {"range": [axis.low, axis.high]}
    if axis.ticks:
        places = list(range(len(axis.ticks)))
        found |= {"tickvals": places, "ticktext": axis.ticks, "range": [len(places) - 0.5, -0.5]}
        found |= {"showgrid": False, "zeroline": False}
    return found


def _draw_mark(figure: go.Figure, mark: Mark, panel: Panel, place: int) -> None:
    match mark:
        case Points() | Line() | Bars() | Columns():
            shown = bool(mark.label) and mark.label not in {trace.legendgroup for trace in figure.data}
            legend = {"name": mark.label, "legendgroup": mark.label or None, "showlegend": shown}
            figure.add_trace(_trace(mark, panel).update(legend), row=1, col=place)
        case Band():
            style = {"fillcolor": mark.colour, "opacity": 0.35, "line_width": 0, "layer": "below"}
            named = {"name": mark.label, "showlegend": True, "exclude_empty_subplots": False}
            figure.add_vrect(mark.low, mark.high, **style, **named, row=1, col=place)
        case Arrow():
            (from_x, from_y), (to_x, to_y) = (_on_axes(panel, *ends) for ends in (mark.start, mark.end))
            of_x, of_y = (f"{letter}{'' if place == 1 else place}" for letter in "xy")
            figure.add_annotation(
                x=to_x, y=to_y, ax=from_x, ay=from_y, xref=of_x, yref=of_y, axref=of_x, ayref=of_y, showarrow=True,
                arrowhead=2, arrowwidth=1.4, arrowcolor=mark.colour, opacity=0.8, standoff=7, text="",
            )  # fmt: skip
        case Words():
            x, y = _on_axes(panel, mark.x, mark.y)
            where = {"x": x, "y": y, "xanchor": "left", "xshift": 8, "showarrow": False, "row": 1, "col": place}
            figure.add_annotation(text=mark.text, **where)
        case Cells():
            figure.add_trace(go.Heatmap(_cells(mark, panel)), row=1, col=place)


def _on_axes(panel: Panel, x: float, y: float) -> tuple[float, float]:
    """Position of an annotation; on a logarithmic axis plotly expects the exponent."""
    return float(np.log10(x)) if panel.x.log else x, float(np.log10(y)) if panel.y.log else y


def _trace(mark: Points | Line | Bars | Columns, panel: Panel) -> go.Bar | go.Scatter:
    match mark:
        case Bars():
            return go.Bar(_bars(mark, panel))
        case Columns():
            return go.Scatter(_columns(mark, panel))
        case _:
            return go.Scatter(_scatter(mark, panel))


def _scatter(mark: Points | Line, panel: Panel) -> dict[str, Any]:
    hover: dict[str, Any]
    values = f"{panel.x.name} %{{x:.3f}}<br>{panel.y.name} %{{y:.3f}}<extra></extra>"
    if isinstance(mark, Line):
        inside = np.isfinite(mark.x) & np.isfinite(mark.y)
        dash = ",".join(f"{length * mark.width * POINT:.2g}px" for length in mark.dash) or "solid"
        line = {"color": mark.colour, "width": mark.width * POINT, "dash": dash}
        hover = {"meta": mark.name, "hovertemplate": f"%{{meta}}<br>{values}"} if mark.name else {"hoverinfo": "skip"}
        return {"x": mark.x[inside], "y": mark.y[inside], "mode": "lines", "line": line, "opacity": mark.alpha, **hover}
    errors = {
        f"error_{axis}": {"array": error, "thickness": 0.8, "width": 0, "color": _faded(mark.colour, mark.alpha * 0.6)}
        for axis, error in (("x", mark.x_error), ("y", mark.y_error))
        if error is not None
    }
    symbol = f"{mark.marker}-open" if mark.hollow else mark.marker
    size = mark.area**0.5 * POINT
    marker = {"color": mark.colour, "symbol": symbol, "size": size, "opacity": mark.alpha}
    hover = {"customdata": mark.names, "hovertemplate": f"%{{customdata}}<br>{values}"}
    return {"x": mark.x, "y": mark.y, "mode": "markers", "marker": marker, **hover, **errors}


def _bars(mark: Bars, panel: Panel) -> dict[str, Any]:
    hover = f"%{{customdata}}<br>{panel.x.name} %{{x:.3f}}<br>%{{hovertext}}<extra></extra>"
    return {
        "x": mark.lengths, "y": mark.places, "orientation": "h", "width": BAR_HEIGHT, "marker_color": mark.colour,
        "error_x": {"array": mark.errors, "color": INK, "thickness": 1.2, "width": 3}, "hovertemplate": hover,
        "customdata": mark.names, "hovertext": mark.facts,
    }  # fmt: skip


def _columns(mark: Columns, panel: Panel) -> dict[str, Any]:
    """An outline from zero along the tops of the columns and back to zero, filled."""
    tops = np.repeat(mark.heights, 2)
    return {
        "x": np.repeat(mark.edges, 2), "y": np.concatenate([[0.0], tops, [0.0]]), "mode": "lines", "fill": "tozeroy",
        "line": {"color": mark.colour, "width": 1}, "fillcolor": _faded(mark.colour, FILLED),
        "hovertemplate": f"{panel.x.name} %{{x:.3f}}<br>%{{y:g}} {panel.y.name}<extra></extra>",
    }  # fmt: skip


def _cells(mark: Cells, panel: Panel) -> dict[str, Any]:
    rows, columns = mark.values.shape
    return {
        "z": mark.values, "x": np.arange(columns) + mark.first, "y": np.arange(rows), "colorscale": "RdBu_r",
        "zmin": -mark.limit, "zmax": mark.limit, "showscale": False, "text": mark.texts, "texttemplate": "%{text}",
        "customdata": [[name] * columns for name in panel.y.ticks] or None,
        "hovertemplate": f"%{{customdata}}<br>{panel.x.name} %{{x}}<br>%{{z:.3f}}<extra></extra>",
    }  # fmt: skip


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:.2f})"
