"""Clicks in NumPy archives: object arrays, which are pickles, read without running anything that they name."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advalign.data.imports._click_tables import check_pairs, make_trials
from advalign.data.imports._click_text import parse_clicks
from advalign.data.imports._pickles import DAMAGED, Array, Refused, is_number, read_pickle
from advalign.data.imports._trials import MEND, PER_CLICK, Rows, Trials, columns_of
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import lookalike, open_file

ROWS = 8192  # that are checked at once
LARGEST = 8 << 30  # bytes of an array
LONGEST_HEADER = 10_000  # bytes


def read_archive_trials(file: Path) -> Iterator[Trials]:
    """Read an archive of object arrays, one item per trial. An archive is held in memory whole.

    Raises:
        DataError: not such an archive, damaged, an array names code, or a broken row; names the array or row.
    """
    arrays = _arrays(file)
    columns = columns_of(list(arrays), file)
    counts = {name: len(arrays[name]) for name in columns.values()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"{file}: its arrays have different lengths ({said}): save one item per trial in each")
    total = next(iter(counts.values()))
    for start in range(0, total, ROWS):
        part = {what: arrays[name][start : start + ROWS] for what, name in columns.items()}
        yield _trials(part, columns, Rows(file, start + 1), min((start + ROWS) / total, 1.0))


def _trials(part: dict[str, list[Any]], columns: dict[str, str], rows: Rows, share: float) -> Trials:
    images, participants = (
        rows.names(pa.array([_text(value) for value in part[what]], pa.string()), columns[what])
        for what in ("image", "participant")
    )
    if "clicks" in part:
        clicks = parse_clicks(pa.array([_text(value) for value in part["clicks"]], pa.string()), rows)
    else:
        (x, lengths), (y, others) = (_lists(part[axis], columns[axis], rows) for axis in "xy")
        check_pairs(lengths, others, columns, rows)
        clicks = x, y, lengths
    catch, mobile = ([_plain(value) for value in part[what]] if what in part else None for what in ("catch", "mobile"))
    return make_trials(rows, images, participants, clicks, catch, mobile, columns, share)


def _text(value: Any) -> str | None:
    """A name: text, or a whole number, or an array or list of one."""
    value = _plain(value)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str | int) else None


def _plain(value: Any) -> Any:
    """An array as a list."""
    if isinstance(value, Array):
        return value.values if isinstance(value.values, list) else np.atleast_1d(value.values).tolist()
    return value


def _lists(values: list[Any], name: str, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers of all trials one after another, and how many each has."""
    found, lengths = [], np.zeros(len(values), np.int64)
    for index, value in enumerate(values):
        numbers = value.values if isinstance(value, Array) else value
        if isinstance(numbers, list | tuple) and all(map(is_number, numbers)):
            numbers = np.array(numbers, np.float64)
        elif numbers is None:
            numbers = np.empty(0)
        if not isinstance(numbers, np.ndarray) or numbers.ndim > 1 or numbers.dtype.kind not in "iuf":
            fix = PER_CLICK if is_number(value) else MEND
            rows.refuse(index, f"{name} is {shown(_plain(value))}, expected a list of numbers", fix)
        numbers = np.atleast_1d(numbers).astype(np.float64)
        found.append(numbers)
        lengths[index] = len(numbers)
    return np.concatenate([np.empty(0), *found]), lengths


def _arrays(file: Path) -> dict[str, list[Any]]:
    """Arrays of the archive by name, as lists."""
    with open_file(file, DataError) as source:
        start = source.read(12)
        source.seek(0)
        try:
            with zipfile.ZipFile(source) as archive:
                members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
                columns = columns_of(list(members), file)
                return {name: _array(archive, members[name], file) for name in columns.values()}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            known = "" if start.startswith(b"PK") else lookalike(start)
            damage = f"is damaged, or no NumPy archive ({quoted(error)}): fetch it again"
            raise DataError(f"{file} {known or damage}") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path) -> list[Any]:
    where = f"{file}: {member.filename}"
    if member.file_size > LARGEST:
        raise DataError(f"{where} has {member.file_size >> 30} GiB: split the archive, or save a table as parquet")
    try:
        with archive.open(member) as source:
            return _items(source)
    except Refused as refused:
        raise DataError(
            f"{where} names {shown(str(refused))}, which no array of clicks needs: it may run code when read, and is "
            "refused: save it again as lists of numbers and text"
        ) from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{where} is damaged ({quoted(error)}): fetch it again") from None
    except DAMAGED as error:
        raise DataError(f"{where} is damaged, or no array of NumPy ({quoted(error)}): fetch it again") from None


def _items(source: IO[bytes]) -> list[Any]:
    """Items of the array in a .npy file."""
    version = np.lib.format.read_magic(source)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(source, max_header_size=LONGEST_HEADER)
    if len(shape) != 1:
        raise ValueError(f"it has {len(shape)} dimensions, expected one item per trial")
    if not kind.hasobject:
        content = source.read(shape[0] * kind.itemsize)
        return list(np.frombuffer(content, kind, shape[0]).tolist())
    if kind != np.dtype(object):
        raise ValueError(f"its items are {kind}")
    found = read_pickle(source)
    if not isinstance(found, Array) or not isinstance(found.values, list) or len(found.values) != shape[0]:
        raise ValueError("it is not an array of objects")
    return found.values
