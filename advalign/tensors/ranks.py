"""Rank correlation of maps, batched and exact with ties."""

import torch
from torch import Tensor


def average_ranks(values: Tensor) -> Tensor:
    """Ranks along the last dimension, ties sharing their mean rank: (..., P) -> (..., P) float64, from 1 to P.

    >>> average_ranks(torch.tensor([10.0, 20.0, 10.0]))
    tensor([1.5000, 3.0000, 1.5000], dtype=torch.float64)
    """
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
