"""Directions that the centres of manifolds share: without them the centres are as uncorrelated as possible.

The theory of capacity is about independent centres. Cohen et al. (2020, Nature Communications 11, 746, Methods) remove
the few directions that make them correlated. As the package mftma does, one direction more at a time is sought, and
the number of them that leaves the smallest correlation is taken.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

EXPLAINED = 0.95  # share of the centres' variance whose principal components bound how many directions are tried
FURTHER = 10  # tried beyond these
STARTS = 3  # of the search for each number of directions
WORSE = 3  # numbers of directions in a row, each worse than the one before: the search ends
STEPS = 200  # of a search


def correlation_of(centres: Array) -> float:
    """Mean |cosine| of two different vectors among (M, D), M at least 2: in [0, 1].

    >>> correlation_of(np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]))
    0.3333333333333333
    """
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    cosines = np.abs((centres / np.where(lengths > 0, lengths, 1)) @ centres.T) / np.where(lengths > 0, lengths, 1).T
    count = len(centres)
    return float((cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def shared_directions(centres: Array, seed: int) -> Array:
    """The directions without which the centres have the smallest mean |cosine|.

    Each number K of directions is sought by minimising the sum of squared cosines over orthonormal frames (L-BFGS,
    several seeded starts that keep the K - 1 directions before). Of the starts, the one that leaves most of the centre
    that loses most is taken.

    Args:
        centres: (M, D), relative to the mean of all points.
        seed: of the starts.

    Returns:
        (D, K) with orthonormal columns, 1 <= K <= M - 2; K = 0 for fewer than 3 centres, or where all are equal.
    """
    around = centres - centres.mean(0)
    _, sizes, axes = np.linalg.svd(around, full_matrices=False)
    rank = int((sizes > 1e-9 * max(float(sizes[0]), np.finfo(float).tiny)).sum())
    most = min(_bound(sizes), rank - 1)
    if len(centres) < 3 or most < 1:
        return np.empty((centres.shape[1], 0))
    basis = axes[:rank].T
    inside = torch.from_numpy(around @ basis)
    generator = torch.Generator().manual_seed(seed)
    frame: Tensor | None = None
    frames, left = [], []
    for count in range(1, most + 1):
        frame = _best(inside, frame, generator)
        frames.append(frame)
        left.append(correlation_of(_without(inside, frame).numpy()))
        if count > WORSE + 1 and all(left[-back] > left[-back - 1] for back in range(1, WORSE + 1)):
            break
    directions: Array = basis @ frames[int(np.argmin(left))].numpy()
    return directions


def _bound(sizes: Array) -> int:
    explained = np.cumsum(sizes**2) / max(float((sizes**2).sum()), np.finfo(float).tiny)
    return int((explained < EXPLAINED).sum()) + FURTHER


def _without(centres: Tensor, frame: Tensor) -> Tensor:
    return centres - (centres @ frame) @ frame.T


def _best(centres: Tensor, frame: Tensor | None, generator: torch.Generator) -> Tensor:
    """A frame with one column more than the given one, of several starts."""
    lengths = torch.linalg.vector_norm(centres, dim=1)
    found: list[tuple[float, Tensor]] = []
    for _ in range(STARTS):
        weights = torch.randn(len(centres), 1, generator=generator, dtype=torch.float64)
        start = centres.T @ weights
        searched = _searched(centres, start if frame is None else torch.cat([start, frame], 1))
        remains = torch.linalg.vector_norm(_without(centres, searched), dim=1) / lengths.clamp_min(1e-300)
        found.append((float(remains.min()), searched))
    return max(found, key=lambda one: one[0])[1]


def _searched(centres: Tensor, start: Tensor) -> Tensor:
    """The frame with the least sum of squared cosines near a start."""
    free = torch.linalg.qr(start).Q.contiguous().clone(memory_format=torch.contiguous_format).requires_grad_(True)
    search = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-8)

    def cost() -> Tensor:
        search.zero_grad()
        rest = _without(centres, torch.linalg.qr(free).Q)
        rest = rest / torch.linalg.vector_norm(rest, dim=1, keepdim=True).clamp_min(1e-12)
        total: Tensor = (rest @ rest.T).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(cost)  # type: ignore[no-untyped-call]
    frame: Tensor = torch.linalg.qr(free.detach()).Q
    return frame
