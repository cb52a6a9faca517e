"""Writing `data/responses/NAME.h5`: sessions one after another, so that memory holds one block of responses."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import sealed_hdf5
from advalign.data.response_format import GROUPS, IMPORT, SPLITS, TABLES, VERSION, check_provenance, pairs
from advalign.data.responses import ResponseStore
from advalign.errors import DataError, shown
from advalign.files import replacing

CHUNK = (64, 1024)  # trials and units of betas that lie together


@dataclass(frozen=True)
class About:
    """What a file says of itself.

    Attributes:
        provenance: measured, simulated or predicted.
        normalisation: what was done to the responses: "none", "z-scored within session", ...
        description: in a sentence.
        sources: name of each file that it is made from -> SHA-256; more may be added while it is written.
    """

    provenance: str
    normalisation: str
    description: str = ""
    sources: dict[str, str] = field(default_factory=dict)


class ResponseWriter:
    """Takes trials, or matrices of dissimilarity, and writes them at once."""

    def __init__(self, file: Any, where: Path, images: pd.DataFrame, units: pd.DataFrame) -> None:
        self.file, self.where, self.images, self.units = file, where, images, units
        self.trials: list[pd.DataFrame] = []
        self.matrices: list[tuple[str, str]] = []
        self.shown: dict[tuple[int, int], int] = {}
        self.betas: Any = None
        self.rdms: list[NDArray[np.float32]] = []

    def add_trials(
        self,
        image: NDArray[Any],
        betas: NDArray[Any],
        split: NDArray[Any] | str,
        session: NDArray[Any] | int,
        repeat: NDArray[Any] | None = None,
        first_unit: int = 0,
    ) -> None:
        """Write trials, in the order in which they were recorded.

        Args:
            image: (n,) rows of the images' table.
            betas: (n, u) responses of u units side by side; NaN where there is none.
            split: of `SPLITS`, of all trials or (n,) values 0, 1, 2.
            session: number from 0, of all trials or (n,).
            repeat: (n,) from 0; None: they are counted, per image and `first_unit`.
            first_unit: row of the units' table of the first one; the other units have no response in these trials.

        Raises:
            DataError: shapes do not fit, or a response is infinite.
        """
        rows, wide = len(image), betas.shape[1] if betas.ndim == 2 else -1
        if betas.shape != (rows, wide) or first_unit + wide > len(self.units):
            expected = f"{rows} trials x at most {len(self.units) - first_unit} units"
            raise DataError(f"{self.where}: responses are {betas.shape}, expected {expected}")
        if np.isinf(betas).any():
            raise DataError(f"{self.where}: a response is infinite: leave the unit out, or set it to NaN")
        counted = self._repeats(image.tolist(), first_unit) if repeat is None else repeat
        number = SPLITS.index(split) if isinstance(split, str) else split
        columns = {"image": image, "repeat": counted, "session": session, "split": number}
        self.trials.append(pd.DataFrame({key: np.broadcast_to(value, rows) for key, value in columns.items()}))
        if self.betas is None:
            self.betas = self._no_betas_yet()
        start = self.betas.shape[0]
        self.betas.resize(start + rows, axis=0)
        self.betas[start:, first_unit : first_unit + wide] = betas.astype(np.float32)

    def _no_betas_yet(self) -> Any:
        """A data set of no trials, to which they are appended."""
        units = len(self.units)
        chunks = (CHUNK[0], max(1, min(CHUNK[1], units)))
        return self.file.create_dataset(
            "betas", (0, units), np.float32, maxshape=(None, units), chunks=chunks, fillvalue=np.nan
        )

    def _repeats(self, images: list[int], first_unit: int) -> NDArray[np.int32]:
        found = []
        for image in images:
            before = self.shown.get((image, first_unit), 0)
            found.append(before)
            self.shown[image, first_unit] = before + 1
        return np.array(found, np.int32)

    def add_rdm(self, condensed: NDArray[Any], subject: str, roi: str) -> None:
        """Write a matrix of dissimilarity.

        Args:
            condensed: (pairs,) in the order of SciPy's `squareform`.
            subject, roi: whose, and of which area.

        Raises:
            DataError: not as many pairs as the images have.
        """
        if condensed.shape != (pairs(len(self.images)),):
            expected = f"({pairs(len(self.images))},) for {len(self.images)} images"
            raise DataError(f"{self.where}: dissimilarities are {condensed.shape}, expected {expected}")
        self.rdms.append(condensed.astype(np.float32))
        self.matrices.append((subject, roi))

    def finish(self) -> None:
        """Write the tables."""
        _write_table(self.file, "images", self.images)
        _write_table(self.file, "units", self.units)
        if self.trials:
            _write_table(self.file, "trials", pd.concat(self.trials, ignore_index=True))
        if self.rdms:
            _write_table(self.file, "matrices", pd.DataFrame(self.matrices, columns=["subject", "roi"]))
            self.file.create_dataset("rdms/values", data=np.stack(self.rdms))


@contextmanager
def writing_responses(
    path: Path, about: About, images: pd.DataFrame, units: pd.DataFrame | None = None
) -> Iterator[ResponseWriter]:
    """Yield a writer; if the block succeeds, the file is checked and moved into place, else nothing is there.

    Args:
        path: to write.
        about: provenance and what else the file says of itself.
        images: id, and where known sha256 and label; a row per image.
        units: roi, and where known subject and noise_ceiling; a row per unit. None for matrices of dissimilarity.

    Raises:
        DataError: unknown provenance, or the parts do not fit together.
    """
    check_provenance(about.provenance, str(path))
    tables = {
        "images": _filled("images", images),
        "units": _filled("units", pd.DataFrame() if units is None else units),
    }
    with replacing(path) as temporary:
        with sealed_hdf5(temporary) as file:
            writer = ResponseWriter(file, path, tables["images"], tables["units"])
            yield writer
            writer.finish()
            attributes: Mapping[str, Any] = {
                "version": VERSION,
                "provenance": about.provenance,
                "normalisation": about.normalisation,
                "description": about.description,
                "sources": json.dumps(dict(sorted(about.sources.items()))),
            }
            file.attrs.update(attributes)
        ResponseStore.open(temporary)  # what cannot be read back is refused now


def write_ceilings(path: Path, ceilings: NDArray[Any]) -> None:
    """Set units/noise_ceiling of a file that is not in its place yet.

    Args:
        path: of the file.
        ceilings: (U,) share of variance, NaN where unknown.
    """
    with sealed_hdf5(path, "r+") as file:
        file["units/noise_ceiling"][...] = ceilings.astype(np.float32)


UNKNOWN = {"sha256": "", "label": -1, "subject": "", "noise_ceiling": np.nan}


def _filled(name: str, given: pd.DataFrame) -> pd.DataFrame:
    """A table with all of its columns, in their types; what is not given is unknown."""
    found = {}
    for key, kind in TABLES[name].items():
        column = given[key] if key in given else pd.Series([UNKNOWN.get(key)] * len(given))
        if column.isna().any() and kind is not np.float32:
            raise DataError(f"{name}: {key} is missing in row {shown(int(column.isna().argmax()))}: {IMPORT}")
        found[key] = column.reset_index(drop=True).astype("str" if kind is str else kind)
        strange = next((one for one in found[key].unique() if not one.isprintable()), None) if kind is str else None
        if strange is not None:
            raise DataError(f"{name}: {key} {shown(strange)} holds characters that cannot be printed: rename it")
    return pd.DataFrame(found)


def _write_table(file: Any, name: str, table: pd.DataFrame) -> None:
    for key, kind in TABLES[name].items():
        where = f"{GROUPS.get(name, name)}/{key}"
        if kind is str:
            encoded = [text.encode() for text in table[key]]
            longest = max(map(len, encoded), default=1) or 1
            kept = h5py.string_dtype("utf-8", longest)  # of one length: references to texts take 40 bytes each
            file.create_dataset(where, data=np.array(encoded, kept))
        else:
            file.create_dataset(where, data=table[key].to_numpy(kind))
