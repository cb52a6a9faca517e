"""The figures of the comparison, each a pure function to a matplotlib `Figure` (Feng Figs. 2-4, 6, 7).

Where a plot would mislead (one model, nothing but missing values, no twins) the figure is a sentence that says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advalign.analysis.drawing import (
    COLOURS,
    INK,
    METRIC_NAMES,
    NAMES,
    canvas,
    footnote,
    in_order,
    legend,
    literally,
    save,
    sentence,
    stars,
    title,
)
from advalign.analysis.points import LABELLED
from advalign.analysis.scatter import against_accuracy, pt_aa_plane
from advalign.errors import InputError

__all__ = ["against_accuracy", "pt_aa_plane", "robust_accuracy_curves", "save", "twin_bars"]

Vector = npt.NDArray[np.float64]
Curve = tuple[Vector, Vector]

DASHES: tuple[Literal["-", "--", ":", "-."] | tuple[float, Sequence[float]], ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (1, 3)),
)


@literally
def twin_bars(paired: Sequence[Mapping[str, Any]], metric: str, kinds: Mapping[str, str] | None = None) -> Figure:
    """Bars of each baseline and its twin over the stimuli both got right, SEM and significance (Feng Figs. 6 and 7).

    Args:
        paired: Entries of `twins.paired_statistics`, or the same from `statistics.json` (None for nan).
        metric: "pt" or "aa".
        kinds: Model -> kind (`drawing.kinds_by_model`), for the colours; a twin without one is a standard model's.

    Returns:
        The figure; stars are of the paired t test: *** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise.
    """
    heading = f"{METRIC_NAMES[metric].split(' (')[0].capitalize()} of twins"
    wanted = [entry for entry in paired if entry["metric"] == metric]
    entries = [entry for entry in wanted if _finite(entry["baseline_mean"]) and _finite(entry["twin_mean"])]
    if not wanted:
        return sentence(
            "No model here has a harmonized, robust or combined twin: there is nothing to compare.", heading
        )
    if not entries:
        return sentence("No pair of twins shares a stimulus that both got right: there is nothing to compare.", heading)
    figure, axes = canvas(7.5, 1.7 + 0.5 * len(entries))
    of_twins = [(kinds or {}).get(entry["twin"], "standard") for entry in entries]
    for place, entry in enumerate(entries):
        _pair_of_bars(axes, place, entry, of_twins[place])
    handles = [
        Line2D([], [], color=COLOURS[kind], linewidth=7, label="baseline" if kind == "standard" else NAMES[kind])
        for kind in dict.fromkeys(["standard", *of_twins])
    ]
    _finish_bars(figure, axes, entries, metric, heading, len(wanted) - len(entries), handles)
    return figure


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _pair_of_bars(axes: Axes, place: int, entry: Mapping[str, Any], kind: str) -> None:
    """Draw the baseline above its twin, and the stars behind whichever reaches further."""
    colours = (COLOURS["standard"], COLOURS[kind])
    reach = 0.0
    for side, colour, shift in zip(("baseline", "twin"), colours, (-0.19, 0.19), strict=True):
        mean, error = entry[f"{side}_mean"], entry[f"{side}_sem"]
        error = error if _finite(error) else 0.0
        axes.barh(place + shift, mean, height=0.36, color=colour, zorder=2)
        for rim, width in (("white", 2.6), (INK, 1.0)):  # the white rim keeps the bar visible on black
            ends = axes.errorbar(mean, place + shift, xerr=error, fmt="none", ecolor=rim, elinewidth=width, capsize=2.5)
            for artist in ends.get_children():
                artist.set_zorder(3)
        reach = max(reach, mean + error)
    axes.annotate(
        f"{stars(entry['p'])}  n = {entry['n']}",
        (reach, place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )


def _finish_bars(
    figure: Figure,
    axes: Axes,
    entries: Sequence[Mapping[str, Any]],
    metric: str,
    heading: str,
    left_out: int,
    handles: list[Line2D],
) -> None:
    axes.set_yticks(range(len(entries)), [str(entry["twin"]) for entry in entries])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.28)
    axes.axvline(0, color=INK, linewidth=0.8)
    unit = "mean l2 norm" if metric == "pt" else _alignment_unit(entries)
    axes.set_xlabel(f"{METRIC_NAMES[metric].split(' (')[0]} ({metric.upper()}, {unit})", fontsize=10, color=INK)
    protocols = sorted({str(entry["protocol"]) for entry in entries if entry.get("protocol")})
    named = f"; protocol {', '.join(protocols)}" if protocols else ""
    title(figure, heading, f"mean ± SEM over the n stimuli that both models got right{named}")
    legend(figure, handles)
    notes = ["Paired t test, two-sided, uncorrected: *** p < 0.001, ** p < 0.01, * p < 0.05, n.s. not significant."]
    if left_out:
        notes.append(f"{left_out} pair{'' if left_out == 1 else 's'} cannot be shown: no stimulus both got right.")
    footnote(figure, notes)


def _alignment_unit(entries: Sequence[Mapping[str, Any]]) -> str:
    ceilings = {entry.get("ceiling") for entry in entries}
    return "Spearman's ρ" if ceilings == {None} else "share of the human ceiling"


@literally
def robust_accuracy_curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], kinds: Mapping[str, str] | None = None
) -> Figure:
    """Share of stimuli right and not flipped within eps, against eps, a line per model (methods.md section 3).

    Args:
        curves: Model -> (eps, accuracy): (k,) l2 radii and (k,) shares in [0, 1], as stored norms give them.
        kinds: Model -> kind (`drawing.kinds_by_model`), for the colours; a model without one is a standard one.

    Returns:
        The figure; beyond 15 models lines carry the colour of their kind only.

    Raises:
        InputError: eps and accuracy of a model differ in length.
    """
    heading = "Robust accuracy"
    usable = {model: _curve(model, *curve) for model, curve in curves.items()}
    drawn = {model: curve for model, curve in usable.items() if curve[0].size > 1}
    if not drawn:
        return sentence("No model here has a robust-accuracy curve with two or more points.", heading)
    figure, axes = canvas()
    legend(figure, _draw_curves(axes, drawn, kinds or {}))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("perturbation size eps (l2 norm)", fontsize=10, color=INK)
    axes.set_ylabel("share right and not flipped within eps", fontsize=10, color=INK)
    title(figure, heading, f"{len(drawn)} model{'' if len(drawn) == 1 else 's'}")
    dropped = sorted(set(usable) - set(drawn))
    more = f" and {len(dropped) - 5} others" if len(dropped) > 5 else ""
    footnote(figure, [f"No curve for {', '.join(dropped[:5])}{more}."] if dropped else [])
    return figure


def _draw_curves(axes: Axes, curves: Mapping[str, Curve], known: Mapping[str, str]) -> list[Line2D]:
    """Draw a line per model, its kind's colour and within it a dash pattern of its own; give the legend's lines."""
    many = len(curves) > LABELLED
    kinds = {model: known.get(model, "standard") for model in curves}
    sizes = Counter(kinds.values())
    handles: dict[str, Line2D] = {}
    for kind in in_order(sizes):
        alpha = min(0.7, max(0.12, 25 / sizes[kind])) if many else 1.0
        for place, model in enumerate(sorted(model for model in curves if kinds[model] == kind)):
            style = "-" if many else DASHES[place % len(DASHES)]
            width = 0.9 if many else 1.6
            axes.plot(*curves[model], color=COLOURS[kind], linestyle=style, alpha=alpha, linewidth=width)
            name = f"{NAMES[kind]} ({sizes[kind]})" if many else model
            handles[name] = Line2D([], [], color=COLOURS[kind], linestyle=style, label=name)
    return list(handles.values())


def _curve(model: str, eps: npt.ArrayLike, accuracy: npt.ArrayLike) -> Curve:
    """Finite points of a curve in the order of eps."""
    x, y = np.asarray(eps, dtype=np.float64).ravel(), np.asarray(accuracy, dtype=np.float64).ravel()
    if x.size != y.size:
        raise InputError(f"curve of {model}: {x.size} eps but {y.size} accuracies; give one accuracy per eps")
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    return x[known][order], y[known][order]
