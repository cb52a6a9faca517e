"""Suites of expectations on the rows of evaluations: each row is possible, and every model's rows are complete.

`evaluations` has a row per (protocol, model, stimulus) of attacks in l2, `evaluations_linf` of those in linf, and
`evaluated` a row per file. A trial run (the folder PROTOCOL.firstN of `advalign evaluate --limit N`) is compared with
the first N stimuli.
"""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.data.cifar import OF_CIFAR
from advalign.data.classes import DECISIONS
from advalign.data.results import read_rows, stored_probe
from advalign.data.sets.stimuli import PEOPLE, StimulusSet
from advalign.data.suites import Tables, has_maps
from advalign.files import Project
from advalign.rows import (
    AUC,
    EMD,
    HUMAN_CEILING_CORRECTED,
    NORMS,
    NSS,
    RHO,
    RHO_BY_IMAGE,
    RHO_MAGNITUDE,
    SECOND_START,
    Status,
    norm_of,
    with_norm,
)
from advalign.settings import Settings

PROBE = "minimum-norm"  # whose rows these suites are about
RANKS = (RHO, RHO_MAGNITUDE)
MEASURES = {AUC: (0.0, 1.0), NSS: (-3.1, 3.1), EMD: (0.0, math.sqrt(2))}
"""Column -> its possible values, where rows have it. A tenth of the pixels lies at most 3 deviations above the mean."""
PRESENT = (
    "model",
    "protocol",
    "stimulus",
    "category",
    "superclass",
    "label",
    "clean_prediction",
    "status",
    "queries",
)  # in every row
ROUNDING = 1e-6  # relative; norms and correlations are computed in floating point
TRIAL = re.compile(r"\.first(\d+)$")


def evaluation_tables(project: Project, settings: Settings, stimuli: StimulusSet) -> Tables:
    """The tables of rows by norm and `evaluated`, with their suites; none where nothing is evaluated yet.

    Raises:
        DataError: a file cannot be read.
    """
    files = [path for path in sorted(project.evaluations.glob("*/*.parquet")) if _probe(path) == PROBE]
    read = {path: table for path in files if OF_CIFAR not in (table := read_rows(path))}  # the others: measured_tables
    if not read:
        return {}
    rho = RANKS if has_maps(stimuli, settings) else ()
    people = tuple(PEOPLE.values()) if stimuli.has_people else ()
    rows: dict[str, list[pd.DataFrame]] = {}
    described = []
    for path, table in read.items():
        norm = norm_of(table) or "l2"  # of rows without a norm: they lack that column, and are told so
        wanted = (NORMS[norm], *rho, *people)
        rows.setdefault(norm, []).append(_rows(path, table, stimuli.manifest, wanted))
        described.append(_description(path, table, stimuli.manifest, wanted))
    largest = {"l2": math.sqrt(math.prod(stimuli.pixels.shape[1:])), "linf": 1.0}
    tables: Tables = {
        with_norm("evaluations", norm): (
            pd.concat(found, ignore_index=True),
            partial(evaluation_suite, norm=NORMS[norm], largest=largest[norm], rho=rho, people=people),
        )
        for norm, found in sorted(rows.items())
    }
    return {**tables, "evaluated": (pd.DataFrame(described), evaluated_suite)}


def evaluation_suite(
    gxe: Any, norm: str, largest: float, rho: tuple[str, ...] = RANKS, people: tuple[str, ...] = ()
) -> list[Any]:
    """Rows are unique, their stimuli and labels are the manifest's, and their numbers are possible.

    Args:
        gxe: the module `great_expectations.expectations`.
        norm: column of norms.
        largest: norm of a perturbation in the attack space: sqrt(3 * size^2) in l2, 1 in linf.
        rho: columns of rank correlations.
        people: columns with what people agree on.
    """
    status = gxe.row_conditions.Column("status")
    between, bounds = gxe.ExpectColumnValuesToBeBetween, MEASURES.items() if rho else ()
    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in PRESENT),
        gxe.ExpectColumnValuesToBeUnique(column="row"),
        gxe.ExpectColumnValuesToNotBeNull(column="label_in_manifest"),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="label", column_B="label_in_manifest", ignore_row_if="either_value_is_missing"
        ),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(range(len(DECISIONS)))),
        gxe.ExpectColumnValuesToBeInSet(column="clean_prediction", value_set=list(range(len(DECISIONS)))),
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=[status.value for status in Status]),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="clean_prediction",
            column_B="label",
            ignore_row_if="either_value_is_missing",
            row_condition=status != Status.MISCLASSIFIED_CLEAN.value,
        ),
        gxe.ExpectColumnValuesToNotBeNull(column=norm, row_condition=status == Status.OK.value),
        gxe.ExpectColumnValuesToBeNull(column=norm, row_condition=status != Status.OK.value),
        between(column=norm, min_value=0, strict_min=True, max_value=largest * (1 + ROUNDING)),
        *(between(column=column, min_value=-1 - ROUNDING, max_value=1 + ROUNDING) for column in rho),
        *(between(column=name, min_value=low - ROUNDING, max_value=high + ROUNDING) for name, (low, high) in bounds),
        *(
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A=column, column_B=f"{column}_in_manifest", ignore_row_if="both_values_are_missing"
            )
            for column in people
        ),
        *([between(column="by_image_off", max_value=ROUNDING)] if people else []),
        between(column="queries", min_value=1),
        between(column=SECOND_START, min_value=1),
    ]


def evaluated_suite(gxe: Any) -> list[Any]:
    """Every file has the contract's columns, a row per stimulus, and the manifest's share of animate ones."""
    return [
        gxe.ExpectColumnValuesToBeInSet(column="missing_columns", value_set=[""]),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="stimuli", column_B="stimuli_wanted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="animate", column_B="animate_wanted"),
    ]


def _probe(path: Path) -> str:
    """The probe whose rows a file holds; an earlier advalign did not write it, and knew two."""
    return stored_probe(path) or ("predictions" if path.parent.name == "predictions" else PROBE)


def _rows(path: Path, table: pd.DataFrame, manifest: pd.DataFrame, measured: tuple[str, ...]) -> pd.DataFrame:
    """The contract's columns (null where missing), the row's name and the label that the manifest has for it."""
    rows = table.reindex(columns=[*PRESENT, *measured, *MEASURES, SECOND_START])
    told = manifest.drop_duplicates("stimulus").set_index("stimulus")
    trial = TRIAL.search(path.parent.name)
    protocol, model, stimulus = (rows[name].astype("str").fillna("?") for name in ("protocol", "model", "stimulus"))
    return rows.assign(
        row=protocol + (trial[0] if trial else "") + "/" + model + "/" + stimulus,
        label_in_manifest=rows["stimulus"].map(told["label"]),
        **{f"{name}_in_manifest": rows["stimulus"].map(told[key]) for key, name in PEOPLE.items() if key in told},
        by_image_off=(table[RHO_BY_IMAGE] * table[HUMAN_CEILING_CORRECTED] - table[RHO]).abs()
        if {RHO, RHO_BY_IMAGE, HUMAN_CEILING_CORRECTED} <= {*table}
        else math.nan,
    )


def _description(path: Path, table: pd.DataFrame, manifest: pd.DataFrame, measured: tuple[str, ...]) -> dict[str, Any]:
    """One file: which columns it lacks, how many stimuli and animate ones it has, and how many are wanted."""
    trial = TRIAL.search(path.parent.name)
    wanted = manifest.head(int(trial[1])) if trial else manifest
    labels = table["label"] if "label" in table else pd.Series(dtype=float)
    return {
        "evaluation": f"{path.parent.name}/{path.stem}",
        "missing_columns": " ".join(name for name in (*PRESENT, *measured) if name not in table),
        "stimuli": len(table),
        "stimuli_wanted": len(wanted),
        "animate": int((labels == 1).sum()),
        "animate_wanted": int((wanted["label"] == 1).sum()),
    }
