"""Robust accuracy over eps: the share of stimuli right and not flipped within eps, computed from stored norms."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.metrics.base import Evaluation, Metric
from advalign.rows import NORM, STATUS, Status

RADII = (0.25, 0.5, 1.0, 2.0)  # radii reported as numbers; the curve has all radii


def robust_accuracy(rows: pd.DataFrame, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of all stimuli whose decision is right and stays right within each radius.

    Args:
        rows: columns status and norm_l2; a failed attack counts as not flipped.
        radii: (R,) l2 radii in the stimulus space.

    Returns:
        (R,) values in [0, 1], falling with the radius; an upper bound, as for any attack.
    """
    norms = rows[NORM].to_numpy(np.float64).copy()
    norms[(rows[STATUS] == Status.ATTACK_FAILED).to_numpy()] = np.inf
    norms[(rows[STATUS] == Status.MISCLASSIFIED_CLEAN).to_numpy()] = -np.inf
    shares: NDArray[np.float64] = (norms[None, :] > radii[:, None]).mean(1)
    return shares


class RobustAccuracy(Metric):
    """The curve at a few radii."""

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """One number per radius: robust_accuracy_eps0.25, ..."""
        if not len(evaluation.rows):
            return {f"robust_accuracy_eps{radius:g}": math.nan for radius in RADII}
        shares = robust_accuracy(evaluation.rows, np.array(RADII))
        return {f"robust_accuracy_eps{radius:g}": float(share) for radius, share in zip(RADII, shares, strict=True)}
