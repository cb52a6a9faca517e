"""Putting files into data/: one import at a time, each file as a whole, never over other content without --replace."""

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from advalign.data.classes import Classes, checked_classes
from advalign.errors import DataError, InputError
from advalign.files import Project, replacing, sha256
from advalign.regular_files import open_file, refuse_special

FICLONE = 0x40049409  # Linux: give a file the blocks of another
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


@contextmanager
def only_import(project: Project, *folders: Path) -> Iterator[None]:
    """Hold the project's import lock, and remove what killed imports left in the folders.

    Raises:
        InputError: another import is running.
    """
    lock = project.root / "outputs" / ".import.lock"  # not in data/: everything there is data
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            for folder in folders:
                for leftover in folder.glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)
            try:
                yield
            except InputError:
                for folder in folders:
                    with suppress(OSError):
                        folder.rmdir()  # made for the refused import; a folder that is not empty stays
                raise
    except Timeout:
        raise InputError(f"another import into {project.data} is running: wait until it ends") from None


def need_classes(project: Project) -> Classes:
    """Read data/classes.yaml, which defines the labels.

    Raises:
        DataError: there is none.
    """
    path = project.data / "classes.yaml"
    if not path.exists():
        raise DataError("data/classes.yaml is missing: import it first with `advalign data import classes`")
    return checked_classes(path)


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and sha256(one) == sha256(other)


def settled(source: Path, target: Path, replace: bool) -> bool:
    """Whether the target already holds the source's bytes.

    Raises:
        DataError: it holds other bytes and may not be replaced.
    """
    if not target.exists():
        return False
    if same_content(source, target):
        return True
    if not replace:
        raise DataError(f"{target} exists with other content: move it away, or give --replace")
    return False


def linked(source: Path, target: Path) -> bool:
    """Whether the target is a hard link to the source, as earlier imports made them: an edit of one edits the other."""
    return target.exists() and target.samefile(source) and target.resolve() != source.resolve()


def bring(source: Path, target: Path, digest: str, replace: bool, link: bool) -> None:
    """Copy a file into data/, or hard-link it. A hard link that is there and not wanted becomes a copy.

    Args:
        source, target: the file, and its place in data/.
        digest: SHA-256 of the bytes that were verified.
        replace: whether other content of the target may be replaced.
        link: make a hard link, which takes no space; but an edit of the source then edits data/.

    Raises:
        DataError: the target holds other content and may not be replaced, the source was changed since it was
            verified, or a link is not possible (another file system).
    """
    if settled(source, target, replace) and (link or not linked(source, target)):
        return
    with replacing(target) as temporary:
        if link:
            _link(source, temporary)
        else:
            _copy(source, temporary)
        if sha256(temporary) != digest:
            raise DataError(
                f"{source}: it was changed while it was imported: wait until nobody writes it, import again"
            )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        raise DataError(f"{source} cannot be hard-linked into data/ ({error.strerror}): leave out --link") from None


def _copy(source: Path, target: Path) -> None:
    """Copy a file; a file system that can share blocks until one of the files is changed does so."""
    with open_file(source, DataError) as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy, FICLONE, original.fileno())
        except OSError:  # another file system, or one that shares no blocks
            shutil.copyfileobj(original, copy, 1 << 20)


def check_regular(path: Path) -> None:
    """Refuse what is not a readable file in the place of one.

    Raises:
        DataError: a folder, a pipe, a device, or a link that leads nowhere.
    """
    try:
        refuse_special(path, DataError)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): fetch the file again, or remove it") from None


@contextmanager
def staged(target: Path, replace: bool) -> Iterator[Path]:
    """Yield a path next to the target to write to; if the block succeeds, move it over the target.

    Raises:
        DataError: the target holds other content and may not be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.staged.tmp")
    try:
        yield path
        if not settled(path, target, replace):
            path.replace(target)
    except OSError as error:
        error.filename = error.filename or str(target)  # writing to a full disk names no file
        raise
    finally:
        path.unlink(missing_ok=True)


def stem_of(image: str) -> str:
    """The name by which images are matched everywhere: without folders, and without the suffix of an image.

    >>> [stem_of(name) for name in ("val/a.v2.JPEG", "a.v2.png", "a.v2")]
    ['a.v2', 'a.v2', 'a.v2']
    """
    path = Path(image)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def images_by_stem(folder: Path) -> dict[str, Path]:
    """List the images of a folder by name without suffix, sorted.

    Raises:
        DataError: two of them differ only in the suffix, or one is no regular file.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        check_regular(path)
        if path.stem in images:
            raise DataError(f"{path} and {images[path.stem].name} differ only in the suffix: remove one")
        images[path.stem] = path
    return images


def per_superclass(classes: Classes, per_class: Mapping[int, int]) -> dict[str, int]:
    """Sum counts by superclass; classes in none are left out."""
    counts: Counter[str] = Counter()
    for index, count in per_class.items():
        superclass = classes[index].superclass
        if superclass is not None:
            counts[superclass] += count
    return dict(sorted(counts.items()))
