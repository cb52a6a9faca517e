"""Projected gradient descent within a radius (Madry et al. 2018): the simplest search of a bounded attack.

Every step follows the gradient of a loss, in the norm's steepest direction, and returns to the ball and to the box.
An image that flips leaves the batch, and one that does not begins again, at another point, as often as `restarts` says.
"""

import re
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from advalign.attacks._radius import Starts, ThreatModel, cross_entropy, lead, read_radius
from advalign.attacks.base import Bounded, Oracle
from advalign.tensors.balls import BALLS
from advalign.tensors.norms import steepest

STEPS = re.compile("[0-9]{1,6}")
LOSSES = {"cross-entropy": cross_entropy, "margin": lead}


class ProjectedGradientDescent(Bounded):
    """PGD: whether a perturbation within eps, found by gradient steps, changes the decision."""

    class Settings(ThreatModel):
        """The threat model and the search, as in Kannappan 2025: 20 steps of 2 eps / 20 from a random start."""

        steps: int = Field(20, ge=1)
        step_size: float | None = Field(None, gt=0, description="default: 2 eps / steps")
        loss: Literal["cross-entropy", "margin"] = Field(
            "cross-entropy", description="the paper's; large logits hide its gradient, but not that of the margin"
        )
        random_start: bool = Field(True, description="begin at a random point of the ball, not at the clean image")
        restarts: int = Field(1, ge=1, description="how often an image that does not flip begins")
        seed: int = Field(0, ge=0, description="of random starts")

        @model_validator(mode="after")
        def _differ(self) -> Self:
            if self.restarts > 1 and not self.random_start:
                raise ValueError("restarts repeat the same search without random_start: set random_start: true")
            return self

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """STEPS-NORMEPS: 20-linf8 (eps in 1/255), 40-l20.5 (eps as it is).

        >>> ProjectedGradientDescent.budgeted("20-linf8") == {"steps": 20, "norm": "linf", "eps": 8 / 255}
        True
        """
        steps, _, radius = text.partition("-")
        threat = read_radius(radius if STEPS.fullmatch(steps) else "", f"pgd-{text}", "pgd-STEPS-")
        return {"steps": int(steps), **threat}

    @property
    def passes(self) -> int:
        """A pass per step, and one at the last point, of every start."""
        return int(self.settings.restarts * (self.settings.steps + 1))

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring; the start is the first of `steps` + 1 evaluated points."""
        inputs, starts = oracle.inputs[index], Starts(self.settings, self.settings.seed)
        found, held = inputs.clone(), torch.arange(len(index), device=inputs.device)
        for _ in range(self.settings.restarts):
            if not len(held):
                break
            start = starts.draw(inputs[held]) if self.settings.random_start else inputs[held]
            found[held], flipped = self._climb(oracle, index[held], start)
            held = held[~flipped]
        return found

    def _climb(self, oracle: Oracle, index: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The last point of every image (M, ...), and (M,) bool: whether it flips."""
        settings, inputs = self.settings, oracle.inputs[index]
        length = settings.step_size or 2 * settings.eps / settings.steps
        found, active = start.clone(), torch.arange(len(index), device=inputs.device)
        flipped = torch.ones_like(index, dtype=torch.bool)
        for _ in range(settings.steps):
            _, margin, gradient = oracle.climb(LOSSES[settings.loss], found[active], index[active])
            held = ~(margin < 0)
            active, gradient = active[held], gradient[held]
            if not len(active):
                return found, flipped
            ball = BALLS[self.norm](inputs[active], settings.eps)
            found[active] = ball.project(found[active] + length * steepest(self.norm, gradient))
        flipped[active] = oracle.is_adversarial(found[active], index[active])
        return found, flipped
