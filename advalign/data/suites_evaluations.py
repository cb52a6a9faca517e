"""Suites of expectations on the rows of evaluations: each row is possible, and every model's rows are complete.

Two tables: `evaluations` has a row per (protocol, model, stimulus) and `evaluated` a row per file. A trial run (the
folder PROTOCOL.firstN of `advalign evaluate --limit N`) is compared with the first N stimuli.
"""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.data.classes import DECISIONS
from advalign.data.results import read_rows, stored_probe
from advalign.data.sets.stimuli import StimulusSet
from advalign.data.suites import Tables, has_maps
from advalign.files import Project
from advalign.rows import NORM, RHO, RHO_MAGNITUDE, Status
from advalign.settings import Settings

PROBE = "minimum-norm"  # whose rows these suites are about
RANKS = (RHO, RHO_MAGNITUDE)
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
    """The tables `evaluations` and `evaluated` with their suites; none where nothing is evaluated yet.

    Raises:
        DataError: a file cannot be read.
    """
    files = [path for path in sorted(project.evaluations.glob("*/*.parquet")) if _probe(path) == PROBE]
    if not files:
        return {}
    rho = RANKS if has_maps(stimuli, settings) else ()
    rows, described = [], []
    for path in files:
        table = read_rows(path)
        rows.append(_rows(path, table, stimuli.manifest, rho))
        described.append(_description(path, table, stimuli.manifest, rho))
    channels, height, width = stimuli.pixels.shape[1:]
    largest = math.sqrt(channels * height * width)
    return {
        "evaluations": (pd.concat(rows, ignore_index=True), lambda gxe: evaluation_suite(gxe, largest, rho)),
        "evaluated": (pd.DataFrame(described), evaluated_suite),
    }


def evaluation_suite(gxe: Any, largest_norm: float, rho: tuple[str, ...] = RANKS) -> list[Any]:
    """Rows are unique, their stimuli and labels are the manifest's, and their numbers are possible.

    Args:
        gxe: the module `great_expectations.expectations`.
        largest_norm: of a perturbation in the attack space: sqrt(3 * size^2).
        rho: columns of rank correlations.
    """
    status = gxe.row_conditions.Column("status")
    between = gxe.ExpectColumnValuesToBeBetween
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
        gxe.ExpectColumnValuesToNotBeNull(column=NORM, row_condition=status == Status.OK.value),
        gxe.ExpectColumnValuesToBeNull(column=NORM, row_condition=status != Status.OK.value),
        between(column=NORM, min_value=0, strict_min=True, max_value=largest_norm * (1 + ROUNDING)),
        *(between(column=column, min_value=-1 - ROUNDING, max_value=1 + ROUNDING) for column in rho),
        between(column="queries", min_value=1),
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


def _rows(path: Path, table: pd.DataFrame, manifest: pd.DataFrame, rho: tuple[str, ...]) -> pd.DataFrame:
    """The contract's columns (null where missing), the row's name and the label that the manifest has for it."""
    rows = table.reindex(columns=[*PRESENT, NORM, *rho])
    label_of_stimulus = manifest.drop_duplicates("stimulus").set_index("stimulus")["label"]
    trial = TRIAL.search(path.parent.name)
    protocol, model, stimulus = (rows[name].astype("str").fillna("?") for name in ("protocol", "model", "stimulus"))
    return rows.assign(
        row=protocol + (trial[0] if trial else "") + "/" + model + "/" + stimulus,
        label_in_manifest=rows["stimulus"].map(label_of_stimulus),
    )


def _description(path: Path, table: pd.DataFrame, manifest: pd.DataFrame, rho: tuple[str, ...]) -> dict[str, Any]:
    """One file: which columns it lacks, how many stimuli and animate ones it has, and how many are wanted."""
    trial = TRIAL.search(path.parent.name)
    wanted = manifest.head(int(trial[1])) if trial else manifest
    labels = table["label"] if "label" in table else pd.Series(dtype=float)
    return {
        "evaluation": f"{path.parent.name}/{path.stem}",
        "missing_columns": " ".join(name for name in (*PRESENT, NORM, *rho) if name not in table),
        "stimuli": len(table),
        "stimuli_wanted": len(wanted),
        "animate": int((labels == 1).sum()),
        "animate_wanted": int((wanted["label"] == 1).sum()),
    }
