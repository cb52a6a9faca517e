"""A grid over both remedies, map term and adversarial training: whether both together go beyond each alone."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pandas as pd

from advalign.analysis.pareto import front
from advalign.analysis.plots import DASHES, INK, Line, Panel, Plot, Points, Words, axis_of
from advalign.analysis.scatter import points_of, tolerance_axis
from advalign.analysis.twins import paired_statistics
from advalign.analysis.zoo import THRESHOLD
from advalign.errors import InputError
from advalign.rows import norm_of
from advalign.vocabulary import PLANE, SEM, in_norm

MEASURES = {
    "pt": ("pt",),
    "aa": ("aa", "aa_raw"),
    "accuracy": ("multilabel_accuracy", "top1_accuracy"),
}
"""Measure of a cell -> short names of its metrics; the second is used where no cell of the study has the first."""
PARENTS = ("robust", "harmonized")
BOTH, OPEN = "beyond both", "open"
RING = 13.0  # points
IN_ORDER = attrgetter("eps", "lambda_1")
ROUNDING = 1e-9  # 0.80 - 0.78 is not 0.02 in binary


@dataclass(frozen=True)
class Cell:
    """One trained and evaluated model of a study.

    Attributes:
        lambda_1: weight of the harmonizer's map term; 0 without the term.
        eps: l2 radius of adversarial training, pixels in [0, 1]; 0 without adversarial training.
        name: unique in the study.
        metrics: of the evaluation's summary; None where a metric could not be computed.
        rows: one per stimulus: stimulus, status, norm_l2 or norm_linf (stimulus space) and rho_released (in [-1, 1]).
    """

    lambda_1: float
    eps: float
    name: str
    metrics: Mapping[str, float | None]
    rows: pd.DataFrame

    @property
    def remedy(self) -> str:
        """The remedies of the cell: "baseline" (none), "harmonized", "robust" or "combined" (both)."""
        if self.eps > 0:
            return "combined" if self.lambda_1 > 0 else "robust"
        return "harmonized" if self.lambda_1 > 0 else "baseline"


def study_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell, by eps and then lambda_1.

    Args:
        cells: The grid; cells may be missing.

    Returns:
        name, lambda_1, eps, remedy, n_valid, pt (in the rows' norm), aa (share of the human ceiling;
        Spearman's rho where no cell has that), their SEM, accuracy (share; multi-label, top-1 where no cell has that)
        and on_front: whether no other cell is at least as good in PT, AA and accuracy and better in one. nan where a
        cell lacks a value.

    Raises:
        InputError: lambda_1 or eps is negative or not finite, or two cells have one name or one place in the grid.
    """
    _check(cells)
    named = {measure: _metric(cells, measure) for measure in MEASURES}
    counted = in_norm("n_valid", study_norm(cells)).name
    columns = {"n_valid": counted, **named, "pt_sem": f"{named['pt']}{SEM}", "aa_sem": f"{named['aa']}{SEM}"}
    rows = []
    for cell in sorted(cells, key=IN_ORDER):
        place = {"name": cell.name, "lambda_1": float(cell.lambda_1), "eps": float(cell.eps), "remedy": cell.remedy}
        rows.append(place | {column: _value(cell, metric) for column, metric in columns.items()})
    order = ["name", "lambda_1", "eps", "remedy", "n_valid", "pt", "pt_sem", "aa", "aa_sem", "accuracy"]
    table = pd.DataFrame(rows, columns=order)
    return table.assign(n_valid=table["n_valid"].fillna(0).astype(int), on_front=front(*(table[m] for m in MEASURES)))


def study_norm(cells: Sequence[Cell]) -> str:
    """The norm that the cells were attacked in; l2 where their rows do not say."""
    return next((norm for cell in cells if (norm := norm_of(cell.rows))), "l2")


def _check(cells: Sequence[Cell]) -> None:
    for cell in cells:
        if not (0 <= cell.lambda_1 < math.inf and 0 <= cell.eps < math.inf):
            raise InputError(f"{cell.name}: lambda_1 {cell.lambda_1}, eps {cell.eps}; give finite numbers from 0 up")
    for what, keys in (("name", attrgetter("name")), ("lambda_1 and eps", attrgetter("lambda_1", "eps"))):
        for key, times in Counter(keys(cell) for cell in cells).items():
            if times > 1:
                raise InputError(f"{times} cells of the study have the {what} {key}; keep one of them")


def _metric(cells: Sequence[Cell], measure: str) -> str:
    """The metric of a measure: the same for all cells, since different accuracies cannot be subtracted."""
    names = [in_norm(short, study_norm(cells)).name for short in MEASURES[measure]]
    return next((name for name in names if any(math.isfinite(_value(cell, name)) for cell in cells)), names[0])


def _value(cell: Cell, metric: str) -> float:
    value = cell.metrics.get(metric)
    return math.nan if value is None or not math.isfinite(value) else float(value)


def against_parents(
    cells: Sequence[Cell], *, seed: int, resamples: int, ceiling: float | None, largest_accuracy_drop: float = 0.02
) -> list[dict[str, Any]]:
    """Compare each combined cell with robust training alone at its eps and with harmonizing alone at its lambda_1.

    Args:
        cells: The grid; cells may be missing.
        seed: Seed of the bootstrap, from the settings.
        resamples: Resamples of the intervals.
        ceiling: Human ceiling that AA is divided by; None leaves Spearman's rho as it is. Tests do not depend on it.
        largest_accuracy_drop: Largest allowed drop in accuracy, as a share.

    Returns:
        Two entries per combined cell, `parent_remedy` "robust" and "harmonized": cell, lambda_1, eps, parent (None
        where the grid has none), pt and aa (entries of `twins.paired_statistics`, Holm's correction over the whole
        study; None without parent), accuracy, parent_accuracy, accuracy_difference, beyond and why. `beyond`: one of PT
        and AA is larger at p_holm < 0.001, the other is not smaller, and accuracy drops by no more than is allowed;
        None where missing values would decide. `why` lists the reasons why `beyond` is not True.

    Raises:
        InputError: As `study_table` and `twins.paired_statistics`.
    """
    _check(cells)
    accuracy = _metric(cells, "accuracy")
    kin = _with_parents(cells)
    pairs = [(parent.name, cell.name) for cell, _, parent in kin if parent]
    frames = {cell.name: cell.rows for cell in cells}
    tests = paired_statistics(frames, pairs, seed=seed, resamples=resamples, ceiling=ceiling, metrics=PLANE)
    found = {(test["twin"], test["baseline"], test["metric"]): test for test in tests}
    entries = []
    for cell, remedy, parent in kin:
        pt, aa = (found[cell.name, parent.name, metric] if parent else None for metric in ("pt", "aa"))
        shares = [_value(one, accuracy) if one else math.nan for one in (cell, parent)]
        entry = {"cell": cell.name, "lambda_1": cell.lambda_1, "eps": cell.eps, "parent_remedy": remedy}
        entry |= {"parent": parent.name if parent else None, "pt": pt, "aa": aa, "accuracy": shares[0]}
        entry |= {"parent_accuracy": shares[1], "accuracy_difference": shares[0] - shares[1]}
        entries.append(entry | _judged(entry, largest_accuracy_drop))
    return entries


def _with_parents(cells: Sequence[Cell]) -> list[tuple[Cell, str, Cell | None]]:
    """Each combined cell with each of its parents: the cell, the parent's remedy, the parent (None: not there)."""
    grid = {(cell.lambda_1, cell.eps): cell for cell in cells}
    kin: list[tuple[Cell, str, Cell | None]] = []
    for cell in sorted(cells, key=IN_ORDER):
        if cell.remedy == "combined":
            kin += [(cell, "robust", grid.get((0, cell.eps))), (cell, "harmonized", grid.get((cell.lambda_1, 0)))]
    return kin


def _judged(entry: Mapping[str, Any], most: float) -> dict[str, Any]:
    """`beyond` and `why`: one failure decides, whatever else is missing."""
    if entry["parent"] is None:
        return {"beyond": None, "why": [f"{entry['parent_remedy']} alone is not in the study"]}
    tests = {metric.upper(): entry[metric] for metric in ("pt", "aa")}
    unknown = [metric for metric, test in tests.items() if math.isnan(test["p_holm"])]
    shown = {metric: test["difference"] for metric, test in tests.items() if test["p_holm"] < THRESHOLD}
    failures = [f"{metric} is smaller" for metric, difference in shown.items() if difference < 0]
    failures += [] if shown or unknown else ["neither PT nor AA is larger"]
    failures += [f"accuracy falls by over {most:g}"] if entry["accuracy_difference"] < -most - ROUNDING else []
    unknown += ["accuracy"] if math.isnan(entry["accuracy_difference"]) else []
    if failures or not unknown:
        return {"beyond": not failures, "why": failures}
    return {"beyond": None, "why": [f"no comparison of {' and '.join(unknown)} with {entry['parent_remedy']} alone"]}


def answer(entries: Sequence[Mapping[str, Any]], table: pd.DataFrame) -> str:
    """Answer in two or three sentences whether both remedies together go beyond each alone, with numbers.

    Args:
        entries: From `against_parents`, or from JSON (None for nan).
        table: From `study_table`, over the same cells.

    Returns:
        The sentences; cells are named by (lambda_1, eps).
    """
    combined = table[table["remedy"] == "combined"]
    if combined.empty:
        return f"{_on_front(table)} No cell combines both remedies: whether they go beyond each alone stays open."
    groups: dict[str, list[str]] = {}
    for name, lambda_1, eps in combined[["name", "lambda_1", "eps"]].itertuples(index=False):
        verdict = _verdict({entry["parent_remedy"]: entry for entry in entries if entry["cell"] == name})
        groups.setdefault(verdict, []).append(f"({lambda_1:g}, {eps:g})")
    wins = groups.pop(BOTH, [])
    decided = len(combined) - sum(len(groups[verdict]) for verdict in groups if verdict.startswith(OPEN))
    found = f"in {len(wins) or 'none'} of {_cells(decided, 'combined ')}" if decided else "in no cell for certain"
    named = f": {', '.join(wins)}{_gains(entries)}" if wins else ""
    parts = [f"Both remedies together go beyond each alone {found} (lambda_1, eps){named}"]
    parts += [f"{len(places)} {verdict}: {', '.join(places)}" for verdict, places in sorted(groups.items())]
    judged = [entry for entry in entries if entry["beyond"] is not None]
    failures = Counter(why for entry in judged for why in entry["why"])
    told = ", ".join(f"{why} in {times}" for why, times in failures.most_common())
    compared = f"Of {len(judged)} comparisons with one remedy alone (paired t, Holm, p < {THRESHOLD:g})"
    return f"{_on_front(table)} {'; '.join(parts)}.{f' {compared}, {told}.' if told else ''}"


def _on_front(table: pd.DataFrame) -> str:
    lacking = int(table[list(MEASURES)].isna().any(axis=1).sum())
    if lacking == len(table):
        return "No cell has PT, AA and accuracy: there is no front."
    combined = table["remedy"] == "combined"
    kinds = ((table[combined], "combined "), (table[~combined], "other " if combined.any() else ""))
    parts = [f"{rows['on_front'].sum()} of {_cells(len(rows), what)}" for rows, what in kinds if len(rows)]
    left_out = f" ({lacking} cannot, for lack of one of the three)" if lacking else ""
    return f"On the front of PT, AA and accuracy lie {' and '.join(parts)}{left_out}."


def _cells(number: int, what: str = "") -> str:
    return f"{number} {what}cell{'' if number == 1 else 's'}"


def _verdict(kin: Mapping[str, Mapping[str, Any]]) -> str:
    """Joint result of a combined cell's entries, by the parent's remedy; one failure decides."""
    beyond = {remedy: kin[remedy]["beyond"] if remedy in kin else None for remedy in PARENTS}
    if None not in beyond.values():
        won = [f"beyond {remedy} alone only" for remedy in PARENTS if beyond[remedy]]
        return BOTH if len(won) == len(PARENTS) else "".join(won) or "beyond neither"
    told = [f"{'' if one else 'not '}beyond {remedy} alone" for remedy, one in beyond.items() if one is not None]
    told += [why for remedy, one in beyond.items() if one is None and remedy in kin for why in kin[remedy]["why"]]
    told += [f"no comparison with {remedy} alone" for remedy in PARENTS if remedy not in kin]
    return f"{'not beyond both' if False in beyond.values() else OPEN} ({', '.join(told)})"


def _gains(entries: Sequence[Mapping[str, Any]]) -> str:
    """Ranges of the differences from each parent, over the cells beyond both parents (at least one)."""
    won = Counter(entry["cell"] for entry in entries if entry["beyond"])
    told = ""
    for remedy in PARENTS:
        mine = [entry for entry in entries if entry["parent_remedy"] == remedy and won[entry["cell"]] == len(PARENTS)]
        pt, aa = (_range([entry[metric]["difference"] for entry in mine]) for metric in ("pt", "aa"))
        accuracy = _range([entry["accuracy_difference"] for entry in mine])
        told += f", against {remedy} alone by PT {pt}, AA {aa}, accuracy {accuracy}"
    return told


def _range(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:+.3f}" for end in (min(values), max(values))))


def study_figure(table: pd.DataFrame, norm: str = "l2") -> Plot:
    """PT against AA: a point per cell with its lambda_1, eps and accuracy, cells of one lambda_1 joined as eps grows.

    Args:
        table: From `study_table`. Cells without PT or AA are left out and counted.
        norm: Of PT (`study_norm`).

    Returns:
        The figure; a ring marks the front of PT, AA and accuracy.
    """
    title = "Map term and adversarial training: tolerance against alignment"
    rows = table[table["pt"].notna() & table["aa"].notna()].rename(columns={"name": "model"})
    if len(rows) < 2:
        return Plot(title, f"{len(rows)} of {_cells(len(table))} with PT and AA: nothing to compare.")
    points = points_of(rows, "pt", "aa", dict(zip(rows["model"], rows["remedy"], strict=True)))
    on_front = rows[rows["on_front"]]
    pt, aa = on_front[["pt", "aa"]].to_numpy(dtype=float).T
    ring = Points(pt, aa, INK, "circle", f"on the front ({len(on_front)})", area=RING**2, hollow=True)
    labels = []
    for x, y, *place, accuracy in rows[["pt", "aa", "lambda_1", "eps", "accuracy"]].itertuples(index=False):
        share = "no accuracy" if math.isnan(accuracy) else f"{accuracy:.1%}"
        labels.append(Words(x, y, f"({place[0]:g}, {place[1]:g})\n{share}"))
    panel = Panel(tolerance_axis(rows["pt"], norm), axis_of("aa"), [*_lines(rows), *points, ring], labels)
    detail = "mean ± SEM; (λ₁, eps) and accuracy beside each point; ringed: front of PT, AA and accuracy"
    lacking = len(table) - len(rows)
    notes = [f"{_cells(lacking)} without PT or AA cannot be shown."] if lacking else []
    return Plot(title, detail, [panel], notes, (9.5, 6.2))


def _lines(rows: pd.DataFrame) -> list[Line]:
    """A line through the cells of each lambda_1, each with its own dash pattern."""
    lines: list[Line] = []
    for lambda_1, cells in rows.sort_values("eps").groupby("lambda_1"):
        if len(cells) > 1:
            pt, aa = cells[["pt", "aa"]].to_numpy(dtype=float).T
            dash = DASHES[len(lines) % len(DASHES)]
            lines.append(Line(pt, aa, "#8A8A8A", f"λ₁ = {lambda_1:g}, eps grows", dash=dash, width=1.0))
    return lines
