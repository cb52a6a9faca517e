"""What probes that attack share: the attack on a task's items, and a row for each."""

import pandas as pd
from torch import Tensor

from advalign.attacks.base import Attack
from advalign.data.sets.base import Items
from advalign.models.stand_in import stand_in
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import LOOKED_AT, checked_flags
from advalign.probes.base import Conditions, Model
from advalign.rows import AUDIT, CLEAN_PREDICTION, FLAGS, LARGEST_TRIED, NORMS, QUERIES, SECOND_START, STATUS


def attacked(attack: Attack, model: Model, items: Items, conditions: Conditions) -> tuple[pd.DataFrame, Tensor]:
    """Attack some items.

    Returns:
        One row per item (its own columns, clean_prediction, status, norm_l2 or norm_linf, largest_tried, queries,
        second_start, audit where the attack audits, flags), and the perturbations (N, 3, H, W), zero where the attack
        found nothing.

    Raises:
        DataError: the model's logits of the clean images are not finite.
    """
    inputs = items.pixels(evaluation_transform(model.classifier.preprocessing)).to(model.device)
    labels = items.labels.to(model.device)
    flags = checked_flags(model.name, model.classifier, inputs, labels, model.groups, conditions.batch_size)
    search = None
    if attack.uses_stand_in:
        search = stand_in(
            model.classifier, inputs[: min(LOOKED_AT, conditions.batch_size or LOOKED_AT)], conditions.search_precision
        )
    result = attack.run(
        model.classifier, inputs, labels, groups=model.groups, search=search, batch_size=conditions.batch_size
    )
    rows = items.table.copy()
    rows[CLEAN_PREDICTION] = result.clean_predictions.cpu().numpy()
    rows[STATUS] = [str(status) for status in result.status]
    rows[NORMS[attack.norm]] = result.norms.cpu().numpy()
    rows[LARGEST_TRIED] = result.largest_tried.cpu().numpy()
    rows[QUERIES] = result.queries.cpu().numpy()
    rows[SECOND_START] = result.second_start.cpu().numpy()
    if attack.audits:
        rows[AUDIT] = result.audit.cpu().numpy()
    rows[FLAGS] = ",".join(flags)
    return rows, result.adversarials - inputs
