"""Putting files into data/: one import at a time, each file as a whole, never over other content without --replace."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from advalign.data.classes import Classes, read_classes
from advalign.errors import DataError, InputError
from advalign.files import Project, replacing, sha256

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
    return read_classes(path)


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


def bring(source: Path, target: Path, replace: bool) -> None:
    """Hard-link a file into data/, or copy it where links are not possible (another file system).

    Raises:
        DataError: the target holds other content and may not be replaced, or the copy differs from the source.
    """
    if settled(source, target, replace):
        return
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)  # copying into a leftover link would write into the linked file
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            if not same_content(source, temporary):
                raise DataError(f"{source}: its copy differs: check the disk and what writes the file") from None


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
    finally:
        path.unlink(missing_ok=True)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """List the images of a folder by name without suffix, sorted.

    Raises:
        DataError: two of them differ only in the suffix.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
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
