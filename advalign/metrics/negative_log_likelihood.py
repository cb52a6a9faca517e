"""Negative log likelihood: how improbable a model finds the labels."""

import math

from advalign.metrics.base import Evaluation, Metric


class NegativeLogLikelihood(Metric):
    """Mean over the images of -log of the label's probability."""

    probe = "predictions"

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`negative_log_likelihood` in nats, at least 0; log(classes) where all classes are equally likely."""
        rows = evaluation.rows
        return {"negative_log_likelihood": float(rows["log_loss"].mean()) if len(rows) else math.nan}
