"""ClickMe shards in the released JPEG schema: image, heatmap and label per record; and the map set's human ceiling."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from advalign.data.tfrecord import Feature, read_examples
from advalign.errors import DataError
from advalign.files import Project

Kind = TypeVar("Kind", bytes, int)


@dataclass(frozen=True)
class ClickMeRecord:
    """One image with its human map.

    Attributes:
        source: shard name and record number, "test-00000.tfrecords:12".
        sha256: of the image's JPEG bytes.
        image: (H, W, 3) uint8.
        heatmap: (H, W) uint8, larger where people clicked more.
        label: class index.
    """

    source: str
    sha256: str
    image: NDArray[np.uint8]
    heatmap: NDArray[np.uint8]
    label: int


def split_shards(project: Project, split: str) -> list[Path]:
    """List the shards of a split, sorted by name.

    Raises:
        DataError: there are none.
    """
    folder = project.need_data(project.data / "clickme")
    shards = sorted(folder.glob(f"{split}-*.tfrecords"))
    if not shards:
        raise DataError(f"no {split}-*.tfrecords in data/clickme: get the data with `dvc pull data.dvc`")
    return shards


def read_clickme(shards: list[Path], classes: int) -> Iterator[ClickMeRecord]:
    """Decode every record of the shards, checking checksums, schema, sizes and labels.

    Raises:
        DataError: names the file and the record.
    """
    for shard in shards:
        for number, example in enumerate(read_examples(shard)):
            where = f"{shard}: record {number}"
            encoded, encoded_map = _feature(example, "image", bytes, where), _feature(example, "heatmap", bytes, where)
            label = _feature(example, "label", int, where)
            image = decode_jpeg(encoded, "RGB", f"{where}: image")
            heatmap = decode_jpeg(encoded_map, "L", f"{where}: heatmap")
            if heatmap.shape != image.shape[:2]:
                raise DataError(f"{where}: heatmap is {_size(heatmap)}, its image {_size(image)}: sizes must agree")
            if not 0 <= label < classes:
                raise DataError(f"{where}: label {label} is outside 0 .. {classes - 1} (data/classes.yaml)")
            digest = hashlib.sha256(encoded).hexdigest()
            yield ClickMeRecord(f"{shard.name}:{number}", digest, image, heatmap, label)


def _feature(example: Mapping[str, Feature], name: str, kind: type[Kind], where: str) -> Kind:
    value = example.get(name)
    if not isinstance(value, kind):
        raise DataError(f"{where}: feature {name!r} is missing or not {kind.__name__} (ClickMe JPEG schema)")
    return value


def decode_jpeg(encoded: bytes, mode: str, where: str) -> NDArray[np.uint8]:
    """Decode JPEG (or PNG) bytes to (H, W, 3) or (H, W) uint8.

    Raises:
        DataError: not an image, or of another colour mode than wanted ("RGB" or "L").
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG"))
        image.load()
    except UnidentifiedImageError:
        raise DataError(f"{where} cannot be decoded: neither JPEG nor PNG") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} cannot be decoded: {error}") from None
    if image.mode != mode:
        raise DataError(f"{where} is {image.mode}, expected {mode}: convert it before importing")
    return np.asarray(image)


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def read_human_ceiling(project: Project) -> float:
    """Rank correlation between the maps of two halves of the participants: what alignment is divided by.

    Stored with the map set in data/clickme/ceiling.yaml (ClickMe: 0.65753, Feng et al. 2025).

    Raises:
        DataError: missing, or not a number in (0, 1].
    """
    path = project.need_data(project.data / "clickme" / "ceiling.yaml")
    try:
        ceiling = float(yaml.safe_load(path.read_text())["human_ceiling"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise DataError(f"{path}: expected `human_ceiling: <number>`") from None
    if not 0 < ceiling <= 1:
        raise DataError(f"{path}: human_ceiling must lie in (0, 1], got {ceiling}")
    return ceiling
