"""The frozen stimulus set: a stratified, seeded subset of a ClickMe split, brought into the attack space.

The attack space is one for all models (methods: stimuli), so that norms compare: every image is resized and
centre-cropped to the same size and min-max scaled to [0, 1]; its human map is cropped with it and min-max scaled.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from pyarrow import ArrowInvalid
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from advalign.data.centre_crop import centre_crop
from advalign.data.classes import Classes, read_classes
from advalign.data.clickme import ClickMeRecord, image_digests, read_clickme, split_shards
from advalign.data.imagenet import validation_records
from advalign.errors import DataError
from advalign.files import Project, replacing
from advalign.settings import StimuliSettings
from advalign.tensors.heatmaps import min_max_scale
from advalign.tensors.ranks import average_ranks

RANKED_AT_ONCE = 32  # maps; ranking takes about 50 bytes of memory per pixel


@dataclass(frozen=True)
class StimulusSet:
    """Frozen stimuli.

    Attributes:
        manifest: one row per stimulus: stimulus, class_index, wnid, category, superclass, animate, label (index of
            the right decision), source (shard:record), sha256 (of the JPEG).
        pixels: (N, 3, size, size) uint8, before min-max scaling.
        map_pixels: (N, size, size) uint8, before min-max scaling; zero where there is no human map: like any constant
            map, it has no rank correlation.
    """

    manifest: pd.DataFrame
    pixels: Tensor
    map_pixels: Tensor

    def __len__(self) -> int:
        return len(self.manifest)

    @cached_property
    def has_maps(self) -> bool:
        """Whether people's maps are there at all: not for stimuli from validation images."""
        return bool(self.map_pixels.any())

    @cached_property
    def images(self) -> Tensor:
        """(N, 3, size, size) float32, each from 0 to 1."""
        return min_max_scale(self.pixels.float())

    @cached_property
    def heatmaps(self) -> Tensor:
        """(N, size, size) float32, each from 0 to 1."""
        return min_max_scale(self.map_pixels.float())

    @cached_property
    def heatmap_ranks(self) -> Tensor:
        """(N, size * size) float32, exact: average ranks of every human map's pixels, for all models to use."""
        maps = self.heatmaps.flatten(1)
        starts = range(0, len(maps), RANKED_AT_ONCE)
        return torch.cat([average_ranks(maps[start : start + RANKED_AT_ONCE]).float() for start in starts])

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64: the index of the right decision (see `data.classes.DECISIONS`)."""
        return torch.tensor(self.manifest["label"].to_numpy(dtype=np.int64))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, maps and right decisions: the identity of the set."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.map_pixels, self.labels):
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()


def choose(
    records: Iterable[ClickMeRecord], classes: Classes, settings: StimuliSettings, seed: int
) -> list[ClickMeRecord]:
    """Choose `images_per_category` records of `categories_per_superclass` categories of every superclass.

    Each record's place in the draw is a hash of the seed and its content, so the same images are chosen whatever the
    order or number of shards; one pass, memory bounded by the size of the result. Superclasses take turns in the
    result, so that every prefix of it is balanced.

    Raises:
        DataError: some superclass has too few categories with enough images (lists them).
    """
    heaps: dict[int, list[tuple[int, str, ClickMeRecord]]] = defaultdict(list)
    for record in records:
        if classes[record.label].superclass is None:
            continue
        place = _draw(seed, record.sha256)
        heap = heaps[record.label]
        if any(other.sha256 == record.sha256 for _, _, other in heap):
            continue  # the same image twice in the source is one stimulus
        heapq.heappush(heap, (-place, record.source, record))
        if len(heap) > settings.images_per_category:
            heapq.heappop(heap)
    chosen: list[list[ClickMeRecord]] = []
    lacking: list[str] = []
    for superclass, members in _members(classes).items():
        full = [index for index in members if len(heaps[index]) == settings.images_per_category]
        if len(full) < settings.categories_per_superclass:
            short = [f"{classes[index].name} {len(heaps[index])}" for index in members if index not in full]
            lacking.append(f"{superclass} has {len(full)} (short: {', '.join(short)})")
        drawn = sorted(full, key=lambda index: _draw(seed, classes[index].wnid))[: settings.categories_per_superclass]
        ranked = [[record for _, _, record in sorted(heaps[index], reverse=True)] for index in sorted(drawn)]
        chosen.append([record for turn in zip(*ranked, strict=True) for record in turn])
    if lacking:
        raise DataError(
            f"too few categories with {settings.images_per_category} images in split {settings.split!r}: "
            f"{'; '.join(lacking)}, wanted {settings.categories_per_superclass} each (params.yaml: stimuli)"
        )
    return [record for turn in zip(*chosen, strict=True) for record in turn]


def _draw(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big")


def _members(classes: Classes) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for entry in classes.entries:
        if entry.superclass is not None:
            members[entry.superclass].append(entry.index)
    return members


def freeze_stimuli(project: Project, settings: StimuliSettings, seed: int) -> StimulusSet:
    """Choose the stimuli from data/ and bring them into the attack space.

    Raises:
        DataError: data missing or corrupt, too few images, or a stimulus that is also a training image.
    """
    classes = read_classes(project.data / "classes.yaml")
    if settings.split == "imagenet":
        source = validation_records(project, classes)
    else:
        source = read_clickme(split_shards(project, settings.split), len(classes))
    records = choose(source, classes, settings, seed)
    if settings.split != "train":
        _refuse_training_images(project, records)
    rows = []
    for record in records:
        entry = classes[record.label]
        rows.append(
            {
                "stimulus": f"{entry.wnid}_{record.sha256[:8]}",
                "class_index": entry.index,
                "wnid": entry.wnid,
                "category": entry.name,
                "superclass": entry.superclass,
                "animate": entry.animate,
                "label": classes.decision_of_class[entry.index],
                "source": record.source,
                "sha256": record.sha256,
            }
        )
    pixels = np.stack([centre_crop(record.image, settings.size, settings.crop) for record in records])
    maps = np.stack([centre_crop(record.heatmap, settings.size, settings.crop) for record in records])
    return StimulusSet(
        pd.DataFrame(rows), torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(maps)
    )


def _refuse_training_images(project: Project, records: list[ClickMeRecord]) -> None:
    """A model would be tested on what it was trained on."""
    if not any((project.data / "clickme").glob("train-*.tfrecords")):
        return
    chosen = {record.sha256: record.source for record in records}
    for source, digest in image_digests(split_shards(project, "train")):
        if digest in chosen:
            raise DataError(f"stimulus {chosen[digest]} is also training image {source}: remove one of them")


def _names(manifest: pd.DataFrame) -> str:
    """Digest of the stimuli's names: binds the two files to each other."""
    return hashlib.sha256("\n".join(manifest["stimulus"]).encode()).hexdigest()


def save_stimuli(project: Project, stimuli: StimulusSet) -> None:
    """Write outputs/stimuli/{manifest.parquet, stimuli.safetensors}."""
    with replacing(project.stimuli / "stimuli.safetensors") as temporary:
        tensors = {"pixels": stimuli.pixels, "maps": stimuli.map_pixels}
        save_file(tensors, temporary, {"stimuli": _names(stimuli.manifest)})
    with replacing(project.stimuli / "manifest.parquet") as temporary:
        stimuli.manifest.to_parquet(temporary, index=False)


def load_stimuli(project: Project) -> StimulusSet:
    """Read the frozen stimulus set.

    Raises:
        DataError: it has not been made yet, or manifest and tensors disagree.
    """
    try:
        manifest = pd.read_parquet(project.stimuli / "manifest.parquet")
        with safe_open(project.stimuli / "stimuli.safetensors", "pt") as file:
            pixels, maps = file.get_tensor("pixels"), file.get_tensor("maps")
            names = (file.metadata() or {}).get("stimuli")
    except FileNotFoundError:
        raise DataError("outputs/stimuli is missing: make it with `dvc repro stimuli`") from None
    except (SafetensorError, ArrowInvalid, OSError) as error:
        raise DataError(
            f"outputs/stimuli cannot be read ({error}): make it again with `dvc repro -f stimuli`"
        ) from None
    if len(manifest) != len(pixels) or names != _names(manifest):
        raise DataError("outputs/stimuli: manifest and tensors disagree: make them again with `dvc repro -f stimuli`")
    return StimulusSet(manifest, pixels, maps)
