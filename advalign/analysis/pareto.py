"""The Pareto front of perturbation tolerance against adversarial human alignment (Feng section 4, Fig. 4)."""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def _vector(values: npt.ArrayLike) -> Vector:
    return np.asarray(values, dtype=np.float64).ravel()


def _reached(pt: Vector, aa: Vector, by_pt: Vector, by_aa: Vector) -> Mask:
    """(n, m): whether the second point is at least as good in both; comparisons with nan are False."""
    at_least: Mask = (by_pt[None, :] >= pt[:, None]) & (by_aa[None, :] >= aa[:, None])
    return at_least


def pareto_front(pt: npt.ArrayLike, aa: npt.ArrayLike) -> Mask:
    """Points that no other point dominates (at least as good in both, better in one); larger is better in both.

    Args:
        pt: (n,) perturbation tolerances.
        aa: (n,) adversarial human alignments of the same models.

    Returns:
        (n,) bool. Equal points stand together on the front or off it; a point with a missing value is never on it.

    >>> pareto_front([1.0, 2.0, 1.5, 1.0], [0.3, 0.1, 0.2, 0.2]).tolist()
    [True, True, True, False]
    """
    x, y = _vector(pt), _vector(aa)
    better = (x[None, :] > x[:, None]) | (y[None, :] > y[:, None])
    dominated = np.any(_reached(x, y, x, y) & better, axis=1)
    front: Mask = np.isfinite(x) & np.isfinite(y) & ~dominated
    return front


def beyond_front(pt: npt.ArrayLike, aa: npt.ArrayLike, front_pt: npt.ArrayLike, front_aa: npt.ArrayLike) -> Mask:
    """Points that break the trade-off: neither dominated by nor equal to any point of the front.

    Args:
        pt: (n,) perturbation tolerances.
        aa: (n,) adversarial human alignments of the same models.
        front_pt: (m,) tolerances on the front.
        front_aa: (m,) alignments on the front.

    Returns:
        (n,) bool; all False without a front, and False for a point with a missing value.

    >>> beyond_front([3.0, 1.0, 1.0], [0.1, 0.3, 0.2], [1.0, 2.0], [0.3, 0.1]).tolist()
    [True, False, False]
    """
    x, y, front_x, front_y = _vector(pt), _vector(aa), _vector(front_pt), _vector(front_aa)
    known = np.isfinite(front_x) & np.isfinite(front_y)
    if not np.any(known):
        return np.zeros(x.size, dtype=np.bool_)
    reached = np.any(_reached(x, y, front_x[known], front_y[known]), axis=1)
    beyond: Mask = np.isfinite(x) & np.isfinite(y) & ~reached
    return beyond
