"""The fast gradient sign method (Goodfellow et al. 2015), and for l2 the fast gradient method: one step of length eps.

The step follows the gradient of the cross-entropy at the clean image. Where every class is a decision of its own, this
is Foolbox's `LinfFastGradientAttack` and `L2FastGradientAttack`.
"""

from typing import Any

from torch import Tensor

from advalign.attacks._radius import ThreatModel, cross_entropy, read_radius
from advalign.attacks.base import Bounded, Oracle
from advalign.tensors.balls import BALLS
from advalign.tensors.norms import steepest


class FastGradient(Bounded):
    """FGSM: whether one gradient step of length eps changes the decision."""

    class Settings(ThreatModel):
        """The threat model."""

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """NORMEPS: linf8 (eps in 1/255), l20.5 (eps as it is)."""
        return read_radius(text, f"fgsm-{text}", "fgsm-")

    @property
    def passes(self) -> int:
        """One, at the clean image."""
        return 1

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring."""
        ball = BALLS[self.norm](oracle.inputs[index], self.settings.eps)
        _, _, gradient = oracle.climb(cross_entropy, ball.centres, index)
        return ball.project(ball.centres + self.settings.eps * steepest(self.norm, gradient))
