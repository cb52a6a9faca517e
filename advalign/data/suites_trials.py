"""Suites of expectations on data/participants: the trials as they were imported, before any cleaning.

The tables are `trials` (a row per trial, named by its row in the source) and `clicked` (a row per image). What cleaning
is for (careless participants, double submissions) is no fault here; what makes a whole set doubtful is.
"""

from typing import Any

import numpy as np
import pandas as pd

from advalign.data.classes import Classes
from advalign.data.participants import (
    CATCH,
    IMAGE,
    PARTICIPANT,
    ROW,
    X,
    Y,
    has_participants,
    inside,
    read_images,
    read_trials,
)
from advalign.data.suites import Tables
from advalign.files import Project

MOST_CLICKS = 2000  # of a trial; ClickMe's have tens, free exploration with a bubble hundreds
MOST_OUTSIDE = 0.05  # mean share of a trial's clicks that lie outside the image
MOST_EMPTY = 0.2  # share of the trials that have no click
LEAST_SIDE = 8  # pixels
DISTINCT = 0.99  # share of the images that no other image's bytes repeat: large sets have a few twice
SINGLE = 0.9  # share of the trials that are not a participant's second on the image


def trial_tables(project: Project, classes: Classes) -> Tables:
    """The tables of data/participants with their suites; none where there are no trials.

    Raises:
        DataError: a file is missing or unreadable.
    """
    if not has_participants(project):
        return {}
    images = read_images(project)
    sizes = dict(zip(images["image"], images[["width", "height"]].to_numpy().tolist(), strict=True))
    tables = [trial_table(trials, *sizes.get(trials[IMAGE].iloc[0], (0, 0))) for trials in read_trials(project)]
    trials = pd.concat(tables, ignore_index=True)
    return {
        "trials": (trials.drop(columns=IMAGE), trial_suite),
        "clicked": (clicked_table(trials, images), lambda gxe: clicked_suite(gxe, len(classes))),
    }


def trial_table(trials: pd.DataFrame, width: int, height: int) -> pd.DataFrame:
    """A row per trial of one image.

    Returns:
        image; row (of the source); clicks; unpaired (coordinates without the other one); not_finite (clicks); outside
        (share of the clicks that lie outside the image; 0 where there are none); empty, nameless and repeated (whether
        the trial has no clicks, no participant, or is a later one of its participant: 0 or 1); catch.
    """
    across, down = (np.array([len(one) for one in trials[axis]], np.int64) for axis in (X, Y))
    paired = np.minimum(across, down)
    x, y = (
        np.concatenate([np.empty(0, np.float32), *(one[:n] for one, n in zip(trials[axis], paired, strict=True))])
        for axis in (X, Y)
    )
    trial = np.repeat(np.arange(len(trials)), paired)
    lost = np.bincount(trial[~inside(x, y, width, height)], minlength=len(trials))
    infinite = np.bincount(trial[~np.isfinite(x + y)], minlength=len(trials))
    named = trials[PARTICIPANT].fillna("").astype(str).str.strip()
    return pd.DataFrame(
        {
            "image": trials[IMAGE],
            "row": trials[ROW].to_numpy(np.int64),
            "clicks": paired,
            "unpaired": np.abs(across - down),
            "not_finite": infinite,
            "outside": lost / np.maximum(paired, 1),
            "empty": (paired == 0).astype(float),
            "nameless": (named == "").astype(int),
            "repeated": named.duplicated().astype(float),
            "catch": trials[CATCH].to_numpy(float, na_value=np.nan),
        }
    )


def clicked_table(trials: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """A row per image that is in images.parquet or has trials (of `trial_table`): its columns, trials, and known."""
    counts = trials.groupby("image").size().rename("trials").reset_index()
    table = images.merge(counts, on="image", how="outer", indicator=True)
    table["known"] = table.pop("_merge").ne("right_only").astype(int)
    return table.fillna({"trials": 0})


def trial_suite(gxe: Any) -> list[Any]:
    """Trials are whole, have participants, and their clicks lie in the image, but for a few."""
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="row"),
        gxe.ExpectColumnValuesToBeBetween(column="row", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="unpaired", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="not_finite", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="nameless", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="clicks", max_value=MOST_CLICKS),
        gxe.ExpectColumnValuesToBeBetween(column="catch", min_value=0, max_value=1),
        gxe.ExpectColumnMeanToBeBetween(column="outside", max_value=MOST_OUTSIDE),
        gxe.ExpectColumnMeanToBeBetween(column="empty", max_value=MOST_EMPTY),
        gxe.ExpectColumnMeanToBeBetween(column="repeated", max_value=1 - SINGLE),
    ]


def clicked_suite(gxe: Any, classes: int) -> list[Any]:
    """Every image is known, once, and was clicked on."""
    return [
        gxe.ExpectColumnValuesToBeUnique(column="image"),
        gxe.ExpectColumnValuesToBeUnique(column="sha256", mostly=DISTINCT),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex=r"^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeBetween(column="known", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="trials", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=LEAST_SIDE),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=LEAST_SIDE),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=-1, max_value=classes - 1),
    ]
