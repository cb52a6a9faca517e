"""Linear separability of two point clouds, by non-negative least squares."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]

PASSES = 100  # of the solver, for each point
TOUCH = 1e-8  # distance of convex hulls that counts as none, relative to the largest distance of a point
SOFTNESS = 1e-2  # what a squared unit of a point on the wrong side counts less than the plane's squared norm
FOLDS = 2


def separable(first: Array, second: Array) -> bool:
    """Whether a plane divides two clouds (P, D) and (Q, D): whether their convex hulls have no common point, exactly.

    Common points are non-negative solutions of a linear system, and least squares says whether there is one.

    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> separable(square, square + 1.1), separable(square, square + 0.9), separable(square, square[:1] + 0.5)
    (True, False, False)
    """
    origin = (first.mean(0) + second.mean(0)) / 2
    clouds = first - origin, second - origin
    scale = max(float(np.linalg.norm(np.concatenate(clouds), axis=1).max()), np.finfo(float).tiny)
    system = np.zeros((first.shape[1] + 2, len(first) + len(second)))
    system[:-2] = np.concatenate([clouds[0], -clouds[1]]).T / scale
    system[-2, : len(first)] = system[-1, len(first) :] = 1
    wanted = np.zeros(len(system))
    wanted[-2:] = 1
    _, distance = nnls(system, wanted, maxiter=PASSES * system.shape[1])
    return bool(distance > TOUCH)


def plane(first: Array, second: Array) -> tuple[Array, float]:
    """The plane with the largest margin between two clouds, soft where they cannot be divided.

    It minimises |w|^2 + |offset|^2 + sum of xi^2 / `SOFTNESS` subject to a margin of 1 - xi for every point, on points
    relative to the middle of both means and in units of their root mean square distance from it. It is a
    least-distance problem (Lawson and Hanson 1974, chapter 23).

    Args:
        first: (P, D) on the positive side.
        second: (Q, D) on the negative side.

    Returns:
        (D,) normal and offset: points with x @ normal + offset > 0 belong to the first cloud.
    """
    middle = (first.mean(0) + second.mean(0)) / 2
    points = np.concatenate([first, second]) - middle
    unit = max(float(np.sqrt((points**2).sum(1).mean())), np.finfo(float).tiny)
    sides = np.repeat([1.0, -1.0], [len(first), len(second)])
    count = len(points)
    spans = np.linalg.svd(points, full_matrices=False)[2]  # a plane's normal lies among the points' directions
    signed = np.concatenate([points @ spans.T / unit, np.ones((count, 1))], 1) * sides[:, None]
    system = np.concatenate([signed.T, SOFTNESS**0.5 * np.eye(count), np.ones((1, count))])
    wanted = np.zeros(len(system))
    wanted[-1] = 1
    weights, _ = nnls(system, wanted, maxiter=PASSES * count)
    solved = (system[:-1] @ weights) / (1 - weights.sum())
    normal, bias = solved[: len(spans)] @ spans / unit, float(solved[len(spans)])
    return normal, bias - float(middle @ normal)


def held_out_separability(clouds: Sequence[Array]) -> float:
    """Share of points on their side of a plane that was fitted to the other half of the points, over all pairs.

    Even and odd points of each cloud are the halves; both are held out in turn, and every pair counts the same.

    Args:
        clouds: at least 2, (P_i, D) each, in an arbitrary order.

    Returns:
        In [0, 1]; chance is 0.5. NaN where a cloud has fewer than 2 points.
    """
    if min(len(cloud) for cloud in clouds) < FOLDS:
        return float("nan")
    return float(np.mean([_held_out(one, other) for one, other in combinations(clouds, 2)]))


def _held_out(one: Array, other: Array) -> float:
    right = []
    for fold in range(FOLDS):
        seen = [cloud[np.arange(len(cloud)) % FOLDS != fold] for cloud in (one, other)]
        normal, offset = plane(seen[0], seen[1])
        right += [(one[fold::FOLDS] @ normal + offset > 0).mean(), (other[fold::FOLDS] @ normal + offset < 0).mean()]
    return float(np.mean(right))
