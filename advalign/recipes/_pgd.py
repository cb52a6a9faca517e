"""Projected gradient ascent inside a ball, with the `robustness` package's attack steps; its only importer."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from robustness.attack_steps import L2Step, LinfStep
from torch import Tensor, nn

from advalign.recipes.base import Position
from advalign.settings import Strict

STEPS = {"l2": L2Step, "linf": LinfStep}


class BallSettings(Strict):
    """The threat model of adversarial training and how its inner maximum is looked for."""

    constraint: Literal["l2", "linf"] = "l2"
    eps: float = Field(1.0, gt=0, description="radius of the ball, pixels in [0, 1]")
    steps: int = Field(7, ge=1)
    step_size: float | None = Field(None, gt=0, description="default: 2.5 eps / steps")
    random_start: bool = False
    ramp: float = Field(0.0, ge=0, lt=1, description="share of the training in which eps grows linearly from 0")

    def suffix(self) -> str:
        """The published name's part: l2_eps0.25, or linf_eps0.5_255 for 0.5 / 255."""
        if self.constraint == "linf":
            return f"linf_eps{round(self.eps * 255, 6):g}_255"
        return f"l2_eps{self.eps:g}"


def worst_case(classifier: nn.Module, images: Tensor, labels: Tensor, ball: BallSettings, position: Position) -> Tensor:
    """The last iterate of PGD on the cross-entropy, the model in evaluation mode meanwhile (Madry et al. 2018).

    Args:
        classifier: pixels in [0, 1] -> logits; its mode is restored afterwards.
        images: (N, 3, H, W) in [0, 1].
        labels: (N,).
        ball: threat model.
        position: for the ramp of eps.

    Returns:
        (N, 3, H, W) in [0, 1], within eps of the images, detached.
    """
    eps = ball.eps * min(1.0, position.progress / ball.ramp) if ball.ramp else ball.eps
    if eps == 0:
        return images
    step = STEPS[ball.constraint](images, eps, ball.step_size or 2.5 * eps / ball.steps)
    training = classifier.training
    classifier.eval()
    try:
        return _ascend(classifier, images, labels, step, ball)
    finally:
        classifier.train(training)


def _ascend(
    classifier: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, step: L2Step | LinfStep, ball: BallSettings
) -> Tensor:
    points = step.random_perturb(images) if ball.random_start else images
    for _ in range(ball.steps):
        points = points.clone().detach().requires_grad_(True)
        loss = F.cross_entropy(classifier(points), labels)
        (gradient,) = torch.autograd.grad(loss, points)
        with torch.no_grad():
            points = step.project(step.step(points, gradient.contiguous()))
    found: Tensor = points.detach()
    return found
