"""Figures of a study of guided models: tolerance by area, accuracy and tolerance, fit to the responses, geometry."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from advalign.analysis.guidance.comparisons import means
from advalign.analysis.guidance.measured import (
    AREA,
    CLASS_CODE,
    DEGRADED,
    FIT,
    GEOMETRY,
    NONE,
    NONE_CE,
    OF_AN_AREA,
    OTHER,
    RANDOM,
    ROLES,
    SHORTER,
    SHUFFLED,
    WITHIN,
    Results,
)
from advalign.analysis.plots import Axis, Band, Line, Mark, Panel, Plot, Points, Words
from advalign.vocabulary import UNITS

LOOKS = {
    AREA: ("#0072B2", "circle"),
    SHUFFLED: ("#E69F00", "square"),
    WITHIN: ("#CC79A7", "triangle-up"),
    DEGRADED: ("#56B4E9", "diamond"),
    CLASS_CODE: ("#009E73", "star"),
    NONE: ("#222222", "cross"),
    NONE_CE: ("#777777", "cross"),
    RANDOM: ("#D55E00", "x"),
    SHORTER: ("#BBBBBB", "circle"),
    OTHER: ("#8C6D31", "pentagon"),
}
"""Role -> colour (Okabe and Ito 2008) and marker."""
FITTED = dict(zip(FIT, ("explained variance over ceiling (share)", "RSA (Spearman's ρ)", "linear CKA"), strict=True))
"""Measure of fit -> its axis."""
BANDS = {NONE: "#777777", CLASS_CODE: "#009E73"}
OFFSETS = {AREA: 0.0, SHUFFLED: 0.16, WITHIN: 0.32, DEGRADED: -0.16}  # of an area's row, so that arms do not overlap


def guidance_plots(results: Results) -> dict[str, Plot]:
    """Every figure, by the name of its file; each says where the responses are from."""
    found = {}
    for norm in results.norm_names:
        table = means(results, norm)
        ending = "" if norm == results.norm_names[0] else f"_{norm}"
        found[f"tolerance{ending}"] = by_area(results, table, norm)
        found[f"plane{ending}"] = plane(results, table, norm)
        found[f"geometry{ending}"] = geometry(results, table, norm)
    if results.norm_names:
        found["fit"] = fit(results, means(results, results.norm_names[0]))
    return found


def by_area(results: Results, table: pd.DataFrame, norm: str) -> Plot:
    """Tolerance of the models that each area guides, and of their controls; bands: no guidance, class code.

    Args:
        results: of the study.
        table: from `comparisons.means`.
        norm: of the tolerances.
    """
    title = f"Tolerance by area: {results.provenance} responses"
    marks: list[Mark] = []
    for role, colour in BANDS.items():
        own = table[(table["role"] == role) & table["tolerance"].notna()]
        if len(own):
            at, half = float(own["tolerance"].iloc[0]), float(np.nan_to_num(own["tolerance_sem"].iloc[0]))
            marks.append(Band(at - half, at + half, colour, f"{ROLES[role]}, mean ± SEM"))
    points = _rows(results, table, "tolerance")
    if not points:
        return Plot(title, "No model that an area guides has a tolerance.")
    detail = f"mean ± SEM over {_seeds(results)}; images that all compared models get right"
    panel = Panel(_tolerance(norm), Axis("area", ticks=list(results.areas)), [*marks, *points])
    return Plot(title, detail, [panel], _weak(table), (8.5, 1.6 + 0.8 * len(results.areas)))


def _rows(results: Results, table: pd.DataFrame, column: str) -> list[Mark]:
    """Points of the arms that areas guide: a row of the figure per area."""
    marks: list[Mark] = []
    for role in OF_AN_AREA:
        own = table[(table["role"] == role) & table.get(column, pd.Series(np.nan, table.index)).notna()]
        if own.empty:
            continue
        colour, marker = LOOKS[role]
        y = np.array([results.areas.index(area) + OFFSETS[role] for area in own["area"]], dtype=np.float64)
        spread = f"{column}_sem"
        error = own[spread].to_numpy(float) if spread in own else None
        names = list(own["arm"])
        marks.append(Points(own[column].to_numpy(float), y, colour, marker, ROLES[role], names, error))
    return marks


def plane(results: Results, table: pd.DataFrame, norm: str) -> Plot:
    """Accuracy against tolerance, a point per arm; a line joins the unguided trainings of growing length."""
    title = f"Accuracy and tolerance: {results.provenance} responses"
    rows = table[table["tolerance"].notna() & table["accuracy"].notna()]
    if len(rows) < 2:
        return Plot(title, "Fewer than two models have accuracy and tolerance.")
    marks: list[Mark] = []
    unguided = rows[rows["role"].isin((NONE, SHORTER))].sort_values("accuracy")
    if len(unguided) > 1:
        x, y = unguided[["accuracy", "tolerance"]].to_numpy(float).T
        marks.append(Line(x, y, "#999999", "unguided, by number of epochs"))
    marks += _points(rows, "accuracy", "tolerance")
    named = rows[~rows["role"].isin((SHORTER,))]
    labels = [Words(x, y, name) for x, y, name in named[["accuracy", "tolerance", "arm"]].itertuples(index=False)]
    panel = Panel(Axis("clean accuracy"), _tolerance(norm), marks, labels, keep_all=False)
    return Plot(title, f"mean ± SEM over {_seeds(results)}", [panel], _weak(table), (9.0, 5.6))


def _points(rows: pd.DataFrame, x: str, y: str) -> list[Points]:
    found = []
    for role, (colour, marker) in LOOKS.items():
        own = rows[rows["role"] == role]
        if len(own):
            columns = own.reindex(columns=[x, y, f"{x}_sem", f"{y}_sem"]).to_numpy(float).T
            found.append(Points(columns[0], columns[1], colour, marker, ROLES[role], list(own["arm"]), *columns[2:]))
    return found


def fit(results: Results, table: pd.DataFrame) -> Plot:
    """Fit to the area that guides, a panel per measure: whether guidance made the features alike at all."""
    title = f"Fit of features and responses: {results.provenance} responses"
    panels = []
    for column, label in FITTED.items():
        marks = _rows(results, table, column)
        if not marks:
            continue
        for _, row in table[(table["role"] == NONE) & table[column].notna()].iterrows():
            at, half = float(row[column]), float(np.nan_to_num(row[f"{column}_sem"]))
            marks.insert(0, Band(at - half, at + half, BANDS[NONE], f"{ROLES[NONE]}, mean ± SEM over areas and seeds"))
        panels.append(Panel(Axis(label), Axis("area", ticks=list(results.areas)), marks))
    if not panels:
        return Plot(title, "No model's fit to the responses was measured.")
    size = (4.2 * len(panels) + 4.3, 1.6 + 0.8 * len(results.areas))
    return Plot(title, f"mean ± SEM over {_seeds(results)}", panels, size=size)


def geometry(results: Results, table: pd.DataFrame, norm: str) -> Plot:
    """Geometry of class manifolds against tolerance, a panel per measure, a point per arm."""
    title = f"Geometry and tolerance: {results.provenance} responses"
    panels = []
    for column in (str(name) for name in table if str(name).partition("@")[0] in GEOMETRY):
        rows = table[table[column].notna() & table["tolerance"].notna()]
        if len(rows) > 1:
            panels.append(Panel(Axis(f"manifold {column}"), _tolerance(norm), _points(rows, column, "tolerance")))
    if not panels:
        return Plot(title, "The geometry of no two models was measured.")
    return Plot(title, "a point per arm, mean over seeds", panels, size=(4.2 * len(panels) + 2.5, 4.6))


def _tolerance(norm: str) -> Axis:
    return Axis(f"tolerance (mean {UNITS[norm]})")


def _seeds(results: Results) -> str:
    count = results.models["seed"].nunique()
    return f"{count} seed{'' if count == 1 else 's'}"


def _weak(table: pd.DataFrame) -> Sequence[str]:
    """A note on arms without tolerance."""
    lacking = list(table.loc[table["tolerance"].isna(), "arm"])
    return [f"No image that all models get right is left for {', '.join(lacking)}."] if lacking else []
