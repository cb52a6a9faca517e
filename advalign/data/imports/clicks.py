"""Clicks of participants, trial by trial, from CSV, parquet or a NumPy archive -> data/participants.

What the source says is stored as it is: cleaning is a stage of the pipeline, whose settings may change
(docs/human-maps.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advalign.data.imports._click_archives import read_archive_trials
from advalign.data.imports._click_tables import read_csv_trials, read_parquet_trials
from advalign.data.imports._image_folder import UNKNOWN, ImageFolder, Images, read_images
from advalign.data.imports._place import IMAGE_SUFFIXES, only_import, settled, staged
from advalign.data.imports._trial_sorter import NUMBER, SCHEMA, TrialSorter
from advalign.data.imports._trials import Trials
from advalign.data.participants import (
    CATCH,
    IMAGES,
    IMAGES_SCHEMA,
    MOBILE,
    PARTICIPANT,
    ROW,
    TRIALS,
    TRIALS_SCHEMA,
    X,
    Y,
    inside,
)
from advalign.errors import DataError, shown
from advalign.files import Project
from advalign.progress import Advance
from advalign.regular_files import open_file

MOST_NAMES = 20  # missing images that are listed
SUSPECTED = 0.05  # share of clicks outside their images from which x and y may be swapped
FEWEST_SHARES = 20  # clicks that show whether coordinates are shares of the image
COMPRESSION = "zstd"


@dataclass(frozen=True)
class ClicksImport:
    """The result of an import.

    Attributes:
        trials, participants, images, clicks: what data/participants holds.
        empty: trials without clicks.
        unknown_class: images whose class is not known.
        classes_missing: there is no data/classes.yaml, so that no class is.
        outside: clicks outside their image, which cleaning drops.
        missing_trials, missing_images: left out, since the image was not found.
        missing: names of the first 20 of those images, as the source gives them.
        skipped: the same was already imported, and nothing was written.
    """

    trials: int
    participants: int
    images: int
    clicks: int
    empty: int
    unknown_class: int
    classes_missing: bool
    outside: int
    missing_trials: int
    missing_images: int
    missing: tuple[str, ...]
    skipped: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def import_clicks(
    project: Project,
    file: Path,
    images: Path,
    swap: bool = False,
    workers: int | None = None,
    replace: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> ClicksImport:
    """Verify trials and import them into data/participants, both files or none; memory does not grow with their number.

    Args:
        project: where data/ is.
        file: CSV (with a header), parquet, or a NumPy archive, which alone is held in memory whole.
        images: folder that the images are below; trials refer to them by their last path parts.
        swap: the source's x is the row and its y the column.
        workers: processes that read images; None: one per core.
        replace: whether other trials in data/participants may be replaced.
        advance: called now and then.

    Raises:
        InputError: the source or an image cannot be used; names the row or image, and the fix.
    """
    folder = project.participants
    found = ImageFolder(images)
    with only_import(project, folder), TemporaryFile(dir=project.root / "outputs") as scratch:
        sorter, tally = TrialSorter(scratch, len(found.names)), _Tally()
        for trials in _read(file):
            _take(trials, found, sorter, tally, swap, file)
            advance(int(100 * trials.share), 100, "trials")
        _need_trials(file, images, sorter, tally)
        table = read_images(project, found, np.flatnonzero(sorter.trials).tolist(), workers, advance)
        with _both(folder, replace) as (trials_path, images_path, settle):
            pq.write_table(_images_table(found, table), images_path, compression=COMPRESSION)
            outside = _write_trials(trials_path, sorter, found, table)
            _refuse_misplaced(file, outside, int(sorter.clicks.sum()), swap)
            skipped = settle()
    classes_missing = not (project.data / "classes.yaml").exists()
    return _summary(sorter, tally, table, outside.given, classes_missing, skipped)


class _Tally:
    """What is counted while trials are read."""

    def __init__(self) -> None:
        self.participants: set[str] = set()
        self.missing: dict[str, None] = {}  # in the order of the source
        self.missing_trials = self.empty = 0
        self.clicks = 0
        self.within_1 = self.whole = True  # all coordinates so far

    def add_clicks(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Note what the coordinates of some clicks look like."""
        both = np.concatenate([x, y])
        self.clicks += len(x)
        self.within_1 &= bool(((both >= 0) & (both <= 1)).all())
        self.whole &= bool((both == np.rint(both)).all())


def _summary(
    sorter: TrialSorter, tally: _Tally, table: Images, outside: int, classes_missing: bool, skipped: bool
) -> ClicksImport:
    return ClicksImport(
        trials=int(sorter.trials.sum()),
        participants=len(tally.participants),
        images=len(table.numbers),
        clicks=int(sorter.clicks.sum()),
        empty=tally.empty,
        unknown_class=int((table.labels == UNKNOWN).sum()),
        classes_missing=classes_missing,
        outside=outside,
        missing_trials=tally.missing_trials,
        missing_images=len(tally.missing),
        missing=tuple(list(tally.missing)[:MOST_NAMES]),
        skipped=skipped,
    )


def _read(file: Path) -> Iterator[Trials]:
    """Trials of a file, whose kind its suffix says, or else its first bytes."""
    try:
        with open_file(file, DataError) as source:
            start = source.read(4)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): name an existing file") from None
    kinds = {".csv": read_csv_trials, ".parquet": read_parquet_trials, ".npz": read_archive_trials}
    known = {b"PAR1": read_parquet_trials, b"PK\x03\x04": read_archive_trials}
    return kinds.get(file.suffix.lower(), known.get(start, read_csv_trials))(file)


def _take(trials: Trials, found: ImageFolder, sorter: TrialSorter, tally: _Tally, swap: bool, file: Path) -> None:
    """Give the sorter the trials whose image is there, and count the others."""
    paths = trials.images.dictionary_encode()
    codes = paths.indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    numbers = np.full(len(paths.dictionary), -1, np.int32)
    for code, path in enumerate(paths.dictionary.to_pylist()):
        where = f"{file}: row {trials.first + first[code]} (without the header)"
        number = found.find(path, where)
        if number is None:
            tally.missing.setdefault(path)
        else:
            numbers[code] = number
    number = numbers[codes]
    there = number >= 0
    tally.add_clicks(trials.x, trials.y)
    x, y = (trials.y, trials.x) if swap else (trials.x, trials.y)
    offsets = np.concatenate([[0], np.cumsum(trials.lengths)]).astype(np.int32)
    columns = {
        NUMBER: pa.array(number),
        PARTICIPANT: trials.participants,
        X: pa.ListArray.from_arrays(offsets, pa.array(x)),
        Y: pa.ListArray.from_arrays(offsets, pa.array(y)),
        CATCH: pa.array(trials.catch, from_pandas=True),
        MOBILE: trials.mobile,
        ROW: pa.array(np.arange(trials.first, trials.first + len(number))),
    }
    batch = pa.RecordBatch.from_pydict(columns, SCHEMA).filter(pa.array(there))
    tally.participants.update(batch.column(PARTICIPANT).unique().to_pylist())
    tally.missing_trials += int((~there).sum())
    tally.empty += int((trials.lengths[there] == 0).sum())
    if batch.num_rows:
        sorter.add(batch)


def _need_trials(file: Path, images: Path, sorter: TrialSorter, tally: _Tally) -> None:
    if tally.missing and not sorter.trials.any():
        name = shown(next(iter(tally.missing)))
        fix = "name the folder with them"
        if not next(iter(tally.missing)).lower().endswith(IMAGE_SUFFIXES):
            fix += ", or these columns are swapped: name each as what it holds"
        raise DataError(f"{file}: none of its images ({name} ...) is in {images} or below: {fix}")
    if not sorter.trials.any():
        raise DataError(f"{file}: no trials in it: name the table that has them")
    if tally.clicks >= FEWEST_SHARES and tally.within_1 and not tally.whole:
        fix = "multiply them by its width and height"
        raise DataError(f"{file}: all x and y lie in 0 .. 1: coordinates look like shares of the image: {fix}")


def _images_table(found: ImageFolder, table: Images) -> pa.Table:
    names = [found.names[number] for number in table.numbers]
    return pa.table([names, table.sha256, table.widths, table.heights, table.labels], names=IMAGES_SCHEMA.names).cast(
        IMAGES_SCHEMA
    )


@dataclass
class _Outside:
    """Clicks outside their image: as given, and if x and y were swapped."""

    given: int = 0
    swapped: int = 0


def _write_trials(path: Path, sorter: TrialSorter, found: ImageFolder, table: Images) -> _Outside:
    """Write the sorted trials; count the clicks outside."""
    names = pa.array([found.names[number] for number in table.numbers], pa.string())
    outside = _Outside()
    with pq.ParquetWriter(path, TRIALS_SCHEMA, compression=COMPRESSION) as writer:
        for batch in sorter.sorted():
            position = np.searchsorted(table.numbers, batch.column(NUMBER).to_numpy())
            clicks = np.repeat(position, batch.column(X).value_lengths().to_numpy())
            x, y = (batch.column(axis).flatten().to_numpy() for axis in (X, Y))
            width, height = table.widths[clicks], table.heights[clicks]
            outside.given += int((~inside(x, y, width, height)).sum())
            outside.swapped += int((~inside(y, x, width, height)).sum())
            columns = [names.take(pa.array(position)), *batch.columns[1:]]
            writer.write_table(pa.Table.from_arrays(columns, schema=TRIALS_SCHEMA), row_group_size=batch.num_rows)
    return outside


def _refuse_misplaced(file: Path, outside: _Outside, clicks: int, swap: bool) -> None:
    """Refuse clicks that cannot be meant as they stand: x and y swapped, or of images of another size."""
    share = outside.given / max(clicks, 1)
    said = f"{file}: {share:.0%} of the clicks lie outside their images"
    if share > SUSPECTED and outside.swapped < outside.given / 10:
        fix = "leave out --swap" if swap else "give --swap"
        raise DataError(f"{said}, {outside.swapped / clicks:.0%} if x and y are swapped: they are, {fix}")
    if share > 0.5:
        raise DataError(f"{said}: name the images as people saw them (--images), with coordinates in their pixels")


@contextmanager
def _both(folder: Path, replace: bool) -> Iterator[tuple[Path, Path, Callable[[], bool]]]:
    """Stage trials.parquet and images.parquet, and put both into data/participants, or none.

    The block gets the two paths to write to, and a function that it calls when both are written: whether the same two
    files are there already. A process that is killed between the two renames leaves no trials.parquet, without which
    there are no participants.

    Raises:
        DataError: other trials are there and may not be replaced.
    """
    trials, images = folder / TRIALS, folder / IMAGES
    # left in reverse order: the images get their place first
    with staged(trials, replace) as new_trials, staged(images, replace) as new_images:

        def settle() -> bool:
            same = all(
                settled(new, old, replace) for new, old in ((new_trials, trials), (new_images, images)) if old.exists()
            )
            if same and trials.exists() and images.exists():
                return True
            if not same:
                trials.unlink(missing_ok=True)
            return False

        yield new_trials, new_images, settle
