"""Brier score (Brier 1950): the squared distance between predicted probabilities and the truth, over all classes."""

import math

from advalign.metrics.base import Evaluation, Metric


class BrierScore(Metric):
    """Mean over the images of the sum over the classes of (probability - truth)^2."""

    probe = "predictions"

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`brier_score` in [0, 2], as Brier's sum over the classes: 1 - 1 / classes where all are equally likely."""
        rows = evaluation.rows
        return {"brier_score": float(rows["brier"].mean()) if len(rows) else math.nan}
