"""Single image files: decoded as a check, converted on request, put into data/."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from advalign.data.imports._place import bring, linked, same_content, staged
from advalign.errors import DataError
from advalign.regular_files import lookalike, read_bytes

QUALITY = 95  # of converted images
_WANTED = "8-bit JPEG in RGB or grey"


@dataclass(frozen=True)
class Chunk:
    """Images that one call imports: (source, target) pairs, and the options of the import."""

    pairs: tuple[tuple[Path, Path], ...]
    convert: bool
    replace: bool
    link: bool

    def __str__(self) -> str:
        return f"{self.pairs[0][0]} .. {self.pairs[-1][0].name}"


@dataclass(frozen=True)
class Brought:
    """How many images a chunk has, and how many of them were converted, or were already imported."""

    images: int
    converted: int
    skipped: int


def bring_images(chunk: Chunk) -> Brought:
    """Decode and import every image; one that is already in place with the same bytes is skipped.

    Raises:
        DataError: an image cannot be used; names the file and the fix.
    """
    converted = skipped = 0
    for source, target in chunk.pairs:
        # not skipped where source and target are one file: no import has verified it
        there = target.exists() and source.resolve() != target.resolve() and same_content(source, target)
        if there and (chunk.link or not linked(source, target)):
            skipped += 1
            continue
        content = read_bytes(source, DataError)
        image = decode_image(content, source)
        flaw = _flaw(image)
        if flaw is None:
            bring(source, target, hashlib.sha256(content).hexdigest(), chunk.replace, chunk.link)
        elif chunk.convert:
            encoded = as_jpeg(image)
            with staged(target, chunk.replace) as path:
                path.write_bytes(encoded)
            converted += 1
        else:
            raise DataError(f"{source} is {flaw}, expected {_WANTED}: convert it, or give --convert")
    return Brought(len(chunk.pairs), converted, skipped)


def decode_image(content: bytes, path: Path) -> Image.Image:
    """Decode a JPEG or PNG file.

    Raises:
        DataError: it is neither, or damaged; names `path`.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        image.load()
    except UnidentifiedImageError:
        what = lookalike(content) or "is neither JPEG nor PNG; fetch it again"
        raise DataError(f"{path} cannot be decoded: it {what}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}): fetch it again") from None
    return image


def _flaw(image: Image.Image) -> str | None:
    """Why an image cannot be used unchanged, if so (MPO: a JPEG with further pictures behind it)."""
    if image.format not in ("JPEG", "MPO"):
        return f"a {image.format} ({image.mode})"
    return None if image.mode in ("RGB", "L") else image.mode


def as_jpeg(image: Image.Image) -> bytes:
    """Encode as a JPEG in RGB, colours at full resolution; transparency is dropped, 16 bits become their upper 8."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
