"""Opening files from outside. Pipes, devices, sockets and folders are refused at once: reading them may never end."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from advalign.errors import InputError

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
