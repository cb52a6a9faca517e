"""Rank correlation of maps, batched and exact with ties."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PLACE_BITS = 20  # of a sorting key: a position among up to 2^20 values, below the value's own 32 bits
ROWS_AT_ONCE = 16  # that are ranked together: what is held then fits the processor's cache


def average_ranks(values: Tensor) -> Tensor:
    """Ranks along the last dimension, ties sharing their mean rank: (..., P) -> (..., P) float64, from 1 to P.

    >>> average_ranks(torch.tensor([10.0, 20.0, 10.0]))
    tensor([1.5000, 3.0000, 1.5000], dtype=torch.float64)
    """
    if _is_quick(values):
        flat = values.detach().reshape(-1, values.shape[-1]).numpy()
        return torch.from_numpy(_quick_ranks(flat)).reshape(values.shape)
    ordered, order = values.sort(dim=-1)
    count = values.shape[-1]
    position = torch.arange(count, device=values.device).expand_as(order)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = torch.ones_like(order[..., :1], dtype=torch.bool)
    first = torch.where(torch.cat([edge, differs], -1), position, 0).cummax(-1).values
    last = torch.where(torch.cat([differs, edge], -1), position, count).flip(-1).cummin(-1).values.flip(-1)
    mean_rank = (first + last).double() / 2 + 1
    ranks: Tensor = torch.empty_like(mean_rank).scatter_(-1, order, mean_rank)
    return ranks


def _is_quick(values: Tensor) -> bool:
    """Whether `_quick_ranks` takes them: float32 on the CPU, without NaN."""
    fits = values.dtype == torch.float32 and values.device.type == "cpu" and 0 < values.shape[-1] <= 2**PLACE_BITS
    return fits and values.numel() > 0 and not bool(values.isnan().any())


def _quick_ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Average ranks of rows (N, P), several times as fast as by sorting values and positions apart.

    One integer holds a value and its position: the bits of a float32 are in the order of the values, those of negative
    ones after an exchange of their bits.
    """
    count, places = values.shape
    ranks = np.empty((count, places))
    for start in range(0, count, ROWS_AT_ONCE):
        part = values[start : start + ROWS_AT_ONCE]
        bits = (part + np.float32(0)).view(np.int32)  # + 0: -0.0 equals 0.0 and must have its bits
        keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
        keys = (keys << PLACE_BITS) | np.arange(places)
        keys.sort(axis=1)
        order = (keys & (2**PLACE_BITS - 1)) + np.arange(len(part))[:, None] * places
        keys >>= PLACE_BITS
        opens = np.ones(part.shape, bool)  # a group of ties
        np.not_equal(keys[:, 1:], keys[:, :-1], out=opens[:, 1:])
        first = np.flatnonzero(opens)
        sizes = np.diff(first, append=part.size)
        filled = np.empty(part.size)
        filled[order.ravel()] = np.repeat(first % places + (sizes + 1) / 2, sizes)
        ranks[start : start + ROWS_AT_ONCE] = filled.reshape(part.shape)
    return ranks


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation along the last dimension: (..., P), (..., P) -> (...) float64; NaN where a side is constant.

    Of ranks it is Spearman's rho, so that ranks which are compared often (human maps) are computed once.
    """
    first, second = first.double(), second.double()
    constant = (first.amax(-1) == first.amin(-1)) | (second.amax(-1) == second.amin(-1))
    first = first - first.mean(-1, keepdim=True)
    second = second - second.mean(-1, keepdim=True)
    lengths = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
    result: Tensor = ((first * second).sum(-1) / lengths).masked_fill(constant, torch.nan)
    return result


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rho along the last dimension with average ranks for ties; NaN where either side is constant."""
    return correlation(average_ranks(first), average_ranks(second))


def partial_correlation(first: Tensor, second: Tensor, given: Tensor) -> Tensor:
    """Correlation of two along the last dimension when a third is held fixed (first order); all (..., P), broadcasting.

    With c held fixed, rho_ab becomes (rho_ab - rho_ac rho_bc) / sqrt((1 - rho_ac^2) (1 - rho_bc^2)).
    """
    ab, ac, bc = correlation(first, second), correlation(first, given), correlation(second, given)
    return (ab - ac * bc) / ((1 - ac.square()) * (1 - bc.square())).sqrt()
