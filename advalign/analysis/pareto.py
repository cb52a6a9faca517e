"""The Pareto front: tolerance against alignment (Feng section 4, Fig. 4), or any number of objectives."""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def _points(*objectives: npt.ArrayLike) -> Vector:
    """(n, k): one row per point, one column per objective."""
    return np.column_stack([np.asarray(values, dtype=np.float64).ravel() for values in objectives])


def _reached(points: Vector, by: Vector) -> Mask:
    """(n, m): whether the second point is at least as good in all objectives; comparisons with nan are False."""
    at_least: Mask = np.all(by[None, :] >= points[:, None], axis=2)
    return at_least


def front(*objectives: npt.ArrayLike) -> Mask:
    """Points that no other point dominates (at least as good in all, better in one); larger is better in all.

    Args:
        objectives: (n,) numbers each, of the same models in the same order; at least one objective.

    Returns:
        (n,) bool. Equal points are all on the front or all off it; a point with a missing value is never on it.

    Raises:
        ValueError: The objectives differ in length, or there is none.

    >>> front([1.0, 2.0, 1.0], [0.3, 0.1, 0.2], [0.7, 0.7, 0.8]).tolist()
    [True, True, True]
    >>> front([1.0, 2.0, 1.0], [0.3, 0.1, 0.2], [0.7, 0.7, 0.7]).tolist()
    [True, True, False]
    """
    points = _points(*objectives)
    better = np.any(points[None, :] > points[:, None], axis=2)
    dominated = np.any(_reached(points, points) & better, axis=1)
    on_front: Mask = np.all(np.isfinite(points), axis=1) & ~dominated
    return on_front


def pareto_front(pt: npt.ArrayLike, aa: npt.ArrayLike) -> Mask:
    """The `front` of the two objectives of the zoo.

    Args:
        pt: (n,) perturbation tolerances.
        aa: (n,) adversarial human alignments of the same models.

    Returns:
        (n,) bool.

    >>> pareto_front([1.0, 2.0, 1.5, 1.0], [0.3, 0.1, 0.2, 0.2]).tolist()
    [True, True, True, False]
    """
    return front(pt, aa)


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
    points, border = _points(pt, aa), _points(front_pt, front_aa)
    border = border[np.all(np.isfinite(border), axis=1)]
    if not len(border):
        return np.zeros(len(points), dtype=np.bool_)
    beyond: Mask = np.all(np.isfinite(points), axis=1) & ~np.any(_reached(points, border), axis=1)
    return beyond
