"""Finished human maps (PNG, NPY, NPZ, HDF5) and their images -> shards of data/clickme.

From there they are read like ClickMe's own: training, stimuli, alignment (docs/human-maps.md).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advalign.data.classes import Classes
from advalign.data.imports._image_folder import UNKNOWN, ImageFolder, label_of
from advalign.data.imports._images import as_jpeg, decode_image
from advalign.data.imports._labels import read_label_file
from advalign.data.imports._map_files import MapSource, list_maps, read_map
from advalign.data.imports._place import need_classes, only_import, settled, staged, stem_of
from advalign.data.imports._pool import each
from advalign.data.imports._records import map_of, png_bytes
from advalign.data.tfrecord import encode_example, write_payloads
from advalign.errors import DataError, InputError, shown
from advalign.files import Project
from advalign.progress import Advance
from advalign.regular_files import read_bytes

PER_SHARD = 500  # records
MOST_NAMES = 20  # maps without an image that are listed
SAME_ASPECT = 0.02  # difference of the aspect ratios, relative, that comes from rounding sizes


@dataclass(frozen=True)
class MapsImport:
    """The result of an import.

    Attributes:
        split, shards, records: what data/clickme has of these maps now.
        classes: records by class index.
        converted: images that were encoded as JPEG in RGB.
        stretched: maps of another aspect ratio than their image.
        missing_images: maps left out, since no image has their name.
        missing: the first 20 of those.
        ceiling: of data/clickme/ceiling.yaml; None: there is none.
        skipped: the same was already imported, and nothing was written.
    """

    split: str
    shards: int
    records: int
    classes: dict[int, int]
    converted: int
    stretched: int
    missing_images: int
    missing: tuple[str, ...]
    ceiling: float | None
    skipped: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values; class indices become strings."""
        return asdict(self)


@dataclass(frozen=True)
class _Record:
    source: MapSource
    image: Path
    label: int


@dataclass(frozen=True)
class _Shard:
    path: Path  # temporary
    records: tuple[_Record, ...]

    def __str__(self) -> str:
        return f"{self.records[0].source} .. {self.records[-1].source}"


@dataclass(frozen=True)
class _Written:
    converted: int
    stretched: int


def import_maps(
    project: Project,
    folder: Path,
    images: Path,
    split: str,
    labels: Path | None = None,
    ceiling: float | None = None,
    workers: int | None = None,
    replace: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> MapsImport:
    """Verify finished maps and write them with their images as shards SPLIT-maps-NNNNN of data/clickme: all or none.

    Maps are resized to their images (bilinear) and scaled to the 256 levels of the format. Images that are JPEG in RGB
    keep their bytes, others become that.

    Args:
        project: where data/ is; data/classes.yaml says which classes there are.
        folder: with the maps, called like their images; or one HDF5 file or archive.
        images: folder that the images are below.
        split: "train", "val" or "test".
        labels: table of image and wnid; None: the wnid in the name of an image or of its folder.
        ceiling: human ceiling of these maps, in (0, 1]; None: that of ceiling.yaml stays.
        workers: processes; None: one per core.
        replace: whether other shards of maps of this split, and another ceiling, may be replaced.
        advance: called after every shard.

    Raises:
        InputError: a map or an image cannot be used; names it and the fix.
    """
    _check_ceiling(ceiling)
    classes = need_classes(project)
    records, missing = _matched(folder, ImageFolder(images, stem_of, "maps"), labels, classes)
    target = project.data / "clickme"
    target.mkdir(parents=True, exist_ok=True)
    with only_import(project, target), _temporary(target, split, records) as shards:
        written = _write_shards(shards, workers, advance)
        skipped = _place(shards, target, split, ceiling, replace)
        kept = _known_ceiling(project)
    return _summary(split, shards, written, missing, kept, skipped)


def _summary(
    split: str, shards: list[_Shard], written: _Written, missing: list[str], ceiling: float | None, skipped: bool
) -> MapsImport:
    labels = Counter(record.label for shard in shards for record in shard.records)
    return MapsImport(
        split=split,
        shards=len(shards),
        records=labels.total(),
        classes=dict(sorted(labels.items())),
        converted=written.converted,
        stretched=written.stretched,
        missing_images=len(missing),
        missing=tuple(missing[:MOST_NAMES]),
        ceiling=ceiling,
        skipped=skipped,
    )


def _check_ceiling(ceiling: float | None) -> None:
    if ceiling is not None and not 0 < ceiling <= 1:
        raise InputError(
            f"the human ceiling must lie in (0, 1], got {ceiling:g}: give the rank correlation of two halves"
        )


def _matched(
    folder: Path, images: ImageFolder, labels: Path | None, classes: Classes
) -> tuple[list[_Record], list[str]]:
    """Maps whose image is there, in the order of the images' names, and the names of the others."""
    known = read_label_file(labels, classes) if labels else {}
    index_of_wnid = classes.index_of_wnid()
    found: dict[int, MapSource] = {}
    missing = []
    for source in list_maps(folder):
        number = images.find(source.image, str(source))
        if number is None:
            missing.append(source.name)
        elif number in found:
            raise DataError(f"{found[number]} and {source} are maps of one image: remove one of them")
        else:
            found[number] = source
    if not found:
        name = shown(missing[0])
        raise DataError(f"{folder}: no image is called like its maps ({name} ...) in {images.folder} or below: rename")
    records = []
    for number, source in sorted(found.items()):
        path = images.path(number)
        wnid = known.get(images.names[number])
        label = index_of_wnid[wnid] if wnid else label_of(path, {} if labels else index_of_wnid)
        if label == UNKNOWN:
            fix = (
                f"add it to {labels}" if labels else "give --labels FILE, or put it into a folder called like its wnid"
            )
            raise DataError(f"{path}: its class is not known: {fix}")
        records.append(_Record(source, path, label))
    return records, missing


@contextmanager
def _temporary(target: Path, split: str, records: list[_Record]) -> Iterator[list[_Shard]]:
    """The shards to write, each under a temporary name; those that are left at the end are removed."""
    parts = [records[first : first + PER_SHARD] for first in range(0, len(records), PER_SHARD)]
    shards = [
        _Shard(target / f".{split}-maps-{number:05d}.tfrecords.tmp", tuple(part)) for number, part in enumerate(parts)
    ]
    try:
        yield shards
    finally:
        for shard in shards:
            shard.path.unlink(missing_ok=True)


def _place(shards: Iterable[_Shard], target: Path, split: str, ceiling: float | None, replace: bool) -> bool:
    """Move the shards to their names, remove those of an earlier import, and write the ceiling.

    Returns:
        Whether all of it was there before.

    Raises:
        DataError: other shards of maps, or another ceiling, are there and may not be replaced.
    """
    moves = {target / shard.path.name[1:].removesuffix(".tmp"): shard.path for shard in shards}
    same = {path: settled(new, path, replace) for path, new in moves.items()}
    stale = [path for path in sorted(target.glob(f"{split}-maps-*.tfrecords")) if path not in moves]
    if stale and not replace:
        raise DataError(f"{stale[0]} is of an earlier import of maps: move it away, or give --replace")
    if ceiling is not None:
        with staged(target / "ceiling.yaml", replace) as path:
            path.write_text(f"human_ceiling: {ceiling}  # given with the maps\n", encoding="utf-8")
    for path, new in moves.items():
        if not same[path]:
            new.replace(path)
    for path in stale:
        path.unlink()
    return all(same.values()) and not stale


def _known_ceiling(project: Project) -> float | None:
    from advalign.data.clickme import read_human_ceiling

    return read_human_ceiling(project) if (project.data / "clickme" / "ceiling.yaml").exists() else None


def _write_shards(shards: Sequence[_Shard], workers: int | None, advance: Advance) -> _Written:
    """Write all shards; returns the sums over them."""
    converted = stretched = 0
    for done, one in enumerate(each(_write_shard, shards, workers), start=1):
        converted += one.converted
        stretched += one.stretched
        advance(done, len(shards))
    return _Written(converted, stretched)


def _write_shard(shard: _Shard) -> _Written:
    converted = stretched = 0

    def payloads() -> Iterator[bytes]:
        nonlocal converted, stretched
        for record in shard.records:
            encoded, size, changed = _image(record.image)
            values = read_map(record.source)
            converted += changed
            stretched += abs(math.log(size[0] / size[1] / (values.shape[1] / values.shape[0]))) > SAME_ASPECT
            heatmap = png_bytes(_resized(values, size, str(record.source)))
            yield encode_example({"image": encoded, "heatmap": heatmap, "label": record.label})

    write_payloads(shard.path, payloads())
    return _Written(converted, stretched)


def _image(path: Path) -> tuple[bytes, tuple[int, int], bool]:
    """Bytes of an image as a JPEG in RGB, (width, height), and whether they are not the file's own."""
    content = read_bytes(path, DataError)
    image = decode_image(content, path)
    if image.format in ("JPEG", "MPO") and image.mode == "RGB":
        return content, image.size, False
    return as_jpeg(image), image.size, True


def _resized(values: NDArray[np.float64], size: tuple[int, int], where: str) -> NDArray[np.uint8]:
    """A map at the size (width, height) of its image, scaled to 256 levels: (H, W) uint8."""
    image = Image.fromarray(values.astype(np.float32))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return map_of(np.asarray(image, np.float32), where)
