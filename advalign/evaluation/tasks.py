"""The unit of work that an engine runs: one model under one protocol on fixed members of an image set.

A task holds only file names and settings, so that it can be sent to another process or machine. The same task gives
the same result wherever it runs with the same thread count.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from advalign import catalog
from advalign.data.classes import read_classes
from advalign.data.sets.base import ImageSet
from advalign.errors import AdvalignError, DataError
from advalign.evaluation.protocols import Protocol, Spec
from advalign.evaluation.tally import counted
from advalign.files import Project
from advalign.memory import held, taken
from advalign.models.checkpoints import WEIGHTS, Card, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.stand_in import Precision
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import BATCH_SIZE, TASK

AT_ONCE = 48  # images in one pass where neither settings nor memory say another number
PROBED = 3  # images in the pass that memory is measured with
SHARE = 0.5  # of a worker's memory that passes may take: as images leave, freed blocks do not fit into each other
COPIES = 12  # of a task's images that an attack holds beside its passes


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
        memory: bytes that the worker may take, from its engine; None: not limited, or not known.
        halvings: how often memory ran out, so that a pass has half as many images each time. Engines set both; they
            make no other task.
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
    memory: int | None = field(default=None, compare=False)
    halvings: int = field(default=0, compare=False)


class MemoryRanOut(AdvalignError):  # noqa: N818  an event, as CheckFailed is
    """A task cannot be computed in the worker's memory, not even one image at a time."""

    def __init__(self, memory: int | None) -> None:
        had = f" ({memory / 2**30:.1f} GiB for each worker)" if memory is not None else ""
        super().__init__(
            f"memory ran out{had} again and again, with half as many images in one pass each time: use fewer "
            "--workers, or a machine with more memory"
        )
        self.memory = memory

    def __reduce__(self) -> tuple[type, tuple[int | None]]:
        return type(self), (self.memory,)


def run_task(task: Task) -> Measured:
    """Run one task in this process, in passes that fit into the worker's memory.

    Raises:
        MemoryRanOut: no pass fits.
    """
    torch.set_num_threads(task.threads)
    probed = task.memory is not None and task.device == "cpu"
    classifier, card, taken_by_image = _model(task.checkpoint, task.weights, task.device, probed)
    return measure(task, classifier, card, _batch_size(task, taken_by_image, classifier.preprocessing.input_size))


def expected_passes(probe: Probe, items: int) -> int:
    """Passes (images, each time that the model sees them) that a probe typically makes of some items."""
    return items * max(1, round(probe.passes))


def _batch_size(task: Task, taken_by_image: int | None, side: int) -> int | None:
    """The most images in one pass; None: the probe decides."""
    wanted = size = task.batch_size or AT_ONCE
    holds = held() if taken_by_image and task.protocol.attack else None  # passes without gradient take much less
    if task.memory is not None and taken_by_image and holds is not None:
        images = COPIES * (task.last - task.first) * 3 * side**2 * torch.float32.itemsize
        stand_in = (task.checkpoint / WEIGHTS).stat().st_size
        free = task.memory - holds - images - stand_in
        size = min(wanted, max(1, int(SHARE * free) // taken_by_image))
    size >>= task.halvings
    if not size:
        raise MemoryRanOut(task.memory)
    return task.batch_size if size == wanted else size


def measure(task: Task, classifier: Classifier, card: Card, batch_size: int | None = None) -> Measured:
    """Run a task on a model in memory.

    Args:
        task: the work; its checkpoint is not read.
        classifier: in evaluation mode on the task's device; its parameters require no gradient.
        card: of the model: its classes and their decisions.
        batch_size: the most images in one pass where memory is short; None: the task's.

    Returns:
        Rows that begin with model and protocol and end with task and batch_size, and the kept tensors by position in
        the set.
    """
    torch.set_num_threads(task.threads)
    torch.backends.cudnn.deterministic = True
    project, probe = Project(task.root), Protocol(task.protocol).probe
    image_set = _image_set(task.protocol.image_set, task.root)
    groups = torch.tensor(card.group_of_class, device=task.device) if image_set.grouped else None
    model = Model(card.name, classifier, groups, task.device)
    kept = tuple(position - task.first for position in task.kept if task.first <= position < task.last)
    conditions = Conditions(batch_size or task.batch_size, task.search_precision, kept)
    items = probe.items(project, image_set, task.first, task.last, task.seed)
    with counted(classifier, expected_passes(probe, len(items))):
        found = probe.measure(model, items, conditions)
    found.rows.insert(0, "model", card.name)
    found.rows.insert(1, "protocol", task.protocol.name)
    smaller = None if batch_size == task.batch_size else batch_size
    found.rows[TASK] = task.first
    found.rows[BATCH_SIZE] = pd.array([smaller] * len(found.rows), dtype="Int64")
    return Measured(found.rows, {task.first + position: tensor for position, tensor in found.kept.items()})


@lru_cache(maxsize=1)
def _model(checkpoint: Path, weights: str, device: str, probed: bool) -> tuple[Classifier, Card, int | None]:
    """The model, and the bytes that an image takes in a pass with input gradient; None where they are not measured."""
    classifier, card = load_checkpoint(checkpoint)
    if card.weights_sha256 != weights:
        raise DataError(f"{checkpoint} was replaced during its evaluation: evaluate it again")
    classifier.to(device).to(memory_format=torch.channels_last).requires_grad_(False)
    if not probed:
        return classifier, card, None
    _pass(classifier, 1)  # the first pass makes what later ones keep
    bytes_taken = taken(lambda: _pass(classifier, PROBED))
    return classifier, card, None if bytes_taken is None else max(1, bytes_taken // PROBED)


def _pass(classifier: Classifier, images: int) -> None:
    side = classifier.preprocessing.input_size
    pixels = torch.full((images, 3, side, side), 0.5, requires_grad=True)
    torch.autograd.grad(classifier(pixels).sum(), pixels)


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
