"""What a process does with one block of images: every image's agreement, its floor with another one of the block."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advalign.data.human_maps import ceilings
from advalign.data.human_maps.blocks import ImageTrials, load_block
from advalign.data.human_maps.maps import participant_maps
from advalign.data.human_maps.sides import MEASURES, Values
from advalign.settings import HumanMapSettings
from advalign.tensors.heatmaps import min_max_scale

SPLITS, RESAMPLES, CURVE = 0, 1, 2  # purposes of an image's random numbers


@dataclass(frozen=True)
class Task:
    """A block on disk, and how it is worked on."""

    path: Path
    settings: HumanMapSettings
    seed: int
    device: str = "cpu"

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class BlockResult:
    """Of the images of one block, in their order.

    Attributes:
        rows: columns of agreement.parquet, without M_mean_map.
        curves: by measure, (images, len(SIZES)).
        agreements: participants, and the Spearman correlation of their maps with the others', of every trial.
        total: (side, side) float64, sum of the images' maps, each scaled to [0, 1].
    """

    rows: list[dict[str, Any]]
    curves: Values
    agreements: tuple[list[str], list[float]]
    total: NDArray[np.float64]


def agreements(task: Task) -> tuple[list[str], list[float]]:
    """Participants, and the Spearman correlation of their maps with the others', of every trial of a block."""
    _one_thread()
    names: list[str] = []
    values: list[float] = []
    for image in load_block(task.path):
        names += image.participants
        values += ceilings.others_agreement(participant_maps(image, task.settings, task.device)).tolist()
    return names, values


def measure_block(task: Task) -> BlockResult:
    """Measure how well people agree on every image of a block.

    An image's floor is measured with the next image of a random circle through the block, so that none is its own.
    """
    _one_thread()
    images = load_block(task.path)
    circle = ceilings.generator(task.seed, images[0].image, SPLITS).permutation(len(images))
    measured: dict[int, dict[str, Any]] = {}
    found: dict[int, Values] = {}
    told: dict[int, NDArray[np.float64]] = {}
    total = np.zeros((task.settings.side, task.settings.side))
    opening: ceilings.Halves | None = None
    before: ceilings.Halves | None = None
    for place in circle:
        image = images[place]
        maps = participant_maps(image, task.settings, task.device)
        splits = ceilings.random_halves(len(maps), task.settings.splits, _rng(task, image, SPLITS))
        halves = ceilings.Halves.of(maps, splits)
        columns = ceilings.ceiling(maps, halves, splits, task.settings.bootstrap, _rng(task, image, RESAMPLES))
        bounds, told[place] = ceilings.bounds(maps)
        human = maps.mean(0)
        measured[place] = _identity(image) | columns | bounds | ceilings.centre(human)
        found[place] = ceilings.by_participants(maps, _rng(task, image, CURVE))
        total += min_max_scale(human[None])[0].cpu().double().numpy()
        if before is None:
            opening = halves
        else:
            measured[place] |= ceilings.floor(halves, before)
        before = halves
    assert opening is not None and before is not None
    if len(images) > 1:
        measured[circle[0]] |= ceilings.floor(opening, before)
    names = [name for image in images for name in image.participants]
    order = range(len(images))
    values = [float(value) for place in order for value in told[place]]
    curves = {measure: np.stack([found[place][measure] for place in order]) for measure in MEASURES}
    return BlockResult([measured[place] for place in order], curves, (names, values), total)


def compare_with_mean(task: Task, total: NDArray[np.float64], count: int) -> list[dict[str, float]]:
    """Agreement of the mean map of all other images with the map of every image of a block: columns M_mean_map.

    Args:
        task: the block.
        total: sum of all `count` images' maps, from `measure_block`.
        count: of the images.
    """
    _one_thread()
    rows = []
    for image in load_block(task.path):
        human = participant_maps(image, task.settings, task.device).mean(0)
        own = min_max_scale(human[None])[0].cpu().double().numpy()
        others = torch.from_numpy((total - own).clip(min=0) / max(count - 1, 1)).to(human)
        rows.append(ceilings.references("mean_map", others, human))
    return rows


def _rng(task: Task, image: ImageTrials, purpose: int) -> np.random.Generator:
    return ceilings.generator(task.seed, image.image, purpose)


def _identity(image: ImageTrials) -> dict[str, Any]:
    known = {"image": image.image, "sha256": image.sha256, "participants": len(image.clicks), "clicks": image.count}
    return known | {f"{measure}_floor": float("nan") for measure in MEASURES}


def _one_thread() -> None:
    """Sums are the same whatever the number of cores, and processes do not take each other's."""
    torch.set_num_threads(1)
