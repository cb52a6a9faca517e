"""Accuracy against all labels that people accept (Shankar et al. 2020; Vasudevan et al. 2022), and top-1."""

import math
from typing import Any

import pandas as pd

from advalign.metrics.base import Evaluation, Metric


class MultilabelAccuracy(Metric):
    """Two conventions of multi-label accuracy, and top-1 against the original label."""

    probe = "predictions"

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Shares in [0, 1].

        `multilabel_accuracy`: images flagged problematic or without a correct label are left out (and counted); right
        if the prediction is in `correct`; mean over images. `multilabel_accuracy_per_class`: right if in `correct` or
        `unclear`; mean per original label, then over labels.
        """
        images = evaluation.rows
        if not len(images):
            names = ("multilabel_accuracy", "multilabel_accuracy_per_class", "top1_accuracy", "n_images_left_out")
            return dict.fromkeys(names, math.nan)
        right = _among(images["prediction"], images["correct"])
        lenient = right | _among(images["prediction"], images["unclear"])
        counted = ~images["problematic"].to_numpy(bool) & (images["correct"].str.len() > 0).to_numpy(bool)
        return {
            "multilabel_accuracy": float(right[counted].mean()) if counted.any() else math.nan,
            "multilabel_accuracy_per_class": float(lenient[counted].groupby(images["label"][counted]).mean().mean()),
            "top1_accuracy": float((images["prediction"] == images["label"]).mean()),
            "n_images_left_out": float((~counted).sum()),
        }


def _among(predictions: "pd.Series[int]", accepted: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether each prediction is in its image's accepted labels."""
    pairs = zip(predictions, accepted, strict=True)
    return pd.Series([prediction in labels for prediction, labels in pairs], index=predictions.index)
