"""One part of an evaluation: a protocol on its image set, with its tasks and the identity of a model's rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advalign.data.results import SCHEMA_VERSION, read_rows
from advalign.data.sets.base import ImageSet
from advalign.evaluation.arithmetic import card_flops
from advalign.evaluation.protocols import Protocol
from advalign.evaluation.tasks import Task, expected_passes
from advalign.files import sha256
from advalign.models.checkpoints import Card
from advalign.rows import BATCH_SIZE
from advalign.settings import EvaluateSettings
from advalign.strict_settings import digest

FEWEST = 6  # members of a task, where `evaluate.shard_size` is not smaller


@dataclass(frozen=True)
class Part:
    """One protocol on its image set.

    Attributes:
        protocol: the probe, its attack and settings.
        image_set: the items that are measured.
        count: number of items, from the first.
        folder: name of the results' folder.
        evaluate: settings.
        seed: for extras that are drawn at random (another item's map).
        human_ceiling: of the image set's human maps; None without maps.
        about: what else than the image set the rows come from (`Probe.about`).
    """

    protocol: Protocol
    image_set: ImageSet
    count: int
    folder: str
    evaluate: EvaluateSettings
    seed: int
    human_ceiling: float | None
    about: Mapping[str, Any]

    def size(self, card: Card) -> int:
        """Members of a task: halved until its arithmetic is at most `evaluate.task_tflop`."""
        probe, most = self.protocol.probe, self.evaluate.task_tflop
        if probe.items_per_task:
            return probe.items_per_task
        size = self.evaluate.shard_size
        flops = card_flops(card) if most is not None and probe.passes else None
        while flops is not None and most is not None and size > FEWEST and flops * self.passes(size) > most * 1e12:
            size = (size + 1) // 2
        return size

    def spans(self, card: Card) -> list[tuple[int, int]]:
        """First and last members of every task; they do not depend on the machine, the engine or the workers."""
        size = self.size(card)
        return [(first, min(first + size, self.count)) for first in range(0, self.count, size)]

    def tasks(self, card: Card, checkpoint: Path, root: Path, device: str) -> list[Task]:
        """All tasks of a model.

        Args:
            card, checkpoint: of the model; the folder holds its weights.
            root: of the project.
            device: "cpu" or "cuda".
        """
        return [
            Task(
                protocol=self.protocol.spec,
                root=root,
                checkpoint=checkpoint,
                weights=card.weights_sha256,
                first=first,
                last=last,
                kept=self.kept,
                seed=self.seed,
                device=device,
                threads=self.evaluate.threads,
                batch_size=self.evaluate.batch_size,
                search_precision=self.evaluate.search_precision,
            )
            for first, last in self.spans(card)
        ]

    def passes(self, items: int) -> int:
        """Passes that are expected for some items."""
        return expected_passes(self.protocol.probe, items)

    @property
    def kept(self) -> tuple[int, ...]:
        """Positions shown in the gallery: the first ones, since every prefix of the stimuli is balanced."""
        return tuple(range(min(self.evaluate.gallery, self.count))) if self.protocol.probe.keeps else ()

    def identity(self, card: Card) -> str:
        """Digest of everything that a model's rows depend on."""
        model = [card.architecture, card.code_sha256, card.arguments, card.preprocessing.model_dump()]
        evaluate = self.evaluate
        return digest(
            {
                "schema": SCHEMA_VERSION,
                "name": card.name,
                "weights": card.weights_sha256,
                "model": [*model, card.group_of_class if self.image_set.grouped else None],
                "items": [self.protocol.spec.image_set, self.image_set.digest, self.count],
                "protocol": [self.protocol.name, self.protocol.sha256],
                "metrics": [metric.__name__ for metric in self.protocol.measuring],
                "members": [self._settled_size, self.kept, self.seed],
                "conditions": [evaluate.threads, evaluate.batch_size, evaluate.search_precision],
                "code": self.protocol.rows_code,
                **({"about": self.about} if self.about else {}),
            }
        )

    @property
    def _settled_size(self) -> int | list[float | None]:
        """What the members of a model's tasks follow from, besides the model."""
        return self.protocol.probe.items_per_task or [self.evaluate.shard_size, self.evaluate.task_tflop]

    def told(self, rows: Path, identity: str) -> dict[str, object]:
        """What a summary says of a model's rows.

        Args:
            rows: their file.
            identity: of the rows.
        """
        sizes = read_rows(rows).get(BATCH_SIZE)
        return {
            "smallest_batch": None if sizes is None or sizes.isna().all() else int(sizes.min()),
            "inputs_sha256": identity,
            "rows_sha256": sha256(rows),
            "protocol_sha256": self.protocol.sha256,
            "code_sha256": self.protocol.rows_code,
            "human_ceiling": self.human_ceiling,
            **({"about": self.about} if self.about else {}),
        }
