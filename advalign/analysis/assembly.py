"""Input of the comparison from results on disk: the zoo table and the gallery."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.analysis.gallery import Gallery, gallery_beside
from advalign.analysis.standing import baseline_of, declared, group_of
from advalign.analysis.table import check_table, norm_of_table
from advalign.data.results import Paths, read_gallery
from advalign.data.sets.base import ImageSet
from advalign.models.declared import Zoo
from advalign.vocabulary import BESIDE_AA, PAIRED, SEM, ZOO, adds_a_column, in_norm, norm_measured, short_name

BESIDE = [(short, ending) for short in PAIRED for ending in ("", SEM)]
"""Columns that a zoo table also has in another norm, where they are measured: names and their endings."""


def zoo_table(summaries: list[dict[str, Any]], zoo: Zoo) -> pd.DataFrame:
    """One row per model with the contract's columns (zoo.csv); accuracies are shares in [0, 1].

    The columns of what a search measures (`pt`, `aa`, `n_valid`, ...) are of the protocol's norm, which `norm` names.
    Other forms of alignment and further measures of it have columns where they are measured (`vocabulary.BESIDE_AA`).
    A protocol of saliency, geometry or neural fit has further columns (`vocabulary.adds_a_column`).

    Args:
        summaries: of all models under one protocol (`analysis.evaluated`).
        zoo: the declared models.
    """
    rows = []
    for summary in summaries:
        entry = declared(summary, zoo)
        norm = norm_measured(summary["protocol_metrics"]) or "l2"  # a bounded attack's have no tolerance to misread
        row = {
            "model": summary["model"],
            "group": group_of(summary, zoo),
            "recipe": summary["recipe"],
            "protocol": summary["protocol"],
            **{column: summary["metrics"].get(in_norm(column, norm).name) for column in ZOO},
            "norm": norm,
            "flags": ",".join(summary["flags"]),
            "big_data": int(entry is not None and entry.big_data),
            "baseline": baseline_of(summary),
        }
        row["n_valid"] = int(row["n_valid"] or 0)
        beside = {column: in_norm(column, norm).name for column in BESIDE_AA}
        row |= {column: summary["metrics"][name] for column, name in beside.items() if name in summary["metrics"]}
        shorts = {name: short_name(name) for name in summary["protocol_metrics"]}
        row |= {short: summary["metrics"][name] for name, short in shorts.items() if adds_a_column(short)}
        rows.append(row)
    return pd.DataFrame(rows)


def with_other_norms(table: pd.DataFrame, others: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """A zoo table with tolerance and alignment in further norms beside its own: `pt_linf`, `aa_linf_sem` and so on.

    Args:
        table: one row per model (`zoo_table`).
        others: of other protocols with a tolerance; of each norm that is not the table's own, the first one counts.
    """
    for other in (check_table(one, "another protocol's table") for one in others):
        norm = norm_of_table(other)
        named = {f"{short}{ending}": f"{short}_{norm}{ending}" for short, ending in BESIDE}
        renamed = {column: name for column, name in named.items() if column in other}
        if norm != norm_of_table(table) and renamed["pt"] not in table:
            table = table.merge(other[["model", *renamed]].rename(columns=renamed), on="model", how="left")
    return table


def added_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a zoo table that its protocol adds to those of another one (`with_added`)."""
    return [column for column in map(str, table) if adds_a_column(column)]


def with_added(table: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A zoo table with saliency, geometry and neural fit of other protocols beside its own numbers.

    Args:
        table: one row per model (`zoo_table`).
        others: protocol -> its zoo table. Columns have their plain names; one that is there already (of the same probe
            with other settings) begins with the protocol's name and a dot.
    """
    for protocol, other in others.items():
        added = added_columns(other)
        renamed = {column: f"{protocol}.{column}" if column in table else column for column in added}
        table = table.merge(other[["model", *added]].rename(columns=renamed), on="model", how="left")
    return table


def gallery_of(folder: Path, models: list[str], stimuli: ImageSet) -> Gallery | None:
    """The stimuli of the gallery with every model's perturbations on them; None without a gallery.

    Args:
        folder: of the evaluations under one protocol.
        models: names.
        stimuli: the set of the evaluations.
    """
    return gallery_beside(stimuli, {name: read_gallery(Paths(folder, name)) for name in models})
