"""Assemblies of BrainIO and Brain-Score: NetCDF-4 with the axes presentation, neuroid and, in some, time_bin."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import dataset, open_hdf5, texts, values
from advalign.data.imports.responses._plan import Block, Plan, Session, need_file
from advalign.errors import DataError, InputError, shown
from advalign.names import is_name
from advalign.strict_csv import parse_number

VARIABLES = ("data", "__xarray_dataarray_variable__")
IMAGES = ("stimulus_id", "image_id")
AREAS = ("region", "area")
SUBJECTS = ("animal", "subject")
AXES = ("presentation", "neuroid", "time_bin")
WHAT = "an assembly of BrainIO (NetCDF-4)"
ROWS = 1024  # presentations that are read together


def plan_brainio(source: Path, time_bin: tuple[float, float] | None = None, split: str = "train") -> Plan:
    """The plan of an assembly. Repeats are the presentations of an image, in the order of the file.

    Args:
        source: .nc file.
        time_bin: (start, end) in ms, as the file has it; None: the only one.
        split: of `SPLITS`, of all presentations.

    Raises:
        DataError: not such a file, or a coordinate is missing.
    """
    need_file(source, WHAT)
    with open_hdf5(source, WHAT) as file:
        name, axes = _variable(file)
        stimuli = _first(file, IMAGES, "presentation")
        regions = _first(file, AREAS, "neuroid")
        subjects = _first(file, SUBJECTS, "neuroid", needed=False) or [""] * len(regions)
        place = _time_place(file, axes, time_bin)
        shape = dict(zip(axes, file[name].shape, strict=True))
    _check(source, shape, stimuli, regions)
    ids = list(dict.fromkeys(stimuli))
    row_of = {one: row for row, one in enumerate(ids)}
    image = np.array([row_of[one] for one in stimuli])

    def blocks() -> Iterator[Block]:
        for rows, betas in _responses(source, name, axes, place):
            yield Block(image[rows], betas, split)

    return Plan(
        images=pd.DataFrame({"id": ids}),
        units=pd.DataFrame({"roi": regions, "subject": subjects}),
        sessions=[Session(source.name, [source], blocks)],
        normalisation="as in the assembly",
        description=f"assembly {source.stem}",
    )


def _responses(source: Path, name: str, axes: list[str], time: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Some presentations at a time: their rows, and the responses in one time bin, (presentations, neuroids)."""
    kept = [axis for axis in axes if axis != "time_bin"]
    with open_hdf5(source, WHAT) as file:
        count = file[name].shape[axes.index("presentation")]
        for start in range(0, count, ROWS):
            rows = slice(start, min(start + ROWS, count))
            picked = {"presentation": rows, "neuroid": slice(None), "time_bin": time}
            block = values(file[name], tuple(picked[axis] for axis in axes))
            yield rows, np.asarray(block if kept[0] == "presentation" else block.T, np.float32)


def _variable(file: Any) -> tuple[str, list[str]]:
    """The name of the assembly's variable, and its axes in the file's order."""
    name = next((one for one in VARIABLES if one in file), None)
    if name is None:
        there = ", ".join(sorted(file)[:10])
        raise DataError(f"{file.filename}: neither {' nor '.join(VARIABLES)} is in it ({there}): name {WHAT}")
    data = dataset(file, name, WHAT)
    axes = [_axis(file, scales) for scales in data.attrs.get("DIMENSION_LIST", [()] * data.ndim)]
    if sorted(axes) not in (sorted(AXES), sorted(AXES[:2])) or data.dtype.kind != "f":
        found = f"{data.dtype} with axes {', '.join(axes) or 'without names'}"
        raise DataError(f"{file.filename}: {name} is {found}, expected floats with {', '.join(AXES)}")
    return name, axes


def _axis(file: Any, scales: Any) -> str:
    """The name of one axis: of the scale that NetCDF refers to; h5py's own reader crashes on damaged references."""
    names = [str(file[one].name).rpartition("/")[2] for one in scales if isinstance(one, h5py.Reference) and one]
    return next((one for one in names if one in AXES), names[0] if names else "?")


def _first(file: Any, names: tuple[str, ...], axis: str, needed: bool = True) -> list[str]:
    """The values of the first coordinate that is there, as texts; none where it is absent and not needed."""
    name = next((one for one in names if one in file and isinstance(file[one], h5py.Dataset)), None)
    if name is None:
        if needed:
            raise DataError(f"{file.filename}: {axis} has no {' or '.join(names)}: name {WHAT}")
        return []
    data = dataset(file, name, WHAT)
    return texts(data) if data.dtype.kind in "OS" else [str(one) for one in values(data).ravel().tolist()]


def _time_place(file: Any, axes: list[str], wanted: tuple[float, float] | None) -> int:
    """The place of the time bin in its axis."""
    if "time_bin" not in axes:
        if wanted is not None:
            raise InputError(f"{file.filename} has no time bins: leave --time-bin out")
        return 0
    start, end = (values(dataset(file, f"time_bin_{one}", WHAT)).astype(float).tolist() for one in ("start", "end"))
    bins = list(zip(start, end, strict=True))
    known = ", ".join(f"{low:g}-{high:g}" for low, high in bins[:12])
    if wanted is None:
        if len(bins) != 1:
            raise InputError(f"{file.filename} has {len(bins)} time bins ({known}): choose one with --time-bin")
        return 0
    if wanted not in bins:
        raise InputError(f"{file.filename} has no time bin {wanted[0]:g}-{wanted[1]:g}: it has {known}")
    return bins.index(wanted)


def _check(source: Path, shape: dict[str, int], stimuli: list[str], regions: list[str]) -> None:
    for axis, listed, kind in (("presentation", stimuli, "stimuli"), ("neuroid", regions, "regions")):
        if shape[axis] != len(listed):
            raise DataError(f"{source}: {shape[axis]} along {axis} and {len(listed)} {kind}: fetch the file again")
    strange: NDArray[Any] | str | None = next((one for one in regions if not is_name(one)), None)
    if strange is not None:
        raise DataError(f"{source}: region {shown(strange)} cannot name an area: rename it in the assembly")


def read_time_bin(text: str) -> tuple[float, float]:
    """Read START-END.

    Raises:
        InputError: not of this form.

    >>> read_time_bin("70-170")
    (70.0, 170.0)
    """
    start, _, end = text.rpartition("-")
    try:
        return parse_number(start), parse_number(end)
    except ValueError:
        raise InputError(f"{shown(text)} is no time bin: give START-END in ms, such as 70-170") from None
