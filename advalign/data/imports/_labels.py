"""Label files of the validation images, in the usual formats -> image name without suffix -> wnid."""

from collections.abc import Iterator
from pathlib import Path

from advalign.data.classes import Classes
from advalign.data.imports._place import IMAGE_SUFFIXES
from advalign.errors import DataError, shown
from advalign.regular_files import read_text
from advalign.strict_csv import LARGEST, parse_csv

FORMATS = "image,wnid; Kaggle's ImageId,PredictionString; or lines `ILSVRC2012_val_00000001.JPEG 65`"


def read_label_file(path: Path, classes: Classes) -> dict[str, str]:
    """Read a label file: image name without suffix -> wnid.

    The formats, recognised by the first line: our own CSV `image,wnid`; Kaggle's LOC_val_solution.csv (`ImageId` has no
    suffix, the wnid is the first word of `PredictionString`); the Caffe list, whose number is the index of the class.

    Raises:
        DataError: none of these, an unknown wnid or index, or an image in two lines; names the line.
    """
    try:
        text = read_text(path, DataError, largest=LARGEST, encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a label file, expected {FORMATS}") from None
    known = classes.index_of_wnid()
    labels: dict[str, str] = {}
    for number, image, wnid in _rows(path, text, classes):
        if wnid not in known:
            mend = "not in data/classes.yaml: fix that line"
            raise DataError(f"{path}: line {number}: unknown wnid {shown(wnid)} for {shown(image)}, {mend}")
        stem = _stem(image)
        if stem in labels:
            raise DataError(f"{path}: line {number}: {shown(image)} is in two lines: remove one of them")
        labels[stem] = wnid
    if not labels:
        raise DataError(f"{path}: no labels in it, expected {FORMATS}")
    return labels


def _stem(image: str) -> str:
    path = Path(image)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _rows(path: Path, text: str, classes: Classes) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, image, wnid)."""
    header = [column.strip() for column in text.partition("\n")[0].split(",")]
    if header not in (["image", "wnid"], ["ImageId", "PredictionString"]):
        yield from _caffe(path, text.splitlines(), classes)
        return
    for number, row in parse_csv(text, str(path), DataError)[1:]:
        if not row[0].strip() or not row[1].strip():
            raise DataError(f"{path}: line {number}: expected {','.join(header)}; got {shown(','.join(row))}")
        yield number, row[0].strip(), row[1].split()[0]


def _caffe(path: Path, lines: list[str], classes: Classes) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdecimal() or len(words[1]) > 9:
            raise DataError(f"{path}: line {number}: {shown(line, 60)} is no label, expected {FORMATS}")
        if int(words[1]) >= len(classes):
            raise DataError(
                f"{path}: line {number}: label {words[1]} is outside 0 .. {len(classes) - 1}: fix that line"
            )
        yield number, words[0], classes[int(words[1])].wnid
