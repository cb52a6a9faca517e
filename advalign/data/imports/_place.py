"""Putting files into data/: one import at a time, in one move, never over other content unasked."""

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
    """Hold the project's import lock, and clear the folders of what killed imports left.

    Raises:
        InputError: another import is under way.
    """
    lock = project.root / "outputs" / ".import.lock"  # not in data/: all that lies there is data
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
                        folder.rmdir()  # made for what was refused; one that holds anything stays
                raise
    except Timeout:
        raise InputError(f"another import into {project.data} is under way: wait for its end") from None


def need_classes(project: Project) -> Classes:
    """Read data/classes.yaml, which says what a label means.

    Raises:
        DataError: there is none.
    """
    path = project.data / "classes.yaml"
    if not path.exists():
        raise DataError("data/classes.yaml is missing: bring it in first with `advalign data import classes`")
    return read_classes(path)


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and sha256(one) == sha256(other)


def settled(source: Path, target: Path, replace: bool) -> bool:
    """Whether the target holds the source's bytes already.

    Raises:
        DataError: it holds others and may not be replaced.
    """
    if not target.exists():
        return False
    if same_content(source, target):
        return True
    if not replace:
        raise DataError(f"{target} exists with other content: move it away, or give --replace")
    return False


def bring(source: Path, target: Path, replace: bool) -> None:
    """Hard-link a file into data/ in one move, or copy it where links are not possible (another file system).

    Raises:
        DataError: the target holds other content and may not be replaced, or the copy differs from the source.
    """
    if settled(source, target, replace):
        return
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)  # were it a leftover link, copying would write into somebody's file
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            if not same_content(source, temporary):
                raise DataError(f"{source}: its copy differs: is the disk sound, and does nobody write it?") from None


@contextmanager
def staged(target: Path, replace: bool) -> Iterator[Path]:
    """Give a path to write beside the target; move it over the target when the block ends well.

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
        DataError: two of them differ in the suffix only.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in images:
            raise DataError(f"{path} and {images[path.stem].name} differ in the suffix only: remove one")
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
