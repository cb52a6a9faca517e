"""Smallest perturbations that change the decision: how long they are, and where they fall.

Asked with a minimum-norm attack (`fmn-fast`, `fmn`, `feng2025-released`). What is measured of each perturbation beyond
its norm is the metrics' affair.
"""

import numpy as np
import pandas as pd

from advalign.attacks.base import AttackResult, MinimumNorm
from advalign.data.sets.base import Items
from advalign.errors import DataError
from advalign.metrics.base import AttackedShard
from advalign.models.stand_in import stand_in
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import NOT_FINITE, sanity_flags
from advalign.probes.base import Conditions, Measured, Model, Probe

LOOKED_AT = 8  # items of a task that a model's sanity is judged by


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
        few = inputs[:LOOKED_AT]
        flags = sanity_flags(model.classifier, few, labels[:LOOKED_AT], model.groups)
        if "non-finite-logits" in flags:
            raise DataError(f"{model.name}: {NOT_FINITE}")
        search = stand_in(model.classifier, few, conditions.search_precision) if self.attack.uses_stand_in else None
        result = self.attack.run(
            model.classifier, inputs, labels, groups=model.groups, search=search, batch_size=conditions.batch_size
        )
        perturbations = result.adversarials - inputs
        rows = attacked_rows(items, result, self.attack.norm)
        rows["flags"] = ",".join(flags)
        shard = AttackedShard(perturbations, {name: values.to(model.device) for name, values in items.extras.items()})
        for metric in self.metrics:
            for column, values in metric.measure(shard).items():
                rows[column] = np.where(rows["status"] == "ok", values.cpu().double().numpy(), np.nan)
        return Measured(rows, {position: perturbations[position].cpu() for position in conditions.kept})


def attacked_rows(items: Items, result: AttackResult, norm: str) -> pd.DataFrame:
    """One row per item: which, and what became of it under an attack."""
    return items.table.assign(
        clean_prediction=result.clean_predictions.cpu().numpy(),
        status=[str(status) for status in result.status],
        **{f"norm_{norm}": result.norms.cpu().numpy()},
        largest_tried=result.largest_tried.cpu().numpy(),
        queries=result.queries.cpu().numpy(),
    )
