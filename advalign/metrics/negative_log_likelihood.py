"""Negative log likelihood: how improbable a model finds the labels."""

import math
from typing import ClassVar

from advalign.metrics.base import Evaluation, Metric
from advalign.rows import Descriptor


class NegativeLogLikelihood(Metric):
    """Mean over the images of -log of the label's probability."""

    probe = "predictions"
    describes: ClassVar[tuple[Descriptor, ...]] = (
        Descriptor("negative_log_likelihood", "nll", "NLL", "nats", "lower"),
    )

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`negative_log_likelihood` in nats, at least 0; log(classes) where all classes are equally likely."""
        rows = evaluation.rows
        return {"negative_log_likelihood": float(rows["log_loss"].mean()) if len(rows) else math.nan}
