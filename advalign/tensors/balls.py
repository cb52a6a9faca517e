"""Balls around images, l2 and linf, inside the box [0, 1]: steps, projections, random starts.

Adversarial training and attacks share them. The first dimension is always the batch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from advalign.tensors.norms import TINY, Norm, l2_norm, per_sample

SMALLEST_NORM = 1e-10  # is added to a norm that is divided by, as the `robustness` package does


def project_l2(perturbation: Tensor, radius: Tensor) -> Tensor:
    """Scale samples (N, ...) whose norm exceeds their radius (N,) down to it; the others are returned as they are."""
    factor = (radius / l2_norm(perturbation).clamp_min(TINY)).clamp(max=1.0)
    return perturbation * per_sample(factor, perturbation)


def clip_to_box(inputs: Tensor, perturbation: Tensor) -> Tensor:
    """Shrink a perturbation elementwise so that inputs + perturbation lies in [0, 1]."""
    return (inputs + perturbation).clamp(0.0, 1.0) - inputs


def farthest_in_box(inputs: Tensor) -> Tensor:
    """Norm of the longest perturbation that the box [0, 1] allows: (N, ...) -> (N,), ||max(x, 1 - x)||_2."""
    return l2_norm(torch.maximum(inputs, 1.0 - inputs))


@dataclass(frozen=True)
class Ball(ABC):
    """All images in [0, 1] within eps of given ones. The arithmetic is that of `robustness.attack_steps`, bit for bit.

    Attributes:
        centres: (N, ...) in [0, 1].
        eps: radius in this ball's norm, pixels in [0, 1]; the same for all.
    """

    centres: Tensor
    eps: float

    @abstractmethod
    def step(self, points: Tensor, gradient: Tensor, length: float) -> Tensor:
        """Move points by `length` in the direction in which this norm climbs most steeply; the ball may be left.

        Args:
            points: (N, ...).
            gradient: (N, ...), of what is to grow; a zero gradient moves nothing.
            length: in this ball's norm.
        """

    @abstractmethod
    def project(self, points: Tensor) -> Tensor:
        """Bring points (N, ...) back into the ball, and then into the box."""

    @abstractmethod
    def random_start(self) -> Tensor:
        """Draw a point of each ball from the global random state: (N, ...) in [0, 1]."""


class L2Ball(Ball):
    """Euclidean distance over all pixels of an image."""

    def step(self, points: Tensor, gradient: Tensor, length: float) -> Tensor:
        """Along the gradient."""
        return points + gradient / per_sample(l2_norm(gradient) + SMALLEST_NORM, gradient) * length

    def project(self, points: Tensor) -> Tensor:
        """Scale what is longer than eps down to it."""
        moved = (points - self.centres).renorm(p=2, dim=0, maxnorm=self.eps)
        return (self.centres + moved).clamp(0, 1)

    def random_start(self) -> Tensor:
        """On the sphere, uniformly, before the box clips it."""
        drawn = torch.randn_like(self.centres)
        return (self.centres + self.eps * drawn / per_sample(l2_norm(drawn) + SMALLEST_NORM, drawn)).clamp(0, 1)


class LinfBall(Ball):
    """Largest difference of a pixel."""

    def step(self, points: Tensor, gradient: Tensor, length: float) -> Tensor:
        """Along the gradient's signs."""
        return points + gradient.sign() * length

    def project(self, points: Tensor) -> Tensor:
        """Clip every pixel's difference."""
        moved = (points - self.centres).clamp(-self.eps, self.eps)
        return (moved + self.centres).clamp(0, 1)

    def random_start(self) -> Tensor:
        """Uniform in the ball, before the box clips it."""
        return (self.centres + 2 * (torch.rand_like(self.centres) - 0.5) * self.eps).clamp(0, 1)


BALLS: dict[Norm, type[Ball]] = {"l2": L2Ball, "linf": LinfBall}
