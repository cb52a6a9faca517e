"""The images for training and validation, by number: ClickMe's with their maps, then ImageNet's without; or CIFAR's.

Only the position of each image is held in memory, so that any process can read any image at any moment.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from advalign.data.augmentation import Sample
from advalign.data.cifar import CifarSplit, read_split, split_file
from advalign.data.classes import Classes
from advalign.data.clickme import decode_example, decode_jpeg, split_shards
from advalign.data.imagenet import read_labels
from advalign.data.tfrecord import read_example, record_offsets
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import digests
from advalign.regular_files import read_bytes
from advalign.settings import TrainSettings
from advalign.strict_settings import digest
from advalign.tensors.heatmaps import training_maps

KEPT = 2**30  # bytes of decoded images
JPEG = (".jpeg", ".jpg")  # endings of names, in small letters
NEEDED = "every class of data/classes.yaml needs its training images"


@dataclass(frozen=True)
class ImageFiles:
    """Images in files. The names are bytes: a million of them would fill memory as Python strings.

    Attributes:
        folder: that the names are relative to.
        names: (N,) bytes, sorted.
        labels: (N,) class indices.
    """

    folder: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]


@dataclass
class TrainingImages:
    """ClickMe records and image files as one numbered set.

    Attributes:
        shards: ClickMe's, in order.
        files: without maps; numbered after the records.
        classes: how many there are.
        blur_maps: prepare raw ClickMe maps (`training_maps`).
        keep: keep decoded images in memory, up to `KEPT` bytes; for small sets that one process reads repeatedly.
    """

    shards: list[Path]
    files: ImageFiles | None
    classes: int
    blur_maps: bool
    keep: bool = False
    _kept: dict[int, Sample] = field(default_factory=dict)
    _room: int = KEPT

    def __post_init__(self) -> None:
        offsets = [record_offsets(shard) for shard in self.shards]
        self._first = np.cumsum([0, *(len(of_shard) for of_shard in offsets)])
        self._offsets = np.array([offset for of_shard in offsets for offset in of_shard], dtype=np.int64)

    @property
    def with_map(self) -> int:
        """Number of images with a human map: they come first."""
        return len(self._offsets)

    @property
    def file_names(self) -> list[str]:
        """Names of the image files, relative to their folder."""
        return [name.decode() for name in self.files.names] if self.files is not None else []

    @property
    def paths(self) -> list[Path]:
        """All files: shards, then image files."""
        folder = self.files.folder if self.files is not None else Path()
        return [*self.shards, *(folder / name for name in self.file_names)]

    @property
    def told(self) -> list[list[object]]:
        """What is known of each of the `paths` beside its content: its name, and of an image file the label."""
        labels = self.files.labels.tolist() if self.files is not None else []
        named = zip(self.file_names, labels, strict=True)
        return [*([path.name] for path in self.shards), *([name, label] for name, label in named)]

    def __len__(self) -> int:
        return self.with_map + (len(self.files.names) if self.files else 0)

    def read(self, number: int) -> Sample:
        """Decode an image.

        Raises:
            DataError: it is corrupt or missing; names the file and the record.
        """
        if number in self._kept:
            return self._kept[number]
        sample = self._record(number) if number < self.with_map else self._file(number - self.with_map)
        if self.keep and self._room > 0:
            self._kept[number] = sample
            self._room -= sample.image.nbytes + (0 if sample.heatmap is None else sample.heatmap.nbytes)
        return sample

    def _record(self, number: int) -> Sample:
        shard = int(np.searchsorted(self._first, number, side="right")) - 1
        record, path = number - int(self._first[shard]), self.shards[shard]
        example = read_example(path, int(self._offsets[number]), record)
        image, heatmap, label = decode_example(example, f"{path}: record {record}", self.classes)
        return Sample(np.asarray(image), self._prepared(np.asarray(heatmap)), label)

    def _prepared(self, heatmap: NDArray[np.uint8]) -> NDArray[Any]:
        if not self.blur_maps:
            return heatmap
        small = training_maps(torch.from_numpy(heatmap.copy())[None].float() / 255, 64)
        return F.interpolate(small[:, None], size=heatmap.shape, mode="bilinear")[0, 0].numpy()

    def _file(self, number: int) -> Sample:
        assert self.files is not None
        path = self.files.folder / self.files.names[number].decode()
        try:
            encoded = read_bytes(path, DataError)
        except OSError as error:
            raise _unreadable(path, error) from None
        image = decode_jpeg(encoded, ("RGB", "L"), str(path))
        colours = image if image.ndim == 3 else np.asarray(Image.fromarray(image).convert("RGB"))
        return Sample(colours, None, int(self.files.labels[number]))


@dataclass
class CifarTrainingImages:
    """A split of data/cifar as a numbered set; an image's map is its object mask, where it has a fair one.

    A mask from a model's own saliency counts as none.

    Attributes:
        split: the file as it was read.
        keep: keep decoded images in memory (4 KiB each).
    """

    split: CifarSplit
    keep: bool = False
    _kept: dict[int, Sample] = field(default_factory=dict)

    @property
    def with_map(self) -> int:
        """Number of images with an object mask."""
        return int(self.split.has_fair_mask.sum())

    @property
    def paths(self) -> list[Path]:
        """The file."""
        return [self.split.path]

    @property
    def told(self) -> list[list[object]]:
        """The split's name."""
        return [[self.split.path.name]]

    def __len__(self) -> int:
        return len(self.split)

    def read(self, number: int) -> Sample:
        """Decode an image and its mask: 255 on the object, 0 elsewhere.

        Raises:
            DataError: one cannot be decoded; names the file and the row.
        """
        if number in self._kept:
            return self._kept[number]
        mask = self.split.mask(number) if self.split.has_fair_mask[number] else None
        heatmap = None if mask is None else mask.astype(np.uint8) * np.uint8(255)
        sample = Sample(self.split.image(number), heatmap, self.split.label(number))
        if self.keep:
            self._kept[number] = sample
        return sample


AnyImages = TrainingImages | CifarTrainingImages


def training_images(project: Project, classes: Classes, settings: TrainSettings) -> AnyImages:
    """The images to train on: ClickMe's training shards, with `images: imagenet` also ImageNet's training folder.

    With `images: cifar` those of data/cifar/train alone.

    Raises:
        DataError: something is missing or damaged.
    """
    if settings.images == "cifar":
        return _cifar(project, classes, settings, "train")
    if settings.images == "clickme":
        shards, files = split_shards(project, "train"), None
    else:
        files = _training_files(project, classes)
        shards = sorted((project.data / "clickme").glob("train-*.tfrecords"))
    return _images(shards, files, classes, settings)


def validation_images(project: Project, classes: Classes, settings: TrainSettings) -> AnyImages:
    """The images to measure accuracy on: ClickMe's val shards, ImageNet's validation images, or data/cifar/test.

    Raises:
        DataError: something is missing or damaged.
    """
    if settings.images == "cifar":
        return _cifar(project, classes, settings, "test")
    if settings.images == "clickme":
        return _images(split_shards(project, "val"), None, classes, settings)
    labels = sorted(read_labels(project, classes).items())
    names, indices = np.array([name.encode() for name, _ in labels]), np.array([label for _, label in labels])
    return _images([], ImageFiles(project.data / "imagenet" / "val", names, indices), classes, settings)


def pictured_images(project: Project, classes: Classes, settings: TrainSettings) -> AnyImages | None:
    """Images with maps that are not trained on, for pictures of saliency; None where there are none."""
    if settings.images == "cifar":
        images = _cifar(project, classes, settings, "test")
        return images if images.with_map == len(images) else None
    for split in ("val", "test"):
        shards = sorted((project.data / "clickme").glob(f"{split}-*.tfrecords"))
        if shards:
            return _images(shards[:1], None, classes, settings)
    return None


def data_identity(images: AnyImages, remembered: Path | None = None) -> str:
    """Digest of the content of the training data: of shards, and of image files with their names and labels.

    Args:
        images: to train on, or to validate on.
        remembered: digests of files that have not changed (`advalign.inputs`).

    Raises:
        DataError: a file is missing.
    """
    found = digests(images.paths, remembered)
    return digest([[*one, found[path].sha256] for one, path in zip(images.told, images.paths, strict=True)])


def _cifar(project: Project, classes: Classes, settings: TrainSettings, split: str) -> CifarTrainingImages:
    found = read_split(split_file(project, split), len(classes))
    return CifarTrainingImages(found, keep=settings.workers == 0)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}): import it again")


def _images(shards: list[Path], files: ImageFiles | None, classes: Classes, settings: TrainSettings) -> TrainingImages:
    images = TrainingImages(shards, files, len(classes), settings.blur_maps, keep=settings.workers == 0)
    if not len(images):
        raise DataError("data/ holds no image to train or to validate on: get the data with `dvc pull data.dvc`")
    return images


def _training_files(project: Project, classes: Classes) -> ImageFiles:
    folder = project.data / "imagenet" / "train"
    if not folder.is_dir():
        raise DataError(
            "data/imagenet/train is missing: `advalign data import imagenet DIR --split train` imports your copy; "
            "`--settings params` trains on ClickMe's images alone, as params.yaml says"
        )
    names: list[bytes] = []
    labels: list[int] = []
    for wnid, label in sorted(classes.index_of_wnid().items()):
        if not (folder / wnid).is_dir():
            raise DataError(f"{folder / wnid} is missing: {NEEDED}")
        with os.scandir(folder / wnid) as entries:
            found = sorted(f"{wnid}/{entry.name}".encode() for entry in entries if entry.name.lower().endswith(JPEG))
        if not found:
            raise DataError(f"{folder / wnid} holds no image (*.JPEG): {NEEDED}")
        names += found
        labels += [label] * len(found)
    return ImageFiles(folder, np.array(names), np.array(labels, dtype=np.int64))
