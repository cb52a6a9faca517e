"""The format of `data/responses/NAME.h5`: its tables, and whether the parts of a file fit together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advalign.data.hdf5 import dataset, texts, values
from advalign.errors import DataError, shown
from advalign.strict_files import parse_json

VERSION = 1
PROVENANCES = ("measured", "simulated", "predicted")
SPLITS = ("train", "validation", "test")
"""Names of the values 0, 1 and 2 of `trials/split`."""
IMPORT = "`advalign data import responses`"
TABLES: dict[str, dict[str, Any]] = {
    "images": {"id": str, "sha256": str, "label": np.int32},
    "units": {"roi": str, "subject": str, "noise_ceiling": np.float32},
    "trials": {"image": np.int32, "repeat": np.int32, "session": np.int32, "split": np.int8},
    "matrices": {"subject": str, "roi": str},
}
"""Tables of the file: columns and their types. `matrices` is the group `rdms`, beside its values."""
GROUPS = {"matrices": "rdms"}


def check_version(found: object, path: Path) -> None:
    """Refuse a file of another version.

    Raises:
        DataError: it is.
    """
    if found != VERSION:
        told = int(found) if isinstance(found, np.integer) else shown(found)
        raise DataError(f"{path}: version {told} of a response store, expected {VERSION}: {IMPORT} again")


def check_provenance(found: object, where: str) -> str:
    """A known provenance, unchanged.

    Raises:
        DataError: another.
    """
    if found not in PROVENANCES:
        raise DataError(f"{where}: provenance {shown(found)}, expected {', '.join(PROVENANCES)}: say where it is from")
    return str(found)


def read_table(file: Any, name: str) -> pd.DataFrame:
    """Read one of `TABLES`; empty where the file has none.

    Raises:
        DataError: a column is missing, of another type or length.
    """
    group = GROUPS.get(name, name)
    columns = TABLES[name]
    if group not in file:
        return pd.DataFrame({key: pd.Series(dtype="str" if kind is str else kind) for key, kind in columns.items()})
    found: dict[str, Any] = {}
    for key, kind in columns.items():
        data = dataset(file, f"{group}/{key}", "a response store")
        if kind is str:
            found[key] = pd.Series(texts(data), dtype="str")
            continue
        if data.dtype != kind or data.ndim != 1:
            where = f"{file.filename}: {group}/{key}"
            raise DataError(f"{where} is {data.dtype} {data.shape}, expected {np.dtype(kind)} (N,): {IMPORT} again")
        found[key] = values(data)
    if len({len(column) for column in found.values()}) > 1:
        raise DataError(f"{file.filename}: columns of {group} differ in length: {IMPORT} again")
    return pd.DataFrame(found)


def read_sources(text: object, path: Path) -> dict[str, str]:
    """Read the attribute `sources`: file name -> SHA-256.

    Raises:
        DataError: not such a dictionary.
    """
    try:
        found = parse_json(str(text), str(path), DataError)
    except DataError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: sources is {shown(text)}, expected file names and their SHA-256: {IMPORT} again")
    return {str(name): str(digest) for name, digest in found.items()}


def check_parts(file: Any, tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a file whose parts do not fit together.

    Args:
        file: open for reading.
        tables: of `TABLES`.

    Raises:
        DataError: they do not.
    """
    if wrong := _misfit(file, **tables):
        raise DataError(f"{file.filename}: {wrong}: {IMPORT} again")


def _misfit(file: Any, images: pd.DataFrame, units: pd.DataFrame, trials: pd.DataFrame, matrices: pd.DataFrame) -> str:
    if not len(images) or images["id"].duplicated().any():
        return "it has no images, or one twice"
    if len(trials):
        betas, shape = dataset(file, "betas", "a response store"), (len(trials), len(units))
        if betas.shape != shape or betas.dtype != np.float32:
            return f"betas are {betas.dtype} {betas.shape}, expected float32 {shape}"
        if not trials["image"].between(0, len(images) - 1).all() or not trials["split"].between(0, 2).all():
            return "a trial's image or split is out of range"
        return "a trial's repeat or session is below 0" if (trials[["repeat", "session"]] < 0).to_numpy().any() else ""
    if len(matrices):
        found, shape = dataset(file, "rdms/values", "a response store"), (len(matrices), pairs(len(images)))
        if found.shape != shape or found.dtype != np.float32:
            return f"dissimilarities are {found.dtype} {found.shape}, expected float32 {shape}"
        return ""
    return "it has neither trials nor dissimilarities"


def pairs(images: int) -> int:
    """How many pairs of different images there are: the length of a condensed matrix."""
    return images * (images - 1) // 2
