"""Input files by their content: their digests, and whether data/ is what data.dvc says.

Reading everything again whenever something runs would take hours for ImageNet. So digests are remembered under a
file's path, size, times and inode, which any program that writes to the file changes. Where a decision is made, nothing
remembered is used.
"""

import configparser
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from advalign.errors import DataError, InputError
from advalign.progress import progress, say
from advalign.provenance import data_md5
from advalign.regular_files import open_file
from advalign.strict_files import parse_json

THREADS = 4  # that read and hash files
AT_ONCE = 2**20  # bytes
SHOWN = 2**30  # bytes to read from which on a bar is shown
FRESH = 2 * 10**9  # nanoseconds; a file that changed so recently may change again without a new time
_COLUMNS = "path, state, sha256, md5, proof"


@dataclass(frozen=True)
class Digests:
    """SHA-256 and MD5 of a file's bytes, in hexadecimal; MD5 is what DVC lists."""

    sha256: str
    md5: str


def digests(files: Iterable[Path], remembered: Path | None) -> dict[Path, Digests]:
    """Digests of files.

    Args:
        files: to be read.
        remembered: database of earlier digests, made and extended where needed; None: read every file.

    Raises:
        DataError: a file cannot be read.
    """
    states = {file: _state(file) for file in files}
    found = _recall(states, remembered) if remembered is not None else {}
    missing = [file for file in states if file not in found]
    read = dict(zip(missing, _read(missing), strict=True))
    if remembered is not None and read:
        _remember({file: states[file] for file in missing if _state(file) == states[file]}, read, remembered)
    return {file: found.get(file) or read[file] for file in states}


def content_digest(folder: Path, found: Mapping[Path, Digests]) -> str:
    """SHA-256 over the names, relative to a folder, and the content of files."""
    named = {_name(file, folder): one.sha256 for file, one in found.items()}
    return hashlib.sha256(json.dumps(sorted(named.items())).encode()).hexdigest()


@dataclass(frozen=True)
class Tracked:
    """The version of data/, as data.dvc says.

    Attributes:
        md5: DVC's digest of data/; None where data/ is not tracked.
        changed: files that are not what data.dvc says; data/ itself where DVC's list of files is missing.
    """

    md5: str | None
    changed: tuple[Path, ...] = ()

    @property
    def used(self) -> str | None:
        """The digest, if the files are those of the version; None otherwise."""
        return None if self.changed else self.md5

    @property
    def warning(self) -> str:
        """A sentence on changed files; empty where there are none."""
        if not self.changed:
            return ""
        more = f" and {len(self.changed) - 1} more files are" if len(self.changed) > 1 else " is"
        return (
            f"{self.changed[0]}{more} not what data.dvc says: `dvc checkout data.dvc` restores the version, "
            "`dvc add data` makes a new one"
        )


def tracked(root: Path, found: Mapping[Path, Digests], remembered: Path | None) -> Tracked:
    """Compare files below data/ with the version that data.dvc names.

    Args:
        root: of the project.
        found: digests of the files that were read.
        remembered: as `digests`; for all of data/, where DVC's list of its files is missing.

    Raises:
        DataError: a file cannot be read.
    """
    md5, data = data_md5(root), root / "data"
    listed = None if md5 is None else _listed(root, md5)
    if md5 is None:
        return Tracked(None)
    if listed is None:  # the digest of all files can still be computed
        return Tracked(md5, () if folder_md5(data, remembered) == md5 else (data,))
    return Tracked(md5, tuple(sorted(file for file, one in found.items() if listed.get(_name(file, data)) != one.md5)))


def say_if_changed(root: Path, files: Sequence[Path], remembered: Path | None) -> None:
    """Say on standard error where files below data/ are not those that data.dvc names.

    Args:
        root, remembered: as `tracked`.
        files: to be read.

    Raises:
        DataError: one cannot be read.
    """
    warning = tracked(root, digests(files, remembered), remembered).warning
    if warning:
        say(warning)


def folder_md5(folder: Path, remembered: Path | None) -> str:
    """DVC's digest of a folder, computed from all its files.

    Raises:
        DataError: a file cannot be read.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp")]
    return _dvc_digest({_name(path, folder): one.md5 for path, one in digests(files, remembered).items()})


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _dvc_digest(md5_of: dict[str, str]) -> str:
    """DVC's digest of a folder, computed from those of its files."""
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(md5_of.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _listed(root: Path, md5: str) -> dict[str, str] | None:
    """DVC's list of the files of data/: name -> MD5; None where the list is not in DVC's cache, or is damaged."""
    for cache in _caches(root):
        path = cache / "files" / "md5" / md5[:2] / md5[2:]
        try:
            text = path.read_text(encoding="utf-8")
            found = {str(one["relpath"]): str(one["md5"]) for one in parse_json(text, str(path))}
        except (OSError, InputError, ValueError, KeyError, TypeError):  # missing or damaged
            continue
        if _dvc_digest(found) == md5:
            return found
    return None


def _caches(root: Path) -> Iterator[Path]:
    """Folders that may be DVC's cache."""
    for folder in (root / ".dvc", *(parent / ".dvc" for parent in root.parents)):
        if folder.is_dir():
            for name in ("config.local", "config"):
                config = configparser.ConfigParser(interpolation=None)
                with suppress(configparser.Error, UnicodeDecodeError):  # DVC itself says what is wrong with it
                    config.read(folder / name, encoding="utf-8")
                if config.has_option("cache", "dir"):
                    yield folder / config.get("cache", "dir")
            yield folder / "cache"
            return


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _read(files: Sequence[Path]) -> list[Digests]:
    size = sum(file.stat().st_size for file in files)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        if size < SHOWN:
            return list(pool.map(_digests, files))
        done = []
        with progress(f"reading {size / 2**30:.1f} GiB of input files") as advance:
            for one in pool.map(_digests, files):
                done.append(one)
                advance(len(done), len(files))
        return done


def _digests(file: Path) -> Digests:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with open_file(file, DataError) as opened:
            while block := opened.read(AT_ONCE):
                sha256.update(block)
                md5.update(block)
    except OSError as error:
        raise _unreadable(file, error) from None
    return Digests(sha256.hexdigest(), md5.hexdigest())


def _unreadable(file: Path, error: OSError) -> DataError:
    return DataError(f"{file}: cannot be read ({error.strerror}): put it back, or import it again")


def _recall(states: dict[Path, str], remembered: Path) -> dict[Path, Digests]:
    """What is remembered of files in these states; nothing of a database that is missing or damaged."""
    found = {}
    try:
        with closing(sqlite3.connect(f"{remembered.absolute().as_uri()}?mode=ro", uri=True)) as database:
            for file, state in states.items():
                row = database.execute(f"SELECT {_COLUMNS} FROM digests WHERE path = ?", (_key(file),)).fetchone()
                if row is not None and row[1] == state and row[4] == _proof(*row[:4]):
                    found[file] = Digests(row[2], row[3])
    except sqlite3.Error:
        return {}
    return found


def _key(file: Path) -> str:
    return str(file.absolute())


def _remember(states: dict[Path, str], read: dict[Path, Digests], remembered: Path) -> None:
    """Remember digests of files that have not changed for a while; without a place to write, nothing is remembered."""
    settled = {file: state for file, state in states.items() if time.time_ns() - int(state.split()[2]) > FRESH}
    keys = ((_key(file), state, read[file].sha256, read[file].md5) for file, state in settled.items())
    try:
        remembered.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(remembered, timeout=10)) as database, database:
            database.execute(f"CREATE TABLE IF NOT EXISTS digests ({_COLUMNS}, PRIMARY KEY (path))")
            rows = ((*key, _proof(*key)) for key in keys)
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", rows)
    except sqlite3.OperationalError:  # locked, or on a disk that is full or may not be written
        pass
    except sqlite3.DatabaseError:  # damaged: it is made anew next time
        with suppress(OSError):
            remembered.unlink(missing_ok=True)
    except OSError:
        pass


def _proof(*values: str) -> str:
    """Digest of a row, so that a damaged one is not believed."""
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
