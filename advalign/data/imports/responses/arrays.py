"""Responses as plain arrays: a .npy or .parquet file, a list of images and a table of units, both CSV."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advalign.data.imports.responses._images import read_image_table
from advalign.data.imports.responses._plan import (
    Block,
    Plan,
    Session,
    image_rows,
    load_array,
    need_file,
    numbers,
    read_table,
)
from advalign.data.response_format import SPLITS
from advalign.errors import DataError, InputError, quoted, shown
from advalign.names import check_name

ROWS = 1024  # trials that are read together
AXES = ("trials-units", "units-images", "units-images-repeats", "images-units-repeats")
"""How the axes of an array may be ordered. With repeats, NaN is a repeat that was not recorded."""


@dataclass(frozen=True)
class ArrayTables:
    """The tables beside an array.

    Attributes:
        images: CSV with id, and any of file, sha256, label and split (train, validation or test); a row per image, in
            the order of the array unless `trials` says which image each trial is of.
        units: CSV with roi, and any of subject and noise_ceiling; a row per unit.
        trials: CSV with image (an id), and any of session (from 0) and split; a row per trial.
    """

    images: Path
    units: Path
    trials: Path | None = None


def plan_arrays(
    source: Path, tables: ArrayTables, axes: str = "trials-units", normalisation: str = "none", description: str = ""
) -> Plan:
    """The plan of an array of responses.

    Args:
        source: .npy, or .parquet with a column per unit and a row per trial.
        tables: beside it.
        axes: of `AXES`.
        normalisation: what was done to the responses.
        description: in a sentence.

    Raises:
        DataError: the array and the tables do not fit together.
    """
    given = read_image_table(tables.images)
    units = read_units(tables.units)
    array = _open(source, axes)
    trials = None if tables.trials is None else _read_trials(tables.trials, given)
    _check_shape(source, array, axes, len(given), units, tables, trials)
    splits = _splits(tables.images, given)
    blocks = partial(_of_images, array, splits) if trials is None else partial(_of_trials, array, splits, trials)
    return Plan(
        images=given[["id", "sha256", "label"]].reset_index(drop=True),
        units=units,
        sessions=[Session(source.name, [source], blocks)],
        normalisation=normalisation,
        description=description,
        files=[one for one in (tables.images, tables.units, tables.trials) if one is not None],
    )


def _of_trials(array: Any, splits: NDArray[np.int64], trials: pd.DataFrame) -> Iterator[Block]:
    """Rows that are trials; a trial without a split of its own has that of its image."""
    for rows in _chunks(len(trials)):
        chosen = trials.iloc[rows]
        split = chosen["split"].where(chosen["split"] >= 0, splits[chosen["image"]]).to_numpy()
        yield Block(chosen["image"].to_numpy(), _rows(array, rows), split, chosen["session"].to_numpy())


def _of_images(array: Any, splits: NDArray[np.int64]) -> Iterator[Block]:
    """Rows that are images, repeat by repeat; a row of NaN is none."""
    for repeat in range(array.shape[2] if array.ndim == 3 else 1):
        for rows in _chunks(len(splits)):
            image = np.arange(rows.start, rows.stop)
            betas = _rows(array[:, :, repeat] if array.ndim == 3 else array, rows)
            there = ~np.isnan(betas).all(axis=1)
            yield Block(image[there], betas[there], splits[image[there]])


def read_units(path: Path) -> pd.DataFrame:
    """A table of units: roi, subject ("" unknown) and noise_ceiling (NaN unknown).

    Raises:
        DataError: no such table; a name of an area is none; a ceiling is above 1.
    """
    table = read_table(path, ["roi"])
    for row, roi in enumerate(table["roi"], start=1):
        try:
            check_name(roi, "area")
        except InputError as error:
            raise DataError(f"{path}: row {row}: {error}") from None
    ceilings = numbers(path, table, "noise_ceiling") if "noise_ceiling" in table else np.full(len(table), np.nan)
    if (ceilings > 1).any():
        row = int(np.argmax(ceilings > 1))
        raise DataError(f"{path}: row {row + 1}: noise_ceiling {ceilings[row]} is above 1: give a share, not per cent")
    subject = table.get("subject", "")
    return pd.DataFrame({"roi": table["roi"], "subject": subject, "noise_ceiling": ceilings})


def _open(source: Path, axes: str) -> Any:
    """The array with its axes as (trials or images, units) or (images, units, repeats)."""
    if axes not in AXES:
        raise InputError(f"unknown order of axes {shown(axes)}: expected {', '.join(AXES)}")
    packed = source.suffix.lower() == ".parquet"
    array = _parquet(source) if packed else load_array(source, "an array of responses")
    wanted = axes.count("-") + 1
    if array.ndim != wanted:
        raise DataError(f"{source} has shape {array.shape}, expected {wanted} axes ({axes}): give --axes")
    if axes == "units-images":
        return array.T
    return array.transpose(1, 0, 2) if axes == "units-images-repeats" else array


def _parquet(source: Path) -> NDArray[Any]:
    need_file(source, "a table of responses, a column per unit")
    try:
        table = pq.read_table(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: cannot be read as parquet ({quoted(error)}): write it again") from None
    strange = next((one.name for one in table.schema if not pa.types.is_floating(one.type)), None)
    if strange is not None:
        kind = table.schema.field(strange).type
        raise DataError(f"{source}: column {shown(strange)} is {kind}, expected a column of floats per unit: drop it")
    return np.column_stack([column.to_numpy() for column in table.columns])


def _check_shape(
    source: Path,
    array: Any,
    axes: str,
    images: int,
    units: pd.DataFrame,
    tables: ArrayTables,
    trials: pd.DataFrame | None,
) -> None:
    if trials is not None and axes != "trials-units":
        raise InputError(f"--trials is of arrays with axes trials-units, got {axes}: leave one of them out")
    rows, listed = (images, tables.images) if trials is None else (len(trials), tables.trials)
    if array.shape[0] == rows and array.shape[1] == len(units):
        return
    what = "images" if trials is None else "trials"
    got = f"{array.shape[0]} {what} and {array.shape[1]} units"
    swapped = array.shape[:2] == (len(units), rows)
    mend = "the axes are swapped: give --axes" if swapped else "name the tables of this array, or give --axes"
    raise DataError(f"{source} has {got}, {listed} lists {rows} and {tables.units} {len(units)}: {mend}")


def _read_trials(path: Path, images: pd.DataFrame) -> pd.DataFrame:
    table = read_table(path, ["image"])
    rows = image_rows(images["id"].tolist(), table["image"].tolist(), str(path))
    session = numbers(path, table, "session", whole=True) if "session" in table else np.zeros(len(table))
    if not (session >= 0).all():
        row = int(np.argmin(session >= 0)) + 1
        raise DataError(f"{path}: row {row}: session is empty or below 0: number the sessions from 0")
    return pd.DataFrame({"image": rows, "session": session.astype(int), "split": _splits(path, table, -1)})


def _splits(path: Path, table: pd.DataFrame, unknown: int = 0) -> NDArray[np.int64]:
    """The values of a column `split`; `unknown` where it is empty or absent."""
    if "split" not in table:
        return np.full(len(table), unknown)
    strange = next(((row, one) for row, one in enumerate(table["split"], 1) if one not in ("", *SPLITS)), None)
    if strange is not None:
        raise DataError(f"{path}: row {strange[0]}: split is {shown(strange[1])}, expected {', '.join(SPLITS)}: fix it")
    return np.array([SPLITS.index(one) if one else unknown for one in table["split"]])


def _chunks(rows: int) -> Sequence[slice]:
    return [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]


def _rows(array: Any, rows: slice) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(array[rows], np.float32)
