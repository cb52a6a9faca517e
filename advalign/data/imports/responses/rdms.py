"""Matrices of dissimilarity between images, where single responses were not released: .npz, .npy or .mat."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advalign.data.imports.responses._images import read_image_table
from advalign.data.imports.responses._mat import mat_array, mat_arrays
from advalign.data.imports.responses._plan import Plan, load_array, need_file
from advalign.data.response_format import pairs
from advalign.errors import DataError, InputError, quoted, shown
from advalign.names import check_name
from advalign.regular_files import lookalike, open_file

LARGEST = 1 << 30  # bytes of an unpacked array


def plan_rdms(sources: Mapping[str, Path], images: Path, variable: str | None = None, description: str = "") -> Plan:
    """The plan of matrices of dissimilarity.

    Args:
        sources: area -> file with (subjects, images, images), (images, images) or (subjects, pairs), the pairs in the
            order of SciPy's `squareform`.
        images: CSV with id, and any of file, sha256 and label, in the order of the matrices.
        variable: name of the array; None: the only one in the file.
        description: in a sentence.

    Raises:
        DataError: a file does not hold such matrices of these images.
    """
    listed = read_image_table(images)
    matrices = []
    for roi, path in sources.items():
        check_name(roi, "area")
        condensed = _condensed(_array(path, variable), len(listed), path, images)
        width = len(str(len(condensed)))
        matrices += [(one, f"s{number:0{width}d}", roi) for number, one in enumerate(condensed, start=1)]
    return Plan(
        images=listed[["id", "sha256", "label"]].reset_index(drop=True),
        units=listed.iloc[:0].reindex(columns=["roi"]),
        matrices=matrices,
        description=description,
        files=[images, *sources.values()],
    )


def named_sources(arguments: list[str]) -> dict[str, Path]:
    """Read AREA=FILE.

    Raises:
        InputError: not of this form, or an area twice.

    >>> named_sources(["IT=it.npz"])
    {'IT': PosixPath('it.npz')}
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        roi, mark, file = argument.partition("=")
        if not mark or not roi or not file:
            raise InputError(f"{shown(argument)} says no area: give AREA=FILE, such as IT=it.npz")
        if roi in found:
            raise InputError(f"area {shown(roi)} is given twice: give all of its subjects in one file")
        found[roi] = Path(file)
    return found


def _array(path: Path, variable: str | None) -> NDArray[np.float64]:
    what = "an array of dissimilarities (.npz, .npy or .mat)"
    if path.suffix.lower() == ".npz":
        return _from_npz(path, variable, what)
    if path.suffix.lower() == ".npy":
        return np.asarray(load_array(path, what), np.float64)
    name = variable or _only(path, list(mat_arrays(path, what)))
    found = mat_array(path, name, what)
    if found.ndim == 3 and found.shape[0] == found.shape[1]:  # MATLAB's habit: images x images x subjects
        found = found.transpose(2, 0, 1)
    return found.astype(np.float64)


def _from_npz(path: Path, variable: str | None, what: str) -> NDArray[np.float64]:
    need_file(path, what)
    try:
        with np.load(path, allow_pickle=False) as file:
            name = variable or _only(path, list(file))
            if name not in file:
                raise DataError(
                    f"{path}: {shown(name)} is missing (it holds {', '.join(file)}): name another --variable"
                )
            if sum(one.file_size for one in file.zip.infolist() if one.filename == f"{name}.npy") > LARGEST:
                raise DataError(f"{path}: {name} unpacks to more than {LARGEST >> 30} GiB: save it as .npy")
            return np.asarray(file[name], np.float64)
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        with open_file(path, DataError) as content:
            start = content.read(12)
        known = "" if start.startswith(b"PK") else lookalike(start)
        raise DataError(f"{path} {known or f'is damaged, or no array of numbers ({quoted(error)})'}") from None


def _only(path: Path, names: list[str]) -> str:
    if len(names) != 1:
        found = f"several arrays ({', '.join(names[:8])}): name one with --variable" if names else "no array of numbers"
        raise DataError(f"{path} holds {found}")
    return names[0]


def _condensed(array: NDArray[np.float64], images: int, path: Path, table: Path) -> NDArray[np.float64]:
    """(subjects, pairs); whole matrices are checked to be symmetric with zeros in the diagonal."""
    if array.ndim == 2 and array.shape[0] == array.shape[1] == images:
        array = array[None]
    wanted = pairs(images)
    if array.ndim == 3 and array.shape[1:] == (images, images):
        if not np.allclose(array, array.transpose(0, 2, 1), rtol=1e-5, atol=1e-8, equal_nan=True):
            raise DataError(f"{path}: a matrix is not symmetric: dissimilarities of a pair must be the same both ways")
        diagonal = array[:, np.arange(images), np.arange(images)]
        if not np.allclose(diagonal, 0, atol=1e-6):
            largest = float(np.abs(diagonal).max())
            raise DataError(
                f"{path}: a diagonal holds {largest:.3g}, expected 0: give dissimilarities, not similarities"
            )
        rows, columns = np.triu_indices(images, 1)
        array = array[:, rows, columns]
    if array.ndim != 2 or array.shape[1] != wanted:
        expected = f"(subjects, {images}, {images}) or (subjects, {wanted}) for the {images} images in {table}"
        raise DataError(f"{path} has shape {array.shape}, expected {expected}")
    if not np.isfinite(array).all():
        subject = int(np.argmin(np.isfinite(array).all(axis=1))) + 1
        raise DataError(f"{path}: the matrix of subject {subject} holds NaN or infinity: leave that subject out")
    return array
