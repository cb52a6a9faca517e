"""32x32 images in the forms that people keep them: CIFAR's batches, PNG sheets, and a folder of files per class."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advalign.data.cifar import SIDE, CifarImage, checked, decode, two_valued
from advalign.data.classes import Classes
from advalign.data.imports._batches import read_batch, read_names
from advalign.data.imports._images import decode_image
from advalign.data.imports._place import images_by_stem
from advalign.errors import DataError, shown
from advalign.regular_files import read_bytes, read_text
from advalign.strict_files import parse_json

BATCHES = {"train": "data_batch_{}", "test": "test_batch"}
SHEET = SIDE * SIDE  # pixels of a sheet's row
LARGEST_LABELS = 16 << 20  # bytes of a file of labels
FORMATS = "a JSON list of class indices, or one per line"
_NUMBER = re.compile(r"\d+")


def splits_of_batches(folder: Path, classes: Classes) -> dict[str, list[Path]]:
    """The batches of a folder by split, in order; none where it holds no file that is called like one.

    Raises:
        DataError: batches.meta has other classes than data/classes.yaml.
    """
    train = sorted(folder.glob("data_batch_[0-9]*"), key=lambda path: _numbers(path.name))
    found = {
        "train": [path for path in train if not path.suffix],
        "test": [path for path in [folder / "test_batch"] if path.exists()],
    }
    if any(found.values()) and (folder / "batches.meta").exists():
        names = [entry.name for entry in classes.entries]
        told = read_names(folder / "batches.meta")
        if told != names:
            raise DataError(
                f"{folder / 'batches.meta'}: classes are {shown(', '.join(told))}, data/classes.yaml has "
                f"{shown(', '.join(names))}: import the table of these classes first (registry/cifar10.yaml)"
            )
    return {split: paths for split, paths in found.items() if paths}


def from_batches(paths: Sequence[Path], classes: Classes) -> Iterator[CifarImage]:
    """Read all batches of a split, in order.

    Raises:
        DataError: one is damaged, missing or repeated, or a label is of no class.
    """
    index = 0
    for number, path in enumerate(paths, start=1):
        batch = read_batch(path)
        if (batch.number, batch.of) != (number, len(paths)):
            said = f"says that it is batch {batch.number} of {batch.of}"
            raise DataError(f"{path} {said}, expected {number} of {len(paths)}: fetch all batches, each under its name")
        for row, (pixels, label) in enumerate(zip(batch.pixels, batch.labels, strict=True)):
            yield CifarImage(index, _label(label, classes, f"{path}: image {row}"), pixels)
            index += 1


def from_sheets(paths: Sequence[Path], labels: Path, classes: Classes) -> Iterator[CifarImage]:
    """Read PNG sheets, of which each row of pixels is an image, row after row; sheets by the numbers in their names.

    Args:
        paths: RGB, 1024 pixels wide.
        labels: a JSON list of class indices, or one index per line, for the rows of all sheets.
        classes: their number bounds the labels.

    Raises:
        DataError: a sheet or a label cannot be used, or there are not as many labels as rows.
    """
    told = _labels(labels, classes)
    ordered = sorted(paths, key=lambda path: (_numbers(path.name), path.name))
    sheets = [_sheet(path) for path in ordered]
    rows = sum(map(len, sheets))
    if rows != len(told):
        raise DataError(f"{labels} has {len(told)} labels for {rows} rows in {len(paths)} sheets: name all of both")
    for index, row in enumerate(row for sheet in sheets for row in sheet):
        yield CifarImage(index, told[index], row.reshape(SIDE, SIDE, 3))


def from_folders(folder: Path, classes: Classes) -> Iterator[CifarImage]:
    """Read image files, one folder per class, called by its name or wnid; JPEG files are tagged lossy.

    An image's index is the number that its name begins with, if all names begin with different ones; otherwise its
    place among the files, class by class.

    Raises:
        DataError: a folder is of no class, or a file is no 32x32 RGB image.
    """
    known = {entry.name: entry.index for entry in classes.entries} | classes.index_of_wnid()
    files: list[tuple[int, Path]] = []
    for member in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if member.name not in known:
            raise DataError(f"{member}: no class {shown(member.name)} in data/classes.yaml: rename it, or move it away")
        files += [(known[member.name], path) for path in images_by_stem(member).values()]
    if not files:
        raise DataError(f"{folder}: no batches, no PNG sheets, no folders of images: name the folder that holds them")
    starts = [_NUMBER.match(path.name) for _, path in files]
    numbers = [int(found[0]) for found in starts if found]
    ordered = numbers if len(set(numbers)) == len(files) else range(len(files))
    for index, (label, path) in sorted(zip(ordered, files, strict=True)):
        image = decode_image(read_bytes(path, DataError), path)
        lossy = image.format != "PNG"
        yield CifarImage(index, label, checked(image, "RGB", str(path)), lossy=lossy)


def with_masks(images: Sequence[CifarImage], folder: Path, source: str) -> list[CifarImage]:
    """Give images their masks: PNG files called by the image's index, 255 on the object and 0 elsewhere.

    Raises:
        DataError: a mask is of no image, of another size, empty, or has other values.
    """
    found: dict[int, NDArray[np.bool_]] = {}
    known = {image.index for image in images}
    for stem, path in images_by_stem(_folder(folder)).items():
        if not stem.isdecimal() or int(stem) not in known:
            raise DataError(f"{path}: no image has the index {shown(stem)}: call each mask INDEX.png, or remove it")
        mask = two_valued(decode(read_bytes(path, DataError), "L", str(path)), str(path))
        if mask.all() or not mask.any():
            raise DataError(f"{path} is the same everywhere, so it marks no object: remove it")
        if int(stem) in found:
            raise DataError(f"{path}: index {int(stem)} has two masks: remove one of them")
        found[int(stem)] = mask
    if not found:
        raise DataError(f"{folder}: no masks INDEX.png in it: name the folder that holds them")
    return [
        replace(image, mask=found[image.index], mask_source=source) if image.index in found else image
        for image in images
    ]


def is_sheet(path: Path) -> bool:
    """Whether a file is called like a sheet."""
    return path.suffix.lower() == ".png"


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBER.findall(name)))


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that holds the masks")
    return folder


def _sheet(path: Path) -> NDArray[np.uint8]:
    """Pixels of a sheet: (images, 1024, 3) uint8."""
    image = decode_image(read_bytes(path, DataError), path)
    if image.format != "PNG" or image.mode != "RGB" or image.width != SHEET:
        got = f"a {image.format} ({image.mode}) of {image.width}x{image.height}"
        raise DataError(f"{path} is {got}, expected a PNG in RGB, {SHEET} pixels wide, one row per image: convert it")
    return np.asarray(image)


def _labels(path: Path, classes: Classes) -> list[int]:
    try:
        text = read_text(path, DataError, largest=LARGEST_LABELS, encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): name the labels of the sheets") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: not text, expected a JSON list of class indices, or one per line: convert it"
        ) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith("["):
        values = parse_json(text, str(path), DataError)
    else:
        values = [int(line) if line.isdecimal() and len(line) < 9 else line for line in lines]
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: expected {FORMATS}: convert it")
    return [_label(value, classes, f"{path}: entry {row}") for row, value in enumerate(values)]


def _label(value: object, classes: Classes, where: str) -> int:
    if type(value) is not int or not 0 <= value < len(classes):
        raise DataError(f"{where}: label {shown(value)} is none of 0 .. {len(classes) - 1} (data/classes.yaml): fix it")
    return value
