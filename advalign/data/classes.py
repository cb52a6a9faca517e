"""The classes of a data set: index -> wnid, name, superclass, animate. Grouping is data, never a constant in code."""

import json
from dataclasses import dataclass
from pathlib import Path

from advalign.errors import DataError, shown
from advalign.files import write_text
from advalign.strict_files import read_yaml

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


def write_classes(path: Path, classes: Classes) -> None:
    """Write classes.yaml, one line per class."""
    lines = [
        f"{entry.index}: {{wnid: {entry.wnid}, name: {json.dumps(entry.name)}, "  # YAML reads JSON's strings
        f"superclass: {json.dumps(entry.superclass)}, animate: {json.dumps(entry.animate)}}}\n"
        for entry in classes.entries
    ]
    write_text(path, "".join(lines))
