"""The attack of the 2023 results (Linsley et al. 2023), as its figure was made and as it was edited later.

Three steps along the cross-entropy's gradient, each followed by what was meant as a projection onto the sphere of
radius eps around the clean image. As published, eps in the perturbation's direction is added to the point and not to
the clean image: nothing is projected, and without a box no perturbation is shorter than the steps. The smallest eps
that flips an image is found by bisection (docs/linsley2023.md). This attack reproduces that behaviour on purpose, for
comparison with the 2023 figures only: its norms are not minimal.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from advalign.attacks._radius import cross_entropy
from advalign.attacks.base import MinimumNorm, Oracle
from advalign.strict_settings import Strict
from advalign.tensors.norms import linf_norm, per_sample, unit_l2

SMALLEST, MIDDLE, LARGEST = 0.001, 1.0, 10.0  # ends of the two ranges in which eps is bisected
FINE, COARSE = 0.01, 0.1  # a range is halved until it is shorter: below and above MIDDLE
TRIALS = 9  # values of eps that are tried: LARGEST, MIDDLE, and seven halvings of either range


class Linsley2023(MinimumNorm):
    """The smallest eps of the 2023 attack that flips the class: not a minimum norm."""

    probe = "minimum-norm-unnormalised"

    named_budgets = ("published", "sphere")

    class Settings(Strict):
        """The released values."""

        variant: Literal["published", "sphere"] = Field(
            "published", description="published: eps is added to every step; sphere: every step ends at distance eps"
        )
        steps: int = Field(3, ge=1)
        step_size: float = Field(0.5, gt=0, description="l2 length of a gradient step")

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """The variant: published or sphere."""
        return {"variant": text}

    @property
    def passes(self) -> int:
        """A pass per step, and one at the last point, for every eps that is tried."""
        return int(TRIALS * (self.settings.steps + 1))

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Bisect eps image by image; the clean image where the largest eps does not flip the decision."""
        found = oracle.inputs[index].clone()
        points, flipped = self._attempt(oracle, index, _all(LARGEST, index))
        found[flipped] = points[flipped]
        members = torch.nonzero(flipped)[:, 0]
        if not len(members):
            return found
        points, flipped = self._attempt(oracle, index[members], _all(MIDDLE, members))
        found[members[flipped]] = points[flipped]
        ranges = torch.tensor([[MIDDLE, LARGEST, COARSE], [SMALLEST, MIDDLE, FINE]], dtype=torch.float64)
        low, high, precision = ranges.to(index.device)[flipped.long()].unbind(1)
        while len(wide := torch.nonzero(high - low >= precision)[:, 0]):
            middle = (low[wide] + high[wide]) / 2
            points, flipped = self._attempt(oracle, index[members[wide]], middle)
            found[members[wide[flipped]]] = points[flipped]
            high[wide[flipped]], low[wide[~flipped]] = middle[flipped], middle[~flipped]
        return found

    def _attempt(self, oracle: Oracle, index: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """The point (M, ...) after all steps with each image's eps (M,), and (M,) bool: whether it flips."""
        inputs = oracle.inputs[index]
        lengths, points = per_sample(eps.to(inputs), inputs), inputs
        for _ in range(self.settings.steps):
            gradient = oracle.climb(cross_entropy, points, index).gradient
            stepped = points + self.settings.step_size * _direction(gradient)
            centres = stepped if self.settings.variant == "published" else inputs
            points = (centres + lengths * _direction(stepped - inputs)).clamp(0, 1)
        return points, oracle.is_adversarial(points, index)


def _all(eps: float, index: Tensor) -> Tensor:
    return torch.full(index.shape, eps, dtype=torch.float64, device=index.device)


def _direction(batch: Tensor) -> Tensor:
    """Unit l2 vectors (M, ...), also of the tiny gradients of confident images; 0 where the sample is 0."""
    largest = linf_norm(batch)
    return unit_l2(batch / per_sample(torch.where(largest > 0, largest, 1.0), batch))
