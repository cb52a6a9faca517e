"""Which image is which: SHA-256 and label of every training image, to find its responses by content."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from advalign.data.clickme import check_label, feature
from advalign.data.tfrecord import read_examples
from advalign.data.training_images import AnyImages, CifarTrainingImages, TrainingImages
from advalign.inputs import digests


def image_digests(images: AnyImages, remembered: Path | None = None) -> pd.DataFrame:
    """SHA-256 and label of every image, in the order of their numbers.

    The digest is that of the file's bytes, of ClickMe that of the record's encoded image. Of data/cifar it is that of
    the pixels, uint8 in the order (channel, row, column), as in the suites of expectations on it.

    Args:
        images: to train on.
        remembered: digests of files that have not changed (`advalign.inputs`).

    Returns:
        Columns sha256 (text) and label (class index).

    Raises:
        DataError: an image is missing or cannot be read.
    """
    if isinstance(images, CifarTrainingImages):
        split = images.split
        found = [split.sha256(row) for row in range(len(split))]
        return pd.DataFrame({"sha256": found, "label": split.table["label"].to_numpy(np.int64)})
    found, labels = _records(images)
    if images.files is not None:
        read = digests(images.paths, remembered)
        found += [read[path].sha256 for path in images.paths[len(images.shards) :]]
        labels += images.files.labels.tolist()
    return pd.DataFrame({"sha256": found, "label": np.array(labels, dtype=np.int64)})


def _records(images: TrainingImages) -> tuple[list[str], list[int]]:
    found: list[str] = []
    labels: list[int] = []
    for shard in images.shards:
        for number, example in enumerate(read_examples(shard)):
            where = f"{shard}: record {number}"
            found.append(hashlib.sha256(feature(example, "image", bytes, where)).hexdigest())
            labels.append(check_label(feature(example, "label", int, where), images.classes, where))
    return found, labels
