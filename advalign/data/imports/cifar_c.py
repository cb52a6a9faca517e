"""The official CIFAR-10-C from a user's copy into data/cifar/corruptions, as it is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from advalign.data.cifar import read_split
from advalign.data.corrupted_arrays import array_files, open_arrays
from advalign.data.imports._place import bring, need_classes, only_import, settled
from advalign.errors import DataError
from advalign.files import Project, sha256
from advalign.progress import Advance


@dataclass(frozen=True)
class CifarCImport:
    """The result of an import: arrays, test images that they are of, and files that were there with the same bytes."""

    arrays: int
    images: int
    skipped: int

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def import_cifar_c(
    project: Project,
    folder: Path,
    replace: bool = False,
    link: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> CifarCImport:
    """Verify the arrays and the labels, and bring them into data/cifar/corruptions.

    Args:
        project: where data/ is; it must hold the test images.
        folder: with the 19 arrays and labels.npy (`open_arrays`).
        replace: whether files that exist with other content may be replaced.
        link: hard-link instead of copying.
        advance: called after every file.

    Raises:
        InputError: something is missing or is not of these test images; names the file and the fix. Nothing is changed.
    """
    test = project.data / "cifar" / "test.parquet"
    classes = need_classes(project)
    if not test.exists():
        raise DataError("data/cifar/test.parquet is missing: import CIFAR-10 first with `advalign data import cifar`")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that holds the arrays")
    labels = read_split(test, len(classes)).table["label"].to_numpy()
    arrays = open_arrays(folder, labels)
    target = project.data / "cifar" / "corruptions"
    files = array_files(folder)
    skipped = 0
    with only_import(project, target):
        target.mkdir(exist_ok=True)
        there = [settled(file, target / file.name, replace) for file in files]  # refused before the first is brought
        for done, (file, same) in enumerate(zip(files, there, strict=True), start=1):
            bring(file, target / file.name, sha256(file), replace, link)
            skipped += same
            advance(done, len(files), file.name)
    return CifarCImport(len(arrays), len(labels), skipped)
