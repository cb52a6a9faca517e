"""What an evaluation of one model is: its identity, its tasks, the files that come of it and their summary."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from filelock import FileLock
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
from advalign.evaluation.shards import Shards
from advalign.evaluation.tasks import ShardResult, Task
from advalign.files import Project, replacing, sha256, write_text
from advalign.metrics.base import Evaluation
from advalign.models.checkpoints import Card, read_card
from advalign.settings import Settings, digest

CODE = [
    "attacks",
    "metrics",
    "models/classifier.py",
    "models/stand_in.py",
    "models/superclasses.py",
    "models/zoo.py",
    "tensors",
    "evaluation/tasks.py",
    "evaluation/sanity.py",
    "data/stimuli.py",
    "data/imagenet.py",
]
"""What rows are computed by."""
PREDICTION_CODE = ["models/classifier.py", "models/zoo.py", "evaluation/tasks.py", "data/imagenet.py"]
IMAGES_PER_TASK = 240
TASK_SETTINGS = {
    "shard_size",
    "threads",
    "batch_size",
    "search_precision",
}  # what changes a norm, beside protocol and code


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: its checkpoint, and the digests of everything its rows and its predictions depend on."""

    card: Card
    checkpoint: Path
    identity: str
    predictions_identity: str

    @property
    def name(self) -> str:
        """The published name."""
        return self.card.name


class Evaluator:
    """Evaluates models under one protocol.

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
        self.human_ceiling = read_human_ceiling(project) if self.stimuli.has_maps else math.nan
        self.code, self.prediction_code = provenance.code_digest(CODE), provenance.code_digest(PREDICTION_CODE)
        trial = "" if self.count == len(self.stimuli) else f".first{self.count}"
        self.folder = project.evaluations / (self.protocol.name + trial)

    def subject(self, checkpoint: Path) -> Subject:
        """Describe a checkpoint as something to evaluate; its card is enough.

        Raises:
            DataError: not a checkpoint, damaged, or of other classes than the data.
        """
        card = read_card(checkpoint)
        if [entry.wnid for entry in card.classes] != [entry.wnid for entry in self.classes.entries]:
            raise DataError(
                f"{card.name} tells {len(card.classes)} classes apart that are not those of data/classes.yaml "
                f"({len(self.classes)}): evaluate it on the data it was trained for"
            )
        model = [card.architecture, card.arguments, card.preprocessing.model_dump()]
        evaluate = self.settings.evaluate
        identity = digest(
            {
                "schema": SCHEMA_VERSION,
                "name": card.name,
                "weights": card.weights_sha256,
                "model": [*model, card.group_of_class],
                "stimuli": [self.stimuli.digest, self.count],
                "protocol": self.protocol.sha256,
                "metrics": self.metrics,
                "shards": [evaluate.shard_size, evaluate.threads, evaluate.batch_size, evaluate.search_precision],
                "gallery": evaluate.gallery,
                "seed": self.settings.seed,
                "code": self.code,
            }
        )
        predictions = digest(
            {
                "schema": SCHEMA_VERSION,
                "name": card.name,
                "weights": card.weights_sha256,
                "model": model,
                "images": self._validation_digest,
                "threads": evaluate.threads,
                "code": self.prediction_code,
            }
        )
        return Subject(card, checkpoint, identity, predictions)

    @cached_property
    def _validation_digest(self) -> str:
        """Digest of the validation images' bytes and labels."""
        folder = self.project.data / "imagenet"
        images = [(image.path.name, image.label, sha256(image.path)) for image in self.validation]
        tables = [folder / "multilabel.json", folder / "labels.csv"]
        return digest([images, [sha256(table) for table in tables if table.is_file()]])

    def paths(self, name: str) -> Paths:
        """Where a model's results lie."""
        return Paths(self.folder, name)

    def is_finished(self, subject: Subject) -> bool:
        """Whether the model's files are there and were made from what is there now."""
        return self._is_there(subject, "stimuli") and self._is_there(subject, "images")

    def _is_there(self, subject: Subject, kind: str) -> bool:
        """Whether the files that tasks of a kind end in were made from what is there now."""
        paths = self.paths(subject.name)
        if kind == "images":
            return stored_identity(paths.predictions) == subject.predictions_identity
        return stored_identity(paths.rows) == subject.identity and paths.gallery.is_file() and not paths.is_damaged()

    def shards(self, subject: Subject, kind: str) -> Shards:
        """Where finished tasks of a kind wait for the others."""
        identity = subject.identity if kind == "stimuli" else subject.predictions_identity
        return Shards(self.paths(subject.name).shards(kind), identity)

    def remove_stale(self, names: set[str]) -> None:
        """Remove the results of models that are not among `names` (any more)."""
        for summary in self.folder.glob("*.json"):
            if summary.stem not in names:
                self.paths(summary.stem).remove()
        for predictions in self.paths("").predictions.parent.glob("*.parquet"):
            if predictions.stem not in names:
                predictions.unlink(missing_ok=True)

    @property
    def tasks_per_model(self) -> int:
        """How many tasks a model is that nothing is finished of."""
        return math.ceil(self.count / self.settings.evaluate.shard_size) + math.ceil(
            len(self.validation) / IMAGES_PER_TASK
        )

    def tasks(self, subject: Subject) -> list[Task]:
        """What is to be run of a model; a task's members do not depend on the engine or the number of workers."""
        kinds = (
            ("stimuli", self.count, self.settings.evaluate.shard_size),
            ("images", len(self.validation), IMAGES_PER_TASK),
        )
        spans = [
            (kind, first, min(first + size, total))
            for kind, total, size in kinds
            if not self._is_there(subject, kind)
            for first in range(0, total, size)
        ]
        return [
            Task(
                kind=kind,
                root=self.project.root,
                checkpoint=subject.checkpoint,
                weights=subject.card.weights_sha256,
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

    def finish(self, subject: Subject, tasks: list[Task]) -> None:
        """Put a model's finished tasks together, the rows last, and summarise them.

        Another process may do the same on the same folder: one at a time, and what is there already is left.
        """
        paths = self.paths(subject.name)
        paths.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(paths.folder / ".lock"):
            for kind, write in (("images", self._write_predictions), ("stimuli", self._write_rows)):
                if self._is_there(subject, kind):
                    continue
                shards = self.shards(subject, kind)
                parts = [part for task in tasks if task.kind == kind and (part := shards.load(task)) is not None]
                if not parts or len(parts) < sum(task.kind == kind for task in tasks):
                    raise DataError(f"{shards.folder}: a finished part is gone; evaluate again to make it anew")
                write(subject, parts)
            for kind in ("images", "stimuli"):
                self.shards(subject, kind).clear()
            self.summarise(subject)
        paths.failure.unlink(missing_ok=True)

    def _write_predictions(self, subject: Subject, parts: list[ShardResult]) -> None:
        rows = pd.concat([part.rows for part in parts], ignore_index=True)
        write_table(self.paths(subject.name).predictions, rows, subject.predictions_identity)

    def _write_rows(self, subject: Subject, parts: list[ShardResult]) -> None:
        paths = self.paths(subject.name)
        gallery: dict[int, Tensor] = {}
        for part in parts:
            gallery |= part.gallery
        with replacing(paths.gallery) as temporary:
            save_file({str(position): delta.contiguous() for position, delta in sorted(gallery.items())}, temporary)
        write_table(paths.rows, pd.concat([part.rows for part in parts], ignore_index=True), subject.identity)

    def record_failure(self, name: str, line: str) -> None:
        """Keep why a model failed, until it is finished."""
        write_text(self.paths(name).failure, json.dumps({"model": name, "error": line}) + "\n")

    def summarise(self, subject: Subject) -> None:
        """Compute a model's metrics from its rows."""
        paths = self.paths(subject.name)
        evaluation = Evaluation(
            stimuli=pd.read_parquet(paths.rows),
            images=pd.read_parquet(paths.predictions),
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
            "declared": card.settings.get("zoo"),
            "protocol": self.protocol.name,
            "protocol_sha256": self.protocol.sha256,
            "inputs_sha256": subject.identity,
            "rows_sha256": sha256(paths.rows),
            "weights_sha256": card.weights_sha256,
            "data_md5": provenance.data_md5(self.project.root),
            "stimuli_sha256": self.stimuli.digest,
            "n_stimuli": self.count,
            "tasks": self.settings.evaluate.model_dump(mode="json", include=TASK_SETTINGS),
            "seed": self.settings.seed,
            "human_ceiling": self.human_ceiling if self.stimuli.has_maps else None,
            "flags": sorted({flag for flags in evaluation.stimuli["flags"] for flag in flags.split(",") if flag}),
            "metrics": metrics,
        }
        write_text(paths.summary, json.dumps(summary, indent=1) + "\n")
