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
    return ranks_and_top(values, 0)[0]


def ranks_and_top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`average_ranks`, and the places of the `count` largest values, ties by position: (..., P), (..., count) int64.

    Both come from one sort. The places are in no particular order.
    """
    if _is_quick(values):
        shape, flat = values.shape, values.detach().reshape(-1, values.shape[-1]).numpy()
        ranks, top = (torch.from_numpy(found) for found in _quick_ranks(flat, count))
        return ranks.reshape(shape), top.reshape(*shape[:-1], count)
    ordered, order = values.sort(dim=-1, stable=count > 0, descending=True)
    places = values.shape[-1]
    position = torch.arange(places, device=values.device).expand_as(order)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = torch.ones_like(order[..., :1], dtype=torch.bool)
    first = torch.where(torch.cat([edge, differs], -1), position, 0).cummax(-1).values
    last = torch.where(torch.cat([differs, edge], -1), position, places).flip(-1).cummin(-1).values.flip(-1)
    mean_rank = places - (first + last).double() / 2
    return torch.empty_like(mean_rank).scatter_(-1, order, mean_rank), order[..., :count]


def _is_quick(values: Tensor) -> bool:
    """Whether `_quick_ranks` takes them: float32 on the CPU, without NaN."""
    fits = values.dtype == torch.float32 and values.device.type == "cpu" and 0 < values.shape[-1] <= 2**PLACE_BITS
    return fits and values.numel() > 0 and not bool(values.isnan().any())


def _quick_ranks(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`ranks_and_top` of rows (N, P), several times as fast as by sorting values and positions apart.

    One integer holds a value and its position, counted from the end: the bits of a float32 are in the order of the
    values, those of negative ones after an exchange of their bits.
    """
    rows, places = values.shape
    ranks, top = np.empty((rows, places)), np.empty((rows, count), np.int64)
    for start in range(0, rows, ROWS_AT_ONCE):
        part = values[start : start + ROWS_AT_ONCE]
        bits = (part + np.float32(0)).view(np.int32)  # + 0: -0.0 equals 0.0 and must have its bits
        if (bits < 0).any():
            bits = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
        keys = (bits.astype(np.int64) << PLACE_BITS) | np.arange(places - 1, -1, -1)
        keys.sort(axis=1)
        order = places - 1 - (keys & (2**PLACE_BITS - 1))
        top[start : start + ROWS_AT_ONCE] = order[:, places - count :]
        keys >>= PLACE_BITS
        opens = np.ones(part.shape, bool)  # a group of ties
        np.not_equal(keys[:, 1:], keys[:, :-1], out=opens[:, 1:])
        first = np.flatnonzero(opens)
        sizes = np.diff(first, append=part.size)
        filled = np.empty(part.size)
        order += np.arange(len(part))[:, None] * places
        filled[order.ravel()] = np.repeat(first % places + (sizes + 1) / 2, sizes)
        ranks[start : start + ROWS_AT_ONCE] = filled.reshape(part.shape)
    return ranks, top


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
