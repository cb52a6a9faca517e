"""Pickled dictionaries of numbers and names in .npy files, read without running anything that a pickle may name."""

import io
from pathlib import Path

import numpy as np

from advalign.data.imports._pickles import Array, Refused, read_pickle
from advalign.data.imports.responses._plan import need_file
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import LOOKED_AT, lookalike, read_bytes

LARGEST = 1 << 20  # bytes; a mapping has a few hundred


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
        found = read_pickle(file) if kind.hasobject and shape == () else None
    except Refused as refused:
        raise DataError(
            f"{path} names {shown(str(refused))}, which {what} does not need: it may run code when read, and is refused"
        ) from None
    except Exception as error:  # noqa: BLE001  a damaged pickle raises anything
        known = lookalike(content[:LOOKED_AT]) or f"is damaged ({quoted(error, named=True)}): fetch it again"
        raise DataError(f"{path} {known}") from None
    mapping = found.values[0] if isinstance(found, Array) and len(found.values) == 1 else None
    if not isinstance(mapping, dict) or not all(type(k) is int and type(v) is str for k, v in mapping.items()):
        raise DataError(f"{path} holds no dictionary of numbers and names, expected {what}: name another file")
    return mapping
