"""Variables of MATLAB files, version 5 and version 7.3 (HDF5). Only numbers and texts are read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from advalign.data.hdf5 import SIGNATURE, dataset, open_hdf5, values
from advalign.data.imports.responses._mat5 import read_mat5
from advalign.data.imports.responses._plan import need_file
from advalign.errors import DataError, shown
from advalign.regular_files import open_file


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, which MATLAB writes as of version 7.3."""
    with open_file(path, DataError) as file:
        return file.read(len(SIGNATURE)) == SIGNATURE or bool(h5py.is_hdf5(path))


def mat_arrays(path: Path, what: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of numbers in a MATLAB file, shapes as MATLAB has them.

    Raises:
        DataError: not a MATLAB file.
    """
    need_file(path, what)
    if is_hdf5(path):
        with open_hdf5(path, "a MATLAB file") as file:
            kept = {
                name: one for name, one in file.items() if isinstance(one, h5py.Dataset) and one.dtype.kind in "fiu"
            }
            return {name: tuple(reversed(one.shape)) for name, one in kept.items()}
    return {name: one.shape for name, one in read_mat5(path).items()}


def mat_array(path: Path, name: str, what: str) -> NDArray[Any]:
    """One array of numbers, whole, its axes as MATLAB has them.

    Raises:
        DataError: it is not there, or damaged.
    """
    there = mat_arrays(path, what)
    if name not in there:
        raise DataError(f"{path}: {shown(name)} is missing (it holds {', '.join(there) or 'no numbers'}): {what}")
    if is_hdf5(path):
        with open_hdf5(path, "a MATLAB file") as file:
            return values(dataset(file, name, what)).T
    return read_mat5(path)[name].values()


def mat_texts(file: Any, name: str, what: str) -> list[str]:
    """Texts of a cell array, or of a field of a structure array, in an open MATLAB 7.3 file.

    Args:
        file: an `h5py.File`.
        name: such as "train_imgs/things_path".
        what: the file should be, for the message.

    Raises:
        DataError: not such an array.
    """
    cells = values(dataset(file, name, what)).ravel()
    found = []
    for cell in cells:
        target = file[cell] if isinstance(cell, h5py.Reference) and cell else None
        if not isinstance(target, h5py.Dataset) or target.dtype != np.uint16:
            raise DataError(f"{file.filename}: {name} holds something other than texts: {what}")
        found.append("".join(map(chr, values(target).ravel().tolist())))
    return found
