"""Models as points: the PT-AA plane and PT or AA against accuracy (Feng Figs. 2, 3 and 4).

Where a plot would mislead (one model, only missing values), the figure is a sentence that says why.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from advalign.analysis.groups import in_order, kinds_of, look
from advalign.analysis.pareto import beyond_front, pareto_front
from advalign.analysis.plots import DASHES, Arrow, Axis, Band, Line, Mark, Panel, Plot, Points, Words, axis_of
from advalign.analysis.records import Spearman
from advalign.analysis.statistics import quadratic_fit, spearman
from advalign.analysis.table import STANDARD, check_table, is_standard, norm_of_table, protocol_of
from advalign.errors import unknown_name

HUMAN_ACCURACY = (95.14, 2.02)
"""Multi-label accuracy of people, mean and sd in percent (Shankar et al. 2020; Feng Fig. 2)."""
LABELLED = 15
"""Up to this number of models every point is named; in larger zoos only outstanding ones are."""
FITTED = 6
"""Least number of models for a second-degree fit: fewer points would determine it almost exactly."""
SPREAD = 8.0
"""Above this ratio of largest to smallest PT its axis is logarithmic: otherwise most points overlap."""
BAND = "#F0E442"


def pt_aa_plane(table: pd.DataFrame, twins: Iterable[tuple[str, str]] = ()) -> Plot:
    """PT-AA plane (Feng Fig. 4): the standard models' Pareto front, and arrows from each baseline to its twin.

    Args:
        table: One row per model (`table.read_table`); PT in the table's norm, AA as a share of the human ceiling.
        twins: (baseline, twin) names; pairs with a model that is not in the table are left out and counted.

    Returns:
        The figure.
    """
    whole = check_table(table, "the table")
    title = "Perturbation tolerance against adversarial human alignment"
    rows = whole[whole["pt"].notna() & whole["aa"].notna()]
    if not _spread(rows, "pt", "aa"):
        return Plot(title, _why_none(len(rows), len(whole), "PT and AA"))
    standard = rows[is_standard(rows)]
    front = standard[pareto_front(standard["pt"], standard["aa"])]
    kinds = kinds_of(rows)
    arrows, dropped = _arrows(rows, list(twins), kinds)
    marks: list[Mark] = [*_steps(front), *arrows, *points_of(rows, "pt", "aa", kinds, crowded=len(rows) > LABELLED)]
    x = tolerance_axis(rows["pt"], norm_of_table(rows))
    panel = Panel(x, axis_of("aa"), marks, *_labels(rows, "pt", "aa", kinds, front))
    notes = [*_missing(len(rows), len(whole), "PT or AA"), *dropped]
    if not len(front):
        notes.append("There is no standard model here, hence no Pareto front.")
    return Plot(title, _detail(standard["pt"], standard["aa"], rows), [panel], notes, _size(rows))


def against_accuracy(table: pd.DataFrame, metric: str) -> Plot:
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
    accuracy = "multilabel_accuracy"
    x, y = axis_of(accuracy, high=100.5), axis_of(metric, norm=norm_of_table(whole))
    title = f"{y.name.capitalize()} against {x.name}"
    whole = whole.assign(multilabel_accuracy=percent(whole[accuracy]))
    rows = whole[whole[metric].notna() & whole[accuracy].notna()]
    if not _spread(rows, accuracy, metric):
        return Plot(title, _why_none(len(rows), len(whole), f"{metric.upper()} and {x.name}"))
    standard = rows[is_standard(rows)]
    kinds = kinds_of(rows)
    mean, sd = HUMAN_ACCURACY
    band = Band(mean - sd, mean + sd, BAND, f"people, {mean} ± {sd} %")
    points = points_of(rows, accuracy, metric, kinds, crowded=len(rows) > LABELLED)
    marks: list[Mark] = [band, *points, *_fit(standard[accuracy], standard[metric])]
    labels = _labels(rows, accuracy, metric, kinds, rows.iloc[:0])
    panel = Panel(x, y, marks, *labels)
    notes = _missing(len(rows), len(whole), f"{metric.upper()} or {x.name}")
    return Plot(title, _detail(standard[accuracy], standard[metric], rows), [panel], notes, _size(rows))


def percent(accuracy: "pd.Series[float]") -> "pd.Series[float]":
    """Accuracies in percent: a column with any value above 1 is in percent already, others are shares in [0, 1]."""
    return accuracy if bool((accuracy > 1).any()) else accuracy * 100


def tolerance_axis(pt: "pd.Series[float]", norm: str) -> Axis:
    """Axis of PT in a norm, logarithmic where the largest value is over `SPREAD` times the smallest."""
    log = bool(pt.min() > 0 and pt.max() / pt.min() > SPREAD)
    return axis_of("pt", "log scale" if log else "", norm, log=log)


def points_of(rows: pd.DataFrame, x: str, y: str, kinds: Mapping[str, str], *, crowded: bool = False) -> list[Points]:
    """Models as points, kind by kind, with error bars where the columns have them.

    Args:
        rows: One row per model: model, the columns x and y and, where known, their SEM.
        x, y: Columns.
        kinds: Model -> kind (`groups.kinds_of`).
        crowded: Whether markers are small; standard models are then paler than other models in the table.
    """
    kind_of_row = rows["model"].map(kinds)
    pale = crowded and not kind_of_row.isin(STANDARD).all()
    found = []
    for kind in in_order(kind_of_row):
        part, seen = rows[kind_of_row == kind], look(kind)
        columns = [x, y, f"{x}_sem", f"{y}_sem"]
        across, up, *errors = part.reindex(columns=columns).to_numpy(dtype=float).T  # without SEM all nan
        area = seen.area * (0.45 if crowded else 1.0)
        alpha = 0.45 if pale and kind in STANDARD else 0.75 if crowded else 1.0
        label, names = f"{seen.name} ({len(part)})", list(part["model"])
        found.append(Points(across, up, seen.colour, seen.marker, label, names, errors[0], errors[1], area, alpha))
    return found


def _size(rows: pd.DataFrame) -> tuple[float, float]:
    """Width and height in inches: a large zoo needs more room for its names."""
    return (7.5, 5.0) if len(rows) <= LABELLED else (9.5, 6.2)


def _spread(rows: pd.DataFrame, x: str, y: str) -> bool:
    """Whether the models' points are not all the same."""
    return len(rows[[x, y]].drop_duplicates()) > 1


def _why_none(usable: int, models: int, what: str) -> str:
    if not usable:
        return f"None of {models} models has {what}: there is nothing to draw."
    if usable > 1:
        return f"All {usable} models with {what} have the same values: a single point shows no relation."
    among = "There is only one model" if models == 1 else f"Only one of {models} models has {what}"
    return f"{among}: a single point shows no relation."


def _missing(usable: int, models: int, what: str) -> list[str]:
    left_out = models - usable
    have = "has" if left_out == 1 else "have"
    return [f"{left_out} of {models} models {have} no {what} and cannot be shown."] if left_out else []


def _detail(x: "pd.Series[float]", y: "pd.Series[float]", rows: pd.DataFrame) -> str:
    """Second line of a title: rho, p and n over the standard models, and the protocol."""
    link, protocol = spearman(x, y), protocol_of(rows)
    return f"{_correlation(link)}; protocol {protocol}" if protocol else _correlation(link)


def _correlation(link: Spearman) -> str:
    over = f"{link.n} standard model{'' if link.n == 1 else 's'}"
    if link.n < 3:
        return f"{over}: too few for Spearman's ρ"
    if np.isnan(link.rho):
        return f"{over}, no Spearman's ρ: all equal in one of the two"
    p = p_words(link.p) if np.isnan(link.p_exact) else f"exact {p_words(link.p_exact)}"
    return f"Spearman's ρ = {link.rho:.2f}, {p}, {over}"


def p_words(p: float) -> str:
    """Write a p value as the paper does.

    >>> [p_words(p) for p in (1e-7, 0.0152, float("nan"))]
    ['p < 0.001', 'p = 0.015', 'p not computable']
    """
    if p != p:
        return "p not computable"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _steps(front: pd.DataFrame) -> list[Line]:
    """Border of the region that the front dominates; every standard model is on it, or below and to the left."""
    if not len(front):
        return []
    ordered = front.sort_values("pt")
    pt, aa = (np.repeat(ordered[name].to_numpy(dtype=float), 2) for name in ("pt", "aa"))
    x, y = np.concatenate([[-np.inf], pt]), np.concatenate([aa, [-np.inf]])
    return [Line(x, y, label="Pareto front (standard)", dash=DASHES[1], guide=True)]


def _arrows(
    rows: pd.DataFrame, twins: list[tuple[str, str]], kinds: Mapping[str, str]
) -> tuple[list[Arrow], list[str]]:
    """An arrow per pair, and sentences on what could not be drawn."""
    places = dict(zip(rows["model"], rows[["pt", "aa"]].itertuples(index=False, name=None), strict=True))
    drawn = [
        Arrow(places[baseline], places[twin], look(kinds[twin]).colour)
        for baseline, twin in twins
        if baseline in kinds and twin in kinds
    ]
    if not drawn:
        return [], ["No model here has its harmonized or robust twin in the table: no arrows."]
    left_out = len(twins) - len(drawn)
    return drawn, [f"{left_out} of {len(twins)} twins have no point here."] if left_out else []


def _fit(x: "pd.Series[float]", y: "pd.Series[float]") -> list[Line]:
    """The second-degree fit over the range of x; empty where no fit is drawn."""
    fit = quadratic_fit(x, y)
    if np.isnan(fit.r2) or fit.n < FITTED:
        return []
    grid = np.linspace(float(x.min()), float(x.max()), 200)
    return [Line(grid, np.asarray(np.polyval(fit.coefficients, grid)), label="second-degree fit", guide=True)]


def _labels(
    rows: pd.DataFrame, x: str, y: str, kinds: Mapping[str, str], front: pd.DataFrame
) -> tuple[list[Words], bool]:
    """Names to show: all of a small table; of a large one, models on or beyond the front and non-standard models."""
    few = len(rows) <= LABELLED
    beyond = rows[beyond_front(rows["pt"], rows["aa"], front["pt"], front["aa"])]["model"]
    special = [kind for kind in reversed(in_order(kinds.values())) if kind not in STANDARD]
    others = [model for kind in special for model in rows["model"] if kinds[model] == kind]
    names = dict.fromkeys([*front["model"], *(model for model in others if model in set(beyond)), *others])
    if few:
        names |= dict.fromkeys(rows["model"])
    places = dict(zip(rows["model"], rows[[x, y]].to_numpy(dtype=float), strict=True))
    return [Words(places[name][0], places[name][1], name) for name in names], few
