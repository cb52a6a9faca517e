"""Label files of the validation images, in the usual formats -> image name without suffix -> wnid."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from advalign.data.classes import Classes
from advalign.data.imports._place import stem_of
from advalign.errors import DataError, shown
from advalign.progress import say
from advalign.regular_files import lookalike, read_text
from advalign.strict_csv import LARGEST, SEPARATORS, parse_sheet

OWN, KAGGLE = ["image", "wnid"], ["ImageId", "PredictionString"]
FORMATS = "image,wnid; Kaggle's ImageId,PredictionString; or lines `ILSVRC2012_val_00000001.JPEG 65`"


def read_label_file(path: Path, classes: Classes) -> dict[str, str]:
    """Read a label file: image name without suffix -> wnid.

    The formats, recognised by the first line: our own CSV `image,wnid`; Kaggle's LOC_val_solution.csv (`ImageId` has no
    suffix, the wnid is the first word of `PredictionString`); the Caffe list, whose number is the index of the class.

    Raises:
        DataError: none of these, an unknown wnid or index, or an image in two lines; names the line.
    """
    text = read_labels_text(path, "a label file", FORMATS)
    known = classes.index_of_wnid()
    labels: dict[str, str] = {}
    for number, image, wnid in _rows(path, text, classes):
        if wnid not in known:
            mend = "not in data/classes.yaml: fix that line"
            raise DataError(f"{path}: line {number}: unknown wnid {shown(wnid)} for {shown(image)}, {mend}")
        stem = stem_of(image)
        if stem in labels:
            raise DataError(f"{path}: line {number}: {shown(image)} is in two lines: remove one of them")
        labels[stem] = wnid
    if not labels:
        raise DataError(f"{path}: no labels in it, expected {FORMATS}")
    return labels


def read_labels_text(path: Path, what: str, formats: str) -> str:
    """Read the text of a file that says what is on images.

    Raises:
        DataError: it cannot be read, is no text, or begins like another kind of file; `what` in `formats` was expected.
    """
    try:
        text = read_text(path, DataError, largest=LARGEST, encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): name an existing file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not {what}, expected {formats}") from None
    if text and lookalike(text):
        raise DataError(f"{path} {lookalike(text)}")
    return text


def say_if_none_is_0(source: object, labels: Iterable[int], classes: Classes) -> None:
    """Say how labels are read if none of them is 0: numbers alone do not show whether they count from 0 or from 1."""
    low = min(labels, default=0)
    if low > 0:
        say(
            f"{source}: no label is 0, and labels count from 0: {low} is {classes[low].wnid} ({classes[low].name}); "
            "if they count from 1 there, subtract 1 from each and import again"
        )


def _rows(path: Path, text: str, classes: Classes) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, image, wnid)."""
    first = text.lstrip().partition("\n")[0]
    if "," not in first:
        _refuse_separators(path, first)
        yield from _caffe(path, text.splitlines(), classes)
        return
    (line, header), *rows = parse_sheet(text, str(path), DataError)
    if header not in (OWN, KAGGLE):
        raise DataError(f"{path}: line {line}: {shown(','.join(header), 60)} is no header, expected {FORMATS}")
    for number, row in rows:
        words = row[1].split()
        if not row[0].strip() or not words or (header == OWN and len(words) > 1):
            raise DataError(f"{path}: line {number}: expected {','.join(header)}; got {shown(','.join(row))}: fix it")
        yield number, row[0].strip(), words[0]


def _refuse_separators(path: Path, first: str) -> None:
    """Refuse a table without commas; a line of a Caffe list, whose names may hold anything, ends in a number."""
    if first.split()[-1:] and first.split()[-1].isdecimal():
        return
    for separator, word in SEPARATORS.items():
        if separator in first:
            raise DataError(f"{path}: columns are separated by {word}, expected commas: save it with commas")


def _caffe(path: Path, lines: list[str], classes: Classes) -> Iterator[tuple[int, str, str]]:
    found: set[int] = set()
    for number, line in enumerate(lines, start=1):
        words = line.rsplit(maxsplit=1)  # a name may hold spaces
        if not words:
            continue
        if len(words) != 2 or not words[1].isdecimal() or len(words[1]) > 9:
            raise DataError(f"{path}: line {number}: {shown(line, 60)} is no label, expected {FORMATS}")
        if int(words[1]) >= len(classes):
            raise DataError(
                f"{path}: line {number}: label {words[1]} is outside 0 .. {len(classes) - 1}: fix that line"
            )
        found.add(int(words[1]))
        yield number, words[0].strip(), classes[int(words[1])].wnid
    say_if_none_is_0(path, found, classes)
