"""Finished human maps as people keep them: PNG, NPY, NPZ and HDF5 -> arrays by the name of their image."""

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from advalign.data.imports._place import check_regular
from advalign.errors import DataError, quoted
from advalign.regular_files import look_at, open_file

PNG, ARRAY, ARCHIVE, HDF5 = (".png",), (".npy",), (".npz",), (".h5", ".hdf5")
SUFFIXES = PNG + ARRAY + ARCHIVE + HDF5
LARGEST = 100_000_000  # pixels of a map
_FAILURES = (OSError, RuntimeError, ValueError, EOFError, SyntaxError, KeyError, zipfile.BadZipFile, zlib.error)
_GREY = ("1", "L", "I", "F")  # modes of one channel, beside I;16 and its like


@dataclass(frozen=True)
class MapSource:
    """Where one map is.

    Attributes:
        file: that holds it.
        member: its name in an archive or an HDF5 file; None where the file is the map.
    """

    file: Path
    member: str | None = None

    @property
    def image(self) -> str:
        """Path of the image that it is of, with or without a suffix."""
        return str(self.file.with_suffix("")) if self.member is None else self.member

    @property
    def name(self) -> str:
        """What a list calls it."""
        return self.file.name if self.member is None else self.member

    def __str__(self) -> str:
        return str(self.file) if self.member is None else f"{self.file}: {self.member}"


def list_maps(folder: Path) -> list[MapSource]:
    """List the maps of a folder and the folders below it, or of one file.

    Raises:
        DataError: there are none, or a file that holds several cannot be read.
    """
    if folder.is_dir():
        files = [
            Path(parent, name)
            for parent, _, names in os.walk(folder)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    elif not folder.exists():
        raise DataError(f"{folder} does not exist: name an existing folder with maps, or one HDF5 file or archive")
    else:
        check_regular(folder)
        files = [folder] if folder.suffix.lower() in SUFFIXES else []
    if not files:
        raise DataError(f"{folder}: no maps ({', '.join(SUFFIXES)}) in it or below: name the folder that has them")
    return [source for file in sorted(files) for source in _members(file)]


def _members(file: Path) -> list[MapSource]:
    check_regular(file)
    suffix = file.suffix.lower()
    if suffix in ARCHIVE:
        try:
            with open_file(file, DataError) as source, zipfile.ZipFile(source) as archive:
                names = [one.removesuffix(".npy") for one in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise _damaged(file, error) from None
        if not names:
            raise DataError(f"{file} holds no array: remove it, or save it again")
        return [MapSource(file)] if len(names) == 1 else [MapSource(file, name) for name in sorted(names)]
    if suffix in HDF5:
        return [MapSource(file, name) for name in _datasets(file)]
    return [MapSource(file)]


def _datasets(file: Path) -> list[str]:
    import h5py

    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    try:
        with h5py.File(file, "r") as content:
            content.visititems(note)
    except (OSError, RuntimeError) as error:
        raise _damaged(file, error) from None
    if not names:
        raise DataError(f"{file} holds no dataset: save one per image, called like the image")
    return sorted(names)


def _damaged(file: Path, error: Exception) -> DataError:
    known = look_at(file, DataError)
    known = "" if "HDF5" in known and file.suffix.lower() in HDF5 else known
    return DataError(f"{file} {known or f'cannot be read ({quoted(error)}): fetch it again'}")


def read_map(source: MapSource) -> NDArray[np.float64]:
    """Read one map.

    Returns:
        (H, W) float64 in 0 .. 1: its smallest value is 0, its largest 1.

    Raises:
        DataError: not one channel of numbers, not finite, or constant.
    """
    suffix = source.file.suffix.lower()
    try:
        if suffix in PNG:
            values = _read_png(source)
        elif suffix in HDF5:
            values = _read_dataset(source)
        else:
            values = _read_array(source)
    except _FAILURES as error:
        if "Object arrays" in str(error) or _starts_as_pickle(source.file):
            raise DataError(f"{source} holds a pickle of objects, expected numbers: save it as numbers") from None
        raise _damaged(source.file, error) from None
    values = _plane(values, source)
    if not np.isfinite(values).all():
        raise DataError(f"{source} holds values that are not finite: mend or remove that map")
    low, high = values.min(), values.max()
    if low == high:
        raise DataError(f"{source} is constant, so it ranks no pixel above another: remove that map")
    scaled: NDArray[np.float64] = (values - low) / (high - low)
    return scaled


def _starts_as_pickle(file: Path) -> bool:
    with open_file(file, DataError) as source:
        start = source.read(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5  # the protocol


def _plane(values: NDArray[Any], source: MapSource) -> NDArray[np.float64]:
    """(H, W) of an array with one channel."""
    shape = values.shape
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{source} holds items of type {values.dtype}, expected numbers: save it as an array of numbers"
        )
    if values.ndim == 3 and 1 in (shape[0], shape[2]):
        values = values[0] if shape[0] == 1 else values[:, :, 0]
    if values.ndim != 2 or not values.size:
        said = f"is {'x'.join(map(str, shape))}" if len(shape) > 1 else f"has {len(shape)} dimension{'s'[len(shape) :]}"
        raise DataError(f"{source} {said}, expected one channel, height x width: save it so")
    return values.astype(np.float64)


def _read_png(source: MapSource) -> NDArray[Any]:
    with open_file(source.file, DataError) as file:
        try:
            image = Image.open(file, formats=("PNG",))
        except UnidentifiedImageError as error:
            raise _damaged(source.file, error) from None
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from None
        values = np.asarray(image)
    if image.mode == "RGB" and (values == values[..., :1]).all():
        return values[..., 0]
    if image.mode not in _GREY and not image.mode.startswith("I;"):
        raise DataError(f"{source} is {image.mode}, expected one grey channel: convert it")
    return values


def _read_array(source: MapSource) -> NDArray[Any]:
    with open_file(source.file, DataError) as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            array: NDArray[Any] = found[source.member or found.files[0]]
            return array


def _read_dataset(source: MapSource) -> NDArray[Any]:
    import h5py

    with h5py.File(source.file, "r") as content:
        dataset = content[source.member]
        if dataset.size > LARGEST:
            raise DataError(f"{source} has {dataset.size} values, more than a map can have: name a file of maps")
        return np.asarray(dataset[()])
