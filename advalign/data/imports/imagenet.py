"""ImageNet images from a user's copy, every one decoded, into data/imagenet."""

import csv
import io
from collections import Counter
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from advalign.data.classes import Classes
from advalign.data.imports._images import Brought, Chunk, bring_images
from advalign.data.imports._labels import read_label_file
from advalign.data.imports._place import images_by_stem, need_classes, only_import, per_superclass
from advalign.data.imports._pool import each
from advalign.errors import DataError, InputError
from advalign.files import Project, write_text
from advalign.progress import Advance

IMAGES_PER_CHUNK = 32


@dataclass(frozen=True)
class ImageNetImport:
    """The result of an import: `images` in all, of which some were converted, or were already imported."""

    split: str
    images: int
    converted: int
    skipped: int
    classes: dict[int, int]
    superclasses: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """As plain values; class indices become strings."""
        return asdict(self)


@dataclass(frozen=True)
class _Item:
    source: Path
    target: Path
    wnid: str


def import_imagenet(
    project: Project,
    folder: Path,
    labels: Path | None = None,
    split: str = "val",
    convert: bool = False,
    workers: int | None = None,
    replace: bool = False,
    link: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> ImageNetImport:
    """Decode images and import them into data/imagenet/val (flat, with labels.csv) or train (by wnid); resumable.

    Args:
        project: where data/ is.
        folder: for val flat, or one folder per wnid; for train one folder per wnid.
        labels: label file (`read_label_file`); needed for a flat folder.
        split: "val" or "train".
        convert: whether images that are not 8-bit JPEG in RGB or grey are encoded as such (quality 95).
        workers: processes; None: one per core.
        replace: whether images and labels that exist with other content may be replaced.
        link: whether images are hard-linked instead of copied: an edit of the source then edits data/.
        advance: called with the number of images that are done.

    Raises:
        InputError: an image, a label or a name cannot be used; names it and the fix.
    """
    classes = need_classes(project)
    target = project.data / "imagenet" / split
    items = _items(folder, labels, target, classes) if split == "val" else _train_items(folder, labels, target, classes)
    target.mkdir(parents=True, exist_ok=True)
    with only_import(project, target.parent, *{item.target.parent for item in items}):
        table = _label_table(target.with_name("labels.csv"), items, classes, replace) if split == "val" else None
        sums = _bring_all(items, Chunk((), convert, replace, link), workers, advance)
        if table is not None:
            write_text(target.with_name("labels.csv"), table)  # last, so that it names only images that are in place
    index_of_wnid = classes.index_of_wnid()
    counts = Counter(index_of_wnid[item.wnid] for item in items)
    return ImageNetImport(
        split, sums.images, sums.converted, sums.skipped, dict(sorted(counts.items())), per_superclass(classes, counts)
    )


def _bring_all(items: list[_Item], options: Chunk, workers: int | None, advance: Advance) -> Brought:
    """Import all images with the options of a chunk; returns the sums over them."""
    pairs = [(item.source, item.target) for item in items]
    chunks = [
        replaced(options, pairs=tuple(pairs[first : first + IMAGES_PER_CHUNK]))
        for first in range(0, len(pairs), IMAGES_PER_CHUNK)
    ]
    sums = Brought(0, 0, 0)
    advance(0, len(items))
    for one in each(bring_images, chunks, workers):
        sums = Brought(sums.images + one.images, sums.converted + one.converted, sums.skipped + one.skipped)
        advance(sums.images, len(items), f"{sums.converted} converted" if sums.converted else "")
    return sums


def _items(folder: Path, labels: Path | None, target: Path, classes: Classes) -> list[_Item]:
    """Validation images with their wnids, from a flat folder with labels or from one folder per wnid."""
    flat = images_by_stem(_need_folder(folder))
    if not flat:
        items = [_Item(path, target / _name(path), wnid) for wnid, path in _by_wnid(folder, classes)]
        known = read_label_file(labels, classes) if labels else {item.source.stem: item.wnid for item in items}
        files = {item.source.stem: item.source for item in items}
    elif labels is None:
        raise InputError(f"{folder} is flat, so its images have no class: give --labels FILE")
    else:
        known, files = read_label_file(labels, classes), flat
        items = [_Item(path, target / _name(path), known.get(stem, "")) for stem, path in flat.items()]
    if len(files) != len(items):
        names = Counter(item.source.stem for item in items).most_common(1)
        raise DataError(f"{folder}: {names[0][0]} is in {names[0][1]} folders: validation images are kept flat, rename")
    _same_images(files, known, labels, folder)
    for item in items:
        if known[item.source.stem] != item.wnid:
            raise DataError(f"{labels}: {item.source.name} is {known[item.source.stem]}, but is in {item.wnid}")
    return items


def _train_items(folder: Path, labels: Path | None, target: Path, classes: Classes) -> list[_Item]:
    if labels is not None:
        raise InputError("--labels is for the validation images: training images are labelled by their folders")
    return [_Item(path, target / wnid / _name(path), wnid) for wnid, path in _by_wnid(_need_folder(folder), classes)]


def _need_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that holds the images, or a folder per wnid")
    return folder


def _by_wnid(folder: Path, classes: Classes) -> list[tuple[str, Path]]:
    """Images of one folder per wnid."""
    known = classes.index_of_wnid()
    found = []
    for member in sorted(folder.iterdir()):
        if member.name in known and not member.is_dir():
            raise DataError(f"{member} is named like a class but is no folder: fetch its images again, or remove it")
        if member.is_dir() and not member.name.startswith("."):
            if member.name not in known:
                raise DataError(f"{member}: unknown wnid {member.name!r} (not in data/classes.yaml): move it away")
            found += [(member.name, path) for path in images_by_stem(member).values()]
    if not found:
        raise DataError(
            f"{folder}: no images (.JPEG, .jpg, .jpeg, .png) in it or in folders named by wnid: "
            "name the one that has them"
        )
    return found


def _name(path: Path) -> str:
    """Name in data/: unchanged, except that a PNG is converted to JPEG."""
    return f"{path.stem}.JPEG" if path.suffix.lower() == ".png" else path.name


def _same_images(files: dict[str, Path], known: dict[str, str], labels: Path | None, folder: Path) -> None:
    missing, extra = sorted(known.keys() - files.keys()), sorted(files.keys() - known.keys())
    if missing:
        raise DataError(
            f"{labels}: {missing[0]} has no image in {folder} ({len(missing)} such): fetch them, or remove the lines"
        )
    if extra:
        raise DataError(
            f"{files[extra[0]]} has no label in {labels} ({len(extra)} such): move them away, or add labels"
        )


def _label_table(path: Path, items: list[_Item], classes: Classes, replace: bool) -> str:
    """The new labels.csv: its present lines and the new images.

    Raises:
        DataError: it holds images of other classes, or another label of an image and may not be replaced.
    """
    from advalign.data.imagenet import read_label_table

    table = read_label_table(path) if path.exists() else {}
    known = classes.index_of_wnid()
    for name, wnid in table.items():
        if wnid not in known:
            raise DataError(f"{path}: {name} is of another set of classes ({wnid}): move data/imagenet away first")
    for item in items:
        said = table.get(item.target.name, item.wnid)
        if said != item.wnid and not replace:
            raise DataError(
                f"{path} says {said} of {item.target.name}, not {item.wnid}: move it away, or give --replace"
            )
        table[item.target.name] = item.wnid
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "wnid"])
    writer.writerows(sorted(table.items()))
    return text.getvalue()
