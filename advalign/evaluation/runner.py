"""The evaluation of a zoo: what is there already is kept, the rest is run, each model's table written in one move."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from advalign import catalog, provenance
from advalign.attacks.base import protocol
from advalign.data.classes import read_classes
from advalign.data.clickme import read_human_ceiling
from advalign.data.imagenet import ValidationImage, read_validation
from advalign.data.results import SCHEMA_VERSION, Paths, stored_identity, write_table
from advalign.data.stimuli import StimulusSet, load_stimuli
from advalign.errors import DataError
from advalign.evaluation.engines import Engine
from advalign.evaluation.tasks import ShardResult, Task
from advalign.files import Project, replacing, sha256, write_text
from advalign.metrics.base import Evaluation
from advalign.models.checkpoints import Card, read_card
from advalign.settings import Settings, digest

CODE = [
    "attacks",
    "metrics",
    "models",
    "tensors",
    "evaluation/tasks.py",
    "evaluation/sanity.py",
    "data/stimuli.py",
    "data/imagenet.py",
]
IMAGES_PER_TASK = 240


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: its checkpoint, and the digest of everything its rows depend on."""

    card: Card
    checkpoint: Path
    identity: str

    @property
    def name(self) -> str:
        """The published name."""
        return self.card.name


@dataclass(frozen=True)
class Outcome:
    """What became of one model: "kept" (its rows were there), "evaluated" or "failed" (with the error's line)."""

    name: str
    state: Literal["kept", "evaluated", "failed"]
    error: str = ""


class Evaluator:
    """Evaluates checkpoints under one protocol.

    Args:
        project: where stimuli, data and results lie.
        settings: params.yaml.
        protocol_name: default: settings.evaluate.protocol.
        limit: only the first `limit` stimuli (a trial run, balanced over superclasses; its results lie apart).
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        project: Project,
        settings: Settings,
        protocol_name: str | None = None,
        limit: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.project, self.settings, self.device = project, settings, device
        self.protocol = protocol(protocol_name or settings.evaluate.protocol)
        self.metrics = settings.evaluate.metrics or tuple(catalog.names("metric"))
        for name in self.metrics:
            catalog.load("metric", name)
        self.stimuli: StimulusSet = load_stimuli(project)
        self.count = len(self.stimuli) if limit is None else min(limit, len(self.stimuli))
        self.classes = read_classes(project.data / "classes.yaml")
        self.validation: list[ValidationImage] = read_validation(project, self.classes)
        self.human_ceiling = read_human_ceiling(project)
        trial = "" if self.count == len(self.stimuli) else f".first{self.count}"
        self.folder = project.evaluations / (self.protocol.name + trial)

    def subject(self, checkpoint: Path) -> Subject:
        """Describe a checkpoint as something to evaluate.

        Raises:
            DataError: not a checkpoint, damaged, or of other classes than the data.
        """
        card = read_card(checkpoint)
        if [entry.wnid for entry in card.classes] != [entry.wnid for entry in self.classes.entries]:
            raise DataError(
                f"{card.name} tells {len(card.classes)} classes apart that are not those of data/classes.yaml "
                f"({len(self.classes)}): evaluate it on the data it was trained for"
            )
        evaluate = self.settings.evaluate
        identity = digest(
            {
                "schema": SCHEMA_VERSION,
                "name": card.name,
                "weights": card.weights_sha256,
                "model": [card.architecture, card.arguments, card.preprocessing.model_dump(), card.group_of_class],
                "stimuli": [self.stimuli.digest, self.count],
                "images": self._validation_digest,
                "protocol": self.protocol.sha256,
                "metrics": self.metrics,
                "shards": [evaluate.shard_size, evaluate.threads, evaluate.batch_size, evaluate.search_precision],
                "gallery": evaluate.gallery,
                "seed": self.settings.seed,
                "code": provenance.code_digest(CODE),
            }
        )
        return Subject(card, checkpoint, identity)

    @cached_property
    def _validation_digest(self) -> str:
        """Digest of the validation images' bytes and labels."""
        folder = self.project.data / "imagenet"
        images = [(image.path.name, image.label, sha256(image.path)) for image in self.validation]
        return digest([images, sha256(folder / "multilabel.json"), sha256(folder / "labels.csv")])

    def paths(self, name: str) -> Paths:
        """Where a model's results lie."""
        return Paths(self.folder, name)

    def is_finished(self, subject: Subject) -> bool:
        """Whether the model's rows are there and were made from what is there now."""
        paths = self.paths(subject.name)
        complete = paths.images.is_file() and paths.gallery.is_file()
        return complete and stored_identity(paths.rows) == subject.identity

    def remove_stale(self, names: set[str]) -> None:
        """Remove the results of models that are not among `names` (any more)."""
        for summary in self.folder.glob("*.json"):
            if summary.stem not in names:
                self.paths(summary.stem).remove()

    def tasks(self, subject: Subject) -> list[Task]:
        """A model's tasks; their members do not depend on the engine or the number of workers."""
        size = self.settings.evaluate.shard_size
        spans = [("stimuli", first, min(first + size, self.count)) for first in range(0, self.count, size)]
        total = len(self.validation)
        spans += [("images", at, min(at + IMAGES_PER_TASK, total)) for at in range(0, total, IMAGES_PER_TASK)]
        return [
            Task(
                kind=kind,
                root=self.project.root,
                checkpoint=subject.checkpoint,
                first=first,
                last=last,
                protocol=self.protocol.name,
                metrics=self.metrics,
                gallery=self.gallery_positions(),
                seed=self.settings.seed,
                device=self.device,
                threads=self.settings.evaluate.threads,
                batch_size=self.settings.evaluate.batch_size,
                search_precision=self.settings.evaluate.search_precision,
            )
            for kind, first, last in spans
        ]

    def gallery_positions(self) -> tuple[int, ...]:
        """Positions of the pictured stimuli: the first ones, since every prefix is balanced over superclasses."""
        return tuple(range(min(self.settings.evaluate.gallery, self.count)))

    def run(
        self,
        subjects: Iterable[Subject],
        engine: Engine,
        on_task: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Outcome]:
        """Evaluate all subjects that are not finished, and refresh every summary.

        Args:
            subjects: from `subject`.
            engine: runs tasks.
            on_task: called with (tasks done, tasks in all) whenever one ends.
        """
        subjects = list(subjects)
        pending = [subject for subject in subjects if not self.is_finished(subject)]
        outcomes = {subject.name: Outcome(subject.name, "kept") for subject in subjects}
        by_checkpoint = {subject.checkpoint: subject for subject in pending}
        tasks = [task for subject in pending for task in self.tasks(subject)]
        gathered: dict[str, list[tuple[Task, ShardResult]]] = defaultdict(list)
        on_task(0, len(tasks))
        for done, (task, result) in enumerate(engine(tasks), start=1):
            subject = by_checkpoint[task.checkpoint]
            if isinstance(result, Exception):
                line = " ".join(f"{type(result).__name__}: {result}".split())
                outcomes[subject.name] = Outcome(subject.name, "failed", line)
            else:
                parts = gathered[subject.name]
                parts.append((task, result))
                if len(parts) == len(self.tasks(subject)):
                    self._store(subject, gathered.pop(subject.name))
                    outcomes[subject.name] = Outcome(subject.name, "evaluated")
            on_task(done, len(tasks))
        for subject in subjects:
            if outcomes[subject.name].state != "failed":
                self._summarise(subject)
        return list(outcomes.values())

    def _store(self, subject: Subject, parts: list[tuple[Task, ShardResult]]) -> None:
        """Write a model's files, the rows last."""
        parts.sort(key=lambda part: part[0].first)
        paths = self.paths(subject.name)
        images = [result.rows for task, result in parts if task.kind == "images"]
        rows = [result.rows for task, result in parts if task.kind == "stimuli"]
        gallery: dict[int, Tensor] = {}
        for _, result in parts:
            gallery |= result.gallery
        paths.rows.unlink(missing_ok=True)
        write_table(paths.images, pd.concat(images, ignore_index=True), subject.identity)
        with replacing(paths.gallery) as temporary:
            save_file({str(position): delta.contiguous() for position, delta in sorted(gallery.items())}, temporary)
        write_table(paths.rows, pd.concat(rows, ignore_index=True), subject.identity)

    def _summarise(self, subject: Subject) -> None:
        """Compute a model's metrics from its rows."""
        paths = self.paths(subject.name)
        evaluation = Evaluation(
            stimuli=pd.read_parquet(paths.rows),
            images=pd.read_parquet(paths.images),
            human_ceiling=self.human_ceiling,
            resamples=self.settings.compare.bootstrap,
            seed=self.settings.seed,
        )
        metrics: dict[str, float | None] = {}
        for name in self.metrics:
            found = catalog.load("metric", name)().summarise(evaluation)
            metrics |= {key: None if math.isnan(value) else value for key, value in found.items()}
        card = subject.card
        summary = {
            "model": subject.name,
            "architecture": card.architecture,
            "recipe": card.recipe,
            "protocol": self.protocol.name,
            "protocol_sha256": self.protocol.sha256,
            "inputs_sha256": subject.identity,
            "rows_sha256": sha256(paths.rows),
            "weights_sha256": card.weights_sha256,
            "stimuli_sha256": self.stimuli.digest,
            "n_stimuli": self.count,
            "human_ceiling": self.human_ceiling,
            "flags": sorted({flag for flags in evaluation.stimuli["flags"] for flag in flags.split(",") if flag}),
            "metrics": metrics,
        }
        write_text(paths.summary, json.dumps(summary, indent=1) + "\n")


def default_workers(device: str, threads: int) -> int:
    """As many workers as the cores serve, or one per GPU."""
    if device.startswith("cuda"):
        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads)
