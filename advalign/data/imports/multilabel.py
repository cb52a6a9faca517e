"""Multi-label sets in the three released formats -> data/imagenet/multilabel.json."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from advalign.data.classes import Classes
from advalign.data.imports._labels import read_labels_text
from advalign.data.imports._place import images_by_stem, need_classes, only_import, staged, stem_of
from advalign.data.multilabel import LabelSet, read_multilabel
from advalign.errors import DataError, shown
from advalign.files import Project
from advalign.strict_csv import parse_sheet
from advalign.strict_files import parse_json

REAL_IMAGES = 50_000
GROUPS = ("correct", "unclear", "wrong")
COLUMNS = ("id", "original_label", "proposed_labels", "unclear_multi_labels", "wrong_multi_labels", "is_problematic")
FORMATS = "the original JSON (initial_annots, problematic_images), the 2024 CSV export, or ReaL's real.json"


@dataclass(frozen=True)
class MultilabelImport:
    """The result of an import, as numbers of images.

    Attributes:
        schema: "original", "export2024" or "real".
        judged: in the file.
        images: of `judged`, in data/imagenet/val: these were written.
        without_file: of `judged`, not in data/imagenet/val.
        problematic: of `images`, flagged.
        without_correct: of `images`, without a correct label.
        unjudged: in data/imagenet/val and not in the file.
        contradictory: of `images`, with a class in two groups; the class was kept in the better one.
    """

    schema: str
    judged: int
    images: int
    without_file: int
    problematic: int
    without_correct: int
    unjudged: int
    contradictory: int

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def import_multilabel(project: Project, file: Path, replace: bool = False) -> MultilabelImport:
    """Import the multi-label sets of the images in data/imagenet/val into data/imagenet/multilabel.json.

    Args:
        project: where data/ is.
        file: in one of the three formats, recognised by content.
        replace: whether another multilabel.json may be replaced.

    Raises:
        DataError: not such a file, a label outside the classes, or none of its images is in data/imagenet/val.
    """
    classes = need_classes(project)
    schema, sets = read_judgements(file, classes)
    folder = project.data / "imagenet"
    images = images_by_stem(folder / "val") if (folder / "val").is_dir() else {}
    if not images:
        raise DataError("data/imagenet/val holds no images: import them first with `advalign data import imagenet`")
    _each_once(file, sets)
    found = {images[stem_of(name)].name: labels for name, labels in sets.items() if stem_of(name) in images}
    kept = {name: _settled(labels) for name, labels in found.items()}
    if not kept:
        raise DataError(
            f"{file} judges {next(iter(sets), 'nothing')} ..., none of the images in data/imagenet/val: "
            "import those first with `advalign data import imagenet`"
        )
    with only_import(project, folder), staged(folder / "multilabel.json", replace) as path:
        path.write_text(json.dumps(_content(kept, classes), indent=1) + "\n", encoding="utf-8")
        read_multilabel(path, classes.index_of_wnid())
    return MultilabelImport(
        schema=schema,
        judged=len(sets),
        images=len(kept),
        without_file=len(sets) - len(kept),
        problematic=sum(labels.problematic for labels in kept.values()),
        without_correct=sum(not labels.correct for labels in kept.values()),
        unjudged=len(images) - len(kept),
        contradictory=sum(kept[name] != labels for name, labels in found.items()),
    )


def _each_once(file: Path, names: Iterable[str]) -> None:
    """Refuse names that differ only in folder or suffix: they are one image, and one of them would win silently."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(stem_of(name), name)
        if other != name:
            raise DataError(f"{file}: {shown(other)} and {shown(name)} are one image: remove one of them")


def _settled(labels: LabelSet) -> LabelSet:
    """A class that is listed as correct and as something else counts as correct; as unclear and wrong, as unclear."""
    unclear = labels.unclear - labels.correct
    return replace(labels, unclear=unclear, wrong=labels.wrong - labels.correct - unclear)


def read_judgements(file: Path, classes: Classes) -> tuple[str, dict[str, LabelSet]]:
    """Read multi-label sets in any of the three formats.

    Returns:
        The schema ("original", "export2024", "real"), and file name -> LabelSet.

    Raises:
        DataError: in none of these formats, or malformed; names the row or image.
    """
    text = read_labels_text(file, "a multi-label set", FORMATS)
    if text.lstrip().startswith("{"):
        return "original", _original(file, text, classes)
    if text.lstrip().startswith("["):
        return "real", _real(file, text, len(classes))
    return "export2024", _export(file, text, len(classes))


def _original(file: Path, text: str, classes: Classes) -> dict[str, LabelSet]:
    """The original release: wnids in groups per image, and the flagged images, by any spelling of their names."""
    content = parse_json(text, str(file), DataError)
    annotations, problematic = content.get("initial_annots"), content.get("problematic_images")
    if not isinstance(annotations, dict) or not isinstance(problematic, dict | list):
        what = "not a multi-label set (initial_annots {image: {group: [wnid]}}, problematic_images {image: ...})"
        raise DataError(f"{file}: {what}: expected {FORMATS}")
    flagged = {stem_of(str(name)) for name in problematic}
    index_of_wnid, sets = classes.index_of_wnid(), {}
    for name, judged in annotations.items():
        if not isinstance(judged, dict):
            raise DataError(f"{file}: {name}: {shown(judged)} is not {{group: [wnid]}}: fix that entry")
        groups = {}
        for group in GROUPS:
            wnids = judged.get(group, [])
            if not isinstance(wnids, list):
                raise DataError(f"{file}: {name}: {shown(wnids)} in {group!r} is not a list of wnids: fix that entry")
            strange = [wnid for wnid in wnids if not isinstance(wnid, str) or wnid not in index_of_wnid]
            if strange:
                found = f"unknown wnid {shown(strange[0])} in {group!r} (not in classes.yaml)"
                raise DataError(f"{file}: {name}: {found}: fix that entry")
            groups[group] = frozenset(index_of_wnid[wnid] for wnid in wnids)
        sets[name] = LabelSet(**groups, problematic=stem_of(name) in flagged)
    return sets


def _export(file: Path, text: str, classes: int) -> dict[str, LabelSet]:
    """The 2024 CSV export; its proposed labels are the correct set."""
    (_, header), *rows = parse_sheet(text, str(file), DataError) or [(1, [])]
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DataError(f"{file}: column {missing[0]} is missing: expected {FORMATS}")
    twice = [column for column in COLUMNS if header.count(column) > 1]
    if twice:
        raise DataError(f"{file}: column {twice[0]} is there twice: remove one of them")
    sets: dict[str, LabelSet] = {}
    for line, cells in rows:
        row = dict(zip(header, cells, strict=True))
        where = f"{file}: line {line}"
        name = row["id"].strip()
        where = f"{where} ({name})"
        if not name or name in sets:
            raise DataError(f"{where}: the image {'is in two lines' if name else 'has no name'}: fix that line")
        flag = row["is_problematic"].strip().lower()
        if flag not in ("true", "false"):
            raise DataError(f"{where}: is_problematic must be True or False, got {shown(flag)}")
        original = _indices(row["original_label"], "original_label", classes, where)
        if len(original) != 1:
            raise DataError(f"{where}: original_label must be one class index, got {shown(row['original_label'])}")
        correct, unclear, wrong = (_indices(row[column], column, classes, where) for column in COLUMNS[2:5])
        sets[name] = LabelSet(correct, unclear, wrong, flag == "true")
    return sets


def _indices(cell: str, column: str, classes: int, where: str) -> frozenset[int]:
    words = [word.strip() for word in cell.split(",")] if cell.strip() else []
    for word in words:
        if not word.isdecimal() or len(word) > 9 or int(word) >= classes:
            raise DataError(f"{where}: {column} holds {shown(word)}, expected class indices 0 .. {classes - 1}: fix it")
    return frozenset(map(int, words))


def _real(file: Path, text: str, classes: int) -> dict[str, LabelSet]:
    """ReaL (Beyer et al. 2020): one list of correct labels per validation image, in the order of their numbers."""
    lists = parse_json(text, str(file), DataError)
    if len(lists) != REAL_IMAGES:
        raise DataError(f"{file}: {len(lists)} entries, ReaL has one for each of {REAL_IMAGES} images: fetch it again")
    sets = {}
    for number, labels in enumerate(lists, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        if not isinstance(labels, list):
            raise DataError(f"{file}: {name}: {shown(labels)} is not a list of class indices: fetch the file again")
        for label in labels:
            if type(label) is not int or not 0 <= label < classes:
                wanted = f"class indices 0 .. {classes - 1}"
                raise DataError(f"{file}: {name}: label {shown(label)}, expected {wanted}: fetch the file again")
        sets[name] = LabelSet(frozenset(labels))
    return sets


def _content(sets: Mapping[str, LabelSet], classes: Classes) -> dict[str, Any]:
    """The original schema: wnids per image and group, and the flagged images."""
    annotations = {
        name: {group: [classes[index].wnid for index in sorted(getattr(sets[name], group))] for group in GROUPS}
        for name in sorted(sets)
    }
    problematic = {name: {"reason": "flagged in the source"} for name in sorted(sets) if sets[name].problematic}
    return {"initial_annots": annotations, "problematic_images": problematic, "imagenet_m": []}
