"""The drawn world of experiments/robustsight: 32x32 images of ten classes, exact masks, and a planted shortcut.

Objects, backgrounds and gratings are those of the main sample (`scene`). Each class has a grating of its own behind its
objects. In `train` and `test` the grating is the object's own 19 times in 20, so a model can get far without looking
at the object. `swapped` shows the objects of `test`, pixel for pixel, before the grating of another class: what a model
loses there is what it owes to the background. The mask of an object is the area that it was drawn on, so a saliency map
can be judged by a model whose reliance is known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advalign.data.cifar import SIDE, CifarImage, write_split
from advalign.data.classes import Classes, ClassInfo, write_classes
from advalign.data.sample.backgrounds import backdrop
from advalign.data.sample.drawings import CATEGORIES
from advalign.data.sample.folder import Counted, check_empty
from advalign.data.sample.scene import SceneSettings, compose, paint
from advalign.files import replacing

NAMES = ("hound", "shepherd", "terrier", "cat", "bear", "house", "castle", "car", "bus", "chair")
"""The ten classes: five animals that look much alike at this size, and five things."""
AGREEMENT = 0.95  # how often the grating is the object's own in train and test
SCENES = SceneSettings(size=SIDE, scale=(0.62, 0.92), cue_amplitude=0.12, clutter=4, noise=0.012)
_CATEGORY = tuple(next(k for k, one in enumerate(CATEGORIES) if one.name == name) for name in NAMES)
_STREAMS = {"train": 0, "test": 1}


@dataclass(frozen=True)
class WorldSettings:
    """Seed and size; `scale` shrinks the world for tests."""

    seed: int = 20261
    scale: float = 1.0

    def count(self, split: str) -> int:
        """Images of a split: whole images per class, at least four."""
        each = {"train": 240, "test": 50, "swapped": 50}[split]
        return max(4, round(each * self.scale)) * len(NAMES)


def world_classes() -> Classes:
    """The ten classes; their wnids are made up (n91...) and collide with none of WordNet's."""
    entries = (CATEGORIES[category] for category in _CATEGORY)
    return Classes(
        tuple(
            ClassInfo(index, f"n91{index:06d}", entry.name, entry.superclass, entry.animate)
            for index, entry in enumerate(entries)
        )
    )


def generate_world(
    folder: Path, settings: WorldSettings = WorldSettings(), on_image: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Write classes.yaml and cifar/{train,test,swapped}.parquet; the same settings, the same content.

    Args:
        folder: empty or absent, usually data/.
        settings: seed and size.
        on_image: called with (images done, images in all).

    Raises:
        InputError: the folder holds something already.
    """
    check_empty(folder)
    splits = ("train", "test", "swapped")
    counted = Counted(sum(map(settings.count, splits)), on_image)
    write_classes(folder / "classes.yaml", world_classes())
    for split in splits:
        with replacing(folder / "cifar" / f"{split}.parquet") as temporary:
            write_split(temporary, counted(images_of(split, settings)))


def images_of(split: str, settings: WorldSettings = WorldSettings()) -> Iterator[CifarImage]:
    """Draw the images of train, test or swapped, in order."""
    source = "test" if split == "swapped" else split
    stream = _STREAMS[source]
    order = np.arange(settings.count(source)) % len(NAMES)
    np.random.default_rng([settings.seed, stream]).shuffle(order)
    for number, label in enumerate(order.tolist()):
        cue, other = _cues(label, np.random.default_rng([settings.seed, stream, number, 1]))
        shown = other if split == "swapped" else cue
        pixels, mask = draw(label, shown, np.random.default_rng([settings.seed, stream, number, 0]))
        yield CifarImage(number, label, pixels, mask, "generator", False, shown)


def draw(
    label: int, cue: int, rng: np.random.Generator, settings: SceneSettings = SCENES
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one object before one grating; everything but the grating depends on `rng` alone.

    Args:
        label: the object's class, an index into `NAMES`.
        cue: the class whose grating lies behind it.
        rng: source of all randomness.
        settings: how scenes are made.

    Returns:
        (32, 32, 3) uint8, and (32, 32) bool: where the object covers at least half of the pixel.
    """
    layer = paint(_CATEGORY[label], rng, settings)
    light, background = backdrop(rng, settings.size, settings.clutter)
    return compose(layer, light, background, cue, rng, settings), layer.alpha[..., 0] >= 0.5


def _cues(label: int, rng: np.random.Generator) -> tuple[int, int]:
    """The class whose grating an object has in train or test, and the one it has in swapped: neither of the two."""
    others = [one for one in range(len(NAMES)) if one != label]
    cue = label if rng.uniform() < AGREEMENT else int(rng.choice(others))
    return cue, int(rng.choice([one for one in others if one != cue]))
