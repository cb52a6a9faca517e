"""The linearised decision boundary inside the box: its nearest point, and where a ray meets it.

Around a point d the margin is f + g . (u - d), so the boundary is the hyperplane {u : g . u = offset} with
offset = g . d - f. Perturbations are (N, ...), offsets and radii (N,).
"""

import torch
from torch import Tensor

from advalign.tensors.norms import Norm, per_sample

TINY = 1e-30


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of every sample: (N, ...), (N, ...) -> (N,)."""
    product: Tensor = torch.linalg.vecdot(first.flatten(1), second.flatten(1))
    return product


def nearest_on_hyperplane(
    gradient: Tensor, offset: Tensor, low: Tensor, high: Tensor, iterations: int, norm: Norm = "l2"
) -> Tensor:
    """Smallest perturbation on the hyperplane gradient . u = offset with low <= u <= high.

    The minimiser is u = clip(-multiplier * pull) with one multiplier per sample, where pull is the gradient for l2 and
    its signs for linf. The multiplier is found by Newton's method: where nothing is clipped the first guess is exact;
    every iteration settles the entries that the box holds. A hyperplane outside the box gives the box's nearest corner.

    Args:
        gradient: (N, ...).
        offset: (N,), negative: the clean image (zero) lies on the positive side.
        low, high: (N, ...) the box around zero.
        iterations: Newton steps after the first guess.
        norm: that is smallest.
    """
    pull = gradient.sign() if norm == "linf" else gradient
    multiplier = -offset / dot(gradient, pull).clamp_min(TINY)
    for _ in range(iterations):
        unbounded = -per_sample(multiplier, pull) * pull
        step = unbounded.clamp(low, high)
        held = unbounded.sub_(step).sign_()  # -1, 0 or 1; comparisons would cost several times as much
        slope = dot(gradient, pull * (1 - held.square_()))
        change = (dot(gradient, step) - offset) / slope.clamp_min(TINY)
        multiplier = torch.where(slope > 0, multiplier + change, multiplier).clamp_min(0)
    return (-per_sample(multiplier, pull) * pull).clamp(low, high)


def crossing(along: Tensor, offset: Tensor) -> Tensor:
    """Factor (N,) that scales a perturbation onto the hyperplane; huge if the perturbation leads away from it.

    Args:
        along: (N,) gradient . perturbation.
        offset: (N,), negative.
    """
    return offset / along.clamp_max(-TINY)
