"""One part of an evaluation: a protocol on its image set, with its tasks and the identity of a model's rows."""

from dataclasses import dataclass
from pathlib import Path

from advalign.data.results import SCHEMA_VERSION
from advalign.data.sets.base import ImageSet
from advalign.evaluation.protocols import Protocol
from advalign.files import sha256
from advalign.models.checkpoints import Card
from advalign.settings import EvaluateSettings, digest


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
    """

    protocol: Protocol
    image_set: ImageSet
    count: int
    folder: str
    evaluate: EvaluateSettings
    seed: int
    human_ceiling: float | None

    @property
    def size(self) -> int:
        """Members of a task."""
        return self.protocol.probe.items_per_task or self.evaluate.shard_size

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last members of every task; they do not depend on the engine or the number of workers."""
        return [(first, min(first + self.size, self.count)) for first in range(0, self.count, self.size)]

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
                "members": [self.size, self.kept, self.seed],
                "conditions": [evaluate.threads, evaluate.batch_size, evaluate.search_precision],
                "code": self.protocol.rows_code,
            }
        )

    def told(self, rows: Path, identity: str) -> dict[str, object]:
        """What a summary says of a model's rows.

        Args:
            rows: their file.
            identity: of the rows.
        """
        return {
            "inputs_sha256": identity,
            "rows_sha256": sha256(rows),
            "protocol_sha256": self.protocol.sha256,
            "code_sha256": self.protocol.rows_code,
            "human_ceiling": self.human_ceiling,
        }
