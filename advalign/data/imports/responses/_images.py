"""What is known of images beside their names: labels, and SHA-256 of the files, by which other images are matched."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advalign.data.imports._place import IMAGE_SUFFIXES, check_regular, stem_of
from advalign.data.imports.responses._plan import distinct, need_folder, numbers, read_table
from advalign.errors import DataError, shown
from advalign.regular_files import read_bytes

HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class ImageFacts:
    """Where the facts are.

    Attributes:
        stimuli: folder of the image files, in any folders below it; None: their SHA-256 stay unknown.
        table: CSV with id, and any of file (below the folder), sha256, label; None: files are found by the images'
            names without suffix, labels stay unknown.
    """

    stimuli: Path | None = None
    table: Path | None = None


def known_images(ids: Sequence[str], facts: ImageFacts) -> tuple[pd.DataFrame, list[Path]]:
    """A row per image: id, sha256 ("" unknown) and label (-1 unknown), and the tables that were read.

    Raises:
        DataError: a file is missing or there twice, the table lacks an image, or a SHA-256 is not the file's.
    """
    said, labels = [""] * len(ids), [-1] * len(ids)
    names = {one: one for one in ids}
    if facts.table is not None:
        given = read_image_table(facts.table)
        absent = next((one for one in ids if one not in given.index), None)
        if absent is not None:
            raise DataError(f"{facts.table}: image {shown(absent)} is missing: name the list of this data set's images")
        rows = given.loc[list(ids)]
        said, labels = rows["sha256"].tolist(), rows["label"].tolist()
        names = dict(zip(ids, rows["file"], strict=True))
    if facts.stimuli is not None:
        digests = _digests(facts.stimuli, names)
        for one, other in zip(ids, said, strict=True):
            if other not in ("", digests[one]):
                digest = f"SHA-256 {other[:12]}..., its file {digests[one][:12]}..."
                raise DataError(f"{facts.table}: {shown(one)} has {digest}: the images are those of another data set")
        said = [digests[one] for one in ids]
    images = pd.DataFrame({"id": list(ids), "sha256": said, "label": labels})
    return images, [] if facts.table is None else [facts.table]


def read_image_table(path: Path) -> pd.DataFrame:
    """The table of images: id (its index and a column), file (default: id), sha256 ("") and label (-1).

    Raises:
        DataError: no such table, an image is there twice, or a cell is wrong.
    """
    table = read_table(path, ["id"])
    distinct(table["id"].tolist(), str(path))
    if "sha256" in table:
        table["sha256"] = table["sha256"].str.lower()
        for row, cell in enumerate(table["sha256"], start=1):
            if cell and (len(cell) != 64 or not set(cell) <= HEXADECIMAL):
                raise DataError(f"{path}: row {row}: sha256 is {shown(cell)}, expected 64 hexadecimal digits: fix it")
    else:
        table["sha256"] = ""
    labels = pd.Series(numbers(path, table, "label", whole=True) if "label" in table else -1.0, index=table.index)
    table["label"] = labels.fillna(-1).astype(int)
    if not table["label"].between(-1, 2**31 - 1).all():
        raise DataError(f"{path}: a label is below -1 or too large: give indices of classes from 0, or leave it empty")
    if "file" not in table:
        table["file"] = table["id"]
    return table.set_index("id", drop=False)


def _digests(folder: Path, names: dict[str, str]) -> dict[str, str]:
    """SHA-256 of each image's file."""
    need_folder(folder, "the one that holds the images")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            by_stem.setdefault(path.stem, []).append(path)
    found = {}
    for one, name in names.items():
        exact = folder / name
        paths = (
            [exact]
            if exact.is_file() and exact.resolve().is_relative_to(folder.resolve())
            else by_stem.get(stem_of(name), [])
        )
        if len(paths) != 1:
            what = f"is there twice: {paths[0]}, {paths[1]}" if paths else "has no file"
            raise DataError(f"{folder}: image {shown(name)} {what}: name the folder of this data set's images")
        check_regular(paths[0])
        found[one] = hashlib.sha256(read_bytes(paths[0], DataError)).hexdigest()
    return found
