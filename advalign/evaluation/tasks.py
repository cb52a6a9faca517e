"""The unit of work that an engine runs: one model on one fixed shard of stimuli or of validation images.

A task names files and settings only, so that it travels to another process or machine; the same task gives the same
result wherever it runs with the same thread count.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from advalign import catalog
from advalign.attacks.base import AttackResult, Oracle, protocol
from advalign.data.classes import read_classes
from advalign.data.imagenet import ValidationImage, read_validation
from advalign.data.stimuli import StimulusSet, load_stimuli
from advalign.errors import DataError
from advalign.evaluation.sanity import sanity_flags
from advalign.files import Project
from advalign.metrics.base import AttackedShard
from advalign.models.checkpoints import Card, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.stand_in import Precision, stand_in
from advalign.models.zoo import evaluation_transform

NOT_FINITE = "its logits of clean images are not finite: fetch the weights again, or mend the entry's preprocessing"
LOOKED_AT = 8  # images of a shard that a model's sanity is judged by
DECODERS = 8  # threads that decode validation images
IMAGES_AT_ONCE = 64  # validation images in one pass; halved where memory runs out


@dataclass(frozen=True)
class Task:
    """One model on the members first .. last - 1 of the stimuli (kind "stimuli") or validation images ("images")."""

    kind: str
    root: Path
    checkpoint: Path
    weights: str  # SHA-256
    first: int
    last: int
    protocol: str
    metrics: tuple[str, ...]
    gallery: tuple[int, ...]
    seed: int
    device: str
    threads: int
    batch_size: int | None
    search_precision: Precision


@dataclass(frozen=True)
class ShardResult:
    """Rows of one task, and the perturbations of the gallery's stimuli among them, by position in the set."""

    rows: pd.DataFrame
    gallery: dict[int, Tensor]


def run_task(task: Task) -> ShardResult:
    """Run one task in this process."""
    torch.set_num_threads(task.threads)
    torch.backends.cudnn.deterministic = True
    classifier, card = _model(task.checkpoint, task.weights, task.device)
    if task.kind == "images":
        return ShardResult(_predict(task, classifier, card), {})
    return _attack(task, classifier, card)


def _attack(task: Task, classifier: Classifier, card: Card) -> ShardResult:
    stimuli = _stimuli(task.root)
    members = slice(task.first, task.last)
    attack = protocol(task.protocol).attack
    inputs, labels = stimuli.images[members].to(task.device), stimuli.labels[members].to(task.device)
    groups = torch.tensor(card.group_of_class, device=task.device)
    few = inputs[:LOOKED_AT]
    flags = sanity_flags(classifier, few, labels[:LOOKED_AT], groups)
    if "non-finite-logits" in flags:
        raise DataError(f"{card.name}: {NOT_FINITE}")
    search = stand_in(classifier, few, task.search_precision) if attack.uses_stand_in else None
    result = attack.run(classifier, inputs, labels, groups=groups, search=search, batch_size=task.batch_size)
    perturbations = result.adversarials - inputs
    others = derangement(len(stimuli), task.seed)[members]
    shard = AttackedShard(
        perturbations,
        stimuli.heatmaps[members].to(task.device),
        stimuli.heatmap_ranks[members].to(task.device),
        stimuli.heatmap_ranks[others].to(task.device),
    )
    rows = _rows(task, stimuli.manifest.iloc[members], card.name, result)
    rows["flags"] = ",".join(flags)
    for name in task.metrics:
        for column, values in catalog.load("metric", name)().measure(shard).items():
            rows[column] = np.where(rows["status"] == "ok", values.cpu().double().numpy(), np.nan)
    kept = [position for position in task.gallery if task.first <= position < task.last]
    return ShardResult(rows, {position: perturbations[position - task.first].cpu() for position in kept})


def _rows(task: Task, manifest: pd.DataFrame, model: str, result: AttackResult) -> pd.DataFrame:
    """One row per stimulus: which, and what became of it."""
    rows = pd.DataFrame({"model": model, "protocol": task.protocol}, index=range(len(manifest)))
    described = manifest[["stimulus", "category", "superclass", "label"]].reset_index(drop=True)
    return pd.concat([rows, described], axis=1).assign(
        clean_prediction=result.clean_predictions.cpu().numpy(),
        status=[str(status) for status in result.status],
        norm_l2=result.norm_l2.cpu().numpy(),
        largest_tried=result.largest_tried.cpu().numpy(),
        queries=result.queries.cpu().numpy(),
    )


@torch.no_grad()
def _predict(task: Task, classifier: Classifier, card: Card) -> pd.DataFrame:
    """Predictions on validation images under the model's own evaluation transform."""
    images = _validation(task.root)[task.first : task.last]
    transform = evaluation_transform(classifier.preprocessing)
    with ThreadPoolExecutor(min(DECODERS, os.cpu_count() or 1)) as pool:  # decoding would keep a GPU waiting
        pixels = list(pool.map(lambda image: transform(Image.open(image.path).convert("RGB")), images))
    inputs = torch.stack(pixels).to(task.device)
    nothing = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    oracle = Oracle(classifier, inputs, nothing, batch_size=task.batch_size or IMAGES_AT_ONCE)
    if not oracle.clean_logits.isfinite().all():
        raise DataError(f"{card.name}: {NOT_FINITE}")
    predictions = oracle.clean_logits.argmax(1).tolist()
    return pd.DataFrame(
        {
            "model": card.name,
            "image": [image.path.name for image in images],
            "label": [image.label for image in images],
            "prediction": predictions,
            "correct": [sorted(image.labels.correct) for image in images],
            "unclear": [sorted(image.labels.unclear) for image in images],
            "problematic": [image.labels.problematic for image in images],
        }
    )


def derangement(count: int, seed: int) -> Tensor:
    """A seeded permutation of 0 .. count - 1 without fixed points: position -> another stimulus's position.

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


@lru_cache(maxsize=1)
def _model(checkpoint: Path, weights: str, device: str) -> tuple[Classifier, Card]:
    classifier, card = load_checkpoint(checkpoint)
    if card.weights_sha256 != weights:
        raise DataError(f"{checkpoint} was replaced while it was evaluated; evaluate it again")
    return classifier.to(device).to(memory_format=torch.channels_last).requires_grad_(False), card


@lru_cache(maxsize=1)
def _stimuli(root: Path) -> StimulusSet:
    return load_stimuli(Project(root))


@lru_cache(maxsize=1)
def _validation(root: Path) -> list[ValidationImage]:
    project = Project(root)
    return read_validation(project, read_classes(project.data / "classes.yaml"))
