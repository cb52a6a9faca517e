"""Figures of how well people agree: ceilings over floors, and how many participants are enough."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.plots import DASHES, Axis, Columns, Line, Mark, Panel, Plot, Points, Vector

MEASURES = {
    "spearman": "Spearman's ρ",
    "auc": "AUC",
    "nss": "NSS",
    "emd": "earth mover's distance",
}
"""Measures of agreement in the order of the report; the distance is small where people agree."""
CEILING, FLOOR, MODEL = "#0072B2", "#999999", "#D55E00"
BINS = 30
BEYOND = "extrapolated"


def people_plots(agreement: pd.DataFrame, curve: Mapping[str, Any]) -> dict[str, Plot]:
    """The figures by the names of their files.

    Args:
        agreement: outputs/maps/agreement.parquet, a row per image.
        curve: outputs/maps/curve.json.
    """
    return {"people_ceilings": ceiling_histogram(agreement), "people_curve": participants_curve(curve)}


def ceiling_histogram(agreement: pd.DataFrame) -> Plot:
    """How many images have which ceiling, over how many have which floor, in Spearman's rho.

    Images whose corrected ceiling is not above their floor are counted in a note.
    """
    title = "Agreement of people, image by image"
    names = {"ceiling": "spearman_ceiling", "floor": "spearman_floor", "corrected": "spearman_corrected"}
    values = {name: agreement[column].to_numpy(dtype=np.float64) for name, column in names.items()}
    known = values["ceiling"][np.isfinite(values["ceiling"])]
    floors = values["floor"][np.isfinite(values["floor"])]
    if not known.size:
        return Plot(title, "No image has a ceiling: none is left after cleaning.")
    edges = np.linspace(min([*known, *floors]), max([*known, *floors]), BINS + 1)
    shown = [("floor: another image's half", FLOOR, floors), ("ceiling: the other half", CEILING, known)]
    marks: list[Mark] = []
    for label, colour, found in shown:
        if found.size:
            marks.append(Columns(edges, np.histogram(found, edges)[0].astype(float), colour, label))
    for label, colour, found in shown:
        if found.size:
            ends, named = np.array([-np.inf, np.inf]), f"mean {label.partition(':')[0]} {found.mean():.3f}"
            marks.append(Line(np.full(2, found.mean()), ends, colour, named, dash=DASHES[1], guide=True))
    panel = Panel(Axis("agreement of two halves (Spearman's ρ)"), Axis("images", low=0.0), marks)
    above = int((values["corrected"] > values["floor"]).sum())
    told = "a ceiling, corrected to the full number of participants, above their floor."
    notes = [f"{above} of {known.size} images have {told}"]
    if above < known.size:
        notes[0] += " The others are left out of the alignment that is divided image by image."
    return Plot(title, f"{known.size} images; mean over random halves of their participants", [panel], notes)


def participants_curve(curve: Mapping[str, Any]) -> Plot:
    """The mean ceiling against the number of participants per image, measured and extrapolated: a panel per measure.

    Args:
        curve: outputs/maps/curve.json.
    """
    title = "How many participants are enough"
    panels = [_curve_panel(MEASURES[name], curve[name]) for name in MEASURES if curve.get(name, {}).get("participants")]
    if not panels:
        return Plot(title, "No image has four or more participants: there is no curve over their number.")
    detail = "mean split-half ceiling of the images; 95 % interval over images"
    notes = ["The earth mover's distance is small where people agree: its curve falls."] if "emd" in curve else []
    return Plot(title, detail, panels, notes, (4.2 + 3.4 * (len(panels) - 1) + 1.6, 3.8))


def _curve_panel(title: str, curve: Mapping[str, Any]) -> Panel:
    measured = {name: _numbers(curve[name]) for name in ("participants", "ceiling", "low", "high")}
    beyond = curve.get("extrapolated", [])
    further = {name: _numbers([entry[name] for entry in beyond]) for name in measured}
    marks: list[Mark] = [
        *_interval(measured, CEILING),
        Line(measured["participants"], measured["ceiling"], CEILING, alpha=0.6),
        Points(measured["participants"], measured["ceiling"], CEILING, "circle", "measured", _named(measured)),
    ]
    if beyond:
        joined = {name: np.concatenate([measured[name][-1:], further[name]]) for name in measured}
        marks += [
            *_interval(joined, MODEL),
            Line(joined["participants"], joined["ceiling"], MODEL, dash=DASHES[1], alpha=0.6),
            Points(
                further["participants"],
                further["ceiling"],
                MODEL,
                "circle",
                "extrapolated",
                _named(further),
                hollow=True,
            ),
        ]
    return Panel(Axis("participants per image"), Axis(title), marks)


def _numbers(values: Any) -> Vector:
    """Numbers of a JSON list; null is NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _interval(values: Mapping[str, Vector], colour: str) -> list[Line]:
    return [
        Line(values["participants"], values[end], colour, dash=DASHES[2], width=0.9, alpha=0.8)
        for end in ("low", "high")
    ]


def _named(values: Mapping[str, Vector]) -> list[str]:
    return [
        f"{count:g} participants, {low:.3f} to {high:.3f}"
        for count, low, high in zip(values["participants"], values["low"], values["high"], strict=True)
    ]
