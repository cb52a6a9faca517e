"""THINGS-fMRI: single-trial responses of three people to THINGS images (Hebart et al. 2023), in its tables.

Per subject: `sub-01_ResponseData.h5` (written by pandas: voxels x trials), `sub-01_VoxelMetadata.csv` (areas as columns
of 0 and 1, and the authors' ceiling `nc_testset` in per cent), `sub-01_StimulusMetadata.csv` (a row per trial).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import dataset, open_hdf5, values
from advalign.data.imports._place import stem_of
from advalign.data.imports.responses._plan import Block, Plan, Session, need_file, need_folder, numbers, read_table
from advalign.data.response_format import SPLITS
from advalign.errors import DataError, InputError, shown
from advalign.names import is_name

AREAS = ("V1", "V2", "V3", "hV4", "LOC", "IT")
"""Areas that are imported unless others are named; a voxel is of the first one that claims it."""
WHAT = "ResponseData.h5 of THINGS-fMRI"
GROUP = "ResponseData"
ROWS = 1024  # trials that are read together
GAP = 64  # rows of other voxels that are read along rather than skipped


def plan_things_fmri(folder: Path, subject: str, areas: Sequence[str] = AREAS) -> Plan:
    """The plan of one subject.

    Args:
        folder: with the three files.
        subject: such as sub-01.
        areas: columns of the voxels' table; of both hemispheres where it has lNAME and rNAME.

    Raises:
        DataError: a file is missing, or they do not fit together.
    """
    need_folder(folder, f"the one with {subject}_{WHAT}")
    if not is_name(subject):
        raise InputError(f"{shown(subject)} names no subject: give one such as sub-01")
    source = need_file(folder / f"{subject}_ResponseData.h5", WHAT)
    tables = [folder / f"{subject}_{kind}Metadata.csv" for kind in ("Voxel", "Stimulus")]
    rois, ceilings, voxel_id = _voxels(tables[0], areas)
    trials = _trials(tables[1])
    with open_hdf5(source, WHAT) as file:
        responses = _responses(file, len(rois), len(trials), voxel_id, tables)
    chosen = np.flatnonzero(rois != "")
    kept = np.flatnonzero(trials["split"] >= 0)
    ids = list(dict.fromkeys(trials["id"].iloc[kept]))
    row_of = {one: row for row, one in enumerate(ids)}
    trials["image"] = [row_of.get(one, -1) for one in trials["id"]]
    return Plan(
        images=pd.DataFrame({"id": ids}),
        units=pd.DataFrame({"roi": rois[chosen], "subject": subject, "noise_ceiling": ceilings[chosen]}),
        sessions=[Session(source.name, [source], partial(_blocks, source, responses, chosen, trials))],
        normalisation="none (single-trial estimates)",
        description=f"THINGS-fMRI, {subject}: responses of voxels to THINGS images",
        files=tables,
    )


def _blocks(source: Path, responses: str, voxels: NDArray[np.int64], trials: pd.DataFrame) -> Iterator[Block]:
    """The responses of some voxels in the trials that have a split."""
    with open_hdf5(source, WHAT) as file:
        data = dataset(file, responses)
        for start in range(0, len(trials), ROWS):
            betas = _voxel_rows(data, voxels, slice(start, min(start + ROWS, len(trials)))).T
            some = trials.iloc[start : start + ROWS]
            used = (some["split"] >= 0).to_numpy()
            image, split, session = (some[one].to_numpy()[used] for one in ("image", "split", "session"))
            yield Block(image, betas[used], split, session)


def _voxels(path: Path, areas: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """The area of each voxel ("": none), its ceiling as a share, and its number."""
    table = read_table(path, ["voxel_id"])
    rois = np.full(len(table), "", dtype="U64")
    for area in areas:
        columns = [name for name in (area, f"l{area}", f"r{area}") if name in table]
        if not columns or not is_name(area):
            known = [one for one in table.columns if set(table[one]) <= {"0", "1", "0.0", "1.0"}]
            raise DataError(f"{path}: no area {shown(area)}: name columns of it (areas: {', '.join(known[:20])})")
        inside = np.any([numbers(path, table, one) > 0 for one in columns], axis=0)
        rois = np.where((rois == "") & inside, area, rois)
    if not (rois != "").any():
        raise DataError(f"{path}: no voxel is of {', '.join(areas)}: name other areas")
    ceilings = numbers(path, table, "nc_testset") if "nc_testset" in table else np.full(len(table), np.nan)
    if (ceilings > 100).any():
        raise DataError(f"{path}: nc_testset is {np.nanmax(ceilings)}, expected per cent: fetch the table again")
    return rois, ceilings / 100, numbers(path, table, "voxel_id", whole=True)


def _trials(path: Path) -> pd.DataFrame:
    """id of the image, session from 0 and split (-1: not used, such as catch trials) of each trial."""
    table = read_table(path, ["stimulus", "trial_type", "session"])
    session = numbers(path, table, "session", whole=True)
    if np.isnan(session).any():
        raise DataError(f"{path}: row {int(np.isnan(session).argmax()) + 1}: session is empty: fetch the table again")
    split = table["trial_type"].map({one: place for place, one in enumerate(SPLITS)}).fillna(-1).astype(int)
    if not (split >= 0).any():
        raise DataError(f"{path}: no trial_type is train or test: fetch the table again")
    ids = [stem_of(one) for one in table["stimulus"]]
    return pd.DataFrame({"id": ids, "session": (session - session.min()).astype(int), "split": split})


def _responses(file: Any, voxels: int, trials: int, voxel_id: NDArray[np.float64], tables: Sequence[Path]) -> str:
    """The path of the responses in the file, once they are known to fit the tables."""
    found = ""
    group = file[GROUP] if GROUP in file else next((one for one in file.values() if "block0_values" in one), {})
    for name in (f"{group.name}/{one}".lstrip("/") for one in group if one.endswith("_values")):
        data = dataset(file, name, WHAT)
        if data.dtype.kind == "f" and data.ndim == 2:
            found = name
        elif data.shape == (voxels, 1) and not np.array_equal(values(data)[:, 0], voxel_id):
            raise DataError(f"{file.filename}: its voxels are in another order than in {tables[0]}: fetch both again")
    if not found:
        raise DataError(f"{file.filename}: no table of floats is in it: name {WHAT}")
    shape = file[found].shape
    if shape != (voxels, trials):
        swapped = shape == (trials, voxels)
        mend = "the axes are swapped: save it as the authors did" if swapped else "fetch the three files again"
        expected = f"{voxels} voxels in {tables[0].name} and {trials} trials in {tables[1].name}"
        raise DataError(f"{file.filename}: responses are {shape}, {expected}: {mend}")
    return found


def _voxel_rows(data: Any, rows: NDArray[np.int64], columns: slice) -> NDArray[np.float32]:
    """(rows, columns) of a data set; rows that lie close together are read at once."""
    found = []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > GAP) + 1):
        read = values(data, (slice(int(run[0]), int(run[-1]) + 1), columns))
        found.append(read[run - run[0]].astype(np.float32))
    return np.concatenate(found)
