"""Sessions that were read, each in a file of its own in outputs/, so that an interrupted import goes on after the last.

A part holds the responses as they go to the store, and the least and largest of each unit: units without responses are
found before the store is written.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import dataset, open_hdf5, sealed_hdf5, values
from advalign.data.imports.responses._plan import Block, Plan, Session
from advalign.data.response_writer import ResponseWriter
from advalign.errors import DataError
from advalign.files import remove_leftovers, replacing, sha256
from advalign.seals import need_whole
from advalign.strict_files import parse_json

ROWS = 4096  # trials that are read together
COLUMNS = ("image", "split", "session")


@dataclass(frozen=True)
class Part:
    """One session that was read.

    Attributes:
        path: of the part.
        sources: name of each file that it is of -> SHA-256.
        low, high: (units,) least and largest response; infinite where there is none.
        resumed: whether it was there from an earlier try.
    """

    path: Path
    sources: dict[str, str]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    resumed: bool


def add_source(sources: dict[str, str], file: Path, digest: str) -> None:
    """Note a file by its name; where another file is called so, with its folder."""
    name = file.name if sources.get(file.name, digest) == digest else f"{file.parent.name}/{file.name}"
    sources[name] = digest


def key_of(plan: Plan) -> str:
    """Digest of what the parts of a plan depend on, other than their own files."""
    tables = [plan.images.to_json(), plan.units.to_json(), plan.normalisation, plan.description]
    return hashlib.sha256(json.dumps(tables).encode()).hexdigest()


def read_part(path: Path, session: Session, key: str) -> Part:
    """Read a session, or find it read.

    Args:
        path: of the part.
        session: of the plan.
        key: of the plan (`key_of`).

    Raises:
        InputError: the session cannot be read, or holds infinite responses.
    """
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in session.files]
    wanted = json.dumps([key, session.name, states])
    if path.exists():
        try:
            return _found(path, wanted)
        except DataError:
            path.unlink()  # of an earlier plan, or not whole
    remove_leftovers(path)
    with replacing(path) as temporary, sealed_hdf5(temporary) as file:
        _write(file, session)
        sources: dict[str, str] = {}
        for one in session.files:
            add_source(sources, one, sha256(one))
        file.attrs["sources"] = json.dumps(sources)
        file.attrs["key"] = wanted
    found = _found(path, wanted)
    return Part(found.path, found.sources, found.low, found.high, resumed=False)


def _found(path: Path, wanted: str) -> Part:
    with open_hdf5(path, "a part of an import") as file:
        need_whole(path, "remove it")
        if file.attrs.get("key") != wanted:
            raise DataError(f"{path} is of another import: remove it")
        low, high = (values(dataset(file, name)) for name in ("low", "high"))
        return Part(path, parse_json(str(file.attrs["sources"]), str(path), DataError), low, high, resumed=True)


def _write(file: h5py.File, session: Session) -> None:
    where = session.files[0]
    low, high = np.empty(0, np.float32), np.empty(0, np.float32)
    writer = None
    for block in session.blocks():
        if not len(block.image):
            continue
        if np.isinf(block.betas).any():
            row, unit = np.argwhere(np.isinf(block.betas))[0]
            raise DataError(f"{where}: the response of unit {unit} in trial {row} is infinite: leave the unit out")
        if writer is None:
            writer = ResponseWriter(file, where, pd.DataFrame(), pd.DataFrame(index=range(block.betas.shape[1])))
            low, high = (np.full(block.betas.shape[1], end, np.float32) for end in (np.inf, -np.inf))
            file.attrs["has_sessions"] = block.session is not None
        writer.add_trials(block.image, block.betas, block.split, 0 if block.session is None else block.session)
        low = np.fmin(low, np.fmin.reduce(block.betas, axis=0))
        high = np.fmax(high, np.fmax.reduce(block.betas, axis=0))
    if writer is None:
        raise DataError(f"{where} holds no trials: name another file")
    table = pd.concat(writer.trials, ignore_index=True)
    for column in COLUMNS:
        file[column] = table[column].to_numpy()
    file["low"], file["high"] = low, high


def blocks_of(part: Part) -> Iterator[Block]:
    """The trials of a part, in blocks."""
    with open_hdf5(part.path, "a part of an import") as file:
        image, split, session = (values(dataset(file, name)) for name in COLUMNS)
        for start in range(0, len(image), ROWS):
            rows = slice(start, start + ROWS)
            betas = values(dataset(file, "betas"), rows)
            yield Block(image[rows], betas, split[rows], session[rows] if file.attrs["has_sessions"] else None)


def silent_units(parts: list[Part]) -> NDArray[np.bool_]:
    """(units,) which have no response in a session, or the same one in all trials."""
    absent = np.any([~np.isfinite(part.low) for part in parts], axis=0)
    same = np.min([part.low for part in parts], axis=0) == np.max([part.high for part in parts], axis=0)
    return np.asarray(absent | same)
