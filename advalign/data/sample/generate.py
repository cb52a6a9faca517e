"""The sample data set on disk, in the layout of the real one: shards, images, labels, human ceiling, participants."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from advalign.data.classes import Classes, ClassInfo, write_classes
from advalign.data.sample.drawings import CATEGORIES
from advalign.data.sample.folder import Counted, check_empty
from advalign.data.sample.people import write_participants
from advalign.data.sample.scene import Scene, render, render_pair
from advalign.data.tfrecord import encode_example, write_payloads
from advalign.files import replacing, write_text
from advalign.tensors.ranks import rank_correlation

IMAGE_QUALITY, MAP_QUALITY = 88, 90
TRAINING_AGREEMENT = 0.9  # how often the background cue agrees with the object, where the split is iid
RECORDS_PER_SHARD = 720


@dataclass(frozen=True)
class Split:
    """How many images, how often the cue agrees, and the stream of random numbers they come from."""

    count: int
    cue_agreement: float
    stream: int


@dataclass(frozen=True)
class SampleSettings:
    """The sample's size; `scale` shrinks it for tests."""

    seed: int = 20251
    scale: float = 1.0

    def split(self, name: str) -> Split:
        """Size of a split: whole images per category, at least four."""
        count, agreement, stream = {
            "train": (60, TRAINING_AGREEMENT, 0),
            "val": (10, TRAINING_AGREEMENT, 1),
            "test": (8, 0.0, 2),
            "imagenet": (20, TRAINING_AGREEMENT, 3),
        }[name]
        return Split(max(4, round(count * self.scale)) * len(CATEGORIES), agreement, stream)


def sample_classes() -> Classes:
    """The 36 classes; their wnids are made up (n90...) and collide with none of WordNet's."""
    return Classes(
        tuple(
            ClassInfo(index, f"n90{index:06d}", entry.name, entry.superclass, entry.animate)
            for index, entry in enumerate(CATEGORIES)
        )
    )


def generate_sample(
    folder: Path, settings: SampleSettings = SampleSettings(), on_image: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Write the whole data set into an empty or absent folder; the same settings, the same content.

    Args:
        folder: usually data/.
        settings: seed and size.
        on_image: called with (images done, images in all).

    Raises:
        InputError: the folder holds something already.
    """
    check_empty(folder)
    counted = Counted(sum(settings.split(name).count for name in ("train", "val", "test", "imagenet")), on_image)
    classes = sample_classes()
    write_classes(folder / "classes.yaml", classes)
    for name in ("train", "val", "test"):
        scenes = list(counted(_singles(settings, settings.split(name))))
        _write_shards(folder / "clickme", name, scenes)
        if name == "test":
            _write_ceiling(folder / "clickme" / "ceiling.yaml", scenes)
            images = [(scene, _jpeg(scene.image, IMAGE_QUALITY)) for scene in scenes]
            write_participants(folder / "participants", images, (settings.seed, settings.split(name).stream))
    _write_imagenet(folder / "imagenet", classes, counted(_validation(settings, settings.split("imagenet"))))


def _order(settings: SampleSettings, split: Split) -> NDArray[np.int64]:
    """Categories of a split's images: equally many of each, shuffled."""
    order = np.arange(split.count) % len(CATEGORIES)
    np.random.default_rng([settings.seed, split.stream]).shuffle(order)
    return order


def _singles(settings: SampleSettings, split: Split) -> Iterator[Scene]:
    for number, category in enumerate(_order(settings, split)):
        rng = np.random.default_rng([settings.seed, split.stream, number])
        yield render(int(category), rng, split.cue_agreement)


def _validation(settings: SampleSettings, split: Split) -> Iterator[Scene]:
    """Validation images: every sixth holds a second object of another superclass."""
    for number, category in enumerate(_order(settings, split)):
        rng = np.random.default_rng([settings.seed, split.stream, number])
        if number % 6:
            yield render(int(category), rng, split.cue_agreement)
            continue
        others = [k for k, entry in enumerate(CATEGORIES) if entry.superclass != CATEGORIES[category].superclass]
        yield render_pair(int(category), int(rng.choice(others)), rng, split.cue_agreement)


def _write_shards(folder: Path, split: str, scenes: list[Scene]) -> None:
    for shard, first in enumerate(range(0, len(scenes), RECORDS_PER_SHARD)):
        members = scenes[first : first + RECORDS_PER_SHARD]
        write_payloads(folder / f"{split}-{shard:05d}.tfrecords", (_record(scene) for scene in members))


def _record(scene: Scene) -> bytes:
    heatmap = np.round(scene.heatmap * 255).astype(np.uint8)
    return encode_example(
        {
            "image": _jpeg(scene.image, IMAGE_QUALITY),
            "heatmap": _jpeg(heatmap, MAP_QUALITY),
            "label": scene.categories[0],
        }
    )


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def _write_ceiling(path: Path, scenes: list[Scene]) -> None:
    """The human ceiling: mean Spearman correlation of the maps of two halves of the simulated clicks."""
    halves = [torch.from_numpy(np.stack([scene.half_maps[k].ravel() for scene in scenes])) for k in (0, 1)]
    ceiling = float(rank_correlation(halves[0], halves[1]).mean())
    write_text(
        path,
        "# Mean rank correlation between the maps of two random halves of the clicks (split-half, uncorrected).\n"
        f"human_ceiling: {ceiling:.5f}\nimages: {len(scenes)}\n",
    )


def _write_imagenet(folder: Path, classes: Classes, scenes: Iterator[Scene]) -> None:
    """Validation images, original labels, and a multi-label set in the original release's schema.

    One image in forty is flagged problematic (every other of these has no correct label), and one in sixty of the
    others has an unclear label, so that every path of the accuracy's definition is walked.
    """
    annotations: dict[str, dict[str, list[str]]] = {}
    problematic: dict[str, dict[str, str]] = {}
    rows = ["image,wnid\n"]
    for number, scene in enumerate(scenes, start=1):
        name = f"SAMPLE_val_{number:08d}.JPEG"
        with replacing(folder / "val" / name) as temporary:
            temporary.write_bytes(_jpeg(scene.image, IMAGE_QUALITY))
        wnids = [classes[category].wnid for category in scene.categories]
        rows.append(f"{name},{wnids[0]}\n")
        annotations[name] = {"correct": sorted(wnids), "wrong": []}
        if number % 40 == 0:
            problematic[name] = {"reason": "flagged to exercise the exclusion"}
            annotations[name]["correct"] = wnids[: number // 40 % 2]
        elif number % 60 == 7:
            annotations[name]["unclear"] = [classes[(scene.categories[0] + 1) % len(classes)].wnid]
    content = {"initial_annots": annotations, "problematic_images": problematic, "imagenet_m": []}
    write_text(folder / "multilabel.json", json.dumps(content, indent=0, sort_keys=True) + "\n")
    write_text(folder / "labels.csv", "".join(rows))
