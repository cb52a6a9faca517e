"""data/clickme/imported.csv: which shard came from which source, so that an interrupted import resumes."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from advalign.errors import DataError
from advalign.files import write_text
from advalign.strict_csv import read_csv


@dataclass(frozen=True)
class LedgerRow:
    """One imported shard."""

    file: str  # in data/clickme
    source: str  # name of the file it came from, or folder and members
    source_sha256: str
    schema: str
    records: int


COLUMNS = [field.name for field in fields(LedgerRow)]


def read_ledger(path: Path) -> dict[str, LedgerRow]:
    """Read the ledger: file -> row; empty if there is none yet.

    Raises:
        DataError: not a ledger.
    """
    if not path.exists():
        return {}
    try:
        (_, header), *lines = read_csv(path, DataError) or [(1, [])]
        if header != COLUMNS:
            raise ValueError(f"columns must be {', '.join(COLUMNS)}")
        rows = [LedgerRow(file, name, digest, schema, int(count)) for _, (file, name, digest, schema, count) in lines]
    except (ValueError, DataError) as error:
        raise DataError(
            f"{path}: not a ledger of imports ({error}): remove it, every shard is then verified again"
        ) from None
    return {row.file: row for row in rows}


def write_ledger(path: Path, rows: Iterable[LedgerRow]) -> None:
    """Write the ledger sorted by file, so that the same imports in any order give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in sorted(rows, key=lambda row: row.file))
    write_text(path, text.getvalue())
