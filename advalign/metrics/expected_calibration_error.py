"""Expected calibration error (Guo et al. 2017): how far confidence and accuracy lie apart."""

import math

import numpy as np
from numpy.typing import NDArray

from advalign.metrics.base import Evaluation, Metric

BINS = 15  # of equal width over [0, 1]


def calibration_bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Images, right images and the sum of confidences by bin, (3, 15); bins are [a, b), the last one is closed.

    Args:
        confidence: (N,) probabilities of the predicted classes.
        right: (N,) whether the prediction is the label.
    """
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return np.array(
        [np.bincount(places, each, minlength=BINS) for each in (np.ones_like(confidence), right, confidence)]
    )


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean over the images of |accuracy - mean confidence| of their bin.

    Args:
        confidence, right: as `calibration_bins`, N at least 1.

    >>> round(calibration_error(np.array([0.95, 1.0]), np.array([True, False])), 12)  # a 16th bin for 1 would give .525
    0.475
    """
    _, accurate, sure = calibration_bins(confidence, right)
    return float(np.abs(accurate - sure).sum() / len(confidence))


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
