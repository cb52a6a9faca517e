"""Pickled dictionaries of numbers and names in .npy files, read without running anything that a pickle may name."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from advalign.data.imports.responses._plan import need_file
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import LOOKED_AT, lookalike, read_bytes

LARGEST = 1 << 20  # bytes; a mapping has a few hundred


class _Objects:
    """Stand-in for numpy.ndarray: an array of objects, of which the list is kept."""

    def __setstate__(self, state: Any) -> None:
        _, _, _, _, content = state
        if not isinstance(content, list):
            raise ValueError("an array holds no objects")
        self.content = content


class _Kind:
    """Stand-in for numpy.dtype."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Of objects, nothing that matters."""


def _reconstruct(*_: object) -> _Objects:
    return _Objects()


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Objects,
    ("numpy", "dtype"): _Kind,
}


class _Refused(Exception):  # noqa: N818  becomes a DataError
    """The pickle names something else."""


class _Reader(pickle._Unpickler):  # in Python: a damaged index into its memo takes no memory, as in C it does
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("an object outside of the file")


def read_mapping(path: Path, what: str) -> dict[int, str]:
    """Read `numpy.save(path, {0: "Unknown", 1: "V1v", ...})`.

    Raises:
        DataError: not such a file, damaged, or it names code.
    """
    need_file(path, what)
    content = read_bytes(path, DataError)[: LARGEST + 1]
    if len(content) > LARGEST:
        raise DataError(f"{path} has more than {LARGEST >> 20} MiB, {what} a few hundred bytes: name another file")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        found = _Reader(file, encoding="latin1").load() if kind.hasobject and shape == () else None
    except _Refused as refused:
        raise DataError(
            f"{path} names {shown(str(refused))}, which {what} does not need: it may run code when read, and is refused"
        ) from None
    except Exception as error:  # noqa: BLE001  a damaged pickle raises anything
        known = lookalike(content[:LOOKED_AT]) or f"is damaged ({quoted(error, named=True)}): fetch it again"
        raise DataError(f"{path} {known}") from None
    mapping = found.content[0] if isinstance(found, _Objects) and len(found.content) == 1 else None
    if not isinstance(mapping, dict) or not all(type(k) is int and type(v) is str for k, v in mapping.items()):
        raise DataError(f"{path} holds no dictionary of numbers and names, expected {what}: name another file")
    return mapping
