"""The paths on the command line -> shards and packs of samples, each with the file that it becomes."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from advalign.data.imports._place import check_regular
from advalign.errors import DataError, InputError
from advalign.files import sha256

SPLITS = ("train", "val", "test")
SAMPLES_PER_SHARD = 1000
_PACKED = r"(\.(gz|bz2|xz|zst|zip))?"  # looked at, so that a folder's packed shards are not left out silently
_SHARD = re.compile(rf"\.tfrecords?(-\d+-of-\d+)?{_PACKED}$")
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])")


@dataclass(frozen=True)
class Source:
    """The source of one shard: a TFRecord file, or up to 1000 per-sample files."""

    path: Path  # the TFRecord file, or the folder of the samples
    file: str  # its name in data/clickme
    samples: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the ledger, without the folders of this machine."""
        if not self.samples:
            return self.path.name
        return f"{self.path.name}/{self.samples[0].name} .. {self.samples[-1].name}"

    def digest(self) -> str:
        """SHA-256 of the file, or of the samples' names and sums."""
        if not self.samples:
            return sha256(self.path)
        lines = (f"{sample.name} {sha256(sample)}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_sources(paths: Iterable[Path], split: str | None) -> list[Source]:
    """List what files and folders hold, each with the file of data/clickme that it becomes.

    Args:
        paths: TFRecord shards, .pth samples, and folders of either.
        split: "train", "val", "test"; None: from the file name (clickme_test.tfrecords).

    Raises:
        InputError: a path holds neither, a name contains no split, or two sources would become the same file.
    """
    shards: list[Path] = []
    samples: dict[Path, list[Path]] = {}
    for path in map(_absolute, paths):
        for file in _files(path):
            if file.suffix == ".pth":
                samples.setdefault(file.parent, []).append(file)
            else:
                shards.append(file)
    sources = [Source(shard, _file(shard.name, split or _split(shard, [shard.name]))) for shard in shards]
    for folder, members in samples.items():
        sources += _packs(folder, sorted(members, key=lambda member: member.name), split)
    taken: dict[str, Source] = {}
    for source in sources:
        if source.file in taken:
            raise InputError(
                f"{taken[source.file].path} and {source.path} would both become {source.file}: "
                "name each once, or rename one"
            )
        taken[source.file] = source
    return sources


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve would follow a link to another name


def _files(path: Path) -> list[Path]:
    """The path itself, or the shards and samples of a folder."""
    try:
        path.lstat()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: name a shard, a .pth sample, or a folder of them") from None
    if not path.is_dir():
        check_regular(path)
        return [path]
    visible = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    found = [file for file in visible if file.suffix == ".pth" or _SHARD.search(file.name)]
    for file in found:
        check_regular(file)
    if not found:
        raise DataError(f"{path}: no *.tfrecords and no *.pth directly in it: name the folder or files that hold them")
    return found


def _packs(folder: Path, samples: Sequence[Path], split: str | None) -> list[Source]:
    split = split or _split(folder, [folder.name], [sample.name for sample in samples])
    packs = [samples[first : first + SAMPLES_PER_SHARD] for first in range(0, len(samples), SAMPLES_PER_SHARD)]
    return [
        Source(folder, _file(f"{folder.name}-{number:05d}", split), tuple(pack)) for number, pack in enumerate(packs)
    ]


def _split(path: Path, *names: Sequence[str]) -> str:
    """The one split that the names contain: the first group of names that contains any decides."""
    for group in names:
        words: set[str] = {word for name in group for word in _SPLIT.findall(name.lower())}
        if len(words) == 1:
            return words.pop()
        if words:
            break
    raise InputError(f"{path}: the name does not contain one of train, val, test: give --split")


def _file(name: str, split: str) -> str:
    stem = re.sub(r"\.tfrecords?$", "", name)
    return f"{stem if stem.startswith(f'{split}-') else f'{split}-{stem}'}.tfrecords"
