"""The classes of a data set: index -> wnid, name, superclass, animate. Grouping is data, never a constant in code."""

import json
from dataclasses import dataclass
from pathlib import Path

from advalign.errors import DataError, shown
from advalign.files import write_text
from advalign.strict_files import line_of_entry, read_yaml

DECISIONS = ("inanimate", "animate")  # the two outputs of the attacked decision, by index


@dataclass(frozen=True)
class ClassInfo:
    """One class."""

    index: int
    wnid: str
    name: str
    superclass: str | None  # None: the class is in no superclass of the stimulus set
    animate: bool


@dataclass(frozen=True)
class Classes:
    """All classes, by index 0 .. n - 1."""

    entries: tuple[ClassInfo, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> ClassInfo:
        return self.entries[index]

    @property
    def decision_of_class(self) -> list[int]:
        """Index into `DECISIONS` of every class."""
        return [int(entry.animate) for entry in self.entries]

    def index_of_wnid(self) -> dict[str, int]:
        """Class index by wnid."""
        return {entry.wnid: entry.index for entry in self.entries}


def _boolean(value: object) -> bool:
    """Only true and false: a quoted "false" would count as true and flip the attacked decision."""
    if not isinstance(value, bool):
        raise ValueError(f"animate must be true or false, got {shown(value)}")
    return value


def read_classes(path: Path) -> Classes:
    """Read classes.yaml: a mapping of class index to {wnid, name, superclass, animate}.

    The types of values were checked where the file came from (`checked_classes`).

    Raises:
        DataError: missing, malformed, a repeated index or key, indices not 0 .. n - 1, or a wnid of two classes.
    """
    try:
        table = read_yaml(path, DataError)
        entries = tuple(
            ClassInfo(int(index), str(row["wnid"]), str(row["name"]), row.get("superclass"), _boolean(row["animate"]))
            for index, row in sorted(table.items())
        )
    except OSError:
        raise DataError(f"{path} is missing: get the data with `dvc pull data.dvc`") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a table of classes (index: wnid, name, superclass, animate): {' '.join(str(error).split())}"
        ) from None
    if [entry.index for entry in entries] != list(range(len(entries))):
        raise DataError(f"{path}: class indices must be 0 .. {len(entries) - 1} without gaps")
    wnids = [entry.wnid for entry in entries]
    twice = [wnid for wnid in wnids if wnids.count(wnid) > 1] if len(set(wnids)) < len(wnids) else []
    if twice:
        raise DataError(f"{path}: wnid {twice[0]} belongs to two classes: fix one of them")
    return Classes(entries)


def checked_classes(path: Path) -> Classes:
    """Read a table of classes that people write: as `read_classes`, and every value has the type that it is used as.

    YAML reads `no`, `1` and `[a, b]` as a boolean, a number and a list, none of which names a superclass, and an index
    in quotes as text.

    Raises:
        DataError: as `read_classes`, or a value of another type; the message names the line.
    """
    try:
        table = read_yaml(path, DataError)
    except OSError:
        table = None  # said below
    for number, (index, row) in enumerate(table.items() if isinstance(table, dict) else ()):
        wrong = _mistyped(index, row)
        if wrong:
            raise DataError(f"{path}: line {line_of_entry(path, number)}: {wrong}")
    return read_classes(path)


def _mistyped(index: object, row: object) -> str:
    """What is wrong with an entry, and what to write; nothing if its values have their types."""
    if type(index) is not int:
        return f"{shown(index)} is not a class index: write a whole number without quotes"
    if not isinstance(row, dict):
        return f"{shown(row)} is not a class: write {{wnid: ..., name: ..., superclass: ..., animate: ...}}"
    unknown = row.keys() - {"wnid", "name", "superclass", "animate"}
    if unknown:
        return f"{shown(min(unknown, key=str))} is unknown: write wnid, name, superclass and animate"
    for key in ("wnid", "name", "superclass"):
        value = row.get(key)
        if not (isinstance(value, str) and value.strip()) and (value is not None or key != "superclass"):
            rest = " (null where there is none)" if key == "superclass" else ""
            return f"{key} is {shown(value)}: write text, in quotes where YAML reads something else{rest}"
    animate = row.get("animate")
    return "" if isinstance(animate, bool) else f"animate is {shown(animate)}: write true or false"


def write_classes(path: Path, classes: Classes) -> None:
    """Write classes.yaml, one line per class."""
    lines = [
        f"{entry.index}: {{wnid: {entry.wnid}, name: {json.dumps(entry.name)}, "  # YAML reads JSON's strings
        f"superclass: {json.dumps(entry.superclass)}, animate: {json.dumps(entry.animate)}}}\n"
        for entry in classes.entries
    ]
    write_text(path, "".join(lines))
