"""Suites of expectations on rows that were measured on data/cifar: attacks of any kind, and predictions.

The tables are `attacked` and `predicted` (a row per protocol, model and image) and `measured` (a row per file). The
labels of swapped are those of test, so one split tells what both must say.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.data.cifar import OF_CIFAR, read_split, split_file
from advalign.data.classes import Classes
from advalign.data.results import TRIAL, read_rows
from advalign.data.suites import Tables
from advalign.files import Project
from advalign.rows import CLEAN_PREDICTION, NORMS, SECOND_START, STATUS, Status

LARGEST = (3 * 32 * 32) ** 0.5  # l2 norm of a perturbation inside the box; a linf norm is at most 1
ROUNDING = 1e-6


def measured_tables(project: Project, classes: Classes) -> Tables:
    """The tables with their suites; those of which no row is there are left out.

    Raises:
        DataError: a file cannot be read.
    """
    files = sorted(project.evaluations.glob("*/*.parquet"))
    of_cifar = {path: rows for path in files if OF_CIFAR in (rows := read_rows(path))}
    if not of_cifar:
        return {}
    truth = read_split(split_file(project, "test"), len(classes)).table
    labels = truth.set_index("index")["label"]
    attacked = [_row(path, rows, labels) for path, rows in of_cifar.items() if STATUS in rows]
    predicted = [_row(path, rows, labels) for path, rows in of_cifar.items() if "prediction" in rows]
    described = [_description(path, rows, len(truth)) for path, rows in of_cifar.items()]
    tables: Tables = {"measured": (pd.DataFrame(described), measured_suite)}
    if attacked:
        tables["attacked"] = (pd.concat(attacked, ignore_index=True), partial(attacked_suite, classes=len(classes)))
    if predicted:
        joined = pd.concat(predicted, ignore_index=True)
        right = joined["prediction"] == joined["label"]
        lead = joined["probability_top"] - joined["probability_label"]
        joined = joined.assign(lead=lead, lead_where_right=lead.where(right))
        tables["predicted"] = (joined, partial(predicted_suite, classes=len(classes)))
    return tables


def attacked_suite(gxe: Any, classes: int) -> list[Any]:
    """Rows are unique and of the split's labels; a norm is there exactly where the attack succeeded, and possible.

    Args:
        gxe: the module `great_expectations.expectations`.
        classes: how many there are.
    """
    status, between = gxe.row_conditions.Column(STATUS), gxe.ExpectColumnValuesToBeBetween
    return [
        *_rows_suite(gxe),
        between(column=CLEAN_PREDICTION, min_value=0, max_value=classes - 1),
        gxe.ExpectColumnValuesToBeInSet(column=STATUS, value_set=[one.value for one in Status]),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A=CLEAN_PREDICTION, column_B="label", row_condition=status != Status.MISCLASSIFIED_CLEAN.value
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="norm", row_condition=status == Status.OK.value),
        gxe.ExpectColumnValuesToBeNull(column="norm", row_condition=status != Status.OK.value),
        between(column="norm_l2", min_value=0, strict_min=True, max_value=LARGEST * (1 + ROUNDING)),
        between(column="norm_linf", min_value=0, strict_min=True, max_value=1 + ROUNDING),
        between(column="queries", min_value=1),
        between(column=SECOND_START, min_value=1),
    ]


def predicted_suite(gxe: Any, classes: int) -> list[Any]:
    """Rows are unique and of the split's labels; the predicted class is the likeliest."""
    between = gxe.ExpectColumnValuesToBeBetween
    return [
        *_rows_suite(gxe),
        between(column="prediction", min_value=0, max_value=classes - 1),
        between(column="probability_top", min_value=(1 - ROUNDING) / classes, max_value=1 + ROUNDING),
        between(column="lead", min_value=-ROUNDING),
        between(column="lead_where_right", max_value=ROUNDING),
    ]


def measured_suite(gxe: Any) -> list[Any]:
    """Every file has a row per image of the split, or of a trial as many as it names."""
    return [gxe.ExpectColumnPairValuesToBeEqual(column_A="images", column_B="images_wanted")]


def _rows_suite(gxe: Any) -> list[Any]:
    return [
        gxe.ExpectColumnValuesToBeUnique(column="row"),
        gxe.ExpectColumnValuesToNotBeNull(column="label_in_split"),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="label", column_B="label_in_split", ignore_row_if="either_value_is_missing"
        ),
    ]


def _row(path: Path, rows: pd.DataFrame, labels: "pd.Series[int]") -> pd.DataFrame:
    """The rows with a name, the label that the split has, and their norm, whichever it is of."""
    known = rows.reindex(columns=[*NORMS.values(), SECOND_START]).astype(float)
    names = [f"{path.parent.name}/{path.stem}/{image}" for image in rows["image"]]
    found = known[[*NORMS.values()]].bfill(axis=1).iloc[:, 0]
    return rows.assign(**dict(known), row=names, label_in_split=rows["image"].map(labels), norm=found)


def _description(path: Path, rows: pd.DataFrame, count: int) -> dict[str, Any]:
    trial = TRIAL.search(path.parent.name)
    wanted = min(count, int(trial[1])) if trial else count
    return {"evaluation": f"{path.parent.name}/{path.stem}", "images": len(rows), "images_wanted": wanted}
