"""The cloud of points of each class: its centre, its radius, and the subspace that it extends in."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassManifolds:
    """Clouds of some classes.

    Attributes:
        centres: class -> (D,).
        radii: class -> scalar, root mean square distance from the centre.
        subspaces: class -> (D, K) orthonormal columns; K = 0 where all points of the class are the same.
    """

    centres: dict[int, Tensor]
    radii: dict[int, Tensor]
    subspaces: dict[int, Tensor]

    def to(self, like: Tensor) -> "ClassManifolds":
        """The same clouds where a tensor is, and in its type."""
        parts = (self.centres, self.radii, self.subspaces)
        return ClassManifolds(*({label: value.to(like) for label, value in part.items()} for part in parts))


def class_manifolds(points: Tensor, labels: Tensor, share: float) -> ClassManifolds:
    """The clouds of all classes with two points or more.

    Args:
        points: (N, D).
        labels: (N,) int64.
        share: of a class's variance that its subspace holds, in (0, 1]; the fewest directions that do.

    >>> points = torch.tensor([[0.0, 1.0], [0.0, -1.0], [5.0, 5.0]])
    >>> found = class_manifolds(points, torch.tensor([7, 7, 8]), 0.9)
    >>> list(found.radii), float(found.radii[7]), found.subspaces[7].abs().tolist()
    ([7], 1.0, [[0.0], [1.0]])
    """
    found = ClassManifolds({}, {}, {})
    for label in torch.unique(labels).tolist():
        own = points[labels == label].double()
        if len(own) < 2:
            continue
        centred = own - own.mean(0)
        _, sizes, right = torch.linalg.svd(centred, full_matrices=False)
        variance = sizes.square()
        there = int((sizes > 1e-6 * own.abs().max()).sum())
        held = variance.cumsum(0) / variance.sum().clamp_min(1e-30)
        kept = min(int((held < share - 1e-9).sum()) + 1, there)
        found.centres[label] = own.mean(0).to(points)
        found.radii[label] = centred.square().sum(1).mean().sqrt().to(points)
        found.subspaces[label] = right[:kept].T.to(points)
    return found


def excess(points: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """By how much the root mean square distance of points from a centre is larger than a radius; 0 if it is not.

    Args:
        points: (N, D).
        centre: (D,).
        radius: scalar.
    """
    mean_square = (points - centre).square().sum(1).mean()
    return (mean_square.clamp_min(1e-12).sqrt() - radius).relu()


def share_inside(points: Tensor, subspace: Tensor) -> Tensor:
    """Share of the variance of points, centred, inside a subspace (VAF), in [0, 1].

    Args:
        points: (N, D).
        subspace: (D, K) orthonormal columns.
    """
    centred = points - points.mean(0)
    return (centred @ subspace).square().sum() / centred.square().sum().clamp_min(1e-12)
