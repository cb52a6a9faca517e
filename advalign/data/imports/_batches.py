"""CIFAR's own pickled batches, read without running anything that a pickle may name (`_pickles`)."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.imports._pickles import DAMAGED, Array, Refused, read_pickle
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import LOOKED_AT, lookalike, open_file

LARGEST = 256 << 20  # bytes; an official batch has 31 million
LONGEST = 1 << 20  # rows of a batch


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        number, of: "training batch 2 of 5" is 2 of 5.
        pixels: (N, 32, 32, 3) uint8.
        labels: N class indices, unchecked.
    """

    number: int
    of: int
    pixels: NDArray[np.uint8]
    labels: list[int]


def read_batch(path: Path) -> Batch:
    """Read data_batch_N or test_batch.

    Raises:
        DataError: not such a file, damaged, or it names code.
    """
    content = _read(path)
    label = content.get("batch_label")
    words = str(label).split()
    number, of = ([*map(int, words[2::2]), 0, 0] if _is_numbered(words) else [0, 0])[:2]
    if not number:
        raise DataError(f"{path}: batch_label is {shown(label)}, expected 'training batch 1 of 5': fetch it again")
    data, labels = content.get("data"), content.get("labels")
    values = data.values if isinstance(data, Array) else None
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != 2 or values.shape[1] != 3072:
        raise DataError(f"{path}: data is no array of N x 3072 bytes: name CIFAR-10's python version")
    if not isinstance(labels, list) or any(type(one) is not int for one in labels):
        raise DataError(f"{path}: labels is {type(labels).__name__}, expected a list of integers: name CIFAR-10's")
    if len(labels) != len(values):
        raise DataError(f"{path}: {len(values)} images and {len(labels)} labels: fetch it again")
    return Batch(number, of, values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def _is_numbered(words: list[str]) -> bool:
    return len(words) == 5 and words[1] == "batch" and words[2].isdecimal() and words[4].isdecimal()


def read_names(path: Path) -> list[str]:
    """Names of the classes in batches.meta, in order.

    Raises:
        DataError: as `read_batch`.
    """
    names = _read(path).get("label_names")
    if not isinstance(names, list):
        raise DataError(f"{path}: label_names is {type(names).__name__}, expected a list: fetch it again")
    return [one.decode("latin1") if isinstance(one, bytes) else str(one) for one in names]


def _read(path: Path) -> dict[str, Any]:
    try:
        with open_file(path, DataError) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): fetch it again") from None
    if len(content) > LARGEST:
        raise DataError(f"{path} has more than {LARGEST >> 20} MiB, an official batch 30: name CIFAR-10's own files")
    try:
        found = read_pickle(io.BytesIO(content))
    except Refused as refused:
        raise DataError(
            f"{path} names {shown(str(refused))}, which no batch of CIFAR needs: it may run code when read, and is "
            "refused: fetch it again"
        ) from None
    except DAMAGED as error:
        known = lookalike(content[:LOOKED_AT]) or f"is damaged, or no pickle ({quoted(error)}): fetch it again"
        raise DataError(f"{path} {known}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, expected a dictionary: name CIFAR-10's own files")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}
