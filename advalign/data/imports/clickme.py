"""ClickMe from a user's copies: shards and per-sample files, verified record by record, put into data/clickme."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from advalign.data.classes import Classes
from advalign.data.clickme import feature, read_ceiling
from advalign.data.imports._labels import say_if_none_is_0
from advalign.data.imports._ledger import LedgerRow, read_ledger, write_ledger
from advalign.data.imports._place import bring, linked, need_classes, only_import, per_superclass, staged
from advalign.data.imports._pool import each
from advalign.data.imports._records import JPEG, Verified, verified_records, verified_samples
from advalign.data.imports._sources import Source, find_sources
from advalign.data.tfrecord import encode_example, read_examples, write_payloads
from advalign.errors import DataError
from advalign.files import Project, write_text
from advalign.progress import Advance

LEDGER, CEILING_FILE = "imported.csv", "ceiling.yaml"
CEILING = "human_ceiling: 0.65753  # ClickMe, Feng et al. 2025\n"


@dataclass(frozen=True)
class ImportedShard:
    """One shard of data/clickme and what is in it.

    Attributes:
        row: its row in the ledger.
        labels: records by class index.
        repeated: records whose image (SHA-256 of its bytes) came before in the shard.
        skipped: it was already imported, and nothing was written.
    """

    row: LedgerRow
    labels: dict[int, int]
    repeated: int
    skipped: bool


@dataclass(frozen=True)
class ClickMeImport:
    """The result of an import: counts over all its shards, skipped ones included."""

    shards: tuple[ImportedShard, ...]
    records: int
    repeated: int
    classes: dict[int, int]
    superclasses: dict[str, int]
    ceiling_written: bool  # ClickMe's published one
    ceiling_given: bool  # one that came with the shards was written

    def as_json(self) -> dict[str, Any]:
        """As plain values; class indices become strings."""
        shards = [asdict(one.row) | {"repeated": one.repeated, "skipped": one.skipped} for one in self.shards]
        return asdict(self) | {"shards": shards}


@dataclass(frozen=True)
class _Job:
    source: Source
    target: Path
    row: LedgerRow | None
    classes: int
    replace: bool
    link: bool

    def __str__(self) -> str:
        return str(self.source.path)


def import_clickme(
    project: Project,
    sources: Sequence[Path],
    split: str | None = None,
    workers: int | None = None,
    replace: bool = False,
    link: bool = False,
    advance: Advance = lambda done, total, note="": None,
) -> ClickMeImport:
    """Verify shards and samples and import them into data/clickme; run again, it resumes.

    Shards of the JPEG schema are copied as they are; raw ones and .pth samples are converted. A file of
    data/clickme is the old or the new one, whole and verified. A folder's ceiling.yaml comes with its shards; if there
    is none anywhere, ClickMe's is written.

    Args:
        project: where data/ is.
        sources: TFRecord shards, .pth samples, folders of either.
        split: "train", "val" or "test"; None: from the file names.
        workers: processes; None: one per core.
        replace: whether shards, and a ceiling, that exist with other content may be replaced.
        link: whether shards are hard-linked instead of copied: an edit of the source then edits data/.
        advance: called after every shard.

    Raises:
        InputError: a source cannot be used; names the file, the record and the fix.
    """
    classes = need_classes(project)
    folder = project.data / "clickme"
    found = find_sources(sources, split)
    given = _given_ceiling(sources, folder / CEILING_FILE, replace)
    folder.mkdir(parents=True, exist_ok=True)
    with only_import(project, folder):
        ledger = read_ledger(folder / LEDGER)
        jobs = [_Job(one, folder / one.file, ledger.get(one.file), len(classes), replace, link) for one in found]
        shards = _import_shards(jobs, folder / LEDGER, ledger, workers, advance)
        done = _summary(shards, classes, *_write_ceiling(folder / CEILING_FILE, given))
    say_if_none_is_0("ClickMe", done.classes, classes)
    return done


def _import_shards(
    jobs: list[_Job], path: Path, ledger: dict[str, LedgerRow], workers: int | None, advance: Advance
) -> list[ImportedShard]:
    """Import the shards; each is written to the ledger once it is in its place."""
    shards: list[ImportedShard] = []
    advance(0, len(jobs))
    for shard in each(_import_shard, jobs, workers):
        shards.append(shard)
        ledger[shard.row.file] = shard.row
        write_ledger(path, ledger.values())
        advance(len(shards), len(jobs), shard.row.file)
    return shards


def _given_ceiling(sources: Sequence[Path], target: Path, replace: bool) -> str | None:
    """The ceiling.yaml of the folders that shards come from; None where they have none.

    Raises:
        DataError: it is broken, folders have different ones, or data/clickme has another and may not be given it.
    """
    files = [source / CEILING_FILE for source in sources if (source / CEILING_FILE).is_file()]
    values = {read_ceiling(file): file for file in files}
    if not values:
        return None
    if len(values) > 1:
        raise DataError(f"{' and '.join(map(str, values.values()))} differ: import the folders into different projects")
    value, file = values.popitem()
    if target.exists() and read_ceiling(target) != value and not replace:
        raise DataError(f"{target} has another human ceiling than {file}: move it away, or give --replace")
    return file.read_text(encoding="utf-8")


def _write_ceiling(path: Path, given: str | None) -> tuple[bool, bool]:
    """Write the ceiling that came with the shards, or ClickMe's published one if there is none.

    Returns:
        Whether the published one was written, and whether the given one; a file that holds it stays.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before is not None and given in (None, before):
        return False, False
    write_text(path, CEILING if given is None else given)
    return given is None, given is not None


def _summary(
    shards: list[ImportedShard], classes: Classes, ceiling_written: bool, ceiling_given: bool
) -> ClickMeImport:
    labels = sum((Counter(shard.labels) for shard in shards), Counter[int]())
    return ClickMeImport(
        tuple(sorted(shards, key=lambda shard: shard.row.file)),
        labels.total(),
        sum(shard.repeated for shard in shards),
        dict(sorted(labels.items())),
        per_superclass(classes, labels),
        ceiling_written,
        ceiling_given,
    )


class _Tally:
    """Counts labels and repeated images of records."""

    def __init__(self) -> None:
        self.labels: Counter[int] = Counter()
        self.repeated = 0
        self._seen: set[bytes] = set()

    def add(self, label: int, sha256: str) -> None:
        """Count one record, whose image has this sum."""
        digest = bytes.fromhex(sha256)
        self.labels[label] += 1
        self.repeated += digest in self._seen
        self._seen.add(digest)

    def counted(self, records: Iterable[Verified]) -> Iterator[Verified]:
        """Yield the records and count them."""
        for record in records:
            self.add(record.label, record.sha256)
            yield record


def _import_shard(job: _Job) -> ImportedShard:
    """Verify and import one source, unless it is already imported."""
    tally, digest = _Tally(), job.source.digest()
    known = job.row is not None and job.target.exists()
    same = job.row is not None and job.row.source_sha256 == digest
    if known and job.row is not None and same and (job.link or not linked(job.source.path, job.target)):
        _count(job.target, tally)
        return ImportedShard(job.row, dict(tally.labels), tally.repeated, skipped=True)
    if known and not same and not job.replace:
        raise DataError(
            f"{job.target} was imported from another {job.source.name}: move it away, rename the source, "
            "or give --replace"
        )
    if job.source.samples:
        records = tally.counted(verified_samples(job.source.samples, job.classes))
    else:
        records = tally.counted(verified_records(job.source.path, job.classes))
    first = next(records)  # a source without records is refused before
    if first.schema == JPEG:
        for _ in records:
            pass
        bring(job.source.path, job.target, digest, job.replace, job.link)
    else:
        with staged(job.target, job.replace) as path:
            write_payloads(path, map(_encode, chain([first], records)))
    row = LedgerRow(job.target.name, job.source.name, digest, first.schema, tally.labels.total())
    return ImportedShard(row, dict(tally.labels), tally.repeated, skipped=False)


def _encode(record: Verified) -> bytes:
    return encode_example({"image": record.image, "heatmap": record.heatmap, "label": record.label})


def _count(shard: Path, tally: _Tally) -> None:
    """Count what a shard of data/clickme holds; its checksums are verified, its images were verified by the import."""
    for number, example in enumerate(read_examples(shard)):
        where = f"{shard}: record {number}"
        image = feature(example, "image", bytes, where)
        tally.add(feature(example, "label", int, where), hashlib.sha256(image).hexdigest())
