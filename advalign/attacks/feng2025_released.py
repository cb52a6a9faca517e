"""What produced the published table (Feng et al. 2025): a walk in unit steps up to the first adversarial iterate.

The released code calls Foolbox 3.3.4's L2FMNAttack(steps=1000, max_stepsize=1, min_stepsize=1e-5, gamma=10), whose
l2 projection multiplies by min(1, norm / norm) = 1 and so does nothing: eps and gamma have no effect, and on trained
networks no later iterate was seen to be shorter than the first adversarial one. Stopping each image there gives the
same result at a fraction of the cost. This attack reproduces that behaviour on purpose, for comparison with the
published table only: its norms are not minimal.
"""

import torch
from torch import Tensor

from advalign.attacks.base import Attack, Oracle
from advalign.attacks.fmn import cosine
from advalign.settings import Strict
from advalign.tensors.norms import clip_to_box, unit_l2


class Feng2025Released(Attack):
    """The released protocol, stopped where its result is settled."""

    class Settings(Strict):
        """The released values; eps and gamma are left out since they have no effect."""

        steps: int = 1000
        step_size: float = 1.0
        last_step_size: float = 1e-5

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Walk until adversarial; images that are leave the batch."""
        inputs = oracle.inputs[index]
        result = inputs.clone()
        active = torch.arange(len(index), device=inputs.device)
        delta = torch.zeros_like(inputs)
        for step in range(self.settings.steps):
            points = inputs[active] + delta
            margin, gradient = oracle.margin_and_gradient(points, index[active])
            done = margin < 0
            result[active[done]] = points[done]
            active, delta, gradient = active[~done], delta[~done], gradient[~done]
            if not len(active):
                break
            alpha = cosine(self.settings.step_size, self.settings.last_step_size, step, self.settings.steps)
            delta = clip_to_box(inputs[active], delta - alpha * unit_l2(gradient))
        return result
