"""Base of metrics: columns measured per item, numbers summarised over a model's rows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd
from torch import Tensor

from advalign.rows import NORMS, SCALES, STATUS, Descriptor, Status, norm_of
from advalign.tensors.agreement import clicked_pixels
from advalign.tensors.heatmaps import released_map
from advalign.tensors.ranks import average_ranks


@dataclass(frozen=True)
class AttackedShard:
    """Items, and the perturbations that an attack on one model found.

    Attributes:
        perturbations: (N, 3, H, W) float32, adversarial - input; zero where none was found.
        extras: further data of each item: `human_map` (N, H, W) float32, `human_ranks` (N, H * W) average ranks
            of its pixels, `other_ranks` the same of other items' maps (a seeded derangement of the whole set).
    """

    perturbations: Tensor
    extras: Mapping[str, Tensor]

    @cached_property
    def clicked(self) -> Tensor:
        """(N, H * W) bool: what people clicked on, the top 10 % of the pixels of their maps."""
        return clicked_pixels(self.extras["human_map"].flatten(1))

    @cached_property
    def released_ranks(self) -> Tensor:
        """(N, H * W) ranks of the perturbation maps, as the released code makes the maps."""
        return average_ranks(released_map(self.perturbations).flatten(1))


@dataclass(frozen=True)
class Evaluation:
    """A model's rows under one protocol.

    Attributes:
        rows: one row per item, with all columns of its probe and the probe's metrics.
        human_ceiling: rank correlation between halves of the participants; NaN without human maps.
        resamples, seed: of bootstrap intervals.
    """

    rows: pd.DataFrame
    human_ceiling: float
    resamples: int
    seed: int

    @property
    def norm(self) -> str:
        """The norm that the rows were attacked in."""
        found = norm_of(self.rows)
        assert found is not None, "rows of a probe that attacks have a norm"
        return found

    @property
    def norms(self) -> "pd.Series[float]":
        """Norms of the valid rows in the unit of numbers (`rows.SCALES`): linf in 1/255."""
        return SCALES[self.norm] * self.valid[NORMS[self.norm]]

    @property
    def valid(self) -> pd.DataFrame:
        """The valid rows: right on the clean image and successfully attacked."""
        return self.rows[self.rows[STATUS] == Status.OK]


class Metric(ABC):
    """Base of all metrics.

    Attributes:
        probe: name of the probe whose rows the metric summarises; those of probes that derive from it too.
        needs: extras of the items that the metric requires; it is left out on image sets without them.
        describes: descriptors of its numbers that `vocabulary` lacks; gates and tables read them.
    """

    probe: ClassVar[str] = "minimum-norm"
    needs: ClassVar[tuple[str, ...]] = ()
    describes: ClassVar[tuple[Descriptor, ...]] = ()

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """Columns per item, (N,) each; none by default. NaN is stored where the attack failed."""
        return {}

    @abstractmethod
    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Named numbers over a model's rows; NaN where there is nothing to average.

        Names are those in l2: the probe says the norm in them where it is another one (`rows.with_norm`).
        """
