"""Does a map lie on an object? Scores of maps against masks, and what chance and coarse maps score. (N, H, W) each."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import hypergeom
from torch import Tensor

from advalign.tensors.heatmaps import centre_distance

TOP_SHARE = 0.30  # the share of a map's pixels that counts as salient (Kannappan 2025, 3.3.3)


def salient_pixels(height: int, width: int) -> int:
    """How many pixels of a map count as salient."""
    return round(TOP_SHARE * height * width)


def top(maps: Tensor) -> Tensor:
    """The largest 30 % of every map's pixels, ties by position: (N, H, W) bool."""
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, : salient_pixels(*maps.shape[1:])]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).reshape(maps.shape)


def overlap(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of a map's top 30 % and the mask (N, H, W) bool: (N,) float64 in [0, 1].

    >>> maps = torch.arange(10.0).reshape(1, 2, 5)
    >>> overlap(maps, maps > 5.5)  # 3 of 4 pixels
    tensor([0.7500], dtype=torch.float64)
    """
    salient = top(maps)
    both, either = (salient & masks).sum((1, 2)), (salient | masks).sum((1, 2))
    return both.double() / either


def hits(maps: Tensor, masks: Tensor) -> Tensor:
    """The pointing game: 1 where a map's largest value lies on the mask (N, H, W) bool, else 0: (N,) float64.

    The first of several largest. Source: Zhang et al. 2018, without their tolerance of 15 pixels.
    """
    return masks.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0].double()


def expected_overlap(masks: Tensor) -> Tensor:
    """The mean of `overlap` over maps of independent random pixels, exactly: (N,) float64.

    The number of mask pixels in the top 30 % is hypergeometric.
    """
    pixels, salient = masks[0].numel(), salient_pixels(*masks.shape[1:])
    found = []
    for marked in masks.sum((1, 2)).tolist():
        both = np.arange(min(marked, salient) + 1)
        likely = hypergeom.pmf(both, pixels, marked, salient)
        found.append(float((likely * both / (marked + salient - both)).sum()))
    return torch.tensor(found, dtype=torch.float64)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, h, w) at another size, bilinear: (N, *size)."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def at_resolution(references: Tensor, grid: tuple[int, int]) -> Tensor:
    """What is left of maps (N, H, W) when they pass through a grid (h, w): cell means, enlarged again.

    A coarse map that scores less than this misses something; one that scores less than 1 need not.
    """
    cells: Tensor = F.adaptive_avg_pool2d(references.float()[:, None], grid)[:, 0]
    return enlarged(cells, (references.shape[1], references.shape[2]))


def centred(height: int, width: int) -> Tensor:
    """A map that knows nothing of the image: the nearer to the centre, the more. (1, H, W); its top is a disc."""
    return -centre_distance(height, width)[None]


def discs(masks: Tensor) -> Tensor:
    """For every mask (N, H, W) a centred disc of as many pixels, ties by position: (N, H, W) bool."""
    order = centre_distance(*masks.shape[1:]).flatten().argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return rank.reshape(1, *masks.shape[1:]).to(masks.device) < masks.sum((1, 2), keepdim=True)
