"""What every metric shares: columns measured per attacked stimulus, numbers summarised over a model's rows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from torch import Tensor

from advalign.tensors.heatmaps import released_map
from advalign.tensors.ranks import average_ranks


@dataclass(frozen=True)
class AttackedShard:
    """Stimuli that one model was attacked on.

    Attributes:
        perturbations: (N, 3, H, W) float32, adversarial - input; zero where there is none.
        heatmaps: (N, H, W) float32, the stimuli's own human maps.
        heatmap_ranks: (N, H * W), average ranks of their pixels.
        other_ranks: (N, H * W), of the maps of other stimuli (a seeded derangement of the whole set).
    """

    perturbations: Tensor
    heatmaps: Tensor
    heatmap_ranks: Tensor
    other_ranks: Tensor

    @cached_property
    def released_ranks(self) -> Tensor:
        """(N, H * W) ranks of the perturbation maps, as the released code makes the maps."""
        return average_ranks(released_map(self.perturbations).flatten(1))


@dataclass(frozen=True)
class Evaluation:
    """A model's rows.

    Attributes:
        stimuli: one row per stimulus with the contract's columns and all measured ones.
        images: one row per validation image: label, prediction, correct, unclear, problematic.
        human_ceiling: rank correlation between halves of the participants.
        resamples, seed: of bootstrap intervals.
    """

    stimuli: pd.DataFrame
    images: pd.DataFrame
    human_ceiling: float
    resamples: int
    seed: int

    @property
    def valid(self) -> pd.DataFrame:
        """The rows that count: right on the clean image and successfully attacked."""
        return self.stimuli[self.stimuli["status"] == "ok"]


class Metric(ABC):
    """Base of all metrics."""

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """Columns per stimulus, (N,) each; none by default."""
        return {}

    @abstractmethod
    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Named numbers over a model's rows; NaN where there is nothing to average."""
