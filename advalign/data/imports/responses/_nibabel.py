"""Volumes and surfaces in NIfTI and MGH files, by nibabel, which is installed with the extra `neural`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.imports.responses._plan import need_file
from advalign.errors import DataError, InputError, quoted
from advalign.regular_files import LOOKED_AT, lookalike, open_file


def load_volume(path: Path, what: str) -> Any:
    """Open a NIfTI or MGH file; its values are read when they are used.

    Args:
        path: .nii, .nii.gz, .mgh or .mgz.
        what: it should be, for the message.

    Returns:
        nibabel's image.

    Raises:
        InputError: nibabel is not installed.
        DataError: not such a file.
    """
    need_file(path, what)
    try:
        import nibabel  # only files of NSD need it
    except ModuleNotFoundError:
        raise InputError(f"{path} needs nibabel: install it with `pip install 'advalign[neural]'`") from None
    try:
        return nibabel.load(path)
    except Exception as error:  # noqa: BLE001  damaged headers raise anything
        raise _unreadable(path, what, error) from None


def read_volume(image: Any, path: Path, what: str, selection: Any = ()) -> NDArray[Any]:
    """Values of an open image.

    Raises:
        DataError: they are damaged or cut off.
    """
    try:
        return np.asarray(image.dataobj[selection] if selection != () else image.dataobj)
    except Exception as error:  # noqa: BLE001  damaged files raise anything
        raise _unreadable(path, what, error) from None


def _unreadable(path: Path, what: str, error: Exception) -> DataError:
    with open_file(path, DataError) as file:
        start = file.read(LOOKED_AT)
    packed = path.suffix in (".gz", ".mgz") and start.startswith(b"\x1f\x8b")
    known = "" if packed else lookalike(start)
    return DataError(f"{path} {known or f'is damaged, or is not {what} ({quoted(error)}): fetch it again'}")
