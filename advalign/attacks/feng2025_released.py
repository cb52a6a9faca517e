"""What produced the published table (Feng et al. 2025): a walk in unit steps up to the first adversarial iterate.

The released code calls Foolbox 3.3.4's L2FMNAttack(steps=1000, max_stepsize=1, min_stepsize=1e-5, gamma=10), whose
l2 projection multiplies by min(1, norm / norm) = 1 and so does nothing: eps and gamma have no effect. On trained
networks the first adversarial iterate is nearly always the shortest, so each image stops there, at a fraction of the
cost (docs/methods.md, section feng2025-released). This attack reproduces that behaviour on purpose, for comparison with
the published table only: its norms are not minimal.
"""

from torch import Tensor

from advalign.attacks._walk import walk_until_adversarial
from advalign.attacks.base import MinimumNorm, Oracle
from advalign.attacks.fmn import cosine
from advalign.strict_settings import Strict


class Feng2025Released(MinimumNorm):
    """The released protocol, stopped where its result is settled."""

    class Settings(Strict):
        """The released values; eps and gamma are left out since they have no effect."""

        steps: int = 1000
        step_size: float = 1.0
        last_step_size: float = 1e-5

    @property
    def typical_passes(self) -> int:
        """Of 1000, on a real MobileNetV2."""
        return 6

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Walk until adversarial; images that are leave the batch."""
        settings = self.settings
        lengths = (
            cosine(settings.step_size, settings.last_step_size, step, settings.steps) for step in range(settings.steps)
        )
        return walk_until_adversarial(oracle, index, lengths)
