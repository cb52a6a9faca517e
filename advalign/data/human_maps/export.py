"""Human maps of data/participants as ClickMe shards, which training code of others reads too."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advalign.data.cleaning import CleaningTable
from advalign.data.human_maps.blocks import ImageTrials
from advalign.data.human_maps.make import CLEANING, MEND, SUMMARY, cleaned_images
from advalign.data.human_maps.maps import full_map
from advalign.data.human_maps.summary import settings_digest
from advalign.data.imports._image_folder import UNKNOWN, ImageFolder
from advalign.data.imports._images import as_jpeg, decode_image
from advalign.data.imports._records import png_bytes
from advalign.data.participants import IMAGE, has_participants, read_images, trials_digest
from advalign.data.tfrecord import encode_example, write_payloads
from advalign.errors import DataError, InputError, shown
from advalign.files import Project, replacing_folder, write_text
from advalign.progress import Advance
from advalign.regular_files import read_bytes
from advalign.seals import read_json
from advalign.settings import Settings

MAP_QUALITY = 90  # of heatmaps that are JPEG, as ClickMe's are


@dataclass(frozen=True)
class Exported:
    """What was written: records in shards, images that had to be encoded as JPEG in RGB, and the human ceiling."""

    shards: int
    records: int
    converted: int
    human_ceiling: float

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def levels(heatmap: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A map (H, W) in [0, 1] in the 256 levels of the format."""
    return np.round(heatmap * 255).astype(np.uint8)


def heatmap_jpeg(heatmap: NDArray[np.floating[Any]]) -> bytes:
    """A map (H, W) in [0, 1] as the JPEG bytes of ClickMe's schema: 256 levels, quality 90."""
    buffer = io.BytesIO()
    Image.fromarray(levels(heatmap)).save(buffer, "JPEG", quality=MAP_QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()


def export_clickme(
    project: Project,
    settings: Settings,
    target: Path,
    images: Path,
    split: str,
    shard_size: int = 500,
    lossless: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> Exported:
    """Write the maps of cleaned trials, at the size of their images, as shards SPLIT-NNNNN.tfrecords and ceiling.yaml.

    Images that are JPEG or PNG in RGB keep their bytes. All is written, or nothing.

    Args:
        project: with data/participants and outputs/maps of the same settings.
        settings: of the project.
        target: absent or empty folder to write.
        images: folder that the images are in, or below.
        split: "train", "val" or "test".
        shard_size: most records of a shard.
        lossless: heatmaps as PNG, in place of JPEG.
        advance: called after every image.

    Raises:
        InputError: the target holds something, outputs/maps is not of these trials and settings, an image is missing,
            is another one than people saw, or has no known class; names it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is not an empty folder: name an absent or empty one")
    ceiling, dropped = _measured(project, settings)
    labels = {str(row[IMAGE]): int(row["label"]) for row in read_images(project).to_dict("records")}
    writer = _Records(ImageFolder(images), labels, settings, lossless, advance)
    cleaned = cleaned_images(project, settings.human_maps, dropped, CleaningTable())
    with replacing_folder(target) as temporary:
        shards = _write_shards(temporary, split, writer.encoded(cleaned), shard_size)
        said = "Mean rank correlation between the maps of two random halves of the participants (uncorrected)."
        written = f"# {said}\nhuman_ceiling: {ceiling:.5f}\nimages: {writer.count}\n"
        write_text(temporary / "ceiling.yaml", written)
        if target.exists():
            target.rmdir()  # it was empty; what was put there since is never replaced
    return Exported(shards, writer.count, writer.converted, ceiling)


def _write_shards(folder: Path, split: str, records: Iterator[bytes], shard_size: int) -> int:
    """Write records into shards of at most `shard_size`; returns the number of shards."""
    shards = 0
    for first in records:
        path = folder / f"{split}-{shards:05d}.tfrecords"
        write_payloads(path, chain([first], islice(records, shard_size - 1)))
        shards += 1
    return shards


def _measured(project: Project, settings: Settings) -> tuple[float, frozenset[str]]:
    """The human ceiling of outputs/maps, and the participants that were dropped there.

    Raises:
        InputError: outputs/maps is missing, damaged, or of other settings or trials.
    """
    if not has_participants(project):
        raise InputError("no trials in data/participants: import them with `advalign data import clicks`")
    try:
        summary, cleaning = (read_json(project.human_maps / name, MEND) for name in (SUMMARY, CLEANING))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing: run `dvc repro maps` first") from None
    ceiling, digest, trials = summary["human_ceiling"], summary["settings_sha256"], summary["trials_sha256"]
    dropped = frozenset(str(one["participant"]) for one in cleaning["suspicious"] if one["dropped"])
    if digest != settings_digest(settings.human_maps, settings.seed) or ceiling is None:
        raise InputError(f"{project.human_maps} is of other settings than params.yaml has: run `dvc repro maps` first")
    if trials != trials_digest(project):
        raise InputError(
            f"{project.human_maps} is of other trials than data/participants has: run `dvc repro maps` first"
        )
    return float(ceiling), dropped


class _Records:
    """Encodes records one after another, and counts them."""

    def __init__(
        self, folder: ImageFolder, labels: dict[str, int], settings: Settings, lossless: bool, advance: Advance
    ) -> None:
        self._folder, self._labels, self._settings = folder, labels, settings
        self._lossless, self._advance = lossless, advance
        self.count = self.converted = 0

    def encoded(self, images: Iterator[ImageTrials]) -> Iterator[bytes]:
        """Records of the JPEG schema, one per image.

        Raises:
            InputError: an image cannot be used.
        """
        for image in images:
            label = self._labels[image.image]
            if label == UNKNOWN:
                raise DataError(
                    f"{shown(image.image)}: its class is not known: run `advalign data import classes` if "
                    "data/classes.yaml is missing, put the image into a folder called like its wnid, and import the "
                    "trials again with `advalign data import clicks --replace`"
                )
            heatmap = full_map(image, self._settings.human_maps).numpy()
            encoded = png_bytes(levels(heatmap)) if self._lossless else heatmap_jpeg(heatmap)
            yield encode_example({"image": self._image(image), "heatmap": encoded, "label": label})
            self.count += 1
            self._advance(self.count, len(self._labels))

    def _image(self, image: ImageTrials) -> bytes:
        number = self._folder.find(image.image, str(self._folder.folder))
        if number is None:
            raise DataError(f"{self._folder.folder}: {shown(image.image)} is not in it or below: name its folder")
        path = self._folder.path(number)
        content = read_bytes(path, DataError)
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise DataError(
                f"{path} is another file than the image of the trials: name the folder they were imported with"
            )
        decoded = decode_image(content, path)
        if decoded.mode == "RGB":
            return content
        self.converted += 1
        return as_jpeg(decoded)
