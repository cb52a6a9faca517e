"""Strict reader of CSV: a row that is shorter or longer than the header is an error, never filled up or cut."""

import csv
import io
from pathlib import Path

from advalign.errors import InputError
from advalign.regular_files import read_text

LARGEST = 128 << 20  # bytes of a file


def read_csv(path: Path, error: type[InputError] = InputError) -> list[tuple[int, list[str]]]:
    """Read a CSV file (UTF-8, comma separated), as `parse_csv`.

    Raises:
        OSError: the file cannot be opened: callers say what it is for.
        InputError: no regular file, not UTF-8, or as `parse_csv`.
    """
    try:
        text = read_text(path, error, largest=LARGEST, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from None
    return parse_csv(text, str(path), error)


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
