"""The stimuli as an image set: frozen images in the attack space with their human maps (docs/methods.md)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from advalign.data.classes import Classes
from advalign.data.clickme import read_human_ceiling
from advalign.data.participants import IMAGES, TRIALS
from advalign.data.results import stored_identity, stored_sources
from advalign.data.sets.base import ImageSet, Items
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import content_digest, digests
from advalign.rows import HUMAN_CEILING, HUMAN_CEILING_CORRECTED, HUMAN_FLOOR, HUMAN_SPAN
from advalign.seals import need_whole
from advalign.strict_files import read_yaml
from advalign.tensors.heatmaps import min_max_scale
from advalign.tensors.ranks import average_ranks

RANKED_AT_ONCE = 32  # maps ranked at once; ranking takes about 50 bytes of memory per pixel
COLUMNS = ["stimulus", "category", "superclass", "label"]
PEOPLE = {"ceiling": HUMAN_CEILING, "ceiling_corrected": HUMAN_CEILING_CORRECTED, "floor": HUMAN_FLOOR}
"""Columns of a manifest with what people agree on -> the same in rows, and among the extras."""


@dataclass(frozen=True)
class StimulusSet(ImageSet):
    """Frozen stimuli.

    Attributes:
        manifest: one row per stimulus: stimulus, class_index, wnid, category, superclass, animate, label (index of
            the right decision), source (shard:record), sha256 (of the JPEG); where trials of single participants are
            known, also ceiling, ceiling_corrected and floor (`PEOPLE`), NaN for a stimulus without trials.
        pixels: (N, 3, size, size) uint8, before min-max scaling.
        map_pixels: (N, size, size) uint8, before min-max scaling; zero where there is no human map: like any constant
            map, it has no rank correlation.
        sources: digest of the data that the stimuli were frozen from (`sources_digest`).
    """

    grouped: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("human_map", "human_ranks", "other_ranks")

    manifest: pd.DataFrame
    pixels: Tensor
    map_pixels: Tensor
    sources: str = ""

    def __len__(self) -> int:
        return len(self.manifest)

    @cached_property
    def has_maps(self) -> bool:
        """Whether any stimulus has a human map; stimuli from validation images have none."""
        return bool(self.map_pixels.any())

    @property
    def has_people(self) -> bool:
        """Whether ceiling and floor of any stimulus are known: from trials of single participants."""
        return {*PEOPLE} <= {*self.manifest}

    @cached_property
    def agreement(self) -> dict[str, Tensor]:
        """What people agree on, by the names of extras: (N,) float64 each, NaN where unknown; empty without people.

        The span, one number repeated, is the mean ceiling minus the mean floor over the whole set.
        """
        if not self.has_people:
            return {}
        known = self.manifest[[*PEOPLE]].astype(np.float64)
        span = float((known["ceiling"] - known["floor"]).mean())
        found = {PEOPLE[column]: torch.from_numpy(known[column].to_numpy(copy=True)) for column in PEOPLE}
        return {**found, HUMAN_SPAN: torch.full((len(known),), span, dtype=torch.float64)}

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
        """(N, size * size) float32, exact: average ranks of every human map's pixels, computed once for all models."""
        maps = self.heatmaps.flatten(1)
        starts = range(0, len(maps), RANKED_AT_ONCE)
        return torch.cat([average_ranks(maps[start : start + RANKED_AT_ONCE]).float() for start in starts])

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64: the index of the right decision (see `data.classes.DECISIONS`)."""
        return torch.tensor(self.manifest["label"].to_numpy(dtype=np.int64))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, maps and right decisions, and of ceilings and floors if known: the identity of the set."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.map_pixels, self.labels):
            content.update(tensor.contiguous().numpy().tobytes())
        if self.has_people:
            known = self.manifest[[*PEOPLE]].to_numpy(np.float64)
            content.update(np.where(np.isnan(known), np.nan, known).tobytes())  # a NaN can have several bit patterns
        return content.hexdigest()

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "StimulusSet":
        """Read outputs/stimuli; see `load_stimuli`."""
        return load_stimuli(project)

    def listing(self) -> pd.DataFrame:
        """The manifest."""
        return self.manifest

    def image_sha256(self, first: int, last: int) -> list[str]:
        """Of the encoded images that the stimuli were made from."""
        return self.manifest["sha256"].iloc[first:last].tolist()

    def items(self, first: int, last: int, seed: int) -> Items:
        """Stimuli with their human maps, and with another stimulus's map each (a seeded derangement of the set).

        Extras: `human_map` (N, H, W) in [0, 1], `human_ranks` and `other_ranks` (N, H * W). Where participants are
        known there are more (`agreement`), and the table has them too.
        """
        members = slice(first, last)
        images = self.images[members]
        agreed = {name: values[members] for name, values in self.agreement.items()}
        table = self.manifest.iloc[members][COLUMNS].reset_index(drop=True)
        return Items(
            table.assign(**{name: agreed[name].numpy() for name in PEOPLE.values() if name in agreed}),
            self.labels[members],
            lambda _: images,
            {
                "human_map": self.heatmaps[members],
                "human_ranks": self.heatmap_ranks[members],
                "other_ranks": self.heatmap_ranks[derangement(len(self), seed)[members]],
                **agreed,
            },
        )

    def reads(self, project: Project) -> list[Path]:
        """The classes, the human ceiling, and the shards or images that the stimuli were chosen from."""
        ceiling = [project.data / "clickme" / "ceiling.yaml"] if self.has_maps else []
        return [*ceiling, *self._sources(project)]

    def _sources(self, project: Project) -> list[Path]:
        """What the frozen files were made from."""
        names = sorted({source.partition(":")[0] for source in self.manifest["source"]})
        clickme, imagenet = project.data / "clickme", project.data / "imagenet"
        trials = [project.participants / name for name in (TRIALS, IMAGES)] if self.has_people else []
        if self.has_maps:
            return [*super().reads(project), *(clickme / name for name in names), *trials]
        images = (imagenet / "val" / name for name in names)
        return [*super().reads(project), imagenet / "labels.csv", *images, *trials]

    def sources_digest(self, project: Project, remembered: Path | None) -> str:
        """Digest of the files that the stimuli were chosen from, as they are now."""
        return content_digest(project.data, digests(self._sources(project), remembered))

    def is_stale(self, project: Project, remembered: Path | None) -> bool:
        """Whether the shards or images, or the classes, have changed since the stimuli were frozen."""
        return self.sources != self.sources_digest(project, remembered)

    def human_ceiling(self, project: Project) -> float | None:
        """The ceiling of the human maps, from data/; None where there are no maps."""
        return read_human_ceiling(project) if self.has_maps else None

    def absent(self) -> list[str]:
        """Say that maps are missing."""
        if self.has_maps:
            return []
        return ["the stimuli have no human maps: tolerance and accuracy are measured, alignment is not"]


def derangement(count: int, seed: int) -> Tensor:
    """A seeded permutation of 0 .. count - 1 without fixed points: position -> another item's position.

    >>> bool((derangement(5, seed=0) == torch.arange(5)).any())
    False
    """
    rng = np.random.default_rng(seed)
    if count < 2:
        return torch.zeros(count, dtype=torch.int64)
    while True:
        order = rng.permutation(count)
        if not (order == np.arange(count)).any():
            return torch.from_numpy(order)


def has_stage(project: Project) -> bool:
    """Whether a stage of the experiment's dvc.yaml freezes stimuli; True where there is no dvc.yaml.

    Raises:
        InputError: dvc.yaml is not valid.
    """
    path = project.root / "dvc.yaml"
    return not path.is_file() or "stimuli" in (read_yaml(path) or {}).get("stages", {})


def _missing(project: Project) -> str:
    if has_stage(project):
        return "outputs/stimuli is missing: make it with `dvc repro stimuli`"
    return (
        "outputs/stimuli is missing, and no stage of this experiment makes it: name a protocol on another image set, "
        "such as those that its params.yaml declares (`advalign protocols` lists them)"
    )


def load_stimuli(project: Project) -> StimulusSet:
    """Read the frozen stimulus set.

    Raises:
        DataError: the set does not exist yet, is damaged, or its files are of two sets.
    """
    folder, mend = project.stimuli, "make the stimuli again with `dvc repro -f stimuli`"
    manifest, tensors = folder / "manifest.parquet", folder / "stimuli.safetensors"
    try:
        for path in (manifest, tensors):
            need_whole(path, mend)
    except FileNotFoundError:
        raise DataError(_missing(project)) from None
    if stored_identity(manifest) != stored_identity(tensors):
        raise DataError(f"outputs/stimuli: manifest and tensors are of two sets: {mend}")
    with safe_open(tensors, "pt") as file:
        pixels, maps = file.get_tensor("pixels"), file.get_tensor("maps")
    return StimulusSet(pd.read_parquet(manifest), pixels, maps, stored_sources(manifest))
