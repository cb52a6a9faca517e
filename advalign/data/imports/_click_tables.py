"""Clicks in tables, CSV and parquet, read in bounded memory."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advalign.data.imports._click_text import EXAMPLE, parse_clicks
from advalign.data.imports._trials import PER_CLICK, WANTED, Rows, Trials, columns_of
from advalign.errors import DataError, quoted, shown
from advalign.regular_files import lookalike, open_file
from advalign.strict_csv import SEPARATORS

BLOCK = 4 << 20  # bytes of a CSV file that are read at once: no row is longer
LONGEST_HEADER = 1 << 16  # bytes
LOOKED_AT = 1024  # bytes of a file that is no text
PARQUET_ROWS = 8192  # that are read at once
BINARY = "is binary data: name a CSV file, or one that ends in .parquet or .npz and is that"
_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\v\f\r")  # bytes that no text in any encoding of one byte has


def read_csv_trials(file: Path) -> Iterator[Trials]:
    """Read a CSV table with a header: UTF-8, separated by commas, further columns are ignored.

    Raises:
        DataError: not such a table, or a broken row; names the row.
    """
    columns = columns_of(_header(file), file)
    first, broken = 1, list[pv.InvalidRow]()
    size = max(file.stat().st_size, 1)

    def note(row: pv.InvalidRow) -> str:
        broken.append(row)
        return "error"

    with open_file(file, DataError) as source:
        try:
            reader = pv.open_csv(
                source,
                read_options=pv.ReadOptions(use_threads=False, block_size=BLOCK),
                parse_options=pv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                convert_options=pv.ConvertOptions(
                    column_types=dict.fromkeys(columns.values(), pa.binary()),
                    include_columns=list(columns.values()),
                    null_values=[],
                ),
            )
            for number, batch in enumerate(reader, start=1):
                yield _trials(batch, columns, Rows(file, first), min(number * BLOCK / size, 0.99))
                first += batch.num_rows
        except pa.ArrowInvalid as error:
            raise DataError(_told(file, first, broken, error)) from None


def _told(file: Path, first: int, broken: list[pv.InvalidRow], error: pa.ArrowInvalid) -> str:
    if broken:
        row = broken[0]
        number = f"row {row.number - 1} (without the header)" if row.number else f"a row after {first - 1}"
        said = f"has {row.actual_columns} values, the header {row.expected_columns} ({shown(row.text, 80)})"
        return f"{file}: {number} {said}: fix that row (text with commas stands in double quotes), or remove it"
    if "straddling" in str(error):
        what = f"a row after row {first - 1} is longer than {BLOCK >> 20} MiB: perhaps a quote is not closed"
        return f"{file}: {what}: fix that row, or remove it"
    return f"{file}: cannot be read as CSV after row {first - 1} ({quoted(error)}): fix that row, or save it again"


def _header(file: Path) -> list[str]:
    """Names of the columns in the first line.

    Raises:
        DataError: it cannot be the header of such a table.
    """
    with open_file(file, DataError) as source:
        line = source.readline(LONGEST_HEADER)
        source.seek(0)
        start = source.read(LOOKED_AT)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        binary = not _NO_TEXT.isdisjoint(start)
        known = lookalike(line) or (BINARY if binary else "is not UTF-8 text: save it as CSV in UTF-8")
        raise DataError(f"{file} {known}") from None
    if not line or (known := lookalike(text)):
        raise DataError(f"{file} {lookalike(line) if not line else known}")
    if "\0" in text:
        raise DataError(f"{file} {BINARY}")
    if "\r" in text:
        raise DataError(f"{file}: its lines end in carriage returns alone: save it as CSV with other line ends")
    names = next(csv.reader([text]), [])
    if len(names) == 1:
        for separator, word in SEPARATORS.items():
            if separator in text:
                fix = "save it with commas, clicks in double quotes"
                raise DataError(f"{file}: columns are separated by {word}, expected commas: {fix}")
    if any(ord(character) < 32 for character in text):
        raise DataError(f"{file}: the header has control characters ({shown(text)}): expected {WANTED}")
    return names


def read_parquet_trials(file: Path) -> Iterator[Trials]:
    """Read a parquet table whose clicks are text, or lists of x and of y.

    Raises:
        DataError: not such a table, or a broken row; names the row.
    """
    with open_file(file, DataError) as source:
        try:
            table = pq.ParquetFile(source)
            columns = columns_of(table.schema_arrow.names, file)
            first, rows = 1, max(table.metadata.num_rows, 1)
            for batch in table.iter_batches(PARQUET_ROWS, columns=list(columns.values())):
                yield _trials(batch, columns, Rows(file, first), (first - 1 + batch.num_rows) / rows)
                first += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OSError) as error:
            with open_file(file, DataError) as again:
                known = lookalike(again.read(12))
            known = "" if "PAR1" in known else known
            damage = f"cannot be read as parquet ({quoted(error)}): fetch it again, or save it again"
            raise DataError(f"{file} {known or damage}") from None


def _trials(batch: pa.RecordBatch, columns: dict[str, str], rows: Rows, share: float) -> Trials:
    def column(what: str) -> pa.Array:
        return batch.column(batch.schema.get_field_index(columns[what]))

    images = rows.names(column("image"), columns["image"])
    participants = rows.names(column("participant"), columns["participant"])
    if "clicks" in columns:
        kind = column("clicks").type
        if not (pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(f"{rows.file}: clicks is a column of {kind}, expected text, or columns x and y of lists")
        x, y, lengths = parse_clicks(column("clicks"), rows)
    else:
        (x, lengths), (y, others) = (_lists(column(axis), columns[axis], rows) for axis in "xy")
        check_pairs(lengths, others, columns, rows)
    return make_trials(
        rows,
        images,
        participants,
        (x, y, lengths),
        column("catch").to_pylist() if "catch" in columns else None,
        column("mobile").to_pylist() if "mobile" in columns else None,
        columns,
        share,
    )


def make_trials(
    rows: Rows,
    images: pa.StringArray,
    participants: pa.StringArray,
    clicks: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
    catch: list[Any] | None,
    mobile: list[Any] | None,
    columns: dict[str, str],
    share: float,
) -> Trials:
    """Check the values of some rows.

    Args:
        rows: which; their errors name them.
        images, participants: N names.
        clicks: (C,) x, (C,) y and (N,) clicks per trial.
        catch, mobile: N values as the source has them; None: the source does not say.
        columns: `columns_of` the source.
        share: of the source that is read.
    """
    x, y, lengths = clicks
    nothing = [None] * len(images)
    return Trials(
        first=rows.first,
        images=images,
        participants=participants,
        x=rows.coordinates("x", x, lengths),
        y=rows.coordinates("y", y, lengths),
        lengths=lengths,
        catch=rows.shares(nothing if catch is None else catch, columns.get("catch", "")),
        mobile=rows.booleans(nothing if mobile is None else mobile, columns.get("mobile", "")),
        share=share,
    )


def check_pairs(lengths: NDArray[np.int64], others: NDArray[np.int64], columns: dict[str, str], rows: Rows) -> None:
    """Refuse a trial that has not as many x as y."""
    names = f"{columns['x']} and {columns['y']}"
    rows.refuse_any(lengths != others, lambda index: f"{names} have {lengths[index]} and {others[index]} values")


def _lists(column: pa.Array, name: str, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values of a list column one after another, and how many each row has; a null list is empty."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not _is_numeric(kind.value_type):
        text = pa.types.is_binary(kind)  # of a CSV
        said = "text" if text else str(kind)
        fix = f"save x and y in one column clicks, such as {EXAMPLE}" if text else "save it as lists"
        fix = PER_CLICK if _is_numeric(kind) or (text and _is_number(column)) else fix
        raise DataError(f"{rows.file}: {name} is a column of {said}, expected lists of numbers: {fix}")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = pc.list_flatten(column).cast(pa.float64(), safe=False)  # a null becomes NaN, which is refused
    return values.to_numpy(zero_copy_only=False), lengths


def _is_number(column: pa.Array) -> bool:
    """Whether the first value of a column of bytes is a number."""
    try:
        float(column[0].as_py())
    except (IndexError, ValueError):
        return False
    return True


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))
