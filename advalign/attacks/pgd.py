"""Projected gradient descent within a radius (Madry et al. 2018): the simplest bounded attack.

Every step follows the gradient of the margin (the right decision's logit minus the largest other one), in the steepest
direction of the norm, and returns to the ball and to the box. An image that flips leaves the batch.
"""

import re
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advalign.attacks.base import Bounded, Oracle
from advalign.errors import InputError
from advalign.settings import Strict, fraction
from advalign.tensors.balls import BALLS

BUDGET = re.compile(r"([0-9]{1,6})-(l2|linf)([0-9]+(?:\.[0-9]+)?)")


class ProjectedGradientDescent(Bounded):
    """PGD on the margin: whether a perturbation within eps changes the decision."""

    class Settings(Strict):
        """The threat model and the search; the paper's values (Kannappan 2025): 20 steps of 2 eps / 20."""

        norm: Literal["l2", "linf"] = "linf"
        eps: float = Field(8 / 255, gt=0, description="radius of the ball, pixels in [0, 1]; fractions as text: 8/255")
        steps: int = Field(20, ge=1)
        step_size: float | None = Field(None, gt=0, description="default: 2 eps / steps")

        @field_validator("eps", mode="before")
        @classmethod
        def _fraction(cls, value: Any) -> Any:
            return fraction(value) if isinstance(value, str) else value

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """STEPS-NORMEPS: 20-linf8 (eps in 1/255), 40-l20.5 (eps as it is).

        >>> ProjectedGradientDescent.budgeted("20-linf8") == {"steps": 20, "norm": "linf", "eps": 8 / 255}
        True
        """
        found = BUDGET.fullmatch(text)
        if found is None:
            raise InputError(
                f"protocol 'pgd-{text}': write pgd-STEPS-linfEPS (in 1/255: pgd-20-linf8) or pgd-STEPS-l2EPS"
            )
        steps, norm, eps = found.groups()
        return {"steps": int(steps), "norm": norm, "eps": float(eps) / 255 if norm == "linf" else float(eps)}

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring; the clean image is the first of `steps` evaluated points."""
        settings, inputs = self.settings, oracle.inputs[index]
        length = settings.step_size or 2 * settings.eps / settings.steps
        found, active = inputs.clone(), torch.arange(len(index), device=inputs.device)
        for _ in range(settings.steps):
            margin, gradient = oracle.margin_and_gradient(found[active], index[active])
            held = margin >= 0
            active, gradient = active[held], gradient[held]
            if not len(active):
                break
            ball = BALLS[settings.norm](inputs[active], settings.eps)
            found[active] = ball.project(ball.step(found[active], -gradient, length))
        return found
