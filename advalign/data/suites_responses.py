"""Suites of expectations on response stores: their images, units and trials, and what is in the responses.

The tables are `response_images`, `response_units` (a row per unit, or per matrix of dissimilarity) and
`response_trials`, each of all stores. A store that is damaged, or whose parts do not fit together, is refused when it
is opened.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advalign.data.classes import Classes
from advalign.data.response_format import SPLITS
from advalign.data.responses import ResponseStore
from advalign.data.suites import Tables


def response_tables(paths: Sequence[Path], classes: Classes) -> Tables:
    """The tables of some stores with their suites; those of which no row is there are left out.

    Raises:
        DataError: a file is unreadable.
    """
    stores = [ResponseStore.open(path) for path in paths]
    found: dict[str, list[pd.DataFrame]] = {}
    for store in stores:
        units, trials = (_of_trials if len(store.trials) else _of_matrices)(store)
        for name, table in (("images", image_table(store)), ("units", units), ("trials", trials)):
            if len(table):
                found.setdefault(f"response_{name}", []).append(table)
    suites: dict[str, Callable[[Any], list[Any]]] = {
        "response_images": partial(image_suite, classes=len(classes)),
        "response_units": unit_suite,
        "response_trials": trial_suite,
    }
    return {name: (pd.concat(found[name], ignore_index=True), suites[name]) for name in suites if name in found}


def image_table(store: ResponseStore) -> pd.DataFrame:
    """A row per image: image (its id, below the store's name), file_sha256 (null where unknown) and label."""
    digests = store.images["sha256"]
    return pd.DataFrame(
        {
            "image": _of(store) + store.images["id"],
            "file_sha256": digests.where(digests != "", None),
            "label": store.images["label"],
        }
    )


def _of_trials(store: ResponseStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of units and of trials; the responses are read in blocks.

    Returns:
        row, roi (null where it has no name), noise_ceiling, missing (share of the trials), infinite (responses) and
            spread (largest minus smallest response; null where there is none) of every unit;
        row, image, images (how many the store has), repeat, split and responding (units) of every trial.
    """
    count, infinite = np.zeros((2, len(store.units)), np.int64)
    low, high = np.full((2, len(store.units)), np.nan, np.float32)
    responding = np.zeros(len(store.trials), np.int64)
    for rows, block in store.blocks():
        there = ~np.isnan(block)
        responding[rows] = there.sum(axis=1)
        count += there.sum(axis=0)
        infinite += np.isinf(block).sum(axis=0)
        low, high = np.fmin(low, np.fmin.reduce(block, axis=0)), np.fmax(high, np.fmax.reduce(block, axis=0))
    missing = 1 - count / max(len(store.trials), 1)
    units = _units(store, store.units, missing=missing, infinite=infinite, spread=high - low)
    trials = store.trials[["image", "repeat", "split"]].assign(images=len(store.images), responding=responding)
    return units, trials.assign(row=_rows(store, len(trials)))


def _of_matrices(store: ResponseStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of matrices in the columns of units, area by area; no trials."""
    found = []
    for subject, roi in store.areas:
        values = store.rdms(roi, subject)
        own = store.matrices[(store.matrices["roi"] == roi) & (store.matrices["subject"] == subject)]
        found.append(
            own.assign(
                noise_ceiling=np.nan,
                missing=np.isnan(values).mean(axis=1),
                infinite=np.isinf(values).sum(axis=1),
                spread=np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1),
            )
        )
    return _units(store, pd.concat(found).sort_index()), pd.DataFrame()


def _units(store: ResponseStore, table: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    known = table["roi"].where(table["roi"] != "", None)
    return table.drop(columns="subject").assign(row=_rows(store, len(table)), roi=known, **columns)


def _of(store: ResponseStore) -> str:
    """Begins the names of a store's rows: one in data/ and one in outputs/ may have the same name."""
    return f"{store.path.parent.parent.name}/{store.path.stem}/"


def _rows(store: ResponseStore, count: int) -> list[str]:
    return [f"{_of(store)}{number}" for number in range(count)]


def image_suite(gxe: Any, classes: int) -> list[Any]:
    """Images are there once, and what is known of them is possible."""
    return [
        gxe.ExpectColumnValuesToBeUnique(column="image"),
        gxe.ExpectColumnValuesToMatchRegex(column="file_sha256", regex=r"^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=-1, max_value=classes - 1),
    ]


def unit_suite(gxe: Any) -> list[Any]:
    """Units have an area and responses that are finite and vary, and their ceilings are possible."""
    between = gxe.ExpectColumnValuesToBeBetween
    return [
        gxe.ExpectColumnValuesToNotBeNull(column="roi"),
        between(column="noise_ceiling", min_value=0, max_value=1),
        between(column="missing", max_value=1, strict_max=True),
        between(column="infinite", max_value=0),
        between(column="spread", min_value=0, strict_min=True),
    ]


def trial_suite(gxe: Any) -> list[Any]:
    """Trials are of an image and a split that are there, and at least one unit responds."""
    between = gxe.ExpectColumnValuesToBeBetween
    return [
        between(column="image", min_value=0),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="images", column_B="image"),
        between(column="repeat", min_value=0),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(range(len(SPLITS)))),
        between(column="responding", min_value=1),
    ]
