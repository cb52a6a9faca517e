"""Two batches of maps compared by every measure of agreement; what a measure needs of a map is computed once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advalign.tensors.agreement import cells, clicked_count, emd_of_cells
from advalign.tensors.ranks import ranks_and_top

MEASURES = ("spearman", "auc", "nss", "emd")
EMD_EVERY = 4  # a pair's earth mover's distance costs what all its other measures do: it has so many times fewer

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Sides:
    """N maps as the measures want them; of a constant map all but `top` are NaN.

    Attributes:
        ranks: (N, P) float64, centred and of length 1, so that Spearman's rho of two maps is their product.
        lengths: (N, 1) float64, of the centred ranks before that.
        scores: (N, P) float32 of mean 0 and deviation 1.
        top: (N, K) int64, places of the top 10 % of the pixels: what people clicked on.
        cells: (N, G^2) float64 that sum to 1.
    """

    ranks: Tensor
    lengths: Tensor
    scores: Tensor
    top: Tensor
    cells: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> "Sides":
        """Of maps (N, side, side) >= 0."""
        flat = maps.flatten(1)
        ranks, top = ranks_and_top(flat, clicked_count(flat.shape[1]))
        ranks -= (flat.shape[1] + 1) / 2
        lengths = torch.linalg.vector_norm(ranks, dim=1, keepdim=True)
        ranks /= lengths
        centred = flat - flat.mean(1, keepdim=True)
        constant = flat.amax(1, keepdim=True) == flat.amin(1, keepdim=True)
        scores = (centred / centred.square().mean(1, keepdim=True).sqrt()).masked_fill(constant, torch.nan)
        return cls(ranks, lengths, scores, top, cells(maps))

    @property
    def _parts(self) -> tuple[Tensor, ...]:
        return self.ranks, self.lengths, self.scores, self.top, self.cells

    def like(self, other: "Sides") -> "Sides":
        """One side repeated for every map of another."""
        count = len(other.ranks)
        return Sides(*(part.expand(count, -1) for part in self._parts))

    def rows(self, chosen: NDArray[np.int64]) -> "Sides":
        """The sides of some of the maps, in the order given."""
        places = torch.from_numpy(chosen).to(self.ranks.device)
        return Sides(*(part[places] for part in self._parts))


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
    spearman = torch.einsum("np,np->n", model.ranks, human.ranks).cpu().numpy()
    return {"spearman": spearman, **_pointwise(model, human), "emd": distances}


def _pointwise(model: Sides, human: Sides) -> Values:
    """AUC (Mann-Whitney, from ranks) and NSS, as `tensors.agreement` defines them."""
    pixels, clicks = model.ranks.shape[1], human.top.shape[1]
    known = ~human.ranks[:, :1].isnan()[:, 0]
    sums = model.ranks.gather(1, human.top).sum(1) * model.lengths[:, 0] + clicks * (pixels + 1) / 2
    wins = (sums - clicks * (clicks + 1) / 2) / (clicks * (pixels - clicks))
    scores = model.scores.gather(1, human.top).double().mean(1)
    return {
        measure: values.masked_fill(~known, torch.nan).cpu().numpy()
        for measure, values in (("auc", wins), ("nss", scores))
    }


def mean(values: NDArray[np.float64]) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def weighted(weights: NDArray[np.float32], maps: Tensor) -> Tensor:
    """Weighted sums of maps: (K, N), (N, H, W) -> (K, H, W)."""
    sums: Tensor = torch.from_numpy(weights).to(maps) @ maps.flatten(1)
    return sums.reshape(len(weights), *maps.shape[1:])
