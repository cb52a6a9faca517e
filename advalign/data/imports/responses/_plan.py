"""What a layout says of its files: images, units, and sessions whose responses are read when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.imports._place import check_regular
from advalign.errors import DataError, shown
from advalign.regular_files import look_at
from advalign.strict_csv import parse_number, read_sheet


@dataclass(frozen=True)
class Block:
    """Some trials of a session, in the order in which they were recorded.

    Attributes:
        image: (n,) rows of the plan's images.
        betas: (n, units).
        split: of `SPLITS`, or (n,) values 0, 1, 2.
        session: (n,) from 0, where one file holds several; None: the session's place in the plan.
    """

    image: NDArray[Any]
    betas: NDArray[Any]
    split: NDArray[Any] | str
    session: NDArray[Any] | None = None


@dataclass(frozen=True)
class Session:
    """Responses that are read together: of one file, or of one per hemisphere."""

    name: str
    files: Sequence[Path]
    blocks: Callable[[], Iterator[Block]]


@dataclass(frozen=True)
class Plan:
    """Everything that a store is made of.

    Attributes:
        images: id, and sha256 and label where known.
        units: roi, and subject and noise_ceiling where known; none for dissimilarities.
        sessions: in the order in which they were recorded.
        matrices: (condensed dissimilarities, subject, roi).
        normalisation, description: as the store says them.
        files: other than those of the sessions, such as tables.
        told: what the user should know, in sentences.
    """

    images: pd.DataFrame
    units: pd.DataFrame
    sessions: Sequence[Session] = ()
    matrices: Sequence[tuple[NDArray[Any], str, str]] = ()
    normalisation: str = "none"
    description: str = ""
    files: Sequence[Path] = ()
    told: list[str] = field(default_factory=list)


def need_file(path: Path, what: str) -> Path:
    """A regular file that is there.

    Raises:
        DataError: it is not.
    """
    if not path.exists():
        raise DataError(f"{path} is missing: it should be {what}")
    check_regular(path)
    return path


def need_folder(path: Path, what: str) -> Path:
    """A folder that is there.

    Raises:
        DataError: it is not.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: name {what}")
    return path


def load_array(path: Path, what: str) -> Any:
    """Map a .npy array of numbers into memory; its values are read when they are used.

    Raises:
        DataError: not such a file, cut off, or it holds Python objects, which could run code.
    """
    need_file(path, what)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001  a damaged header, which is Python's own text, raises anything
        known = look_at(path, DataError)
        if "Python objects" in str(error):
            known = "holds Python objects, which may run code when read: save numbers only"
        raise DataError(f"{path} {known or 'is damaged, or no .npy array: save it with numpy.save'}") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {getattr(found, 'dtype', 'several arrays')}, expected numbers: {what}")
    return found


def read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A table of texts from a CSV file.

    Raises:
        DataError: no such table, or without one of the needed columns.
    """
    need_file(path, f"a CSV table with {', '.join(needed)}")
    rows = read_sheet(path, DataError)
    if not rows:
        raise DataError(f"{path} is empty: expected a CSV table with {', '.join(needed)}")
    header = rows[0][1]
    for column in needed:
        if header.count(column) != 1:
            found = "is there twice" if column in header else f"is missing (it has {', '.join(header[:8])})"
            raise DataError(f"{path}: column {column} {found}: expected {', '.join(needed)}")
    if len(rows) == 1:
        raise DataError(f"{path} has a header and no rows: write one row each")
    return pd.DataFrame([[cell.strip() for cell in cells] for _, cells in rows[1:]], columns=header)


def numbers(path: Path, table: pd.DataFrame, column: str, whole: bool = False) -> NDArray[np.float64]:
    """A column of numbers; an empty cell is NaN.

    Raises:
        DataError: a cell is no number, or not a whole one where it must be.
    """
    found = np.full(len(table), np.nan)
    for row, cell in enumerate(table[column]):
        if cell.lower() in ("", "nan"):
            continue
        try:
            found[row] = parse_number(cell)
        except ValueError:
            found[row] = np.inf
        if not np.isfinite(found[row]) or (whole and found[row] != int(found[row])):
            kind = "a whole number" if whole else "a number"
            raise DataError(f"{path}: row {row + 1}: {column} is {shown(cell)}, expected {kind}: fix that cell")
    return found


def image_rows(ids: Sequence[str], wanted: Sequence[str], where: str) -> NDArray[np.int64]:
    """Rows of images in a list of images.

    Raises:
        DataError: an image is not in the list.
    """
    row_of = {one: row for row, one in enumerate(ids)}
    strange = next((one for one in wanted if one not in row_of), None)
    if strange is not None:
        raise DataError(f"{where}: image {shown(strange)} is not in the list of images: name the list of this data set")
    return np.array([row_of[one] for one in wanted], np.int64)


def distinct(ids: Sequence[str], where: str) -> None:
    """Refuse a list in which something is empty or stands twice.

    Raises:
        DataError: it does.
    """
    seen: dict[str, int] = {}
    for row, one in enumerate(ids, start=1):
        if not one or one in seen:
            found = f"{shown(one)} is in rows {seen[one]} and {row}" if one else f"row {row} is empty"
            raise DataError(f"{where}: {found}: list each image once")
        seen[one] = row
