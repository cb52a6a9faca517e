"""ClickMe shards in the released JPEG schema: image, heatmap and label per record; and the map set's human ceiling."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from advalign.data.tfrecord import Feature, read_examples
from advalign.errors import DataError
from advalign.files import Project
from advalign.regular_files import lookalike
from advalign.strict_files import read_yaml

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
            image, heatmap, label = decode_example(example, f"{shard}: record {number}", classes)
            digest = hashlib.sha256(feature(example, "image", bytes, "")).hexdigest()
            yield ClickMeRecord(f"{shard.name}:{number}", digest, np.asarray(image), np.asarray(heatmap), label)


def image_digests(shards: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield (source, SHA-256 of the image's bytes) of every record, without decoding images.

    Raises:
        DataError: names the file and the record.
    """
    for shard in shards:
        for number, example in enumerate(read_examples(shard)):
            encoded = feature(example, "image", bytes, f"{shard}: record {number}")
            yield f"{shard.name}:{number}", hashlib.sha256(encoded).hexdigest()


def decode_example(example: Mapping[str, Feature], where: str, classes: int) -> tuple[Image.Image, Image.Image, int]:
    """Decode one record of the JPEG schema, checking schema, sizes and label.

    Returns:
        Image (RGB), heatmap (L, same size) and class index; no arrays, which an importer does not need.

    Raises:
        DataError: begins with `where`.
    """
    encoded, encoded_map = feature(example, "image", bytes, where), feature(example, "heatmap", bytes, where)
    label = feature(example, "label", int, where)
    image = _decode(encoded, "RGB", f"{where}: image")
    heatmap = _decode(encoded_map, "L", f"{where}: heatmap")
    if heatmap.size != image.size:
        raise DataError(f"{where}: heatmap is {_size(heatmap)}, its image {_size(image)}: sizes must agree")
    return image, heatmap, check_label(label, classes, where)


def check_label(label: int, classes: int, where: str) -> int:
    """Return a class index that is in classes.yaml.

    Raises:
        DataError: outside 0 .. classes - 1.
    """
    if not 0 <= label < classes:
        raise DataError(f"{where}: label {label} is outside 0 .. {classes - 1} (data/classes.yaml): remove the record")
    return label


def feature(example: Mapping[str, Feature], name: str, kind: type[Kind], where: str) -> Kind:
    """Return a feature of a record.

    Raises:
        DataError: missing, or of another type.
    """
    value = example.get(name)
    if not isinstance(value, kind):
        raise DataError(f"{where}: feature {name!r} {_unlike(value, kind)} (ClickMe JPEG schema)")
    return value


def _unlike(value: object, kind: type) -> str:
    """What is wrong with a feature, and what to do."""
    if isinstance(value, list) and len(value) != 1:
        return (
            f"has {len(value)} values, expected one: write one example per record, and the class index in place of a "
            "one-hot label"
        )
    return f"is missing or not {kind.__name__}: write it so, or fetch the file again"


def decode_jpeg(encoded: bytes, mode: str | tuple[str, ...], where: str) -> NDArray[np.uint8]:
    """Decode JPEG (or PNG) bytes to (H, W, 3) or (H, W) uint8.

    Raises:
        DataError: not an image, or of another colour mode than wanted ("RGB", "L", or either).
    """
    return np.asarray(_decode(encoded, mode, where))


def _decode(encoded: bytes, mode: str | tuple[str, ...], where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG"))
        image.load()
    except UnidentifiedImageError:
        raise DataError(
            f"{where} cannot be decoded: it {lookalike(encoded) or 'is neither JPEG nor PNG; fetch it again'}"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} cannot be decoded: {error}; fetch it again") from None
    modes = (mode,) if isinstance(mode, str) else mode
    if image.mode not in modes:
        raise DataError(f"{where} is {image.mode}, expected {' or '.join(modes)}: convert it before importing")
    return image


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def read_human_ceiling(project: Project) -> float:
    """Rank correlation between the maps of two halves of the participants: what alignment is divided by.

    Stored with the map set in data/clickme/ceiling.yaml (ClickMe: 0.65753, Feng et al. 2025).

    Raises:
        DataError: missing, broken YAML, or not a number in (0, 1].
    """
    return read_ceiling(project.need_data(project.data / "clickme" / "ceiling.yaml"))


def read_ceiling(path: Path) -> float:
    """The number in a ceiling.yaml that exists.

    Raises:
        DataError: broken YAML, or not a number in (0, 1].
    """
    values = read_yaml(path, DataError)
    try:
        ceiling = float(values["human_ceiling"])
        if isinstance(values["human_ceiling"], bool):
            raise ValueError("true and false are no numbers")
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: expected `human_ceiling: <number>`") from None
    if not 0 < ceiling <= 1:
        raise DataError(f"{path}: human_ceiling must lie in (0, 1], got {ceiling}")
    return ceiling
