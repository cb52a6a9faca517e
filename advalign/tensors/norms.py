"""Norms of perturbations; the first dimension is always the batch."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["l2", "linf"]
TINY = 1e-12  # keeps divisions by a vanishing norm finite; far below any norm that occurs


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per sample (N,) so that it broadcasts against (N, ...)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def l2_norm(batch: Tensor) -> Tensor:
    """Euclidean norm of every sample: (N, ...) -> (N,).

    >>> l2_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([5., 0.])
    """
    norms: Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1)
    return norms


def linf_norm(batch: Tensor) -> Tensor:
    """Largest absolute entry of every sample: (N, ...) -> (N,).

    >>> linf_norm(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
    tensor([4., 0.])
    """
    return batch.flatten(1).abs().amax(1)


def unit_l2(batch: Tensor) -> Tensor:
    """Scale every sample to unit Euclidean norm; a zero sample stays zero."""
    return batch / per_sample(l2_norm(batch).clamp_min(TINY), batch)


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The direction (N, ...) of length 1 in which a function of this gradient grows most; 0 where the gradient is 0.

    `Ball.step`, which adversarial training uses, adds 1e-10 to an l2 gradient's norm, as the package `robustness` does.
    The gradient of a confident image's cross-entropy can be smaller than that.
    """
    return gradient.sign() if norm == "linf" else unit_l2(gradient)


NORMS: dict[Norm, Callable[[Tensor], Tensor]] = {"l2": l2_norm, "linf": linf_norm}
