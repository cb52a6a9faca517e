"""The frozen stimulus set: a stratified, seeded subset of a ClickMe split, brought into the attack space.

All models share the attack space, so that their norms can be compared. Every image is resized and centre-cropped to the
same size and min-max scaled to [0, 1]; its human map is cropped with it and min-max scaled (docs/methods.md, section
Attack space).
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from advalign.data.centre_crop import centre_crop
from advalign.data.classes import Classes, checked_classes
from advalign.data.clickme import ClickMeRecord, image_digests, read_clickme, split_shards
from advalign.data.human_agreement import with_agreement
from advalign.data.imagenet import validation_records
from advalign.data.results import write_table, write_tensors
from advalign.data.sets.stimuli import StimulusSet
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import StimuliSettings


def choose(
    records: Iterable[ClickMeRecord], classes: Classes, settings: StimuliSettings, seed: int
) -> list[ClickMeRecord]:
    """Choose `images_per_category` records of `categories_per_superclass` categories of every superclass.

    Each record's rank in the draw is a hash of the seed and its content, so the choice does not depend on the order or
    number of shards. One pass; memory is bounded by the size of the result. Superclasses take turns in the result, so
    that every prefix of it is balanced.

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
    """Choose the stimuli from data/ and bring them into the attack space, with what people agree on where it is known.

    Raises:
        DataError: data missing or corrupt, too few images, or a stimulus that is also a training image.
    """
    classes = checked_classes(project.data / "classes.yaml")
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
    frozen = StimulusSet(
        with_agreement(pd.DataFrame(rows), project),
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(maps),
    )
    return replace(frozen, sources=frozen.sources_digest(project, project.digests))


def _refuse_training_images(project: Project, records: list[ClickMeRecord]) -> None:
    """Refuse stimuli that are training images: models would be tested on data they were trained on."""
    if not any((project.data / "clickme").glob("train-*.tfrecords")):
        return
    chosen = {record.sha256: record.source for record in records}
    for source, digest in image_digests(split_shards(project, "train")):
        if digest in chosen:
            raise DataError(f"stimulus {chosen[digest]} is also training image {source}: remove one of them")


def save_stimuli(project: Project, stimuli: StimulusSet) -> None:
    """Write outputs/stimuli/{manifest.parquet, stimuli.safetensors}, sealed; both carry the set's digest."""
    tensors = {"pixels": stimuli.pixels, "maps": stimuli.map_pixels}
    write_tensors(project.stimuli / "stimuli.safetensors", tensors, stimuli.digest)
    write_table(project.stimuli / "manifest.parquet", stimuli.manifest, stimuli.digest, sources=stimuli.sources)
