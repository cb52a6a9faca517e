"""Smallest perturbations that change the decision: their norms, and where they lie in the image.

A minimum-norm attack (`fmn-fast`, `fmn`, `feng2025-released`) searches for them. Beyond the norm, the metrics say what
is measured of each perturbation.
"""

import numpy as np

from advalign.attacks.base import MinimumNorm
from advalign.data.sets.base import Items
from advalign.metrics.base import AttackedShard
from advalign.models.stand_in import stand_in
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import LOOKED_AT, checked_flags
from advalign.probes.base import Conditions, Measured, Model, Probe, attacked_rows
from advalign.rows import FLAGS, STATUS, Status


class MinimumNormProbe(Probe):
    """The smallest perturbation of every item that the model gets right."""

    attacks = MinimumNorm
    keeps = True
    depends_on = ("shard_size", "batch_size", "search_precision", "gallery", "seed")

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', clean_prediction, status, norm_l2 (norm_linf), largest_tried, queries, metrics', flags."""
        assert self.attack is not None
        inputs = items.pixels(evaluation_transform(model.classifier.preprocessing)).to(model.device)
        labels = items.labels.to(model.device)
        flags = checked_flags(model.name, model.classifier, inputs, labels, model.groups)
        search = None
        if self.attack.uses_stand_in:
            search = stand_in(model.classifier, inputs[:LOOKED_AT], conditions.search_precision)
        result = self.attack.run(
            model.classifier, inputs, labels, groups=model.groups, search=search, batch_size=conditions.batch_size
        )
        perturbations = result.adversarials - inputs
        rows = attacked_rows(items, result, self.attack.norm)
        rows[FLAGS] = ",".join(flags)
        shard = AttackedShard(perturbations, {name: values.to(model.device) for name, values in items.extras.items()})
        for metric in self.metrics:
            for column, values in metric.measure(shard).items():
                rows[column] = np.where(rows[STATUS] == Status.OK, values.cpu().double().numpy(), np.nan)
        return Measured(rows, {position: perturbations[position].cpu() for position in conditions.kept})
