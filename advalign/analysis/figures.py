"""The figures of the comparison as descriptions (`plots.Plot`), for print and for the report."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from advalign.analysis.groups import in_order, kinds_of, look
from advalign.analysis.plots import DASHES, Axis, Bars, Line, Mark, Panel, Plot, Vector, Words, axis_of
from advalign.analysis.saliency import saliency_scatter
from advalign.analysis.scatter import LABELLED, against_accuracy, points_of, pt_aa_plane
from advalign.analysis.table import norm_of_table
from advalign.errors import InputError
from advalign.vocabulary import UNITS

Curve = tuple[npt.ArrayLike, npt.ArrayLike]


def comparison_plots(
    table: pd.DataFrame,
    statistics: Mapping[str, Any],
    twins: Iterable[tuple[str, str]] = (),
    curves: Mapping[str, Mapping[str, Curve]] | None = None,
) -> dict[str, Plot]:
    """Every figure of a comparison by the name of its file, in the order of the report.

    Args:
        table: One row per model (`table.check_table`).
        statistics: As in statistics.json.
        twins: (baseline, twin) names.
        curves: Norm -> model -> (eps, robust accuracy), see `robust_accuracy_curves`.
    """
    paired, kinds, norm = statistics["paired"], kinds_of(table), norm_of_table(table)
    plots = {"pt_aa_plane": pt_aa_plane(table, twins)}
    if "protocols" in statistics:
        plots["pt_protocols"] = protocol_scatter(statistics["protocols"], kinds)
    if "saliency" in statistics:
        centre = statistics["reference"]["centred_gaussian_aa_raw"]
        plots["saliency_alignment"] = saliency_scatter(table, statistics["saliency"], kinds, centre)
    return plots | {
        "pt_against_accuracy": against_accuracy(table, "pt"),
        "aa_against_accuracy": against_accuracy(table, "aa"),
        "pt_twins": twin_bars(paired, "pt", kinds, norm),
        "aa_twins": twin_bars(paired, "aa", kinds, norm),
        "robust_accuracy": robust_accuracy_curves(curves or {}, kinds),
    }


def twin_bars(paired: Sequence[Mapping[str, Any]], metric: str, kinds: Mapping[str, str], norm: str = "l2") -> Plot:
    """Bars of each baseline and its twin over the stimuli both got right, with SEM and stars (Feng Figs. 6 and 7).

    Args:
        paired: Entries of `twins.paired_statistics`, or the same entries from `statistics.json` (None for nan).
        metric: "pt" or "aa".
        kinds: Model -> kind (`groups.kinds_of`), for the colours.
        norm: Of the tolerance.

    Returns:
        The figure; stars show the paired t test after Holm's correction over all pairs.
    """
    title = f"{axis_of(metric).name.capitalize()} of twins"
    wanted = [entry for entry in paired if entry["metric"] == metric]
    entries = [entry for entry in wanted if _finite(entry["baseline_mean"]) and _finite(entry["twin_mean"])]
    if not wanted:
        return Plot(title, "No model here has a harmonized, robust or combined twin: there is nothing to compare.")
    if not entries:
        return Plot(title, "No pair of twins shares a stimulus that both got right: there is nothing to compare.")
    zero = Line(np.zeros(2), np.array([-np.inf, np.inf]), width=0.8, guide=True)
    marks: list[Mark] = [*_bars(entries, kinds), zero, *_notes(entries)]
    ends = [_end(entry, side) for entry in entries for side in ("baseline", "twin")]
    divided = {entry.get("ceiling") for entry in entries} != {None}
    unit = "" if metric == "pt" else "share of the human ceiling" if divided else "Spearman's ρ"
    x = axis_of(metric, unit, norm, low=1.28 * min(0.0, *ends), high=1.28 * max(0.0, *ends))  # room for stars and n
    panel = Panel(x, Axis("", ticks=[str(entry["twin"]) for entry in entries]), marks)
    protocols = sorted({str(entry["protocol"]) for entry in entries if entry.get("protocol")})
    named = f"; protocol {', '.join(protocols)}" if protocols else ""
    detail = f"mean ± SEM over the n stimuli that both models got right{named}"
    notes = ["Paired t test, two-sided, after Holm: *** p < 0.001, ** p < 0.01, * p < 0.05, n.s. not significant."]
    left_out = len(wanted) - len(entries)
    if left_out:
        notes.append(f"{left_out} pair{'' if left_out == 1 else 's'} cannot be shown: no stimulus both got right.")
    return Plot(title, detail, [panel], notes, (7.5, 1.7 + 0.5 * len(entries)))


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _end(entry: Mapping[str, Any], side: str) -> float:
    """Right end of a bar with its error bar."""
    error = entry[f"{side}_sem"]
    return float(entry[f"{side}_mean"]) + (float(error) if _finite(error) else 0.0)


def _bars(entries: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> list[Bars]:
    """The baselines' bars, each above its twin's, and the twins' bars, one mark per kind."""
    rows = pd.DataFrame(entries).assign(
        facts=[f"p (Holm) = {_number(one['p_holm'])}, n = {one['n']}, d_z = {_number(one['d_z'])}" for one in entries]
    )
    of_twins = rows["twin"].map(kinds)
    parts = [("baseline", "baseline", -0.19, rows)]
    parts += [("twin", kind, 0.19, rows[of_twins == kind]) for kind in dict.fromkeys(of_twins)]
    found = []
    for side, kind, shift, part in parts:
        means, errors = part[[f"{side}_mean", f"{side}_sem"]].to_numpy(dtype=float).T
        places, names, facts = part.index.to_numpy() + shift, list(part[side]), list(part["facts"])
        found.append(Bars(places, means, errors, look(kind).colour, look(kind).name, names, facts))
    return found


def _notes(entries: Sequence[Mapping[str, Any]]) -> list[Words]:
    """Stars and n, to the right of the longer of the two bars."""
    reach = [max(0.0, _end(entry, "baseline"), _end(entry, "twin")) for entry in entries]
    words = [f"{stars(entry['p_holm'])}  n = {entry['n']}" for entry in entries]
    return [Words(x, float(place), text) for place, (x, text) in enumerate(zip(reach, words, strict=True))]


def _number(value: float | None) -> str:
    return f"{value:.2g}" if value is not None and _finite(value) else "?"


def stars(p: float | None) -> str:
    """Significance stars: three below the paper's threshold of 0.001, two below 0.01, one below 0.05.

    >>> [stars(p) for p in (0.0005, 0.005, 0.02, 0.2, None)]
    ['***', '**', '*', 'n.s.', '?']
    """
    if p is None or p != p:
        return "?"
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."


def robust_accuracy_curves(curves: Mapping[str, Mapping[str, Curve]], kinds: Mapping[str, str]) -> Plot:
    """Share of stimuli right and not flipped within eps, against eps, a line per model and a panel per norm.

    Source: docs/methods.md, section Robust accuracy.

    Args:
        curves: Norm -> model -> (eps, accuracy): (k,) radii in the norm's unit (`vocabulary.UNITS`) and (k,) shares in
            [0, 1], computed from stored norms.
        kinds: Model -> kind (`groups.kinds_of`), for the colours.

    Returns:
        The figure; with more than 15 models only colours distinguish lines, by kind.

    Raises:
        InputError: eps and accuracy of a model differ in length.
    """
    title, panels, notes, most = "Robust accuracy", [], [], 0
    for norm, of_models in curves.items():
        usable = {model: _curve(model, *curve) for model, curve in of_models.items()}
        drawn = {model: curve for model, curve in usable.items() if curve[0].size > 1}
        if not drawn:
            continue
        x = Axis(f"perturbation size eps ({UNITS[norm]})", low=0.0)
        y = Axis("share right and not flipped within eps", low=-0.02, high=1.02)
        panels.append(Panel(x, y, model_lines(drawn, kinds)))
        dropped, most = sorted(set(usable) - set(drawn)), max(most, len(drawn))
        more = f" and {len(dropped) - 5} others" if len(dropped) > 5 else ""
        notes += [f"No curve for {', '.join(dropped[:5])}{more}."] if dropped else []
    if not panels:
        return Plot(title, "No model here has a robust-accuracy curve with two or more points.")
    return Plot(title, _models(most), panels, notes, _beside(len(panels)))


def certified_accuracy_curves(
    curves: Mapping[str, Mapping[str, Curve]], kinds: Mapping[str, str], notes: Sequence[str] = ()
) -> Plot:
    """Share of images that are right and certified, against the l2 radius: a line per model, a panel per protocol.

    Args:
        curves: Protocol -> model -> (radius, accuracy): (k,) l2 radii and (k,) shares in [0, 1], from rows of the probe
            `smoothing`. No other norm can be here: a certificate is a lower bound in l2.
        kinds: Model -> kind (`groups.kinds_of`), for the colours.
        notes: Further sentences below.
    """
    title, panels = "Certified accuracy", []
    for name, of_models in curves.items():
        x = Axis(f"certified radius under {name} ({UNITS['l2']})", low=0.0)
        y = Axis("share right and certified", low=-0.02, high=1.02)
        panels.append(Panel(x, y, model_lines({model: _curve(model, *one) for model, one in of_models.items()}, kinds)))
    if not panels:
        return Plot(title, "No model here has certificates: evaluate one under a protocol of the probe smoothing.")
    return Plot(title, _models(max(map(len, curves.values()))), panels, notes, _beside(len(panels)))


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"


def _beside(panels: int) -> tuple[float, float]:
    """Size in inches of panels side by side, with room for one legend."""
    return 7.5 + 4.0 * (panels - 1), 5.0


def model_lines(curves: Mapping[str, tuple[Vector, Vector]], kinds: Mapping[str, str]) -> list[Line]:
    """A line per model in its kind's colour; among few models, with its own dash pattern and legend entry."""
    many = len(curves) > LABELLED
    sizes = Counter(kinds[model] for model in curves)
    found = []
    for kind in in_order(sizes):
        alpha = min(0.7, max(0.12, 25 / sizes[kind])) if many else 1.0
        for place, model in enumerate(sorted(model for model in curves if kinds[model] == kind)):
            label = f"{look(kind).name} ({sizes[kind]})" if many else model
            dash, width = ((), 0.9) if many else (DASHES[place % len(DASHES)], 1.6)
            found.append(Line(*curves[model], look(kind).colour, label, model, dash, width, alpha))
    return found


def _curve(model: str, eps: npt.ArrayLike, accuracy: npt.ArrayLike) -> tuple[Vector, Vector]:
    """Finite points of a curve in the order of eps."""
    x, y = np.asarray(eps, dtype=np.float64).ravel(), np.asarray(accuracy, dtype=np.float64).ravel()
    if x.size != y.size:
        raise InputError(f"curve of {model}: {x.size} eps but {y.size} accuracies; give one accuracy per eps")
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    return x[known][order], y[known][order]


def protocol_scatter(comparison: Mapping[str, Any], kinds: Mapping[str, str]) -> Plot:
    """PT under the headline protocol against PT under each other one: a panel per protocol, a point per model.

    Protocols in one norm have the line of equality; between norms there is none.

    Args:
        comparison: From `protocols.compare_protocols`, or from `statistics.json` (None for nan).
        kinds: Model -> kind (`groups.kinds_of`), for the colours.
    """
    title = "Perturbation tolerance under two protocols"
    names = list(dict.fromkeys(name for row in comparison["models"] for name in row["pt"]))
    if len(names) < 2:
        return Plot(title, "Only one protocol has been evaluated: set `evaluate.also` in params.yaml for a second.")
    first, panels, notes, most = names[0], [], [], 0
    for other in names[1:]:
        rows = _under_both(comparison, first, other)
        if rows.empty:
            notes.append(f"No model has PT under {first} and under {other}.")
            continue
        panels.append(_against(rows, first, other, comparison["norms"], kinds))
        most = max(most, len(rows))
    if not panels:
        return Plot(title, " ".join(notes))
    return Plot(title, _models(most), panels, notes, _beside(len(panels)))


def _under_both(comparison: Mapping[str, Any], first: str, other: str) -> pd.DataFrame:
    """Models with PT under two protocols: model, y (under the first) and x (under the other)."""
    both = [row for row in comparison["models"] if _finite(row["pt"][first]) and _finite(row["pt"][other])]
    return pd.DataFrame([{"model": row["model"], "x": row["pt"][other], "y": row["pt"][first]} for row in both])


def _against(rows: pd.DataFrame, first: str, other: str, norms: Mapping[str, str], kinds: Mapping[str, str]) -> Panel:
    """The panel of two protocols, with the line of equality where their PT is in one norm."""
    x, y = (Axis(f"PT under {name} (mean {UNITS[norms[name]]})", low=0.0) for name in (other, first))
    ends = np.array([0.0, rows[["x", "y"]].max(axis=None)])
    equal = [Line(ends, ends, label="equal", dash=DASHES[2], guide=True)] if norms[first] == norms[other] else []
    return Panel(x, y, [*equal, *points_of(rows, "x", "y", kinds, crowded=len(rows) > LABELLED)])
