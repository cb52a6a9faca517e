"""MATLAB files of version 5, arrays of numbers only, read in Python: a damaged file is an error, never a crash.

The format is MathWorks' "MAT-File Format", Level 5: elements with a tag (type, bytes), padded to 8 bytes. An array is
an element of elements (flags, dimensions, name, values); it may be packed by zlib.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.errors import DataError
from advalign.regular_files import look_at, read_bytes

HEADER = 128  # bytes
LARGEST = 1 << 30  # bytes of an unpacked array
KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element -> numpy's; how values are kept, which may be narrower than what they are."""
MATRIX, PACKED = 14, 15
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Class of an array -> numpy's type; other classes are cells, structures, texts, sparse arrays and objects."""
COMPLEX = 0x0800


@dataclass(frozen=True)
class Array:
    """An array of real numbers: its shape, and its values once they are asked for."""

    shape: tuple[int, ...]
    kind: str
    content: memoryview
    kept_as: str

    def values(self) -> NDArray[Any]:
        """The values, in MATLAB's order of axes."""
        return np.frombuffer(self.content, self.kept_as).astype(self.kind).reshape(self.shape, order="F")


def read_mat5(path: Path) -> dict[str, Array]:
    """The arrays of real numbers in a file, by name; others are passed over.

    Raises:
        DataError: no such file, or damaged.
    """
    content = memoryview(read_bytes(path, DataError))
    mark = bytes(content[126:128])
    if len(content) < HEADER or mark not in (b"IM", b"MI"):
        known = look_at(path, DataError) or "is no MATLAB file of version 5 or 7.3: save it again with -v7.3"
        raise DataError(f"{path} {known}")
    order = "<" if mark == b"IM" else ">"
    found = {}
    try:
        for kind, element in _elements(content[HEADER:], order):
            inner = [(kind, element)] if kind != PACKED else _elements(_unpacked(element), order)
            for one, body in inner:
                if one == MATRIX and (named := _matrix(body, order)) is not None:
                    found[named[0]] = named[1]
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError, zlib.error, MemoryError, StopIteration) as error:
        raise DataError(f"{path} is damaged, or was cut off ({error}): fetch it again") from None
    return found


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of each element."""
    place = 0
    while place + 8 <= len(content):
        first, second = np.frombuffer(content[place : place + 8], f"{order}u4").tolist()
        if first >> 16:  # small: the length is in the type's upper half, the bytes in the tag
            kind, size, start = first & 0xFFFF, first >> 16, place + 4
            after = place + 8
        else:
            kind, size, start = first, second, place + 8
            after = start + size if kind == PACKED else start + -(-size // 8) * 8
        if start + size > len(content) or (first >> 16 and size > 4):
            raise ValueError(f"an element has {size} bytes, {max(len(content) - start, 0)} are left")
        yield kind, content[start : start + size]
        place = after


def _unpacked(content: memoryview) -> memoryview:
    reader = zlib.decompressobj()
    found = reader.decompress(bytes(content), LARGEST)
    if not reader.eof:
        raise ValueError("a packed array is cut off, or has more than a GiB")
    return memoryview(found)


def _matrix(content: memoryview, order: str) -> tuple[str, Array] | None:
    """Name and array of an element; None where it holds something other than real numbers."""
    parts = _elements(content, order)
    flags = int(np.frombuffer(next(parts)[1], f"{order}u4")[0])
    if flags & 0xFF not in CLASSES or flags & COMPLEX:
        return None
    shape = tuple(np.frombuffer(next(parts)[1], f"{order}i4").tolist())
    name = bytes(next(parts)[1]).decode("ascii")
    kind, values = next(parts, (9, memoryview(b"")))
    if kind not in KINDS or min(shape, default=-1) < 0 or len(shape) > 32:
        raise ValueError(f"array {name!a} is of type {kind} and shape {shape}")
    kept_as = f"{order}{KINDS[kind]}"
    wanted = int(np.prod(shape, dtype=object)) * np.dtype(kept_as).itemsize
    if wanted != len(values):
        raise ValueError(f"array {name!a} has {len(values)} bytes, its shape {shape} needs {wanted}")
    return name, Array(shape, f"{order}{CLASSES[flags & 0xFF]}", values, kept_as)
