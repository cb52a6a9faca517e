"""What both drawn worlds do with their folder and their progress."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from advalign.errors import InputError

Drawn = TypeVar("Drawn")


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        InputError: it does.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: move it away first, or give another --output")


class Counted:
    """Counts images as they are drawn.

    Args:
        total: images in all.
        on_image: called with (images done, images in all).
    """

    def __init__(self, total: int, on_image: Callable[[int, int], None]) -> None:
        self._total, self._on_image, self._done = total, on_image, 0

    def __call__(self, images: Iterable[Drawn]) -> Iterator[Drawn]:
        """The same images."""
        for image in images:
            yield image
            self._done += 1
            self._on_image(self._done, self._total)
