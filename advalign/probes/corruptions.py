"""Predictions on corrupted images: 19 corruptions at five severities (Hendrycks and Dietterich 2019)."""

import pandas as pd
import torch

from advalign.data.sets.base import Items
from advalign.models.zoo import evaluation_transform
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.probes.predictions import Predictions
from advalign.rows import CLEAN_PREDICTION, corrupted_prediction
from advalign.tensors.corruptions.constants import CONDITIONS


class Corruptions(Probe):
    """Top class of every image and of its 95 corrupted versions."""

    image_set = "cifar-corrupted"
    needs = ("corrupted",)
    takes_decisions = False

    @property
    def passes(self) -> float:
        """The image and its corrupted versions, once each."""
        return float(1 + len(CONDITIONS))

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', the prediction of the clean image, and one for each corruption and severity.

        All versions of all items pass through the model as `predictions` passes images, in full batches.
        """
        clean = items.pixels(evaluation_transform(model.classifier.preprocessing))
        versions = torch.cat([clean[:, None], items.extras["corrupted"].float() / 255], 1)
        labels = items.labels.repeat_interleave(versions.shape[1])
        images = versions.flatten(0, 1)
        found = Predictions().measure(
            model, Items(pd.DataFrame({"label": labels.numpy()}), labels, lambda _: images), conditions
        )
        columns = [CLEAN_PREDICTION, *(corrupted_prediction(*condition) for condition in CONDITIONS)]
        predictions = found.rows["prediction"].to_numpy().reshape(len(items), len(columns))
        return Measured(pd.concat([items.table, pd.DataFrame(predictions, columns=columns)], axis=1))
