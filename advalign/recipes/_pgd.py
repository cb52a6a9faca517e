"""Adversarial images as an input policy: projected gradient ascent inside a ball (Madry et al. 2018)."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from advalign.data.batches import Batch
from advalign.recipes.base import Inputs, Position
from advalign.strict_settings import Strict, fraction
from advalign.tensors.balls import BALLS, Ball
from advalign.tensors.norms import Norm


class BallSettings(Strict):
    """The threat model of adversarial training, and the search for its inner maximum."""

    constraint: Norm = "l2"
    eps: float = Field(1.0, gt=0, description="radius of the ball, pixels in [0, 1]")
    steps: int = Field(7, ge=1)
    step_size: float | None = Field(None, gt=0, description="default: 2.5 eps / steps")
    random_start: bool = False
    batch_statistics: bool = Field(
        False, description="search in training mode: batch norms use and keep the statistics of the search's iterates"
    )
    ramp: float = Field(0.0, ge=0, lt=1, description="share of the training in which eps grows linearly from 0")
    stretch: ClassVar[float] = 2.5  # length of all steps together, in eps, where step_size is not given

    @field_validator("eps", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        return fraction(value) if isinstance(value, str) else value

    def suffix(self) -> str:
        """The ball's part of a published name: l2_eps0.25, or linf_eps0.5_255 for 0.5 / 255."""
        if self.constraint == "linf":
            return f"linf_eps{round(self.eps * 255, 6):g}_255"
        return f"l2_eps{self.eps:g}"


class Adversarial(Inputs):
    """The last iterate of PGD on the cross-entropy."""

    class Settings(BallSettings):
        """The threat model."""

    @property
    def passes(self) -> float:
        """Forward passes of the search: each step costs a forward and a backward pass to the image."""
        return 2.0 * float(self.settings.steps)

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """See `worst_case`."""
        return worst_case(classifier, batch.images, batch.target, self.settings, position)


def worst_case(classifier: nn.Module, images: Tensor, target: Tensor, ball: BallSettings, position: Position) -> Tensor:
    """The last iterate of PGD on the cross-entropy, with the model in evaluation mode (Madry et al. 2018).

    Only gradients of the images are computed, none of the weights.

    Args:
        classifier: pixels in [0, 1] -> logits, bare or inside DistributedDataParallel; its mode is restored afterwards.
        images: (N, 3, H, W) in [0, 1].
        target: (N,) class indices, or (N, classes) shares.
        ball: threat model.
        position: for the ramp of eps.

    Returns:
        (N, 3, H, W) in [0, 1], within eps of the images, detached.
    """
    eps = ball.eps * min(1.0, position.progress / ball.ramp) if ball.ramp else ball.eps
    if eps == 0:
        return images
    training = classifier.training
    classifier.train(ball.batch_statistics)
    bare = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
    try:
        return _ascend(
            bare, target, BALLS[ball.constraint](images, eps), ball.step_size or ball.stretch * eps / ball.steps, ball
        )
    finally:
        classifier.train(training)


def _ascend(
    classifier: Callable[[Tensor], Tensor], target: Tensor, around: Ball, length: float, ball: BallSettings
) -> Tensor:
    points = around.random_start() if ball.random_start else around.centres
    for _ in range(ball.steps):
        points = points.clone().detach().requires_grad_(True)
        loss = F.cross_entropy(classifier(points), target)
        (gradient,) = torch.autograd.grad(loss, points)
        with torch.no_grad():
            points = around.project(around.step(points, gradient, length))
    return points.detach()
