"""The unit of work that an engine runs: one model under one protocol on fixed members of an image set.

A task holds only file names and settings, so that it can be sent to another process or machine. The same task gives
the same result wherever it runs with the same thread count.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from advalign import catalog
from advalign.data.classes import read_classes
from advalign.data.sets.base import ImageSet
from advalign.errors import DataError
from advalign.evaluation.protocols import Protocol, Spec
from advalign.files import Project
from advalign.models.checkpoints import Card, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.stand_in import Precision
from advalign.probes.base import Conditions, Measured, Model


@dataclass(frozen=True)
class Task:
    """One model under one protocol on the members first .. last - 1 of the protocol's image set.

    Attributes:
        protocol: the probe, its attack and settings.
        root: of the project.
        checkpoint: the model's folder.
        weights: SHA-256 of its weights.
        first, last: members.
        kept: positions in the set whose tensors are kept for pictures.
        seed: for extras that are drawn at random (another item's map).
        device, threads, batch_size, search_precision: how the task is computed.
    """

    protocol: Spec
    root: Path
    checkpoint: Path
    weights: str
    first: int
    last: int
    kept: tuple[int, ...]
    seed: int
    device: str
    threads: int
    batch_size: int | None
    search_precision: Precision


def run_task(task: Task) -> Measured:
    """Run one task in this process."""
    classifier, card = _model(task.checkpoint, task.weights, task.device)
    return measure(task, classifier, card)


def measure(task: Task, classifier: Classifier, card: Card) -> Measured:
    """Run a task on a model in memory.

    Args:
        task: the work; its checkpoint is not read.
        classifier: in evaluation mode on the task's device; its parameters require no gradient.
        card: of the model: its classes and their decisions.

    Returns:
        Rows that begin with model and protocol, and the kept tensors by position in the set.
    """
    torch.set_num_threads(task.threads)
    torch.backends.cudnn.deterministic = True
    image_set = _image_set(task.protocol.image_set, task.root)
    groups = torch.tensor(card.group_of_class, device=task.device) if image_set.grouped else None
    model = Model(card.name, classifier, groups, task.device)
    kept = tuple(position - task.first for position in task.kept if task.first <= position < task.last)
    conditions = Conditions(task.batch_size, task.search_precision, kept)
    items = image_set.items(task.first, task.last, task.seed)
    found = Protocol(task.protocol).probe.measure(model, items, conditions)
    found.rows.insert(0, "model", card.name)
    found.rows.insert(1, "protocol", task.protocol.name)
    return Measured(found.rows, {task.first + position: tensor for position, tensor in found.kept.items()})


@lru_cache(maxsize=1)
def _model(checkpoint: Path, weights: str, device: str) -> tuple[Classifier, Card]:
    classifier, card = load_checkpoint(checkpoint)
    if card.weights_sha256 != weights:
        raise DataError(f"{checkpoint} was replaced during its evaluation: evaluate it again")
    return classifier.to(device).to(memory_format=torch.channels_last).requires_grad_(False), card


@lru_cache(maxsize=4)
def _image_set(name: str, root: Path) -> ImageSet:
    return open_set(name, Project(root))


def open_set(name: str, project: Project) -> ImageSet:
    """Read an image set of a project.

    Raises:
        InputError: there is no such set.
        DataError: the set is missing or damaged.
    """
    opened: ImageSet = catalog.load("image set", name).open(project, read_classes(project.data / "classes.yaml"))
    return opened
