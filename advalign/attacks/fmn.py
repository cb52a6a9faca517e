"""Fast Minimum-Norm attack, l2, as published (Pintor et al. 2021, Algorithm 1).

A gradient step of shrinking length alpha, then a projection onto an eps-ball that closes in on the boundary: eps
shrinks while the iterate is adversarial and grows while it is not, so the iterate oscillates across the boundary ever
closer to the clean image. The smallest adversarial iterate is returned.

Before the first success eps is the linear estimate of the distance to the boundary, so on nearly linear models the
iterate can settle on the boundary without ever crossing it. If no iterate was adversarial the last one is returned: the
verification may stretch it by 0.1 %, which is enough for such an image (docs/methods.md, section fmn).
"""

import math

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advalign.attacks.base import MinimumNorm, Oracle
from advalign.strict_settings import Strict
from advalign.tensors.balls import clip_to_box, farthest_in_box, project_l2
from advalign.tensors.norms import TINY, l2_norm, per_sample, unit_l2


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """Cosine annealing from `first` (at step 0) towards `last` (at step = steps)."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


class FastMinimumNorm(MinimumNorm):
    """Plain FMN: the reference for norms; 1000 passes per image."""

    budget = "steps"
    named_budgets = ("100",)
    minimum_norm = True

    class Settings(Strict):
        """Pintor et al.'s values; gamma above 1 would make eps negative and is refused."""

        steps: int = Field(1000, ge=1)
        step_size: float = Field(1.0, gt=0)
        last_step_size: float = Field(1e-5, gt=0)
        gamma: float = Field(0.05, gt=0, description="relative change of eps")
        last_gamma: float = Field(0.001, gt=0)

        @field_validator("gamma", "last_gamma")
        @classmethod
        def _keeps_eps_positive(cls, value: float) -> float:
            if value > 1:
                raise ValueError("above 1, eps turns negative and the norms grow by 10 to 50 %: take at most 1")
            return value

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring; the clean image is the first of `steps` evaluated iterates."""
        inputs = oracle.inputs[index]
        delta = torch.zeros_like(inputs)
        best_delta = torch.zeros_like(inputs)
        best = torch.full((len(index),), math.inf, device=inputs.device)
        eps = best.clone()
        farthest = farthest_in_box(inputs)
        for step in range(self.settings.steps):
            alpha = cosine(self.settings.step_size, self.settings.last_step_size, step, self.settings.steps)
            gamma = cosine(self.settings.gamma, self.settings.last_gamma, step, self.settings.steps)
            margin, gradient = oracle.margin_and_gradient(inputs + delta, index)
            adversarial, norm = margin < 0, l2_norm(delta)
            better = adversarial & (norm < best)
            best = torch.where(better, norm, best)
            best_delta = torch.where(per_sample(better, delta), delta, best_delta)
            to_boundary = norm + margin.abs() / l2_norm(gradient).clamp_min(TINY)
            outside = torch.where(best.isfinite(), eps * (1 + gamma), to_boundary)
            eps = torch.where(adversarial, torch.minimum(eps * (1 - gamma), best), outside).minimum(farthest)
            delta = project_l2(delta - alpha * unit_l2(gradient), eps)
            delta = clip_to_box(inputs, delta)
        return inputs + torch.where(per_sample(best.isfinite(), delta), best_delta, delta)
