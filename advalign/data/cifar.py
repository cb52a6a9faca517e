"""data/cifar/SPLIT.parquet: 32x32 images without loss, with labels, object masks and what is known of their origin.

The columns are `COLUMNS`. Images and masks are PNG bytes, so that no pixel is lost. The splits are train and test; the
drawn world also has `swapped`, the images of test with other backgrounds (docs/cifar.md).
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from advalign.errors import DataError, quoted, shown
from advalign.files import Project
from advalign.regular_files import lookalike, read_bytes

SIDE = 32  # pixels
OWN_CAM = "own-cam"
"""Source of masks that were made from a model's own saliency: a metric that used them would be circular."""
MASK_SOURCES = ("generator", "user", "coco", OWN_CAM)
COLUMNS = pa.schema(
    [
        pa.field("index", pa.int64()),  # in the official order of the split
        pa.field("label", pa.int64()),
        pa.field("image", pa.binary()),  # PNG, RGB
        pa.field("mask", pa.binary()),  # PNG, grey: 255 where the object is, 0 elsewhere; null: none
        pa.field("mask_source", pa.string()),  # one of MASK_SOURCES; null where there is no mask
        pa.field("lossy", pa.bool_()),  # the pixels went through JPEG
        pa.field("cue", pa.int64()),  # class whose background a drawn image has; null: not drawn
    ]
)
OPTIONAL = ("mask", "mask_source", "cue")  # columns with nulls
MEND = "import it again"
OF_CIFAR = "lossy"  # a column that rows measured on other images do not have


@dataclass(frozen=True)
class CifarImage:
    """One row.

    Attributes:
        index, label, mask_source, lossy, cue: as in `COLUMNS`.
        pixels: (32, 32, 3) uint8.
        mask: (32, 32) bool; None: none.
    """

    index: int
    label: int
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None
    mask_source: str | None = None
    lossy: bool = False
    cue: int | None = None


@dataclass(frozen=True)
class CifarSplit:
    """A split as it was read.

    Attributes:
        path: of the file.
        table: the columns without the encoded ones; cue -1 and mask_source "" where there is none.
        encoded: PNG bytes of the images.
        encoded_masks: PNG bytes of the masks; None where there is none.
    """

    path: Path
    table: pd.DataFrame
    encoded: list[bytes]
    encoded_masks: list[bytes | None]

    def __len__(self) -> int:
        return len(self.encoded)

    def pixels(self, first: int, last: int) -> Tensor:
        """Images first .. last - 1: (N, 3, 32, 32) float32 in [0, 1], multiples of 1/255.

        Raises:
            DataError: one cannot be decoded, or has another size or mode.
        """
        images = [self.image(row) for row in range(len(self))[first:last]]
        stacked = np.stack(images) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 255

    def masks(self, first: int, last: int) -> Tensor:
        """Masks first .. last - 1: (N, 32, 32) bool, False throughout where there is none.

        Raises:
            DataError: as `pixels`, or values other than 0 and 255.
        """
        rows = range(len(self))[first:last]
        found = torch.zeros((len(rows), SIDE, SIDE), dtype=torch.bool)
        for place, row in enumerate(rows):
            mask = self.mask(row)
            if mask is not None:
                found[place] = torch.from_numpy(mask)
        return found

    def label(self, row: int) -> int:
        """One class index."""
        return int(self.table["label"].to_numpy(np.int64)[row])

    def image(self, row: int) -> NDArray[np.uint8]:
        """One image: (32, 32, 3) uint8.

        Raises:
            DataError: as `pixels`.
        """
        return decode(self.encoded[row], "RGB", f"{self.path}: row {row}: image")

    def sha256(self, row: int) -> str:
        """SHA-256 of an image's pixels, uint8 in the order (channel, row, column).

        Raises:
            DataError: as `pixels`.
        """
        return hashlib.sha256(self.image(row).transpose(2, 0, 1).tobytes()).hexdigest()

    def mask(self, row: int) -> NDArray[np.bool_] | None:
        """One mask: (32, 32) bool; None where there is none.

        Raises:
            DataError: as `masks`.
        """
        content, where = self.encoded_masks[row], f"{self.path}: row {row}: mask"
        return None if content is None else two_valued(decode(content, "L", where), where)

    @cached_property
    def has_fair_mask(self) -> Tensor:
        """(N,) bool: whether there is a mask, and it is not from a model's own saliency."""
        return torch.tensor([source not in ("", OWN_CAM) for source in self.table["mask_source"]], dtype=torch.bool)


def image_flags(rows: pd.DataFrame) -> tuple[str, ...]:
    """What speaks against the images that rows were measured on: "lossy-images", "own-cam-masks"; empty for others.

    Args:
        rows: of an evaluation; those of data/cifar have the columns lossy and mask_source.
    """
    lossy = "lossy" in rows and bool(rows["lossy"].any())
    circular = "mask_source" in rows and bool((rows["mask_source"] == OWN_CAM).any())
    return (*(["lossy-images"] if lossy else []), *([f"{OWN_CAM}-masks"] if circular else []))


def split_file(project: Project, split: str) -> Path:
    """Path of a split that exists.

    Raises:
        DataError: it does not; says how to get the data.
    """
    return project.need_data(project.data / "cifar" / f"{split}.parquet")


def read_split(path: Path, classes: int) -> CifarSplit:
    """Read a split, checking columns, labels and indices; images are decoded when they are asked for.

    Args:
        path: of the parquet file.
        classes: how many there are.

    Raises:
        DataError: unreadable, of another schema, no rows, or a value that cannot be; names the file and the row.
    """
    table = _table(path)
    frame = table.drop_columns(["image", "mask"]).to_pandas()
    for column in COLUMNS.names:
        nulls = table[column].null_count
        if nulls and column not in OPTIONAL:
            raise DataError(f"{path}: column {column} has {nulls} nulls, expected none: {MEND}")
    _check(frame["label"].between(0, classes - 1), frame["label"], "label", f"0 .. {classes - 1}", path)
    _check(~frame["index"].duplicated() & (frame["index"] >= 0), frame["index"], "index", "distinct, from 0", path)
    known = frame["mask_source"].isna() | frame["mask_source"].isin(MASK_SOURCES)
    _check(known, frame["mask_source"], "mask_source", f"one of {', '.join(MASK_SOURCES)}", path)
    masks = table["mask"].to_pylist()
    paired = frame["mask_source"].isna() == pd.Series([mask is None for mask in masks])
    _check(paired, frame["mask_source"], "mask_source", "null exactly where mask is", path)
    drawn = frame["cue"].isna() | frame["cue"].between(0, classes - 1)
    _check(drawn, frame["cue"], "cue", f"null or 0 .. {classes - 1}", path)
    plain = frame.assign(cue=frame["cue"].fillna(-1).astype("int64"), mask_source=frame["mask_source"].fillna(""))
    return CifarSplit(path, plain, table["image"].to_pylist(), masks)


def _table(path: Path) -> pa.Table:
    content = b""
    try:
        content = read_bytes(path, DataError)
        table = pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException) as error:
        known = lookalike(content) if content or not isinstance(error, FileNotFoundError) else ""
        raise DataError(f"{path}: {known or f'cannot be read ({quoted(error)}): {MEND}'}") from None
    if not table.schema.remove_metadata().equals(COLUMNS):
        got = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        wanted = ", ".join(f"{field.name} {field.type}" for field in COLUMNS)
        raise DataError(f"{path}: columns are {shown(got, 200)}, expected {wanted}: {MEND}")
    if not len(table):
        raise DataError(f"{path}: no rows in it: {MEND}")
    return table


def _check(good: "pd.Series[bool]", values: "pd.Series[int]", column: str, wanted: str, path: Path) -> None:
    bad = (~good).to_numpy().nonzero()[0]
    if len(bad):
        row = int(bad[0])
        raise DataError(f"{path}: row {row}: {column} is {values.iloc[row]}, expected {wanted}: {MEND}")


def write_split(path: Path, images: Iterable[CifarImage]) -> None:
    """Write a parquet file; the same images, the same bytes (with one version of the libraries)."""
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS.names}
    for one in images:
        columns["image"].append(png(one.pixels))
        columns["mask"].append(None if one.mask is None else png(one.mask.astype(np.uint8) * np.uint8(255)))
        for name in ("index", "label", "mask_source", "lossy", "cue"):
            columns[name].append(getattr(one, name))
    pq.write_table(pa.table(columns, schema=COLUMNS), path, compression="none")  # PNG is packed already


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) or (H, W) uint8 without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def decode(content: bytes, mode: str, where: str) -> NDArray[np.uint8]:
    """Decode PNG bytes of one image or mask.

    Args:
        content: PNG.
        mode: "RGB" or "L".
        where: what an error begins with.

    Returns:
        (32, 32, 3) or (32, 32) uint8.

    Raises:
        DataError: not PNG, or of another size or mode.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        image.load()
    except UnidentifiedImageError:
        raise DataError(f"{where} is no PNG: {MEND}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} cannot be decoded ({quoted(error)}): {MEND}") from None
    return checked(image, mode, where)


def checked(image: Image.Image, mode: str, where: str) -> NDArray[np.uint8]:
    """Pixels of an image that has the wanted mode and 32 x 32 pixels.

    Raises:
        DataError: it has not.
    """
    if image.mode != mode or image.size != (SIDE, SIDE):
        got = f"{image.mode} of {image.width}x{image.height}"
        raise DataError(f"{where} is {got}, expected {mode} of {SIDE}x{SIDE}: convert it")
    return np.asarray(image)


def two_valued(mask: NDArray[np.uint8], where: str) -> NDArray[np.bool_]:
    """Where a mask is 255.

    Raises:
        DataError: it has values other than 0 and 255.
    """
    others = np.setdiff1d(mask, (0, 255))
    if len(others):
        raise DataError(f"{where} has the value {others[0]}, expected 0 and 255 only: write it so")
    marked: NDArray[np.bool_] = mask == 255
    return marked
