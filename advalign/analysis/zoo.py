"""The statistics of the zoo (Feng section 4): correlations, contrasts and the Pareto front, ready for JSON.

`SIDES` fixes which rows enter each contrast. With these rows the released table of 351 models returns the published t
values (docs/methods.md, section Contrasts).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.pareto import beyond_front, pareto_front
from advalign.analysis.statistics import holm, quadratic_fit, spearman, welch
from advalign.analysis.table import GROUPS, check_table, family, is_standard, norm_of_table, protocol_of, read_table
from advalign.errors import InputError
from advalign.vocabulary import HEADLINES

__all__ = ["family", "plain", "read_table", "zoo_statistics"]

PAIRS = (("multilabel_accuracy", "pt"), ("multilabel_accuracy", "aa"), ("pt", "aa"))
"""x and y of each correlation, as the figures draw them (Feng Figs. 2, 3 and 4)."""
THRESHOLD = 0.001
"""Significance threshold of the paper."""

Rows = Callable[[pd.DataFrame], "pd.Series[bool]"]


def _supervised(table: pd.DataFrame) -> "pd.Series[bool]":
    return is_standard(table) & (table["group"] != "ssl")


SIDES: Mapping[str, tuple[tuple[str, Rows], tuple[str, Rows]]] = {
    "vit_vs_cnn": (("vit", lambda t: t["group"] == "vit"), ("cnn", lambda t: t["group"] == "cnn")),
    "ssl_vs_other": (("ssl", lambda t: t["group"] == "ssl"), ("other standard", _supervised)),
    "big_data_vs_other": (
        ("supervised on larger sets", lambda t: _supervised(t) & (t["big_data"] == 1)),
        ("other supervised", lambda t: _supervised(t) & (t["big_data"] == 0)),
    ),
    "robust_vs_other": (("robust", lambda t: t["group"] == "robust"), ("standard", is_standard)),
}


def zoo_statistics(table: pd.DataFrame, paired: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Compute everything in `statistics.json` from one table of models (Feng section 4).

    Args:
        table: One row per model, as `read_table` returns it; one protocol. Models with `flags` are left out.
        paired: Entries of `twins.paired_statistics`, passed through.

    Returns:
        protocol, norm (of PT), correlations, contrasts, pareto, paired as the contract names them, and beyond_front
        (models that break the standard models' front) and notes (sentences to print with the figures). A value that
        could not be computed is None, never nan, and the entry's `note` says why.

    Raises:
        InputError: The table lacks a column or a group, or protocols are mixed in it or with `paired`.
    """
    checked = check_table(table, "the table")
    protocol, twins = protocol_of(checked), list(paired)
    other = sorted({str(entry["protocol"]) for entry in twins if entry.get("protocol")} - {str(protocol)})
    if protocol and other:
        raise InputError(
            f"the table is of protocol {protocol}, the twins of {', '.join(other)}; give both of one protocol"
        )
    flagged = checked[checked["flags"] != ""] if "flags" in checked else checked[:0]
    checked = checked.drop(index=flagged.index)
    standard = checked[is_standard(checked)]
    front = _front(standard)
    result = {
        "protocol": protocol,
        "norm": norm_of_table(checked),
        "correlations": [_correlation(standard, x, y) for x, y in PAIRS],
        "contrasts": _contrasts(checked),
        "pareto": _points(standard[front]),
        "beyond_front": _beyond(checked, standard[front]),
        "paired": twins,
        "notes": [*_distrusted(flagged), *_notes(checked)],
    }
    cleaned: dict[str, Any] = plain(result)
    return cleaned


def plain(value: Any) -> Any:
    """Turn numpy scalars into Python's and nan or infinity into None, in nested lists and mappings, for JSON.

    >>> plain({"rho": float("nan"), "n": np.int64(3), "fit": (1.0, np.float64(2.0))})
    {'rho': None, 'n': 3, 'fit': [1.0, 2.0]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _known(table: pd.DataFrame, columns: tuple[str, ...]) -> tuple[pd.DataFrame, str]:
    """Rows with a value in every column, and the sentence that says how many were left out."""
    rows = table[list(columns)].notna().all(axis=1)
    left_out = int((~rows).sum())
    if not left_out:
        return table, ""
    return table[rows], f"{left_out} of {len(table)} models lack {' or '.join(columns)} and are left out"


def _sentences(*notes: str) -> str | None:
    return "; ".join(note for note in notes if note) or None


def _correlation(standard: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    """Spearman's rho of two columns over the standard models and over family means, and the quadratic fit of y on x."""
    rows, missing = _known(standard, (x, y))
    over_models = spearman(rows[x], rows[y])
    fit = quadratic_fit(rows[x], rows[y])
    means = rows[[x, y]].groupby([family(model) for model in rows["model"]]).mean()
    over_families = spearman(means[x], means[y])
    return {
        "x": x,
        "y": y,
        "n": over_models.n,
        "rho": over_models.rho,
        "p": over_models.p,
        "p_exact": over_models.p_exact,
        "note": _sentences(missing, over_models.note),
        "families": {**asdict(over_families), "note": _sentences(over_families.note)},
        "quadratic": {**asdict(fit), "note": _sentences(fit.note)},
    }


def _contrasts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every contrast on every metric, Holm-corrected over all of them that could be computed."""
    entries = [_contrast(table, name, metric) for name in SIDES for metric in HEADLINES]
    corrected = holm([entry["p"] for entry in entries])
    for entry, p in zip(entries, corrected, strict=True):
        entry["p_holm"] = float(p)
    return entries


def _contrast(table: pd.DataFrame, name: str, metric: str) -> dict[str, Any]:
    (first_name, first_rows), (second_name, second_rows) = SIDES[name]
    first, first_missing = _known(table[first_rows(table)], (metric,))
    second, second_missing = _known(table[second_rows(table)], (metric,))
    result = welch(first[metric], second[metric])
    note = result.note.replace("the first group", f"the group '{first_name}'")
    note = note.replace("the second group", f"the group '{second_name}'")
    return {
        "name": name,
        "metric": metric,
        "first": first_name,
        "second": second_name,
        "n1": result.n1,
        "n2": result.n2,
        "mean1": result.mean1,
        "mean2": result.mean2,
        "t": result.t,
        "df": result.df,
        "p": result.p,
        "p_holm": float("nan"),
        "d": result.d,
        "note": _sentences(
            first_missing and f"{first_name}: {first_missing}",
            second_missing and f"{second_name}: {second_missing}",
            note,
        ),
    }


def _front(standard: pd.DataFrame) -> "pd.Series[bool]":
    return pd.Series(pareto_front(standard["pt"], standard["aa"]), index=standard.index, dtype=bool)


def _points(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Points along the front, from the most aligned to the most tolerant."""
    ordered = rows.sort_values(["pt", "model"])[["model", "group", "pt", "aa"]]
    return [
        {"model": model, "group": group, "pt": float(pt), "aa": float(aa)}
        for model, group, pt, aa in ordered.itertuples(index=False)
    ]


def _beyond(table: pd.DataFrame, front: pd.DataFrame) -> list[dict[str, Any]]:
    """Models of groups that are not standard, which no standard model on the front dominates."""
    others = table[~is_standard(table)]
    return _points(others[beyond_front(others["pt"], others["aa"], front["pt"], front["aa"])])


def _distrusted(flagged: pd.DataFrame) -> list[str]:
    """The sentence about models that are left out because of sanity flags."""
    if flagged.empty:
        return []
    named = ", ".join(f"{model} ({flags})" for model, flags in zip(flagged["model"], flagged["flags"], strict=True))
    return [f"Left out of correlations, contrasts and front, since their gradients mislead an attack: {named}."]


def _notes(table: pd.DataFrame) -> list[str]:
    notes = [
        "Models of one family are not independent: p values over the zoo are optimistic; rho over family means is given"
        " next to rho over models.",
        f"Significance threshold p < {THRESHOLD:g}; p_holm is Holm-corrected over all contrasts here; d is Cohen's d.",
    ]
    if table["multilabel_accuracy"].isna().all():
        notes.append("No model has a multi-label accuracy: statistics on it cannot be computed.")
    further = table["group"][~table["group"].isin(GROUPS)]
    if len(further):
        counted = ", ".join(f"{group} ({count})" for group, count in further.value_counts().sort_index().items())
        notes.append(f"Groups that recipes have of their own stand in no correlation and no contrast: {counted}.")
    if not is_standard(table).any():
        notes.append("No standard model (cnn, vit, hybrid, ssl) in the table: no correlation and no front.")
    elif is_standard(table).all():
        notes.append("No harmonized or robust model in the table: nothing to compare with the front.")
    return notes
