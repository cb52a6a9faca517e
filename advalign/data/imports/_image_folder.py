"""The images that people looked at: found below a folder by their names, read in processes."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from advalign.data.classes import checked_classes
from advalign.data.imports._place import IMAGE_SUFFIXES, check_regular
from advalign.data.imports._pool import each
from advalign.errors import DataError, shown
from advalign.files import Project
from advalign.progress import Advance
from advalign.regular_files import lookalike, read_bytes

PER_TASK = 64
UNKNOWN = -1  # label of an image that no wnid is known of
_WNID = re.compile(r"(?<![a-zA-Z0-9])n\d{8}(?!\d)")


class ImageFolder:
    """All images below a folder, by file name.

    Attributes:
        names: file names (or their keys), each once, sorted.
    """

    def __init__(self, folder: Path, key: Callable[[str], str] = str, of: str = "trials") -> None:
        """List the folder.

        Args:
            folder: to list.
            key: of a file name: names of one key mean one image.
            of: what they are images of, for the message.

        Raises:
            DataError: no folder, or no image below it.
        """
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: name the one that the images of the {of} are in")
        self.folder, self._key = folder, key
        self._paths: dict[str, list[Path]] = {}
        for parent, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in files:
                if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    self._paths.setdefault(key(name), []).append(Path(parent, name))
        if not self._paths:
            raise DataError(f"{folder}: no images (.JPEG, .jpg, .jpeg, .png) in it or below: name the folder with them")
        self.names = sorted(self._paths)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._chosen: dict[int, Path] = {}

    def find(self, path: str, where: str) -> int | None:
        """Position in `names` of the image that a path means; None: it is not there.

        The file name decides; of several files of that name, the one in the folder that the path names.

        Raises:
            DataError: it may be several files, or two images of one name are meant.
        """
        parts = [part for part in path.replace("\\", "/").split("/") if part]
        name = self._key(parts[-1]) if parts else ""
        number = self._number.get(name)
        if number is None:
            return None
        found = self._paths[name]
        if len(found) > 1:
            inside = [one for one in found if len(parts) > 1 and one.parent.name == parts[-2]]
            if len(inside) != 1:
                files = " or ".join(str(one.relative_to(self.folder)) for one in sorted(inside or found)[:3])
                raise DataError(
                    f"{where}: {shown(path)} may be {files} in {self.folder}: name the folder too, or rename"
                )
            found = inside
        if self._chosen.setdefault(number, found[0]) != found[0]:
            raise DataError(
                f"{where}: {self._chosen[number]} and {found[0]} have one name, and images are known by their names: "
                "rename one of them, in the trials too"
            )
        return number

    def path(self, number: int) -> Path:
        """The file that was found under this position."""
        return self._chosen[number]


@dataclass(frozen=True)
class Images:
    """N images, by position in `ImageFolder.names`, ascending.

    Attributes:
        numbers: (N,) positions.
        sha256: of the files.
        widths, heights: (N,) pixels as stored.
        labels: (N,) class indices, or `UNKNOWN`.
    """

    numbers: NDArray[np.int64]
    sha256: list[str]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    labels: NDArray[np.int64]


def read_images(
    project: Project, folder: ImageFolder, numbers: Iterable[int], workers: int | None, advance: Advance
) -> Images:
    """Read size and SHA-256 of some images of the folder, and the class that their path names.

    Args:
        project: whose data/classes.yaml, if there is one, says which wnid is which class.
        folder, numbers: which.
        workers: processes; None: one per core.
        advance: called now and then.

    Raises:
        InputError: an image cannot be read; names it.
    """
    chosen = sorted(numbers)
    paths = [folder.path(number) for number in chosen]
    tasks = [(first, tuple(paths[first : first + PER_TASK])) for first in range(0, len(paths), PER_TASK)]
    known: dict[int, list[tuple[str, int, int]]] = {}
    for done, (first, read) in enumerate(each(_read, tasks, workers), start=1):
        known[first] = read
        advance(done, len(tasks), "images")
    all_read = [one for first, _ in tasks for one in known[first]]
    classes = _classes(project)
    return Images(
        np.array(chosen, np.int64),
        [sha256 for sha256, _, _ in all_read],
        np.array([width for _, width, _ in all_read], np.int64),
        np.array([height for _, _, height in all_read], np.int64),
        np.array([label_of(path, classes) for path in paths], np.int64),
    )


def _classes(project: Project) -> Mapping[str, int]:
    path = project.data / "classes.yaml"
    return checked_classes(path).index_of_wnid() if path.exists() else {}


def label_of(path: Path, index_of_wnid: Mapping[str, int]) -> int:
    """The class whose wnid is in the name of the image's folder, or else of its file; `UNKNOWN` if there is none.

    >>> label_of(Path("val/n01440764/a_n01443537.JPEG"), {"n01440764": 0, "n01443537": 1})
    0
    >>> label_of(Path("val/n01443537_12.JPEG"), {"n01440764": 0, "n01443537": 1})
    1
    """
    for name in (path.parent.name, path.name):
        for wnid in _WNID.findall(name):
            if wnid in index_of_wnid:
                return index_of_wnid[wnid]
    return UNKNOWN


def _read(task: tuple[int, tuple[Path, ...]]) -> tuple[int, list[tuple[str, int, int]]]:
    first, paths = task
    return first, [_read_one(path) for path in paths]


def _read_one(path: Path) -> tuple[str, int, int]:
    """SHA-256, width and height of an image; its header is read, its pixels are not decoded."""
    check_regular(path)
    content = read_bytes(path, DataError)
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        what = lookalike(content) or "is neither JPEG nor PNG; fetch it again"
        raise DataError(f"{path} cannot be read as an image: it {what}") from None
    return hashlib.sha256(content).hexdigest(), width, height
