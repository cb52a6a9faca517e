"""ImageNet validation images with their original label and their multi-label set."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from advalign.data.classes import Classes
from advalign.data.clickme import ClickMeRecord, decode_jpeg
from advalign.data.multilabel import LabelSet, read_multilabel
from advalign.errors import DataError, shown
from advalign.files import Project
from advalign.names import check_file_name
from advalign.regular_files import read_bytes
from advalign.strict_csv import read_csv

UNJUDGED = LabelSet(frozenset())


@dataclass(frozen=True)
class ValidationImage:
    """One image: its path, its original single label, and the labels that people judged."""

    path: Path
    label: int
    labels: LabelSet


def read_labels(project: Project, classes: Classes) -> dict[str, int]:
    """Original single label of every validation image, by file name, from data/imagenet/labels.csv (image, wnid).

    Raises:
        DataError: missing, malformed, an image twice, or an unknown wnid (named).
    """
    path = project.need_data(project.data / "imagenet" / "labels.csv")
    index_of_wnid = classes.index_of_wnid()
    labels: dict[str, int] = {}
    for name, wnid in read_label_table(path).items():
        if wnid not in index_of_wnid:
            raise DataError(f"{path}: unknown wnid {wnid!r} for {name} (not in classes.yaml): fix that line")
        labels[name] = index_of_wnid[wnid]
    return labels


def read_validation(project: Project, classes: Classes) -> list[ValidationImage]:
    """List the images of data/imagenet/val that have a multi-label set, sorted by name.

    Original labels come from data/imagenet/labels.csv (columns image, wnid). Without a multilabel.json all images of
    labels.csv are listed, unjudged.

    Raises:
        DataError: something is missing, or a listed image has no file or no original label.
    """
    folder = project.need_data(project.data / "imagenet")
    original = read_labels(project, classes)
    judged = folder / "multilabel.json"
    there = os.path.lexists(judged)
    sets = read_multilabel(judged, classes.index_of_wnid()) if there else dict.fromkeys(original, UNJUDGED)
    images = []
    for name, labels in sorted(sets.items()):
        path = folder / "val" / name
        if not path.is_file():
            said = "multilabel.json judges it" if there else "labels.csv names it"
            raise DataError(f"{path} is missing, but {said}: get the data with `dvc pull data.dvc`")
        if name not in original:
            raise DataError(f"{folder / 'labels.csv'} has no wnid for {name}, which multilabel.json judges: add a line")
        images.append(ValidationImage(path, original[name], labels))
    return images


def validation_records(project: Project, classes: Classes) -> Iterator[ClickMeRecord]:
    """The images of data/imagenet/val that have a superclass, as ClickMe records without a map (zeros), by name.

    Raises:
        DataError: a listed image is missing or cannot be decoded.
    """
    for name, label in sorted(read_labels(project, classes).items()):
        if classes[label].superclass is None:
            continue
        path = project.need_data(project.data / "imagenet" / "val" / name)
        encoded = read_bytes(path, DataError)
        image = np.asarray(Image.fromarray(decode_jpeg(encoded, ("RGB", "L"), str(path))).convert("RGB"))
        digest = hashlib.sha256(encoded).hexdigest()
        yield ClickMeRecord(name, digest, image, np.zeros(image.shape[:2], np.uint8), label)


def read_label_table(path: Path) -> dict[str, str]:
    """Read a labels.csv: file name -> wnid of the original single label.

    Raises:
        OSError: it cannot be opened.
        DataError: not a table of image, wnid, or an image twice.
    """
    (_, header), *rows = read_csv(path, DataError) or [(1, [])]
    if header != ["image", "wnid"]:
        raise DataError(f"{path}: columns must be image, wnid; got {shown(', '.join(header))}: fix the header")
    table: dict[str, str] = {}
    for _, (name, wnid) in rows:
        check_file_name(name, str(path))
        if name in table:
            raise DataError(f"{path}: {name} is in two lines: remove one of them")
        table[name] = wnid
    return table
