"""Base of probes: a probe turns items into rows, and rows into numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor

from advalign.attacks.base import Attack
from advalign.data.sets.base import ImageSet, Items
from advalign.files import Project
from advalign.metrics.base import Evaluation, Metric
from advalign.models.classifier import Classifier
from advalign.models.stand_in import Precision
from advalign.rows import Descriptor
from advalign.strict_settings import Strict
from advalign.tensors.norms import Norm


@dataclass(frozen=True)
class Model:
    """The model that is measured.

    Attributes:
        name: the published name, for messages.
        classifier: pixels in [0, 1] -> logits, in evaluation mode on `device`; its parameters require no gradient.
        groups: (K,) int64, the decision that each class belongs to; None where an item's label is a class.
        device: where items must be moved.
    """

    name: str
    classifier: Classifier
    groups: Tensor | None
    device: str


@dataclass(frozen=True)
class Conditions:
    """How a task is computed; its rows depend on this.

    Attributes:
        batch_size: the most images in one pass; None: the probe decides.
        search_precision: of passes that only serve the search (Oracle.step).
        kept: positions among the items whose perturbations are kept for pictures.
    """

    batch_size: int | None = None
    search_precision: Precision = "float32"
    kept: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a probe found.

    Attributes:
        rows: one row per item, in order: the items' own columns first.
        kept: position among the items -> the tensor kept for it.
    """

    rows: pd.DataFrame
    kept: dict[int, Tensor] = field(default_factory=dict)


class Probe(ABC):
    """Base of all probes.

    Args:
        settings: of the probe.
        metrics: computed on its rows.
        attack: of a probe with `attacks`.

    Attributes:
        image_set: the image set where a protocol names no other.
        needs: extras that items must have.
        needs_one_of: extras of which items must have at least one; the probe uses the first that it finds.
        takes_decisions: whether labels may be decisions (`ImageSet.grouped`); otherwise they must be classes.
        attacks: the kind of attack that the probe runs; None: no attack.
        keeps: whether tensors are kept in addition to the rows (`Measured.kept`).
        items_per_task: members of a task; None: `evaluate.shard_size`.
        describes: descriptors of its numbers that `vocabulary` lacks.
    """

    class Settings(Strict):
        """The probe's own settings, with its protocol's values as defaults."""

    image_set: ClassVar[str] = "stimuli"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_one_of: ClassVar[tuple[str, ...]] = ()
    takes_decisions: ClassVar[bool] = True
    attacks: ClassVar[type[Attack] | None] = None
    keeps: ClassVar[bool] = False
    items_per_task: ClassVar[int | None] = None
    describes: ClassVar[tuple[Descriptor, ...]] = ()

    def __init__(
        self, settings: Strict | None = None, metrics: Sequence[Metric] = (), attack: Attack | None = None
    ) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()
        self.metrics, self.attack = tuple(metrics), attack

    @property
    def passes(self) -> float:
        """Passes (forward and input gradient) per item, the maximum or a typical value; 0 where unknown."""
        return float(self.attack.typical_passes or 0) if self.attack is not None else 0.0

    @property
    def measured_norm(self) -> Norm | None:
        """The norm that the probe's numbers are in; None where they are in none."""
        return self.attack.norm if self.attack is not None else None

    def about(self, project: Project, image_set: ImageSet) -> dict[str, Any]:
        """What else the rows come from than the image set, in plain values; nothing by default.

        It is asked for before anything is measured, is a part of the rows' identity, and stands in summaries and runs.

        Raises:
            InputError, DataError: the image set, or what else the probe needs, does not do.
        """
        return {}

    def items(self, project: Project, image_set: ImageSet, first: int, last: int, seed: int) -> Items:
        """Some members as `measure` gets them: by default as the image set has them (`ImageSet.items`)."""
        return image_set.items(first, last, seed)

    @abstractmethod
    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Measure the model on some items.

        Args:
            model: on its device.
            items: some members of the image set, on the CPU.
            conditions: how the task is computed.

        Raises:
            DataError: the model gives nothing that can be measured (its logits are not finite, say).
            InapplicableError: the question cannot be asked of this kind of model, which is then left out.
        """

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Named numbers over all rows; by default those of the metrics, NaN where there is nothing to average."""
        found: dict[str, float] = {}
        for metric in self.metrics:
            found |= metric.summarise(evaluation)
        return found
