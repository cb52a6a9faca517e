"""How well one map agrees with another beside rank correlation: AUC, scanpath saliency, earth mover's distance.

In all three a model's map (or one half of the participants) is judged by people's map. What people clicked on is the
top 10 % of their map's pixels (`clicked_pixels`), so that a model and a half of the participants are judged alike,
with raw clicks or without.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advalign.tensors.heatmaps import TOP_SHARE
from advalign.tensors.ranks import average_ranks, ranks_and_top

EMD_GRID = 8  # cells per side that maps are averaged to before the earth mover's distance


def clicked_count(pixels: int) -> int:
    """How many of a map's pixels count as clicked: the top 10 %."""
    return max(1, round(TOP_SHARE * pixels))


def clicked_pixels(maps: Tensor) -> Tensor:
    """The top 10 % of the pixels of human maps, ties by position: (N, P) -> (N, P) bool; none of a constant map."""
    top = ranks_and_top(maps, clicked_count(maps.shape[-1]))[1]
    constant = maps.amax(-1, keepdim=True) == maps.amin(-1, keepdim=True)
    return torch.zeros_like(maps, dtype=torch.bool).scatter_(-1, top, True) & ~constant


def auc(scores: Tensor, clicked: Tensor) -> Tensor:
    """Chance that a clicked pixel has a higher score than another one, ties counted half: (N, P), (N, P) bool -> (N,).

    The area under the ROC curve, computed from ranks (Mann-Whitney). float64 in [0, 1]; .5 is chance. NaN where the
    scores are constant, and where no pixel, or every pixel, was clicked.
    """
    return auc_of_ranks(average_ranks(scores), clicked)


def auc_of_ranks(ranks: Tensor, clicked: Tensor) -> Tensor:
    """`auc` of scores whose average ranks (N, P) are known."""
    clicks = clicked.sum(-1, dtype=torch.float64)
    others = clicked.shape[-1] - clicks
    wins = (ranks.double() * clicked).sum(-1) - clicks * (clicks + 1) / 2
    undefined = (ranks.amax(-1) == ranks.amin(-1)) | (clicks == 0) | (others == 0)
    return (wins / (clicks * others)).masked_fill(undefined, torch.nan)


def nss(scores: Tensor, clicked: Tensor) -> Tensor:
    """Normalised scanpath saliency: mean of the standardised scores of clicked pixels, (N, P), (N, P) bool -> (N,).

    float64, in standard deviations (biased) of the image's scores; 0 is chance. NaN where the scores are constant, and
    where no pixel was clicked. Source: Peters et al. 2005, Vision Research 45.
    """
    scores = scores.double()
    constant = scores.amax(-1) == scores.amin(-1)
    centred = scores - scores.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1).sqrt()
    clicks = clicked.sum(-1, dtype=torch.float64)
    return ((centred * clicked).sum(-1) / (clicks * deviation)).masked_fill(constant | (clicks == 0), torch.nan)


def emd(first: Tensor, second: Tensor, grid: int = EMD_GRID) -> Tensor:
    """Earth mover's distance of maps on a coarse grid: (N, H, W), (N, H, W) -> (N,) float64, lower is better.

    Both maps are averaged to grid x grid cells and scaled to sum 1; moving mass costs the Euclidean distance of the
    cells' centres in shares of the side, so the largest possible distance is sqrt(2) (1 - 1 / grid). Maps may not be
    negative. NaN where a map is constant. Source: Rubner et al. 2000; solved exactly by POT's network simplex.
    """
    return emd_of_cells(cells(first, grid), cells(second, grid))


def cells(maps: Tensor, grid: int = EMD_GRID) -> Tensor:
    """Masses of the cells of a grid: (N, H, W) -> (N, grid^2) float64 that sum to 1; NaN for a constant map."""
    averaged = F.adaptive_avg_pool2d(maps[:, None].double(), grid).flatten(1)
    constant = maps.flatten(1).amax(1) == maps.flatten(1).amin(1)
    return (averaged / averaged.sum(1, keepdim=True)).masked_fill(constant[:, None], torch.nan)


def emd_of_cells(first: Tensor, second: Tensor) -> Tensor:
    """`emd` of masses (N, grid^2) that are known."""
    from ot import emd2  # imports much, which the commands that list metrics do not need

    cost = _costs(round(first.shape[1] ** 0.5))
    pairs = zip(first.cpu().numpy(), second.cpu().numpy(), strict=True)
    return torch.tensor([_moved(one - other, cost, emd2) for one, other in pairs], dtype=torch.float64)


def _moved(surplus: np.ndarray, cost: np.ndarray, solve: Callable[..., Any]) -> float:
    """Least cost of moving the surplus of some cells to the others; what both maps have in a cell stays there.

    That loses nothing, because the cost is a distance, and makes the problem four times smaller.
    """
    if np.isnan(surplus).any():
        return float("nan")
    source, target = surplus > 0, surplus < 0
    if not source.any() or not target.any():
        return 0.0
    parts = surplus[source], -surplus[target], cost[np.ix_(source, target)]
    return float(solve(*parts, center_dual=False, check_marginals=False))  # their sums agree to rounding


@cache
def _costs(grid: int) -> np.ndarray:
    """Distances of the cells' centres in shares of the side: (grid^2, grid^2) float64."""
    centres = (np.arange(grid) + 0.5) / grid
    points = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    distances: np.ndarray = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return distances
