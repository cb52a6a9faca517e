"""HDF5 files: of those from outside nothing but plain data sets of the file itself is read; own ones are sealed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from advalign import seals
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import LOOKED_AT, lookalike, open_file

_DAMAGED = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)
"""What h5py raises, anywhere, where the structure of a file is damaged."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_hdf5(path: Path, wanted: str = "an HDF5 file") -> Iterator[Any]:
    """Open an HDF5 file for reading; MATLAB 7.3 and NetCDF-4 files are such files.

    Args:
        path: of the file.
        wanted: what is expected there, for the message.

    Yields:
        The file, an `h5py.File`.

    Raises:
        DataError: missing, no regular file, no HDF5, or cut off.
    """
    try:
        with open_file(path, DataError) as file:
            start = file.read(LOOKED_AT)
        if not h5py.is_hdf5(path):
            known = (lookalike(start) if not start.startswith(SIGNATURE) else "") or "is damaged: fetch it again"
            raise DataError(f"{path} is not {wanted}: it {known}")
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read as {wanted} ({quoted(error)}): fetch the file again") from None
    try:
        yield file
    except _DAMAGED as error:
        raise DataError(f"{path} is damaged ({quoted(error, named=True)}): fetch the file again") from error
    finally:
        file.close()


@contextmanager
def sealed_hdf5(path: Path, mode: Literal["w", "r+"] = "w") -> Iterator[Any]:
    """Yield an HDF5 file to write, or to change; if the block succeeds, it is sealed by an attribute of its root.

    Args:
        path: of a file that is not in its place yet.
        mode: h5py's.
    """
    with h5py.File(path, mode) as file:
        yield file
        file.attrs.modify(seals.KEY, np.bytes_(seals.OPEN))  # of fixed length, so that it lies in the file once
    seals.seal(path)


def dataset(file: Any, name: str, wanted: str = "") -> Any:
    """A data set of an open file, by its path in the file.

    Args:
        file: an `h5py.File` or group.
        name: such as "betas" or "trials/image".
        wanted: what the file should be, for the message.

    Raises:
        DataError: it is not there, is a group, or is kept in another file (a link or external storage), which a file
            from outside could use to read what it should not.
    """
    where = f"{file.file.filename}: {name}"
    group = file
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            mend = f"expected {wanted}" if wanted else "name another file"
            raise DataError(f"{where} is missing (it holds {shown(sorted(file)[:12])}): {mend}")
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{where} is a link to something else: copy the data into the file (h5repack)")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise DataError(f"{where} is a group, expected an array: {wanted or 'name another file'}")
    if group.is_virtual or group.external:
        raise DataError(f"{where} keeps its values in other files: copy them into this one (h5repack)")
    return group


def values(data: Any, selection: Any = ()) -> NDArray[Any]:
    """Read values of a data set.

    Raises:
        DataError: they are damaged, cut off, or packed by a filter that is not there.
    """
    try:
        return np.asarray(data[selection])
    except (OSError, ValueError, MemoryError) as error:
        where = f"{data.file.filename}: {data.name.removeprefix('/')}"
        raise DataError(f"{where} cannot be read ({quoted(error, named=True)}): fetch the file again") from None


def texts(data: Any) -> list[str]:
    """Read a data set of texts, of fixed or variable length.

    Raises:
        DataError: its values are no texts in UTF-8.
    """
    where = f"{data.file.filename}: {data.name.removeprefix('/')}"
    found = values(data).ravel()
    if found.dtype.kind not in "OS":
        raise DataError(f"{where} holds {found.dtype}, expected texts: fetch the file again")
    try:
        return [one.decode() if isinstance(one, bytes) else str(one) for one in found.tolist()]
    except UnicodeDecodeError:
        raise DataError(f"{where} holds texts that are not UTF-8: write them as UTF-8") from None
