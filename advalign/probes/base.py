"""What every probe shares: settings, the metrics on its rows, and items turned into rows and rows into numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor

from advalign.attacks.base import Attack, AttackResult
from advalign.data.sets.base import Items
from advalign.metrics.base import Evaluation, Metric
from advalign.models.classifier import Classifier
from advalign.models.stand_in import Precision
from advalign.rows import CLEAN_PREDICTION, LARGEST_TRIED, NORMS, QUERIES, STATUS, Descriptor
from advalign.settings import Strict


@dataclass(frozen=True)
class Model:
    """The model that is asked.

    Attributes:
        name: the published one, for messages.
        classifier: pixels in [0, 1] -> logits, in evaluation mode on `device`; its parameters want no gradient.
        groups: (K,) int64, the decision that each class belongs to; None where an item's label is a class.
        device: where items belong.
    """

    name: str
    classifier: Classifier
    groups: Tensor | None
    device: str


@dataclass(frozen=True)
class Conditions:
    """How a task is computed: part of what its rows depend on.

    Attributes:
        batch_size: the most images in one pass; None: as the probe likes.
        search_precision: of passes that only search (Oracle.step).
        kept: which of the items' perturbations are kept as pictures, by position among them.
    """

    batch_size: int | None = None
    search_precision: Precision = "float32"
    kept: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a probe found.

    Attributes:
        rows: one row per item, in order: the items' own columns first.
        kept: position among the items -> what is kept of it.
    """

    rows: pd.DataFrame
    kept: dict[int, Tensor] = field(default_factory=dict)


class Probe(ABC):
    """Base of all probes.

    Args:
        settings: the probe's own.
        metrics: of its rows.
        attack: for a probe with `attacks`.

    Attributes:
        image_set: the set that is asked where a protocol names no other.
        needs: extras that items must have.
        attacks: the kind of attack that the probe runs; None: it attacks nothing.
        keeps: whether tensors are kept beside the rows (`Measured.kept`).
        depends_on: settings of `evaluate` that change its rows, beside the number of threads.
        items_per_task: members of a task; None: `evaluate.shard_size`.
        describes: its numbers, where `vocabulary` does not.
    """

    class Settings(Strict):
        """The probe's own settings, with its protocol's values as defaults."""

    image_set: ClassVar[str] = "stimuli"
    needs: ClassVar[tuple[str, ...]] = ()
    attacks: ClassVar[type[Attack] | None] = None
    keeps: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()
    items_per_task: ClassVar[int | None] = None
    describes: ClassVar[tuple[Descriptor, ...]] = ()

    def __init__(
        self, settings: Strict | None = None, metrics: Sequence[Metric] = (), attack: Attack | None = None
    ) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()
        self.metrics, self.attack = tuple(metrics), attack

    @property
    def passes(self) -> float:
        """Passes (forward and input gradient) per item, at most or as is typical; 0 where that is not known."""
        return float(self.attack.typical_passes or self.attack.passes or 0) if self.attack is not None else 0.0

    @abstractmethod
    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Ask the model.

        Args:
            model: on its device.
            items: some members of the image set, on the CPU.
            conditions: how.

        Raises:
            DataError: the model gives nothing that can be measured (its logits are not finite, say).
        """

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Named numbers over all rows; by default what the metrics say, NaN where there is nothing to average."""
        found: dict[str, float] = {}
        for metric in self.metrics:
            found |= metric.summarise(evaluation)
        return found


def attacked_rows(items: Items, result: AttackResult, norm: str) -> pd.DataFrame:
    """One row per item: which, and what became of it under an attack."""
    rows = items.table.copy()
    rows[CLEAN_PREDICTION] = result.clean_predictions.cpu().numpy()
    rows[STATUS] = [str(status) for status in result.status]
    rows[NORMS[norm]] = result.norms.cpu().numpy()
    rows[LARGEST_TRIED] = result.largest_tried.cpu().numpy()
    rows[QUERIES] = result.queries.cpu().numpy()
    return rows
