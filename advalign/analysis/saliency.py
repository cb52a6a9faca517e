"""Saliency beside perturbations: where a saliency map and a perturbation lie, against the same human maps.

AA raw is the mean rank correlation of perturbation map and human map, and the saliency rho is that of saliency map and
human map. Do both rank the models alike? The answer is computed as that for two norms (`protocols.agreement`), also for
both minus what they score against another image's human map, which centre bias alone cannot earn.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from advalign.analysis.plots import Axis, Panel, Plot, Words
from advalign.analysis.protocols import agreement
from advalign.analysis.scatter import LABELLED, points_of
from advalign.analysis.table import norm_of_table
from advalign.vocabulary import in_norm

RHO = "saliency_rho"
PAIRS = (("aa_raw", RHO), ("aligned_minus_shuffled", "rho_vs_shuffled"))
"""Columns of the zoo table that rank the models: of perturbations, of saliency."""
SHOWN = (RHO, "rho_vs_shuffled", "rho_vs_centre")
"""Columns that tables show."""
TITLE = "Saliency against perturbations"


def measures_saliency(table: pd.DataFrame) -> bool:
    """Whether a zoo table is of a protocol that scores saliency maps."""
    return RHO in table


def saliency_columns(columns: Iterable[str]) -> list[str]:
    """The columns with saliency that tables show (`SHOWN`), of all protocols, among the columns of a zoo table.

    >>> saliency_columns(["model", "aa_raw", "saliency_rho", "saliency_rho_sem", "rollout.saliency_rho"])
    ['saliency_rho', 'rollout.saliency_rho']
    """
    return [column for column in columns if column.rpartition(".")[2] in SHOWN]


def compare_saliency(
    table: pd.DataFrame, protocols: Sequence[str], *, seed: int = 0, resamples: int = 10_000
) -> list[dict[str, Any]]:
    """Whether saliency and perturbations rank the models alike: an entry per protocol of saliency and pair of columns.

    Args:
        table: From `assembly.with_added`.
        protocols: Of saliency, in the order of `with_added`.
        seed, resamples: Of the intervals of rho.

    Returns:
        Entries with `first` and `second` (protocols), `perturbations` and `saliency` (columns of the zoo table), `what`
        (both in words), n, rho with its bootstrap interval over models, p, `verdict` and `note`.
    """
    norm, found = norm_of_table(table), []
    for number, protocol in enumerate(protocols):
        for one, two in PAIRS:
            column = f"{protocol}.{two}" if number else two
            ranks = agreement(table[one].astype(float), table[column].astype(float), seed=seed, resamples=resamples)
            found.append(
                {
                    "first": str(table["protocol"].iloc[0]),
                    "second": protocol,
                    "perturbations": one,
                    "saliency": column,
                    "what": f"{in_norm(one, norm).label} and saliency {in_norm(two, norm).label}",
                    "n": ranks.rho.n,
                    "rho": ranks.rho.rho,
                    "rho_ci_low": ranks.interval.low,
                    "rho_ci_high": ranks.interval.high,
                    "p": ranks.rho.p,
                    "verdict": ranks.verdict,
                    "note": ranks.note,
                }
            )
    return found


def saliency_scatter(
    table: pd.DataFrame, compared: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], centre: float | None = None
) -> Plot:
    """Saliency rho against AA raw: a panel per protocol of saliency, a point per model.

    Args:
        table: From `assembly.with_added`.
        compared: From `compare_saliency`, or from `statistics.json`.
        kinds: Model -> kind (`groups.kinds_of`), for the colours.
        centre: What a map that falls with the distance from the centre scores; None where it is not known.
    """
    panels, notes = [], []
    for entry in [one for one in compared if one["saliency"].endswith(RHO)]:
        rows = table[table["aa_raw"].notna() & table[entry["saliency"]].notna()]
        notes += [
            f"{entry['first']} and {entry['second']}: {entry['verdict']}",
            *_missing(len(rows), len(table), entry),
        ]
        if len(rows) > 1:
            panels.append(_panel(rows, entry, kinds))
    if not panels:
        return Plot(TITLE, " ".join(notes))
    notes += [f"A map of nothing but the distance from the centre scores ρ = {centre:.2f}."] if centre else []
    detail = "mean Spearman's ρ with the same human maps; bars: standard error of saliency"
    return Plot(TITLE, detail, panels, notes, (7.5 + 4.0 * (len(panels) - 1), 5.0))


def _missing(usable: int, models: int, entry: Mapping[str, Any]) -> list[str]:
    why = f"they lack saliency under {entry['second']}, or alignment under {entry['first']}"
    return [f"{models - usable} of {models} models cannot be shown: {why}."] if usable < models else []


def _panel(rows: pd.DataFrame, entry: Mapping[str, Any], kinds: Mapping[str, str]) -> Panel:
    column, few = entry["saliency"], len(rows) <= LABELLED
    places = zip(rows["aa_raw"], rows[column], rows["model"], strict=True)
    labels = [Words(float(across), float(up), str(name)) for across, up, name in places if few]
    x, y = Axis(f"AA raw under {entry['first']} (ρ)"), Axis(f"saliency under {entry['second']} (ρ)")
    return Panel(x, y, points_of(rows, "aa_raw", column, kinds, crowded=not few), labels, few)
