"""Geometry of category manifolds: capacity, radius and dimension (Chung, Lee and Sompolinsky 2018, PRX 8, 031003).

A manifold is the set of a layer's features of all images of a category. The capacity is the largest number of manifolds
per feature dimension that a plane can still divide at random into two groups. Small, low-dimensional manifolds have a
large one. All three are those of the public package mftma, with a solver of our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from advalign.errors import DataError
from advalign.tensors.centres import correlation_of, shared_directions

Array = NDArray[np.float64]

ROUNDING = 1e-9  # of singular values, relative to the largest
PASSES = 100  # of the solver, for each point of a manifold


@dataclass(frozen=True)
class Geometry:
    """Numbers of M manifolds.

    Attributes:
        capacity: (M,) manifolds per feature dimension: 2 for single points, 1 / (D + 1/2) for D-dimensional subspaces.
        radius: (M,) of a manifold as a dividing plane meets it, relative to the norm of its centre.
        dimension: (M,) of a manifold as a dividing plane meets it.
        centre_correlation: mean |cosine| of two centres, relative to the mean of all points.
        removed: directions shared by the centres, which were removed before.
    """

    capacity: Array
    radius: Array
    dimension: Array
    centre_correlation: float = 0.0
    removed: int = 0

    @property
    def means(self) -> dict[str, float]:
        """The harmonic mean of capacity (as theory has it for a mixture), the means of radius and dimension."""
        return {
            "capacity": float(1 / np.mean(1 / self.capacity)),
            "radius": float(self.radius.mean()),
            "dimension": float(self.dimension.mean()),
        }


def one_manifold(points: Array, draws: int, seed: int, margin: float = 0.0) -> tuple[float, float, float]:
    """Capacity, radius and dimension of one manifold by its mean-field equations (Chung et al. 2018, eq. 16, 28, 29).

    For a Gaussian vector t, the nearest vector that keeps all points (s, 1) on one side of a plane is t minus its
    projection onto the cone of the points: a non-negative least-squares problem. The projection meets the convex hull
    in the anchor point of t. The inverse of the capacity is the projection's mean square, the radius is the spread of
    the anchor points, and the dimension is how well they follow t. A margin shifts the last component of t.

    Args:
        points: (P, D), relative to the manifold's centre and in units of the centre's norm.
        draws: Gaussian vectors.
        seed: of these.
        margin: of the plane, in units of the centre's norm; at least 0.

    Returns:
        Numbers; a manifold of one point has capacity 2 at margin 0, radius 0 and dimension 0.
    """
    _, sizes, axes = np.linalg.svd(points, full_matrices=False)
    kept = axes[sizes > ROUNDING * max(float(sizes[0]), 1.0)]
    rank = len(kept)
    within = np.unique((points @ kept.T).round(12), axis=0) if rank else np.empty((1, 0))
    cone = np.concatenate([within.T, np.ones((1, len(within)))])
    drawn = np.random.default_rng(seed).standard_normal((draws, rank + 1))
    shifted = drawn.copy()
    shifted[:, -1] += margin
    anchors, squares = np.empty((draws, rank)), np.empty(draws)
    for place, target in enumerate(shifted):
        weights, _ = nnls(cone, target, maxiter=PASSES * cone.shape[1])
        touched = cone @ weights
        squares[place] = touched @ touched
        free = touched[-1] <= 0  # the plane needs no change: the point that is nearest to it
        anchors[place] = within[(within @ target[:-1]).argmax()] if free else touched[:-1] / touched[-1]
    spread = anchors - anchors.mean(0)
    along = np.einsum("td,td->t", _directions(drawn[:, :-1]), _directions(anchors))
    capacity = 1 / squares.mean() if squares.any() else np.inf
    return float(capacity), float(np.sqrt((spread**2).sum(1).mean())), float(rank * along.mean() ** 2)


def manifold_geometry(
    manifolds: Sequence[Array], draws: int = 200, seed: int = 0, margin: float = 0.0, *, shared: bool = True
) -> Geometry:
    """Geometry of several manifolds, each relative to its centre, as mftma's `manifold_analysis_corr`.

    The mean of all points is the origin. The directions that make centres correlated are removed (`shared_directions`),
    because the theory is about independent ones.

    Args:
        manifolds: at least 2, (P_i, D) each: P_i points of category i.
        draws, seed, margin: as `one_manifold`; every manifold has its own seed.
        shared: whether to remove them; not possible with fewer than 3 manifolds.

    Raises:
        DataError: there are fewer than 2 manifolds, features are not finite, or a centre is the mean of all points.
    """
    if len(manifolds) < 2:
        raise DataError(f"geometry compares categories, and {len(manifolds)} has points: give at least 2")
    points = [np.asarray(one, np.float64) for one in manifolds]
    together = np.concatenate(points)
    if not np.isfinite(together).all():
        raise DataError("geometry: some features are not finite")
    origin = together.mean(0)
    centres = np.stack([one.mean(0) for one in points]) - origin
    removed = shared_directions(centres, seed) if shared else np.empty((centres.shape[1], 0))
    size = np.linalg.norm(centres, axis=1)
    found = []
    for index, one in enumerate(points):
        rest = one - origin
        rest = rest - (rest @ removed) @ removed.T
        centre = rest.mean(0)
        norm = float(np.linalg.norm(centre))
        if norm <= ROUNDING * max(float(size.max()), float(np.abs(rest).max()), np.finfo(float).tiny):
            raise DataError(f"geometry: the centre of category {index} is the mean of all points: it has no direction")
        found.append(one_manifold((rest - centre) / norm, draws, seed + index, margin))
    capacity, radius, dimension = (np.array(column) for column in zip(*found, strict=True))
    return Geometry(capacity, radius, dimension, correlation_of(centres), removed.shape[1])


def _directions(vectors: Array) -> Array:
    """Vectors of length 1; a vector of length 0 remains."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Array = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found
