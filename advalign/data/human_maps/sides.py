"""Two batches of maps compared by every measure of agreement; what a measure needs of a map is computed once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advalign.tensors.agreement import (
    auc_of_ranks,
    cells,
    clicked_pixels,
    emd_of_cells,
    nss_of_standardised,
    standardised,
)
from advalign.tensors.ranks import average_ranks, correlation

MEASURES = ("spearman", "auc", "nss", "emd")
EMD_EVERY = 4  # a pair's earth mover's distance costs what all its other measures do: it has so many times fewer

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Sides:
    """Maps as the measures want them: ranks and standardised scores (N, P), clicked pixels (N, P), cells (N, G^2)."""

    ranks: Tensor
    scores: Tensor
    clicked: Tensor
    cells: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> "Sides":
        """Of maps (N, side, side) >= 0; one that is constant agrees with nothing (NaN)."""
        flat = maps.flatten(1)
        return cls(average_ranks(flat), standardised(flat), clicked_pixels(flat), cells(maps))

    def like(self, other: "Sides") -> "Sides":
        """One side repeated for every map of another."""
        count = len(other.ranks)
        return Sides(*(part.expand(count, -1) for part in (self.ranks, self.scores, self.clicked, self.cells)))

    def rows(self, chosen: NDArray[np.int64]) -> "Sides":
        """The sides of some of the maps, in the order given."""
        places = torch.from_numpy(chosen).to(self.ranks.device)
        return Sides(*(part[places] for part in (self.ranks, self.scores, self.clicked, self.cells)))


def both_ways(first: Sides, second: Sides, emd_first: int | None = None) -> Values:
    """Agreement of N pairs by every measure, (N,) float64 each; AUC and NSS are the mean of their two directions.

    The earth mover's distance is computed of the first `emd_first` pairs (default: of all), and NaN of the others.
    """
    forth, back = as_model(first, second, emd_first), _pointwise(second, first)
    return forth | {measure: (forth[measure] + back[measure]) / 2 for measure in back}


def as_model(model: Sides, human: Sides, emd_first: int | None = None) -> Values:
    """As `both_ways`, in one direction: how well the first maps, as if a model's, agree with the second, people's."""
    distances = np.full(len(model.ranks), np.nan)
    distances[:emd_first] = emd_of_cells(model.cells[:emd_first], human.cells[:emd_first]).numpy()
    spearman = correlation(model.ranks, human.ranks).cpu().numpy()
    return {"spearman": spearman, **_pointwise(model, human), "emd": distances}


def _pointwise(model: Sides, human: Sides) -> Values:
    return {
        "auc": auc_of_ranks(model.ranks, human.clicked).cpu().numpy(),
        "nss": nss_of_standardised(model.scores, human.clicked).cpu().numpy(),
    }


def mean(values: NDArray[np.float64]) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def weighted(weights: NDArray[np.float32], maps: Tensor) -> Tensor:
    """Weighted sums of maps: (K, N), (N, H, W) -> (K, H, W)."""
    sums: Tensor = torch.from_numpy(weights).to(maps) @ maps.flatten(1)
    return sums.reshape(len(weights), *maps.shape[1:])
