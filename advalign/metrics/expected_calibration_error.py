"""Expected calibration error (Guo et al. 2017): how far confidence and accuracy lie apart."""

import math

import numpy as np
from numpy.typing import NDArray

from advalign.metrics.base import Evaluation, Metric

BINS = 15  # of equal width over [0, 1]


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean over the images of |accuracy - mean confidence| of their bin; bins are [a, b), the last one is closed.

    Args:
        confidence: (N,) probabilities of the predicted classes, N at least 1.
        right: (N,) whether the prediction is the label.

    >>> round(calibration_error(np.array([0.5, 0.5, 1.0, 1.0]), np.array([True, False, True, False])), 12)
    0.25
    """
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, right.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


class ExpectedCalibrationError(Metric):
    """The l1 calibration error over 15 equal bins."""

    probe = "predictions"

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`expected_calibration_error`, in [0, 1]."""
        rows = evaluation.rows
        if not len(rows):
            return {"expected_calibration_error": math.nan}
        right = (rows["prediction"] == rows["label"]).to_numpy(bool)
        confidence = rows["probability_top"].to_numpy(np.float64)
        return {"expected_calibration_error": calibration_error(confidence, right)}
