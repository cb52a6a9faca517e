"""Robust accuracy over eps: the share of stimuli right and not flipped within eps, computed from stored norms."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.metrics.base import Evaluation, Metric
from advalign.rows import NORMS, SCALES, STATUS, Status, norm_of

RADII = {"l2": (0.25, 0.5, 1.0, 2.0), "linf": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)}
"""Norm -> radii reported as numbers, in its unit (`SCALES`: linf in 1/255); the curve has all radii."""


def robust_accuracy(rows: pd.DataFrame, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of all stimuli whose decision is right and stays right within each radius.

    Args:
        rows: columns status and norm_l2 or norm_linf; a failed attack counts as not flipped.
        radii: (R,) radii of that norm in the stimulus space, in its unit (`SCALES`: linf in 1/255).

    Returns:
        (R,) values in [0, 1], falling with the radius; an upper bound, as for any attack.
    """
    norm = norm_of(rows) or "l2"
    norms = SCALES[norm] * rows[NORMS[norm]].to_numpy(np.float64)
    norms[(rows[STATUS] == Status.ATTACK_FAILED).to_numpy()] = np.inf
    norms[(rows[STATUS] == Status.MISCLASSIFIED_CLEAN).to_numpy()] = -np.inf
    shares: NDArray[np.float64] = (norms[None, :] > radii[:, None]).mean(1)
    return shares


class RobustAccuracy(Metric):
    """The curve at a few radii."""

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """One number per radius: robust_accuracy_eps0.25, ...; robust_accuracy_linf8 is at 8/255 in linf."""
        radii = RADII[evaluation.norm]
        if not len(evaluation.rows):
            return {f"robust_accuracy_eps{radius:g}": math.nan for radius in radii}
        shares = robust_accuracy(evaluation.rows, np.array(radii))
        return {f"robust_accuracy_eps{radius:g}": float(share) for radius, share in zip(radii, shares, strict=True)}
