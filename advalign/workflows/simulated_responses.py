"""Responses with known content, made from the training images: outputs/responses/NAME.h5, provenance simulated.

Each area has features of an image; a unit is a random direction of them. So what guides a model is known: Gabor energy,
products of it, the category and the parts of the object, or what a network of known robustness computes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from advalign.data.centre_crop import centre_crop
from advalign.data.classes import Classes, read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.training_images import AnyImages, training_images, validation_images
from advalign.errors import InputError, unknown_name
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, load_checkpoint
from advalign.models.layer_features import LayerFeatures
from advalign.settings import Settings, SimulationSettings
from advalign.tensors.feature_spaces import SIDE, SPACES, in_batches

Array = NDArray[np.float64]
AT_ONCE = 200  # images
PARTS = 4  # side of the grid on the object
CHECKPOINT = "checkpoint:"


def simulate(project: Project, settings: Settings) -> Path:
    """Make the responses that `simulation` in params.yaml describes, to the training and some validation images.

    The same settings, images and checkpoints give the same values.

    Returns:
        outputs/responses/NAME.h5.

    Raises:
        InputError: nothing is to be simulated, an area is of no known kind, or a checkpoint is missing.
        DataError: an image or a checkpoint is damaged.
    """
    asked = settings.simulation
    if asked is None:
        raise InputError("params.yaml has no simulation: say which areas, as experiments/neural does")
    shown = _images(project, settings, asked)
    counts = [one.count for one in shown.values()]
    functions = [_features(project, kind) for kind in asked.areas.values()]
    features = (np.concatenate([of(one) for one in shown.values()]) for of in functions)  # of one area at a time
    areas = [
        random_units(values, counts[0], asked.units, [settings.seed, place]) for place, values in enumerate(features)
    ]
    means = np.concatenate(areas, axis=1)
    rois = np.repeat(list(asked.areas), asked.units)
    units = pd.DataFrame({"roi": rois, "subject": "simulated", "noise_ceiling": np.float32(asked.ceiling)})
    path = project.root / "outputs" / "responses" / f"{asked.name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_responses(path, _about(project, asked), _image_table(project, shown), units) as writer:
        for repeat, trials in enumerate(repeats(means, asked, settings.seed)):
            writer.add_trials(np.arange(len(means)), trials, np.repeat([0, 1], counts), repeat)
    return path


def repeats(means: Array, asked: SimulationSettings, seed: int) -> Iterator[Array]:
    """Noisy versions of responses of variance 1, such that `ceiling` of the variance of their average is no noise.

    Args:
        means: (images, units), each unit of variance 1.
        asked: for `ceiling` and `repeats`.
        seed: of the noise.
    """
    noise = np.sqrt(asked.repeats * (1 - asked.ceiling) / asked.ceiling)
    random = np.random.default_rng([seed, 7])
    for _ in range(asked.repeats):
        yield means + noise * random.standard_normal(means.shape)


class Pixels:
    """Some images and what is known of them, in blocks."""

    def __init__(self, images: AnyImages, count: int, size: int, classes: Classes) -> None:
        self.images, self.count, self.size, self.classes = images, count, size, classes

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pixels (n, 3, H, W) in [0, 1], labels (n,), and maps or masks (n, H, W) in [0, 1], else zero."""
        for first in range(0, self.count, AT_ONCE):
            samples = [self.images.read(number) for number in range(first, min(first + AT_ONCE, self.count))]
            pixels = np.stack([centre_crop(one.image, self.size, 1.0) for one in samples])
            empty = np.zeros(pixels.shape[1:3], np.uint8)
            maps = np.stack(
                [empty if one.heatmap is None else centre_crop(one.heatmap, self.size, 1.0) for one in samples]
            )
            labels = torch.tensor([one.label for one in samples])
            yield (
                torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255,
                labels,
                torch.from_numpy(maps).float() / 255,
            )


def _images(project: Project, settings: Settings, asked: SimulationSettings) -> dict[str, Pixels]:
    """The images that are shown, by split: all training images, and the first validation images."""
    classes, train = read_classes(project.data / "classes.yaml"), settings.train
    training, validation = (read(project, classes, train) for read in (training_images, validation_images))
    return {
        "train": Pixels(training, len(training), train.size, classes),
        "validation": Pixels(validation, min(asked.validation, len(validation)), train.size, classes),
    }


def _image_table(project: Project, shown: dict[str, Pixels]) -> pd.DataFrame:
    """id, sha256 and label of the images."""
    tables = [
        image_digests(one.images, project.digests)
        .iloc[: one.count]
        .assign(id=[f"{split}/{number:05}" for number in range(one.count)])
        for split, one in shown.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _about(project: Project, asked: SimulationSettings) -> About:
    """What the file says of itself: what each area is, and the checkpoints that it is made from."""
    told = ", ".join(f"{area} = {kind}" for area, kind in asked.areas.items())
    names = [kind.removeprefix(CHECKPOINT) for kind in asked.areas.values() if kind.startswith(CHECKPOINT)]
    sources = {f"{name}/{CARD}": sha256(project.checkpoints / name / CARD) for name in names}
    return About("simulated", "z-scored over the training images", f"Made from the images: {told}.", sources)


def _features(project: Project, kind: str) -> Callable[[Pixels], Array]:
    """What an area computes of images, (n, F)."""
    if kind.startswith(CHECKPOINT):
        folder = project.checkpoints / kind.removeprefix(CHECKPOINT)
        if not (folder / CARD).is_file():
            raise InputError(f"simulation: {kind} needs {folder}, which is no checkpoint: train it first")
        return lambda images: _penultimate(folder, images)
    if kind == "category-and-parts":
        return _category_and_parts
    if kind not in SPACES:
        raise unknown_name("kind of simulated area", kind, {*SPACES, "category-and-parts", f"{CHECKPOINT}NAME"})
    return lambda images: _of_space(SPACES[kind], images)


def _of_space(space: Callable[[Tensor], Tensor], images: Pixels) -> Array:
    found = []
    for pixels, *_ in images.blocks():
        grey = F.interpolate(pixels.mean(1, keepdim=True), (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
        found.append(in_batches(space, grey).double().numpy())
    return np.concatenate(found)


@torch.no_grad()
def _penultimate(folder: Path, images: Pixels) -> Array:
    classifier, _ = load_checkpoint(folder)
    found = []
    with LayerFeatures(classifier) as watched:
        for pixels, *_ in images.blocks():
            classifier(pixels)
            found.append(watched.values.double().numpy())
    return np.concatenate(found)


def _category_and_parts(images: Pixels) -> Array:
    """One dimension per class and per superclass, and where the object lies: its mask on a 4 x 4 grid, per superclass.

    Images without a mask have no parts. The columns are scaled so that categories and parts have the same variance.
    """
    names = sorted({entry.superclass or "" for entry in images.classes.entries})
    above = torch.tensor([names.index(entry.superclass or "") for entry in images.classes.entries])
    found = []
    for _, labels, maps in images.blocks():
        classes = F.one_hot(labels, len(images.classes)).float()
        supers = F.one_hot(above[labels], len(names)).float()
        parts = F.adaptive_avg_pool2d(maps[:, None], PARTS).flatten(1)
        found.append(torch.cat([classes, supers, (supers[:, :, None] * parts[:, None]).flatten(1)], 1))
    table = torch.cat(found).double().numpy()
    codes = len(images.classes) + len(names)
    for columns in (slice(0, codes), slice(codes, None)):
        spread = np.sqrt(table[:, columns].var(0).sum())
        table[:, columns] /= spread if spread > 0 else 1
    return table


def random_units(features: Array, train: int, units: int, seed: Any) -> Array:
    """Random directions of features, each of mean 0 and variance 1 over the training images: (images, units)."""
    random = np.random.default_rng(seed)
    centred = features - features[:train].mean(0)
    found = centred @ random.standard_normal((features.shape[1], units))
    return np.asarray(found / np.maximum(found[:train].std(0), 1e-12))
