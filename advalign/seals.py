"""Files that hold a SHA-256 of themselves: a changed, truncated or empty file is noticed when it is read.

A seal is a text in the file, of 64 hexadecimal digits after a mark. It is the SHA-256 of all bytes of the file, with
zeros in place of its own digits. So one rule fits every format that can keep a text of ours: a key in JSON and in a
saved state of PyTorch, metadata in Parquet and safetensors, an attribute in HDF5. Other software reads such files as
before; only a tool that tests a saved state as a zip archive finds that the seal was written after the archive's own
checksum.

A seal finds accidents, and edits by hand; who wants to deceive can write a new seal.
"""

import hashlib
import json
import mmap
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from advalign.errors import DataError
from advalign.files import replacing
from advalign.progress import say
from advalign.strict_files import parse_json

KEY = "seal"
MARK = "advalign:sha256:"
OPEN = MARK + "0" * 64
"""What a writer puts under `KEY`; `sealing` then fills in the digits."""
_SEAL = re.compile(re.escape(MARK).encode() + rb"[0-9a-f]{64}")
_AT_ONCE = 2**24  # bytes
FRESH = 2 * 10**9  # nanoseconds; a file that changed so recently may change again without a new time


class Damaged(DataError):  # noqa: N818  a state of a file, not a fault of this program
    """A file is not as it was written."""


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; then seal what was written there, and move it over `path`.

    The block writes a file that contains `OPEN` once.
    """
    with replacing(path) as temporary:
        yield temporary
        seal(temporary)


def seal(path: Path) -> None:
    """Seal a file where it lies; it contains `OPEN` once."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = _place(content)
        assert place is not None and content[slice(*place)] == OPEN.encode(), f"{path} was written without a seal"
        content[slice(*place)] = _seal(content, place)


def is_whole(path: Path) -> bool:
    """Whether a file has a seal, and its bytes are those that were sealed.

    Raises:
        OSError: it cannot be read; FileNotFoundError where there is none.
    """
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = _place(content)
        return place is not None and content[slice(*place)] == _seal(content, place)


def need_whole(path: Path, mend: str) -> Path:
    """Return a path whose file is whole.

    Args:
        path: of a sealed file.
        mend: what to do where it is damaged, for the message.

    Raises:
        Damaged: it is not.
        OSError: as `is_whole`.
    """
    if not is_whole(path):
        raise Damaged(f"{path} is damaged, was edited, or is of an earlier advalign (its seal does not hold): {mend}")
    return path


def need_whole_once(path: Path, mend: str) -> None:
    """As `need_whole`, for large files: a process reads one again only where it changed since it was found whole.

    Raises:
        Damaged, OSError: as `need_whole`.
    """
    found = path.stat()
    if time.time_ns() - found.st_ctime_ns < FRESH:
        need_whole(path, mend)
    else:
        _need_whole(path, mend, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@cache
def _need_whole(path: Path, mend: str, *state: int) -> None:
    need_whole(path, mend)


def say_damaged(path: Path, consequence: str) -> None:
    """Say on standard error, once for each state of the file, that it is damaged and what follows from it."""
    _say(path, path.stat().st_mtime_ns, consequence)


@cache
def _say(path: Path, changed: int, consequence: str) -> None:
    say(f"{path} is damaged, was edited, or is of an earlier advalign: {consequence}")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a sealed JSON file."""
    with sealing(path) as temporary:
        temporary.write_text(json.dumps({**values, KEY: OPEN}, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Read a sealed JSON file, without its seal.

    Raises:
        Damaged: it is not whole.
        OSError: it cannot be read.
    """
    need_whole(path, mend)
    values: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"), str(path), DataError)
    del values[KEY]
    return values


def _place(content: mmap.mmap) -> tuple[int, int] | None:
    """Where the only seal stands; None where there is none, or more than one."""
    found = [match.span() for match in _SEAL.finditer(content)]
    return found[0] if len(found) == 1 else None


def _seal(content: mmap.mmap, place: tuple[int, int]) -> bytes:
    """The seal that the content should have at a place."""
    first, last = place
    hashed = hashlib.sha256()
    with memoryview(content) as view:
        for begin in range(0, first, _AT_ONCE):
            hashed.update(view[begin : min(begin + _AT_ONCE, first)])
        hashed.update(OPEN.encode())
        for begin in range(last, len(view), _AT_ONCE):
            hashed.update(view[begin : begin + _AT_ONCE])
    return MARK.encode() + hashed.hexdigest().encode()
