"""ClickMe records in every released schema -> verified records of the JPEG schema.

The schemas: JPEG bytes with a label; raw little-endian float32 (`tf.io.decode_raw`) of 256x256 with label and
click_count; the same of 224x224 without click_count; and per-sample .pth dictionaries of uint8 tensors.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advalign.data.clickme import check_label, decode_example, feature
from advalign.data.tfrecord import Feature, read_examples
from advalign.errors import DataError, quoted
from advalign.regular_files import look_at, lookalike

JPEG, PTH = "jpeg", "pth"
SIDES = {"float32-256": 256, "float32-224": 224}  # pixels per side of the raw schemas
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
_PNG_LEVEL = 1  # photographs hardly shrink further, and the writer is three times as fast as at the default
_NO_PTH = "not a dictionary of image, heatmap (uint8 tensors) and label"


@dataclass(frozen=True)
class Verified:
    """A record that can be written unchanged: encoded image (RGB), heatmap (grey, same size) and class index."""

    schema: str
    sha256: str  # of the encoded image
    image: bytes
    heatmap: bytes
    label: int


def verified_records(shard: Path, classes: int) -> Iterator[Verified]:
    """Check every record of a shard, converting raw ones: uint8 images, maps min-max scaled to 0 .. 255, lossless.

    Raises:
        DataError: names the file and the record; a shard of mixed schemas or without records is refused too.
    """
    first = None
    for number, example in enumerate(read_examples(shard)):
        where = f"{shard}: record {number}"
        record = _verified(example, where, classes)
        first = first or record.schema
        if record.schema != first:
            raise DataError(f"{where} is in the schema {record.schema}, the records before in {first}: split the shard")
        yield record
    if first is None:
        raise DataError(f"{shard}: no records in it: it {lookalike(b'')}, or leave it out")


def _verified(example: Mapping[str, Feature], where: str, classes: int) -> Verified:
    encoded, encoded_map = feature(example, "image", bytes, where), feature(example, "heatmap", bytes, where)
    for schema, side in SIDES.items():
        # the exact length decides: raw floats may begin like a JPEG, but no JPEG has exactly this length
        if (len(encoded), len(encoded_map)) == (side * side * 12, side * side * 4):
            label = check_label(feature(example, "label", int, where), classes, where)
            image = pixels_of(np.frombuffer(encoded, "<f4").reshape(side, side, 3), where)
            heatmap = map_of(np.frombuffer(encoded_map, "<f4").reshape(side, side), where)
            return _converted(schema, image, heatmap, label)
    if not encoded.startswith(_MAGIC):
        raise DataError(
            f"{where}: image cannot be decoded: {len(encoded)} bytes with a heatmap of {len(encoded_map)} are neither "
            "JPEG nor PNG nor float32 of 256x256 or 224x224: fetch the file again, or convert it"
        )
    _, decoded_map, label = decode_example(example, where, classes)
    middle = (decoded_map.width // 2, decoded_map.height // 2)
    if decoded_map.getpixel((0, 0)) == decoded_map.getpixel(middle):  # two pixels settle nearly all, 40 us sooner
        _refuse_constant(decoded_map.getextrema(), where)
    return Verified(JPEG, hashlib.sha256(encoded).hexdigest(), encoded, encoded_map, label)


def pixels_of(values: NDArray[np.float32], where: str) -> NDArray[np.uint8]:
    """Round raw pixels to uint8.

    Args:
        values: (H, W, 3) float32 in 0 .. 255, or in 0 .. 1 if the largest is at most 1.
        where: what an error begins with.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: not finite, or outside both ranges.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise DataError(f"{where}: image values span {low:g} .. {high:g}, expected 0 .. 255 or 0 .. 1: convert it")
    scaled = values * np.float32(255) if high <= 1 else values
    return np.rint(scaled).astype(np.uint8)


def map_of(values: NDArray[np.float32], where: str) -> NDArray[np.uint8]:
    """Scale a raw map to the 256 levels of the JPEG schema: its smallest value becomes 0, its largest 255.

    Args:
        values: (H, W) float32, any finite range.
        where: what an error begins with.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: not finite, or constant.
    """
    if not np.isfinite(values).all():
        raise DataError(f"{where}: heatmap holds values that are not finite: remove the record")
    wide = values.astype(np.float64)  # float32 could overflow in the difference
    low, high = wide.min(), wide.max()
    _refuse_constant((low, high), where)
    scaled: NDArray[np.float64] = np.rint((wide - low) * (255 / (high - low)))
    return scaled.astype(np.uint8)


def _refuse_constant(extremes: tuple[Any, ...], where: str) -> None:
    """Refuse a map by its smallest and largest value."""
    if extremes[0] == extremes[1]:
        raise DataError(f"{where}: heatmap is constant, so it ranks no pixel above another: remove the record")


def _converted(schema: str, image: NDArray[np.uint8], heatmap: NDArray[np.uint8], label: int) -> Verified:
    encoded = png_bytes(image)
    return Verified(schema, hashlib.sha256(encoded).hexdigest(), encoded, png_bytes(heatmap), label)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def verified_samples(samples: Sequence[Path], classes: int) -> Iterator[Verified]:
    """Check and convert per-sample files: {image: (3, H, W) or (H, W, 3), heatmap: (1, H, W) or (H, W), label}, uint8.

    Raises:
        DataError: names the file; one that would run code when read is refused.
    """
    for sample in samples:
        content = _load(sample)
        image, heatmap = _array(content, "image", sample), _array(content, "heatmap", sample)
        if image.ndim == 3 and image.shape[0] == 3:
            image = np.ascontiguousarray(image.transpose(1, 2, 0))
        if heatmap.ndim == 3 and heatmap.shape[0] == 1:
            heatmap = heatmap[0]
        if image.ndim != 3 or image.shape[2] != 3 or heatmap.shape != image.shape[:2]:
            raise DataError(
                f"{sample}: image is {_shape(image)}, heatmap {_shape(heatmap)}: expected (3, H, W) or (H, W, 3) "
                "with (1, H, W) or (H, W)"
            )
        _refuse_constant((heatmap.min(), heatmap.max()), str(sample))
        yield _converted(PTH, image, heatmap, check_label(_label(content, sample), classes, str(sample)))


def _load(sample: Path) -> dict[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():  # it refuses what it warns of: one line is enough
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content = torch.load(sample, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        code = (
            "is damaged, or it would run code when read, and is refused: save it again as plain tensors, "
            "torch.save({'image': ..., 'heatmap': ..., 'label': ...}, path)"
        )
        raise DataError(f"{sample}: {look_at(sample, DataError) or code}") from None
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        what = look_at(sample, DataError) or f"cannot be read as .pth ({quoted(error)}): fetch it again"
        raise DataError(f"{sample}: {what}") from None
    if not isinstance(content, dict):
        raise DataError(f"{sample}: {_NO_PTH}, but a {type(content).__name__}: save it as one")
    return content


def _array(content: Mapping[str, Any], name: str, sample: Path) -> NDArray[np.uint8]:
    import torch

    value: torch.Tensor | None = content.get(name)
    if not isinstance(value, torch.Tensor) or value.dtype != torch.uint8:
        got = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise DataError(f"{sample}: {_NO_PTH}: {name} is {got}: save it as uint8")
    array: NDArray[np.uint8] = value.numpy()
    return array


def _label(content: Mapping[str, Any], sample: Path) -> int:
    value: Any = content.get("label")
    if getattr(value, "ndim", None) == 0:
        value = value.item()  # a tensor of one number
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{sample}: {_NO_PTH}: label is {type(value).__name__}: save it as int")
    return value


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape)) or "a number"
