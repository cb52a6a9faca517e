"""The evaluation of one model: its identity, its tasks, its files and its summary.

An evaluation has parts: its protocol and the protocol's companions (`evaluate.companions`). Each part is a probe on an
image set and has its own rows. The summary joins the numbers of all parts. Nothing here knows what a probe measures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from advalign import seals
from advalign.data.classes import read_classes
from advalign.data.results import (
    SUMMARY_VERSION,
    Paths,
    read_rows,
    read_summary,
    stored_identity,
    write_kept,
    write_table,
)
from advalign.data.sets.base import ImageSet
from advalign.errors import DataError
from advalign.evaluation.data_read import read_data
from advalign.evaluation.parts import Part
from advalign.evaluation.protocols import Protocol, check_norms, protocol
from advalign.evaluation.shards import Shards
from advalign.evaluation.summaries import metrics_of
from advalign.evaluation.tasks import Task, open_set
from advalign.files import Project, sha256, write_text
from advalign.models.checkpoints import CARD, Card, read_card
from advalign.probes.base import Measured
from advalign.progress import say
from advalign.rows import FLAGS
from advalign.seals import Damaged
from advalign.settings import Settings
from advalign.strict_settings import digest

TASK_SETTINGS = {"shard_size", "task_tflop", "threads", "batch_size", "search_precision"}
"""Settings that change rows, in addition to the protocol."""


@dataclass(frozen=True)
class Subject:
    """A model to evaluate.

    Attributes:
        card: of the checkpoint.
        checkpoint: folder of the checkpoint.
        card_sha256: of the card's file.
        identities: protocol -> digest of everything that the model's rows under it depend on.
    """

    card: Card
    checkpoint: Path
    card_sha256: str
    identities: Mapping[str, str]

    @property
    def name(self) -> str:
        """The published name."""
        return self.card.name


class Evaluator:
    """Evaluates models under one protocol and its companions.

    Args:
        project: where image sets and results lie.
        settings: params.yaml.
        protocol_name: default: settings.evaluate.protocol.
        limit: only the first `limit` items of every image set: a trial, whose results are kept apart.
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
        self.classes = read_classes(project.data / "classes.yaml")
        evaluate = settings.evaluate
        asked = protocol_name or evaluate.protocol
        opened = {name: self._open(name) for name in dict.fromkeys((asked, *evaluate.companions))}
        check_norms([resolved for resolved, _ in opened.values()])
        self.data = read_data(project, (image_set for _, image_set in opened.values()), project.digests)
        for warning in self.data.warnings:
            say(warning)
        self.parts: dict[str, Part] = {}
        trial = f".first{limit}" if limit is not None and limit < len(opened[asked][1]) else ""
        for name, (resolved, image_set) in opened.items():
            count = min(limit, len(image_set)) if trial and limit else len(image_set)
            ceiling, about = image_set.human_ceiling(project), resolved.probe.about(project, image_set)
            self.parts[name] = Part(resolved, image_set, count, name + trial, evaluate, settings.seed, ceiling, about)
        self.main = self.parts[asked]
        self.protocol, self.image_set, self.count = self.main.protocol, self.main.image_set, self.main.count
        self.folder = project.evaluations / self.main.folder

    def _open(self, name: str) -> tuple[Protocol, ImageSet]:
        evaluate = self.settings.evaluate
        resolved = protocol(name, evaluate.protocols, evaluate.metrics or None)
        return resolved, open_set(resolved.spec.image_set, self.project)

    def subject(self, checkpoint: Path) -> Subject:
        """Describe a checkpoint for its evaluation; only its card is read.

        Raises:
            DataError: not a checkpoint, damaged, or trained on other classes than the data's.
        """
        there = (checkpoint / CARD).is_file()  # read_card refuses its absence
        card_sha256 = sha256(checkpoint / CARD) if there else ""
        card = read_card(checkpoint)
        if [entry.wnid for entry in card.classes] != [entry.wnid for entry in self.classes.entries]:
            raise DataError(
                f"{card.name} was trained on {len(card.classes)} classes that are not the {len(self.classes)} of "
                "data/classes.yaml: evaluate it on the data it was trained for"
            )
        return Subject(card, checkpoint, card_sha256, {name: part.identity(card) for name, part in self.parts.items()})

    def paths(self, name: str, protocol_name: str | None = None) -> Paths:
        """Paths of a model's results; by default those of the evaluation's own protocol."""
        part = self.parts[protocol_name or self.protocol.name]
        return Paths(self.project.evaluations / part.folder, name)

    def is_finished(self, subject: Subject) -> bool:
        """Whether the model's rows exist and were computed from the present inputs and code."""
        return all(self._is_there(subject, name) for name in self.parts)

    def _is_there(self, subject: Subject, name: str) -> bool:
        """Whether the rows of a part exist and were computed from the present inputs and code."""
        paths, wanted = self.paths(subject.name, name), subject.identities[name]
        keeps = self.parts[name].protocol.probe.keeps
        if stored_identity(paths.rows) != wanted or (keeps and stored_identity(paths.gallery) != wanted):
            return False
        told = _read_summary(self.paths(subject.name))
        return not paths.is_damaged(told if told.get("protocol") == name else told.get("companions", {}).get(name, {}))

    def shards(self, subject: Subject, name: str) -> Shards:
        """Finished tasks of a part, kept until all are finished."""
        keeps = self.parts[name].protocol.probe.keeps
        return Shards(self.paths(subject.name, name).shards, subject.identities[name], keeps)

    def remove_stale(self, names: set[str]) -> None:
        """Remove the results of models that are not among `names` (any more)."""
        for part in self.parts.values():
            folder = self.project.evaluations / part.folder
            for name in {path.stem for pattern in ("*.json", "*.parquet") for path in folder.glob(pattern)} - names:
                Paths(folder, name).remove()

    @property
    def passes_per_model(self) -> int:
        """Passes that are expected for a model with no finished shard."""
        return sum(part.passes(part.count) for part in self.parts.values())

    def passes(self, task: Task) -> int:
        """Passes that are expected for a task."""
        return self.parts[task.protocol.name].passes(task.last - task.first)

    def tasks(self, subject: Subject) -> list[Task]:
        """Tasks of the model's unfinished parts."""
        return [
            task
            for name, part in self.parts.items()
            if not self._is_there(subject, name)
            for task in part.tasks(subject.card, subject.checkpoint, self.project.root, self.device)
        ]

    def finish(self, subject: Subject, tasks: list[Task]) -> None:
        """Join a model's finished tasks, those of the companions first, and summarise them.

        Another process may do the same in the same folder: a lock admits one at a time, and finished parts are kept.
        """
        paths = self.paths(subject.name)
        paths.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(paths.folder / ".lock"):
            for name in reversed(self.parts):
                if self._is_there(subject, name):
                    continue
                shards = self.shards(subject, name)
                wanted = [task for task in tasks if task.protocol.name == name]
                parts = [part for task in wanted if (part := shards.load(task)) is not None]
                if not parts or len(parts) < len(wanted):
                    raise DataError(f"{shards.folder}: a finished part was removed: evaluate the model again")
                self._write(subject, name, parts)
            for name in self.parts:
                self.shards(subject, name).clear()
            self.summarise(subject)
        paths.failure.unlink(missing_ok=True)

    def _write(self, subject: Subject, name: str, parts: list[Measured]) -> None:
        """Write a part's results, the rows last: a part with rows is complete."""
        paths, probe = self.paths(subject.name, name), self.parts[name].protocol.probe
        if probe.keeps:
            kept = {position: tensor for part in parts for position, tensor in part.kept.items()}
            write_kept(paths.gallery, kept, subject.identities[name])
        rows = pd.concat([part.rows for part in parts], ignore_index=True)
        write_table(paths.rows, rows, subject.identities[name], probe=self.parts[name].protocol.spec.probe)

    def record_failure(self, name: str, line: str) -> None:
        """Record why a model failed or was left out; the record is removed once the model is finished."""
        write_text(self.paths(name).failure, json.dumps({"model": name, "error": line}) + "\n")

    def summarise(self, subject: Subject) -> None:
        """Compute a model's numbers from its rows; a summary that is up to date and unchanged is kept."""
        self.data.check_unchanged(self.project.digests)
        if sha256(subject.checkpoint / CARD) != subject.card_sha256:
            raise DataError(f"{subject.checkpoint / CARD} was changed during the evaluation: evaluate the model again")
        described = self._description(subject)
        identity = digest([described, [part.protocol.summary_code for part in self.parts.values()]])
        paths = self.paths(subject.name)
        if _read_summary(paths).get("summarised_from") == identity:
            return
        measured = {
            name: metrics_of(
                part.protocol.probe,
                self.paths(subject.name, name).rows,
                part.human_ceiling,
                self.settings.compare.bootstrap,
                self.settings.seed,
            )
            for name, part in self.parts.items()
        }
        told = {
            "summarised_from": identity,
            "protocol_metrics": list(measured[self.protocol.name]),  # the others are the companions'
            "metrics": {key: value for found in measured.values() for key, value in found.items()},
        }
        seals.write_json(paths.summary, {**described, **told})

    def _is_by_hand(self, subject: Subject) -> bool:
        """Whether the model has the name of one that the pipeline trained, and is another."""
        pipelines = self.project.checkpoints / subject.name / CARD
        by_name = pipelines.is_file() and sha256(pipelines) != subject.card_sha256
        return by_name or subject.checkpoint.parent == self.project.runs

    def _description(self, subject: Subject) -> dict[str, Any]:
        """The fields of a summary other than its metrics."""
        card, rows = subject.card, read_rows(self.paths(subject.name).rows)
        told = {
            name: part.told(self.paths(subject.name, name).rows, subject.identities[name])
            for name, part in self.parts.items()
        }
        flags = {flag for flags in rows.get(FLAGS, ()) for flag in flags.split(",") if flag}
        return {
            "version": SUMMARY_VERSION,
            "model": subject.name,
            "architecture": card.architecture,
            "recipe": card.recipe,
            "group": card.group,
            "baseline": card.baseline,
            "declared": card.settings.get("zoo"),
            "protocol": self.protocol.name,
            **told.pop(self.protocol.name),
            "companions": told,
            "weights_sha256": card.weights_sha256,
            "card_sha256": subject.card_sha256,
            "by_hand": self._is_by_hand(subject),
            "data_md5": self.data.version.used,
            "data_sha256": self.data.sha256,
            "image_set": self.protocol.spec.image_set,
            "stimuli_sha256": self.image_set.digest,
            "n_stimuli": self.count,
            "tasks": self.settings.evaluate.model_dump(mode="json", include=TASK_SETTINGS),
            "seed": self.settings.seed,
            "bootstrap": self.settings.compare.bootstrap,
            "flags": sorted(flags),
        }


def _read_summary(paths: Paths) -> dict[str, Any]:
    """A summary; empty where there is none that is whole: it is then computed again."""
    try:
        return read_summary(paths)
    except FileNotFoundError:
        return {}
    except Damaged:
        seals.say_damaged(paths.summary, "it is computed again from the rows")
        return {}
