"""Models as points: the PT-AA plane and PT or AA against accuracy (Feng Figs. 2, 3 and 4)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advalign.analysis.drawing import (
    BAND,
    INK,
    METRIC_NAMES,
    canvas,
    footnote,
    in_order,
    kinds_by_model,
    legend,
    literally,
    p_words,
    sentence,
    title,
)
from advalign.analysis.labels import Label, place_labels
from advalign.analysis.pareto import beyond_front, pareto_front
from advalign.analysis.points import (
    LABELLED,
    along_bars,
    draw_arrows,
    draw_fit,
    draw_front,
    draw_points,
    fix_limits,
    legend_of,
    spread_out,
)
from advalign.analysis.results import Spearman
from advalign.analysis.statistics import spearman
from advalign.analysis.table import STANDARD, check_table, is_standard, protocol_of
from advalign.errors import unknown_name

Vector = npt.NDArray[np.float64]

HUMAN_ACCURACY = (95.14, 2.02)
"""Multi-label accuracy of people, mean and sd in percent (Shankar et al. 2020; Feng Fig. 2)."""


def percent(accuracy: "pd.Series[float]") -> "pd.Series[float]":
    """Accuracies in percent: a column with any value above 1 is in percent already, else it is of shares in [0, 1]."""
    return accuracy if bool((accuracy > 1).any()) else accuracy * 100


@literally
def pt_aa_plane(table: pd.DataFrame, twins: Iterable[tuple[str, str]] = ()) -> Figure:
    """PT-AA plane (Feng Fig. 4): the standard models' Pareto front, and arrows from each baseline to its twin.

    Args:
        table: One row per model (`table.read_table`); PT in l2 units, AA as a share of the human ceiling.
        twins: (baseline, twin) names; pairs with a model that is missing here are left out and counted.

    Returns:
        The figure.
    """
    whole = check_table(table, "the table")
    heading = "Perturbation tolerance against adversarial human alignment"
    rows = whole[whole["pt"].notna() & whole["aa"].notna()]
    if not _spread(rows, "pt", "aa"):
        return sentence(_why_none(len(rows), len(whole), "PT and AA"), heading)
    standard = rows[is_standard(rows)]
    front = standard[pareto_front(standard["pt"], standard["aa"])]
    figure, axes = canvas(*_size(rows))
    draw_points(axes, rows, "pt", "aa", reference=not is_standard(rows).all())
    _labels_of_axes(axes, "pt", "aa")
    spread_out(axes, rows["pt"])
    fix_limits(axes)
    arrows, dropped = draw_arrows(axes, rows, list(twins))
    draw_front(axes, front)
    link = spearman(standard["pt"], standard["aa"])
    title(figure, heading, _detail(link, protocol_of(rows)))
    legend(figure, legend_of(rows, front))
    notes = [_missing(len(rows), len(whole), "PT or AA"), *dropped]
    if not len(front):
        notes.append("There is no standard model here, hence no Pareto front.")
    footnote(figure, [note for note in notes if note])
    _name_points(figure, axes, rows, ("pt", "aa"), front, arrows)
    return figure


@literally
def against_accuracy(table: pd.DataFrame, metric: str) -> Figure:
    """PT or AA against multi-label accuracy, with the human band and a second-degree fit (Feng Figs. 2 and 3).

    Args:
        table: One row per model (`table.read_table`).
        metric: "pt" or "aa".

    Returns:
        The figure; rho, p and the fit are over the standard models.

    Raises:
        InputError: Another metric, or a table that `check_table` refuses.
    """
    if metric not in ("pt", "aa"):
        raise unknown_name("metric", metric, ("pt", "aa"))
    whole = check_table(table, "the table")
    heading = f"{METRIC_NAMES[metric].split(' (')[0].capitalize()} against multi-label accuracy"
    whole = whole.assign(multilabel_accuracy=percent(whole["multilabel_accuracy"]))
    rows = whole[whole[metric].notna() & whole["multilabel_accuracy"].notna()]
    if not _spread(rows, "multilabel_accuracy", metric):
        return sentence(_why_none(len(rows), len(whole), f"{metric.upper()} and multi-label accuracy"), heading)
    standard = rows[is_standard(rows)]
    figure, axes = canvas(*_size(rows))
    mean, spread = HUMAN_ACCURACY
    axes.axvspan(mean - spread, mean + spread, color=BAND, alpha=0.35, linewidth=0, zorder=0)
    draw_points(axes, rows, "multilabel_accuracy", metric, reference=not is_standard(rows).all())
    _labels_of_axes(axes, "multilabel_accuracy", metric)
    axes.set_xlim(right=100.5)
    fix_limits(axes)
    curve = draw_fit(axes, standard["multilabel_accuracy"], standard[metric])
    link = spearman(standard["multilabel_accuracy"], standard[metric])
    title(figure, heading, _detail(link, protocol_of(rows)))
    people = Line2D([], [], color=BAND, alpha=0.5, linewidth=9, label=f"people, {mean} ± {spread} %")
    extra = [Line2D([], [], color=INK, linewidth=1.2, label="second-degree fit")] if curve else []
    legend(figure, [*legend_of(rows, rows.iloc[:0]), *extra, people])
    missing = _missing(len(rows), len(whole), f"{metric.upper()} or multi-label accuracy")
    footnote(figure, [missing] if missing else [])
    _name_points(figure, axes, rows, ("multilabel_accuracy", metric), rows.iloc[:0], np.empty((0, 2)))
    return figure


def _size(rows: pd.DataFrame) -> tuple[float, float]:
    """Width and height in inches: a large zoo needs more room for its names."""
    return (7.5, 5.0) if len(rows) <= LABELLED else (9.5, 6.2)


def _spread(rows: pd.DataFrame, x: str, y: str) -> bool:
    """Whether the models lie on more than one spot."""
    return len(rows[[x, y]].drop_duplicates()) > 1


def _why_none(usable: int, models: int, what: str) -> str:
    if not usable:
        return f"None of {models} models has {what}: there is nothing to draw."
    if usable > 1:
        return f"All {usable} models with {what} have the same values: a single point shows no relation."
    among = "There is only one model" if models == 1 else f"Only one of {models} models has {what}"
    return f"{among}: a single point shows no relation."


def _missing(usable: int, models: int, what: str) -> str:
    left_out = models - usable
    if not left_out:
        return ""
    return f"{left_out} of {models} models {'has' if left_out == 1 else 'have'} no {what} and cannot be shown."


def _detail(link: Spearman, protocol: str | None) -> str:
    """Second line of a title: rho, p and n over the standard models, and the protocol."""
    over = f"{link.n} standard model{'' if link.n == 1 else 's'}"
    exact = not np.isnan(link.p_exact)
    if link.n < 3:
        found = f"{over}: too few for Spearman's ρ"
    elif np.isnan(link.rho):
        found = f"{over}, no Spearman's ρ: all equal in one of the two"
    else:
        p = f"exact {p_words(link.p_exact)}" if exact else p_words(link.p)
        found = f"Spearman's ρ = {link.rho:.2f}, {p}, {over}"
    return f"{found}; protocol {protocol}" if protocol else found


def _labels_of_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(METRIC_NAMES[x], fontsize=10, color=INK)
    axes.set_ylabel(METRIC_NAMES[y], fontsize=10, color=INK)


def _name_points(
    figure: Figure, axes: Axes, rows: pd.DataFrame, columns: tuple[str, str], front: pd.DataFrame, arrows: Vector
) -> None:
    """Name every point of a small table; of a large one only those on or beyond the front, and no standard ones."""
    kinds = kinds_by_model(rows)
    few = len(rows) <= LABELLED
    beyond = rows[beyond_front(rows["pt"], rows["aa"], front["pt"], front["aa"])]["model"]
    special = [kind for kind in ("combined", "harmonized", "robust", *in_order(kinds.values())) if kind not in STANDARD]
    others = [model for kind in special for model in rows["model"] if kinds[model] == kind]
    names = dict.fromkeys([*front["model"], *(model for model in others if model in set(beyond)), *others])
    if few:
        names |= dict.fromkeys(rows["model"])
    points = rows[list(columns)].to_numpy(dtype=float)
    places = dict(zip(rows["model"], points, strict=True))
    labels = [Label(float(places[model][0]), float(places[model][1]), model, INK) for model in names]
    place_labels(figure, axes, labels, points, np.vstack([along_bars(rows, *columns), arrows]), keep_all=few)
