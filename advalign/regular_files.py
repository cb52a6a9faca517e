"""Opening files from outside. Pipes, devices, sockets and folders are refused at once: reading them may never end."""

import codecs
import os
import stat
from io import BufferedReader
from pathlib import Path

from advalign.errors import InputError

ZLIB = "zlib data: write it again without compression"
BINARY = {
    b"\x1f\x8b": "gzip data: unpack it (gzip -dc FILE > NEW)",
    b"BZh": "bzip2 data: unpack it (bzip2 -dc FILE > NEW)",
    b"\xfd7zXZ": "xz data: unpack it (xz -dc FILE > NEW)",
    b"\x28\xb5\x2f\xfd": "zstd data: unpack it (zstd -dc FILE > NEW)",
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"\x78\x01": ZLIB,
    b"\x78\x5e": ZLIB,
    b"\x78\x9c": ZLIB,
    b"\x78\xda": ZLIB,
    b"\x89HDF": "HDF5 data: convert it",
    b"RIFF": "a WebP image or other RIFF data: convert it",
    b"GIF8": "a GIF image: convert it",
    b"\xff\xfe": "UTF-16 text: save it in UTF-8",
    b"\xfe\xff": "UTF-16 text: save it in UTF-8",
}
TEXT = {
    b"version http": "a Git LFS pointer, not the file itself: fetch the file with `git lfs pull`",
    b"outs:": "a pointer of DVC, not the file itself: fetch the file with `dvc pull`",
    b"<": "a web page, not the file itself: its address asks for a login or has moved, fetch the file again",
}
"""First bytes of what stands in another file's place -> what it is and what to do."""
PRINTED = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))
LOOKED_AT = 12  # bytes; the header of a TFRecord has as many
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(path: Path, error: type[InputError] = InputError) -> None:
    """Refuse what is no regular file, before a library opens it.

    Args:
        path: of the file; a link counts as what it leads to.
        error: what to raise; `DataError` for a file of data.

    Raises:
        OSError: there is nothing at the path, or a link leads nowhere or in a circle.
        InputError: a folder, a named pipe, a socket or a device.
    """
    _check(path, path.stat(), error)


def open_file(path: Path, error: type[InputError] = InputError) -> BufferedReader:
    """Open a regular file for reading its bytes. It never waits: not for a writer of a pipe, nor for a device.

    Args, Raises: as `refuse_special`; OSError also where the file may not be read.
    """
    refuse_special(path, error)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(descriptor), error)  # it may have been exchanged since
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def lookalike(content: bytes | str) -> str:
    r"""What a file that could not be read looks like by how it begins, and what to do, for the message.

    Args:
        content: the beginning of the file, or all of it; 12 bytes are enough. A string is of a format of text, so that
            text alone is no sign of another file.

    Returns:
        Nothing where the bytes are of no known kind: then they are damaged, or belong to the wanted format.

    >>> lookalike(b"\x1f\x8b\x08\x00")
    'looks like gzip data: unpack it (gzip -dc FILE > NEW)'
    >>> lookalike(b"")
    'is empty: the download or the copy was cut off, fetch the file again'
    """
    start = content[:LOOKED_AT].encode(errors="replace") if isinstance(content, str) else content[:LOOKED_AT]
    if not start:
        return "is empty: the download or the copy was cut off, fetch the file again"
    known = next((said for first, said in BINARY.items() if start.startswith(first)), "")
    begin = start.removeprefix(codecs.BOM_UTF8).strip()
    if not known and len(begin) > 2 and PRINTED.issuperset(begin):
        other = f"text ({begin.decode()!a} ...): perhaps a server's error in place of the file, fetch it again"
        known = next((said for first, said in TEXT.items() if begin.startswith(first)), other)
        known = "" if known is other and isinstance(content, str) else known
    return f"looks like {known}" if known else ""


def look_at(path: Path, error: type[InputError] = InputError) -> str:
    """What a file that could not be read looks like (`lookalike`); nothing for ZIP, which is how torch.save writes.

    Args, Raises: as `open_file`.
    """
    with open_file(path, error) as file:
        start = file.read(LOOKED_AT)
    return "" if start.startswith(b"PK") else lookalike(start)


def read_bytes(path: Path, error: type[InputError] = InputError) -> bytes:
    """Read a regular file whole.

    Args, Raises: as `open_file`.
    """
    with open_file(path, error) as file:
        return file.read()


def read_text(
    path: Path, error: type[InputError] = InputError, *, largest: int, source: str = "", encoding: str = "utf-8"
) -> str:
    """Read a text file whole.

    Args:
        path, error: as `refuse_special`.
        largest: most bytes that it may have.
        source: what messages call it; default: its path.
        encoding: utf-8, or utf-8-sig, which leaves out a byte order mark.

    Raises:
        OSError: it cannot be opened or read: callers say what it is for.
        UnicodeDecodeError: not UTF-8: callers say what was expected.
        InputError: no regular file, or larger than that.
    """
    with open_file(path, error) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise error(
            f"{source or path} has more than {largest >> 20} MiB, the limit of such a file: shorten or split it"
        )
    return content.decode(encoding)


def _check(path: Path, found: os.stat_result, error: type[InputError]) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise error(f"{path} is {kind}, expected a regular file: name one, or remove it")
