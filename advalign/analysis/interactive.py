"""The figures of the report, interactive: the same content and colours as the printed ones, with hover and zoom."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from advalign.analysis.drawing import BAND, COLOURS, INK, METRIC_NAMES, NAMES, OfGroups, in_order, kinds_of, stars
from advalign.analysis.pareto import pareto_front
from advalign.analysis.points import wide_range
from advalign.analysis.scatter import HUMAN_ACCURACY, percent
from advalign.analysis.statistics import quadratic_fit
from advalign.analysis.table import is_standard

SYMBOLS = OfGroups(
    {
        "cnn": "circle",
        "vit": "square",
        "hybrid": "diamond",
        "ssl": "triangle-up",
        "robust": "x",
        "harmonized": "star",
        "combined": "cross",
        "standard": "circle",
    },
    lambda _: "triangle-down",
)
FITTED = 6  # from this many models a second-degree fit is drawn
LAYOUT = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 35, "b": 110},
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
    "hovermode": "closest",
    "height": 480,
}
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def plane(table: pd.DataFrame, twins: Sequence[tuple[str, str]]) -> go.Figure | str:
    """PT-AA plane with Pareto front and an arrow from each baseline to its twin (Feng Fig. 4); a sentence if empty."""
    rows = table[table["pt"].notna() & table["aa"].notna()]
    if not len(rows):
        return "No model has PT and AA."
    figure = _points(rows, "pt", "aa")
    logarithmic = wide_range(rows["pt"])
    if logarithmic:
        figure.update_xaxes(type="log", dtick="D1", title=f"{METRIC_NAMES['pt']}, log scale")
    standard = rows[is_standard(rows)]
    front = standard[pareto_front(standard["pt"], standard["aa"])].sort_values("pt")
    if len(front):
        line = {"color": INK, "dash": "dash", "width": 1.2, "shape": "vh"}
        figure.add_trace(
            go.Scatter(x=front["pt"], y=front["aa"], mode="lines", line=line, name="Pareto front", hoverinfo="skip")
        )
    places = rows.set_index("model")
    for baseline, twin in twins:
        if baseline in places.index and twin in places.index:
            start, end = dict(places.loc[baseline]), dict(places.loc[twin])
            from_pt, to_pt = (math.log10(pt) if logarithmic else pt for pt in (float(start["pt"]), float(end["pt"])))
            figure.add_annotation(
                x=to_pt, y=end["aa"], ax=from_pt, ay=start["aa"], xref="x", yref="y", axref="x", ayref="y",
                showarrow=True, arrowhead=2, arrowwidth=1.2, arrowcolor="rgba(80,80,80,0.6)", standoff=7, text="",
            )  # fmt: skip
    return figure


def against_accuracy(table: pd.DataFrame, metric: str) -> go.Figure | str:
    """PT or AA against multi-label accuracy with the human band and a second-degree fit (Feng Figs. 2, 3)."""
    rows = table.assign(multilabel_accuracy=percent(table["multilabel_accuracy"]))
    rows = rows[rows[metric].notna() & rows["multilabel_accuracy"].notna()]
    if not len(rows):
        return f"No model has {metric.upper()} and a multi-label accuracy."
    figure = _points(rows, "multilabel_accuracy", metric)
    mean, spread = HUMAN_ACCURACY
    figure.add_vrect(
        x0=mean - spread, x1=mean + spread, fillcolor=BAND, opacity=0.3, line_width=0, annotation_text="people"
    )
    standard = rows[is_standard(rows)]
    fit = quadratic_fit(standard["multilabel_accuracy"], standard[metric])
    if len(standard) >= FITTED and np.isfinite(fit.coefficients).all():
        x = np.linspace(standard["multilabel_accuracy"].min(), standard["multilabel_accuracy"].max(), 60)
        line = {"color": INK, "width": 1.2}
        figure.add_trace(
            go.Scatter(x=x, y=np.polyval(fit.coefficients, x), mode="lines", line=line, name="second-degree fit")
        )
    return figure


def twin_bars(paired: Sequence[Mapping[str, Any]], metric: str, kinds: Mapping[str, str]) -> go.Figure | str:
    """Each twin beside its baseline over shared stimuli, with SEM; p in the hover (Feng Figs. 6, 7)."""
    entries = [entry for entry in paired if entry["metric"] == metric and entry["twin_mean"] is not None]
    if not entries:
        return "No pair of twins shares a valid stimulus."
    figure = go.Figure(layout=LAYOUT)
    names = [entry["twin"] for entry in entries]
    p_values = [entry["p_holm"] for entry in entries]
    twin_colours = [COLOURS[kinds[name]] for name in names]
    for side, colour in (("baseline", "#999999"), ("twin", twin_colours)):
        figure.add_trace(
            go.Bar(
                y=names, x=[entry[f"{side}_mean"] for entry in entries], name=side, orientation="h",
                marker_color=colour, text=[stars(entry["p_holm"]) if side == "twin" else "" for entry in entries],
                textposition="outside", error_x={"array": [entry[f"{side}_sem"] for entry in entries]},
                customdata=[[p, entry["n"], entry["d_z"]] for p, entry in zip(p_values, entries, strict=True)],
                hovertemplate="%{y}<br>%{x:.3f}<br>p (Holm) = %{customdata[0]:.2g}, n = %{customdata[1]}"
                "<br>d_z = %{customdata[2]:.2f}",
            )
        )  # fmt: skip
    figure.update_layout(
        barmode="group",
        xaxis_title=METRIC_NAMES[metric],
        margin={"l": 230, "b": 60},
        showlegend=False,
        height=max(300, 90 + 60 * len(entries)),
    )
    return figure


def robust_accuracy_curves(curves: Mapping[str, Curve], kinds: Mapping[str, str]) -> go.Figure | str:
    """Share of stimuli right and not flipped within eps, a line per model."""
    if not curves:
        return "No model here has stored norms."
    figure = go.Figure(layout=LAYOUT)
    for name, (radii, shares) in curves.items():
        figure.add_trace(
            go.Scatter(
                x=radii, y=shares, mode="lines", name=name, line={"color": COLOURS[kinds[name]], "width": 1.5},
                hovertemplate=f"{name}<br>eps %{{x:.2f}}: %{{y:.3f}}",
            )
        )  # fmt: skip
    figure.update_layout(
        xaxis_title="perturbation size eps (l2 norm)",
        yaxis_title="right and not flipped within eps",
        showlegend=len(curves) <= 15,
    )
    return figure


def protocol_scatter(comparison: Mapping[str, Any], kinds: Mapping[str, str]) -> go.Figure | str:
    """PT under the headline protocol against PT under the second, a point per model, with the line of equality."""
    names = list(dict.fromkeys(name for row in comparison["models"] for name in row["pt"]))
    if len(names) < 2:
        return "Only one protocol has been evaluated: set `evaluate.also` in params.yaml to see two side by side."
    first, second = names[:2]
    rows = [row for row in comparison["models"] if None not in (row["pt"][first], row["pt"][second])]
    figure = go.Figure(layout=LAYOUT)
    figure.add_trace(
        go.Scatter(
            x=[row["pt"][second] for row in rows], y=[row["pt"][first] for row in rows], mode="markers",
            text=[row["model"] for row in rows], showlegend=False,
            customdata=[row["model"] for row in rows],
            marker={
                "size": 10,
                "color": [COLOURS[kinds[row["model"]]] for row in rows],
                "symbol": [SYMBOLS[kinds[row["model"]]] for row in rows],
            },
            hovertemplate=f"%{{text}}<br>{second}: %{{x:.3f}}<br>{first}: %{{y:.3f}}<extra></extra>",
        )
    )  # fmt: skip
    largest = max((value for row in rows for value in row["pt"].values() if value is not None), default=1.0)
    line = {"color": "#999999", "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, largest], y=[0, largest], mode="lines", line=line, name="equal"))
    figure.update_layout(xaxis_title=f"PT, {second}", yaxis_title=f"PT, {first}")
    return figure


def _points(rows: pd.DataFrame, x: str, y: str) -> go.Figure:
    figure = go.Figure(layout=LAYOUT)
    kinds = np.array(kinds_of(rows))
    crowded = len(rows) > 40
    for kind in in_order(kinds):
        part = rows[kinds == kind]
        errors = {
            f"error_{axis}": {"array": part[f"{name}_sem"], "thickness": 0.8, "width": 0}
            for axis, name in (("x", x), ("y", y))
            if f"{name}_sem" in part and not crowded
        }
        figure.add_trace(
            go.Scatter(
                x=part[x], y=part[y], mode="markers", name=f"{NAMES[kind]} ({len(part)})", text=part["model"],
                customdata=part["model"], **errors,
                marker={
                    "color": COLOURS[kind], "symbol": SYMBOLS[kind],
                    "size": 7 if crowded else 11, "opacity": 0.75 if crowded else 1,
                },
                hovertemplate=f"%{{text}}<br>{x} %{{x:.3f}}<br>{y} %{{y:.3f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(xaxis_title=METRIC_NAMES[x], yaxis_title=METRIC_NAMES[y])
    return figure
