"""CIFAR-10, or other 32x32 images, from a user's copies into data/cifar/{train,test}.parquet, without loss."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from advalign.data.cifar import CifarImage, read_split, write_split
from advalign.data.classes import Classes
from advalign.data.imports._place import check_regular, need_classes, only_import, settled, staged
from advalign.data.imports._thumbnails import (
    from_batches,
    from_folders,
    from_sheets,
    is_sheet,
    splits_of_batches,
    with_masks,
)
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.progress import Advance

SPLITS = ("train", "test")
LOSS = (
    "{} images are JPEG, and are tagged lossy: their pixels are not the official ones (a ResNet-20 that is right on "
    ".925 of the test images is right on .810 of them after JPEG of quality 75)"
)


@dataclass(frozen=True)
class ImportedSplit:
    """One file of data/cifar and what is in it; `skipped`: it was there with the same bytes."""

    split: str
    images: int
    lossy: int
    masks: int
    classes: dict[int, int]
    skipped: bool


@dataclass(frozen=True)
class CifarImport:
    """The result of an import."""

    splits: tuple[ImportedSplit, ...]

    @property
    def lossy(self) -> int:
        """Images that went through JPEG."""
        return sum(one.lossy for one in self.splits)

    def as_json(self) -> dict[str, Any]:
        """As plain values; class indices become strings."""
        return asdict(self)


@dataclass(frozen=True)
class Masks:
    """A folder of masks (`with_masks`), and what they are from: "user" or "own-cam"."""

    folder: Path
    source: str


def import_cifar(
    project: Project,
    sources: Sequence[Path],
    split: str | None = None,
    labels: Path | None = None,
    masks: Masks | None = None,
    replace: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> CifarImport:
    """Verify images and labels and write them to data/cifar; a file there is the old or the new one.

    Args:
        project: where data/ is.
        sources: the folder with CIFAR's own pickled batches; PNG sheets; or a folder with one folder per class, in
            train/ and test/ or for one split.
        split: "train" or "test": the only one to import, or what sheets and folders of classes are.
        labels: of sheets (`from_sheets`).
        masks: of the objects in the images of one split.
        replace: whether a split that exists with other content may be replaced.
        advance: called after every split.

    Raises:
        InputError: a source cannot be used; names the file and the fix. Nothing is changed then.
    """
    classes = need_classes(project)
    found = _splits(sources, split, labels, classes)
    if masks is not None and len(found) != 1:
        raise InputError("--masks are of one split, and the source holds two: give --split")
    folder = project.data / "cifar"
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    with only_import(project, folder), ExitStack() as all_or_none:
        paths = {}
        for name, images in found.items():
            target = folder / f"{name}.parquet"
            path = paths[target] = all_or_none.enter_context(staged(target, replace))
            listed = list(images)
            _write(path, listed if masks is None else with_masks(listed, masks.folder, masks.source), len(classes))
            done.append(_summary(name, path, target, len(classes)))
            advance(len(done), len(found), name)
        for target, path in paths.items():
            settled(path, target, replace)  # refused before the first one is moved
    return CifarImport(tuple(done))


def _write(path: Path, images: list[CifarImage], classes: int) -> None:
    write_split(path, images)
    read_split(path, classes)  # what cannot be read back is refused now


def _summary(name: str, path: Path, target: Path, classes: int) -> ImportedSplit:
    table = read_split(path, classes).table
    counts = Counter(table["label"].tolist())
    same = target.exists() and target.read_bytes() == path.read_bytes()
    return ImportedSplit(
        name,
        len(table),
        int(table["lossy"].sum()),
        int((table["mask_source"] != "").sum()),
        dict(sorted(counts.items())),
        same,
    )


def _splits(
    sources: Sequence[Path], split: str | None, labels: Path | None, classes: Classes
) -> dict[str, Iterable[CifarImage]]:
    """The images of each split that the sources hold; they are read when they are asked for."""
    for source in sources:
        if not source.is_dir():
            check_regular(source)
    if all(is_sheet(source) and not source.is_dir() for source in sources):
        return {_need(split, "sheets"): from_sheets(sources, _need_labels(labels), classes)}
    if labels is not None:
        raise InputError("--labels is for PNG sheets: batches and folders of classes have their labels")
    if len(sources) != 1 or not sources[0].is_dir():
        raise DataError(
            f"{sources[0]}: name PNG sheets, or one folder: that of data_batch_1 and test_batch, or one with a folder "
            "per class"
        )
    folder = sources[0]
    batches = splits_of_batches(folder, classes)
    if batches:
        return {name: from_batches(batches[name], classes) for name in _wanted(batches, split, folder)}
    both = {name: folder / name for name in SPLITS if (folder / name).is_dir()}
    if both:
        return {name: from_folders(both[name], classes) for name in _wanted(both, split, folder)}
    return {_need(split, f"the images in {folder}"): from_folders(folder, classes)}


def _wanted(there: Iterable[str], split: str | None, folder: Path) -> list[str]:
    if split is not None and split not in there:
        raise DataError(f"{folder} has no {split} images: give --split {next(iter(there))}, or name another folder")
    return [name for name in there if split in (None, name)]


def _need(split: str | None, what: str) -> str:
    if split is None:
        raise InputError(f"{what} may be train or test images: give --split")
    return split


def _need_labels(labels: Path | None) -> Path:
    if labels is None:
        raise InputError(
            "PNG sheets have no labels: give --labels FILE (a JSON list of class indices, or one per line)"
        )
    return labels
