"""Smallest perturbations that change the decision: their norms, and where they lie in the image.

A minimum-norm attack (`fmn-fast`, `fmn`, `feng2025-released`, `linf-curve`) searches for them. Beyond the norm, the
metrics say what is measured of each perturbation.
"""

import numpy as np

from advalign.attacks.base import MinimumNorm
from advalign.data.sets.base import Items
from advalign.metrics.base import AttackedShard, Evaluation
from advalign.probes._attacked import attacked
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import STATUS, Status, with_norm


class MinimumNormProbe(Probe):
    """The smallest perturbation of every item that the model gets right."""

    attacks = MinimumNorm
    keeps = True

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: those of `attacked`, and the columns of the metrics."""
        assert self.attack is not None
        rows, perturbations = attacked(self.attack, model, items, conditions)
        shard = AttackedShard(perturbations, {name: values.to(model.device) for name, values in items.extras.items()})
        for metric in self.metrics:
            for column, values in metric.measure(shard).items():
                rows[column] = np.where(rows[STATUS] == Status.OK, values.cpu().double().numpy(), np.nan)
        return Measured(rows, {position: perturbations[position].cpu() for position in conditions.kept})

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """The numbers of the metrics; the names of those in another norm than l2 say it."""
        assert self.attack is not None
        return {with_norm(name, self.attack.norm): value for name, value in super().summarise(evaluation).items()}
