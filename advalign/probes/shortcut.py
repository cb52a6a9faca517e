"""How much of a model's accuracy rests on a planted cue: the same objects with their own cue and with another class's.

It is the yardstick for saliency: here it is known what a model relies on.
"""

from typing import ClassVar

import numpy as np

from advalign.averages import mean_with_interval
from advalign.data.sets.base import Items
from advalign.metrics.base import Evaluation
from advalign.probes.base import Conditions, Measured, Model
from advalign.probes.predictions import Predictions
from advalign.rows import Descriptor
from advalign.vocabulary import with_spread

DROP = "shortcut_drop"  # 1 where only the original is right, -1 where only the swapped image is, else 0


class Shortcut(Predictions):
    """Accuracy that is lost when the planted cue is swapped, image by image."""

    image_set = "cifar-swapped"
    needs = ("original",)
    describes: ClassVar[tuple[Descriptor, ...]] = (
        *with_spread(Descriptor(DROP, DROP, "shortcut drop", "share", "lower", DROP)),
        Descriptor("accuracy_original", "accuracy_original", "own cue", "share", "higher"),
        Descriptor("accuracy_swapped", "accuracy_swapped", "swapped cue", "share", "higher"),
    )

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: those of `predictions` of the swapped images, prediction_original, and shortcut_drop."""
        originals = items.extras["original"]
        before = Items(items.table, items.labels, lambda _: originals)
        rows = super().measure(model, items, conditions).rows
        rows["prediction_original"] = super().measure(model, before, conditions).rows["prediction"]
        right = rows[["prediction_original", "prediction"]].eq(rows["label"], axis=0).astype(int)
        rows[DROP] = right["prediction_original"] - right["prediction"]
        return Measured(rows)

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`shortcut_drop` with its interval over images, and both accuracies; NaN where there are no images.

        No number of `predictions`: it would be about the swapped images, under a name that is of the others.
        """
        rows = evaluation.rows
        drop = rows[DROP].to_numpy(np.float64)
        return {
            **mean_with_interval(DROP, drop, evaluation.resamples, evaluation.seed),
            "accuracy_original": float((rows["prediction_original"] == rows["label"]).mean()),
            "accuracy_swapped": float((rows["prediction"] == rows["label"]).mean()),
        }
