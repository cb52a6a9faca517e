"""The files of the official CIFAR-10-C: an array per corruption, all severities in it, and the labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.cifar import SIDE
from advalign.errors import DataError, quoted
from advalign.regular_files import refuse_special
from advalign.tensors.corruptions.constants import NAMES, SEVERITIES

LABELS = "labels.npy"
MEND = "fetch the archive again, and import its folder"


def array_files(folder: Path) -> list[Path]:
    """Paths of all arrays and of the labels, whether they exist or not."""
    return [*(folder / f"{name}.npy" for name in NAMES), folder / LABELS]


def open_arrays(folder: Path, labels: NDArray[np.int64]) -> dict[str, NDArray[np.uint8]]:
    """Open the arrays without reading their pixels.

    Args:
        folder: with the 19 arrays and labels.npy.
        labels: (N,) of the test images, in their order.

    Returns:
        Corruption -> (5 N, 32, 32, 3) uint8: the N images at severity 1, then those at severity 2, and so on.

    Raises:
        DataError: a file is missing, unreadable, of another type or shape (severities are missing, say), or the
            labels are not those of the test images.
    """
    missing = [path.name for path in array_files(folder) if not path.exists()]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} is not in it, expected 19 arrays and {LABELS}: {MEND}")
    told = _opened(folder / LABELS)
    if not np.issubdtype(told.dtype, np.integer) or not np.array_equal(told, np.tile(labels, len(SEVERITIES))):
        raise DataError(
            f"{folder / LABELS}: {told.dtype} {told.shape} are not {len(SEVERITIES)} times the {len(labels)} labels of "
            "data/cifar/test.parquet: import CIFAR-10's test images in their official order first"
        )
    return {name: _checked(folder / f"{name}.npy", len(labels)) for name in NAMES}


def _checked(path: Path, count: int) -> NDArray[np.uint8]:
    found = _opened(path)
    wanted = (len(SEVERITIES) * count, SIDE, SIDE, 3)
    if found.dtype != np.uint8 or found.shape[1:] != wanted[1:]:
        raise DataError(f"{path}: {found.dtype} {found.shape}, expected uint8 {wanted}: {MEND}")
    if len(found) != wanted[0]:
        held = f", which is {len(found) // count} severities of {len(SEVERITIES)}" if len(found) % count == 0 else ""
        raise DataError(
            f"{path}: {len(found)} images{held}, expected {wanted[0]}: {count} at each of {len(SEVERITIES)} "
            f"severities: {MEND}"
        )
    return found


def _opened(path: Path) -> NDArray[Any]:
    """An array of plain values, read where it lies."""
    try:
        refuse_special(path, DataError)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no array of numpy ({quoted(error)}): {MEND}") from None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path} is an archive of arrays, expected one array (.npy): {MEND}")
    return found
