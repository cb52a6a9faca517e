"""The targeted Fast Adaptive Boundary attack (Croce and Hein 2020, "Minimally distorted adversarial examples").

It walks along the linearised boundary between the right decision and one class, drawn towards the clean image, as in
the AutoAttack package without random starts. It searches for a small norm; here it stops where eps suffices.
"""

import torch
from torch import Tensor

from advalign.attacks._boundary import nearest_on_hyperplane
from advalign.attacks._oracle import Oracle
from advalign.attacks._radius import ThreatModel, lead
from advalign.tensors.norms import NORMS, Norm, per_sample

TOWARDS_CLEAN = 0.1  # the largest share of the step that leads from the clean image
OVERSHOOT = 1.05  # of a step across the boundary
BACK = 0.9  # share of an adversarial perturbation that is kept for the next step
LEAST_NORM = 1e-8
BOX_ITERATIONS = 20


def fast_adaptive_boundary(
    oracle: Oracle, index: Tensor, target: Tensor, model: ThreatModel, steps: int
) -> tuple[Tensor, Tensor]:
    """Walk along the boundary to one class.

    Args:
        oracle: counts passes: two for every step, one of them with gradient.
        index: (M,) which inputs.
        target: (M, K) bool: each image's class.
        model: the ball.
        steps: made by an image that holds.

    Returns:
        (M, ...) the first adversarial point within eps, or else the clean image; and (M,) bool: whether there is one.
    """
    inputs = oracle.inputs[index]
    found, flipped = inputs.clone(), torch.zeros_like(index, dtype=torch.bool)
    place, points = torch.arange(len(index), device=inputs.device), inputs
    for _ in range(steps):
        centres = inputs[place]
        leads, _, gradient = oracle.climb(lead, points, index[place], target[place])
        points = _step(points, centres, leads, gradient, model.norm)
        over = oracle.is_adversarial(points, index[place])
        within = over & (NORMS[model.norm](points - centres) <= model.eps)
        found[place[within]], flipped[place[within]] = points[within], True
        points = torch.where(per_sample(over, points), centres + (points - centres) * BACK, points)
        place, points = place[~within], points[~within]
        if not len(place):
            break
    return found, flipped


def _step(points: Tensor, centres: Tensor, leads: Tensor, gradient: Tensor, norm: Norm) -> Tensor:
    """Across the plane where the linearised lead is 0: from the current point, and a little from the clean image."""
    from_clean = leads - (gradient * (points - centres)).flatten(1).sum(1)
    here = nearest_on_plane(points, gradient, -leads, norm)
    there = nearest_on_plane(centres, gradient, -from_clean, norm)
    near, far = (NORMS[norm](one).clamp_min(LEAST_NORM) for one in (here, there))
    share = per_sample((near / (near + far)).clamp(max=TOWARDS_CLEAN), points)
    return ((points + OVERSHOOT * here) * (1 - share) + (centres + OVERSHOOT * there) * share).clamp(0, 1)


def nearest_on_plane(points: Tensor, gradient: Tensor, gain: Tensor, norm: Norm) -> Tensor:
    """Smallest perturbation with gradient . d = gain and points + d in [0, 1].

    Args:
        points, gradient: (N, ...).
        gain: (N,), of either sign; one that the box does not allow gives the box's corner.
        norm: that is smallest.
    """
    against = gradient * per_sample(-gain.sign(), gradient)
    return nearest_on_hyperplane(against, -gain.abs(), -points, 1 - points, BOX_ITERATIONS, norm)
