"""Strict reader of CSV: a row that is shorter or longer than the header is an error, never filled up or cut.

`read_csv` and `parse_csv` read the tables that this package writes, `read_sheet` and `parse_sheet` those that people
and their spreadsheets save.
"""

import csv
import io
import math
import re
from pathlib import Path

from advalign.errors import InputError, shown
from advalign.regular_files import lookalike, read_text

LARGEST = 128 << 20  # bytes of a file
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands in the place of commas in tables of others -> its name."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_csv(path: Path, error: type[InputError] = InputError) -> list[tuple[int, list[str]]]:
    """Read a CSV file (UTF-8, comma separated), as `parse_csv`.

    Raises:
        OSError: the file cannot be opened: callers say what it is for.
        InputError: no regular file, not UTF-8, or as `parse_csv`.
    """
    return parse_csv(_text(path, error), str(path), error)


def read_sheet(path: Path, error: type[InputError] = InputError) -> list[tuple[int, list[str]]]:
    """Read a table from outside (UTF-8, comma separated), as `parse_sheet`.

    Raises:
        OSError, InputError: as `read_csv` and `parse_sheet`.
    """
    return parse_sheet(_text(path, error), str(path), error)


def _text(path: Path, error: type[InputError]) -> str:
    try:
        return read_text(path, error, largest=LARGEST, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from None


def parse_sheet(text: str, source: str, error: type[InputError] = InputError) -> list[tuple[int, list[str]]]:
    r"""Split a table from outside into rows of equal length, header first.

    Names of columns lose the spaces around them. Columns at the right without a name and without a value, which
    spreadsheets leave there, are left out.

    Args, Returns: as `parse_csv`.

    >>> parse_sheet('"image", wnid,,\na,n1,, \n', "a.csv")
    [(1, ['image', 'wnid']), (2, ['a', 'n1'])]

    Raises:
        InputError: as `parse_csv`, or the text is no table at all (a web page, a pointer of Git LFS).
    """
    if text and lookalike(text):
        raise error(f"{source} {lookalike(text)}")
    (line, header), *rows = parse_csv(text, source, error) or [(1, [])]
    header = [name.strip() for name in header]
    width = max((_filled(row) for row in (header, *(row for _, row in rows))), default=0)
    return [(line, header[:width]), *((line, row[:width]) for line, row in rows)] if header else []


def _filled(row: list[str]) -> int:
    """The number of cells up to the last one that is not blank."""
    return max((number for number, cell in enumerate(row, start=1) if cell.strip()), default=0)


def parse_csv(text: str, source: str, error: type[InputError] = InputError) -> list[tuple[int, list[str]]]:
    r"""Split CSV into rows of equal length; blank lines are left out.

    Args:
        text: CSV, its header in the first row.
        source: where it comes from, for the message.
        error: what to raise.

    Returns:
        (number of the line that the row ends in, cells) of every row, the header first.

    >>> parse_csv('image,wnid\n\n"a, b",n1\n', "a.csv")
    [(1, ['image', 'wnid']), (3, ['a, b', 'n1'])]
    >>> parse_csv("image,wnid\na\n", "a.csv")
    Traceback (most recent call last):
    advalign.errors.InputError: a.csv: line 2: 1 cells, the header has 2: fix that line

    Raises:
        InputError: a row of another length than the header, a NUL character, a quote that does not end, or a cell of
            more than 131072 characters; the message names the line.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.find("\0")) + 1
        raise error(f"{source}: line {line}: a NUL character, which no text has: save it as CSV in UTF-8 again")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if cells and rows and len(cells) != len(rows[0][1]):
                counts = f"{len(cells)} cells, the header has {len(rows[0][1])}"
                raise error(f"{source}: line {reader.line_num}: {counts}: fix that line")
            rows += [(reader.line_num, cells)] if cells else []
    except csv.Error as found:
        raise error(f"{source}: line {reader.line_num} is no row of a CSV table ({found}): fix that line") from None
    return rows


def parse_number(text: str) -> float:
    """Read a finite number in digits, with a decimal point and an exponent where it has them.

    Python reads more: `1_5` is 15 to it, and a typo of 1.5 to whoever wrote it.

    >>> parse_number(" -1.5e3 ")
    -1500.0
    >>> parse_number("1_5")
    Traceback (most recent call last):
    ValueError: '1_5' is no finite number

    Raises:
        ValueError: anything else: underscores, digits of another script, nan, or a number too large for a float.
    """
    number = float(text) if _NUMBER.fullmatch(text.strip()) else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number
