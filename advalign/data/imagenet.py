"""ImageNet validation images with their original label and their multi-label set."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advalign.data.classes import Classes
from advalign.data.multilabel import LabelSet, read_multilabel
from advalign.errors import DataError
from advalign.files import Project


@dataclass(frozen=True)
class ValidationImage:
    """One image: where it is, its original single label, and what people judged to be in it."""

    path: Path
    label: int
    labels: LabelSet


def read_validation(project: Project, classes: Classes) -> list[ValidationImage]:
    """List the images of data/imagenet/val that have a multi-label set, sorted by name.

    Original labels come from data/imagenet/labels.csv (columns image, wnid).

    Raises:
        DataError: something is missing, or an annotated image has no file or no original label.
    """
    folder = project.need_data(project.data / "imagenet")
    index_of_wnid = classes.index_of_wnid()
    sets = read_multilabel(folder / "multilabel.json", index_of_wnid)
    try:
        table = pd.read_csv(project.need_data(folder / "labels.csv"), dtype=str)
    except ValueError as error:
        raise DataError(
            f"{folder / 'labels.csv'}: not a table of image, wnid: {' '.join(str(error).split())}"
        ) from None
    if list(table.columns) != ["image", "wnid"]:
        raise DataError(f"{folder / 'labels.csv'}: columns must be image, wnid; got {', '.join(table.columns)}")
    original = dict(zip(table["image"], table["wnid"], strict=True))
    images = []
    for name, labels in sorted(sets.items()):
        path = folder / "val" / name
        if not path.is_file():
            raise DataError(f"{path} is missing, but multilabel.json judges it: get the data with `dvc pull data.dvc`")
        if original.get(name) not in index_of_wnid:
            raise DataError(f"{folder / 'labels.csv'}: no known wnid for {name} (got {original.get(name)!r})")
        images.append(ValidationImage(path, index_of_wnid[original[name]], labels))
    return images
