"""The Square attack (Andriushchenko et al. 2020): random squares, kept where they lower the margin; no gradients.

With the schedule and the draws of the AutoAttack package. All images see the same squares, so an image's result does
not depend on the others' (in the package, signs of the start and of l2 squares differ between images).
"""

import math
from functools import cache

import torch
from torch import Tensor

from advalign.attacks._oracle import Oracle
from advalign.attacks._radius import ThreatModel
from advalign.tensors.norms import TINY, l2_norm, per_sample, unit_l2

SHARE = 0.8  # of the image that the first squares cover
HALVED_AFTER = 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000  # queries


def square(oracle: Oracle, index: Tensor, model: ThreatModel, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """Change random squares of every image.

    Args:
        oracle: counts passes: queries + 1, without gradient, for an image that holds.
        index: (M,) which inputs.
        model: the ball.
        queries: squares tried on an image that holds.
        seed: of the draws.

    Returns:
        (M, ...) the points with the smallest margin, and (M,) bool: whether they flip.
    """
    draws = _Draws(seed, oracle.inputs[index])
    propose = {"linf": _stripes, "l2": _tiles}[model.norm]
    change = {"linf": _coloured, "l2": _moved}[model.norm]
    centres, place = oracle.inputs[index], torch.arange(len(index), device=index.device)
    points = propose(centres, model.eps, draws)
    margin, found = oracle.margin(points, index), points.clone()
    for query in range(queries):
        holds = ~(margin < 0)
        if not holds.all():
            place, centres, points, margin = place[holds], centres[holds], points[holds], margin[holds]
        if not len(place):
            break
        tried = change(points, centres, model.eps, _side(query, centres), draws)
        answer = oracle.margin(tried, index[place])
        better = answer < margin
        points = torch.where(per_sample(better, points), tried, points)
        margin = torch.where(better, answer, margin)
        found[place] = points
    flipped = torch.ones_like(index, dtype=torch.bool)
    flipped[place[~(margin < 0)]] = False
    return found, flipped


class _Draws:
    """Random numbers for images of one shape, on their device, the same for all images."""

    def __init__(self, seed: int, like: Tensor) -> None:
        self._generator, self._like = torch.Generator().manual_seed(seed), like

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1."""
        return (2 * torch.rand(shape, generator=self._generator) - 1).sign().to(self._like)

    def place(self, side: int) -> tuple[slice, slice]:
        """A square's rows and columns; like the package, never the last ones."""
        first = [int(torch.rand((), generator=self._generator) * (size - side)) for size in self._like.shape[2:]]
        return slice(first[0], first[0] + side), slice(first[1], first[1] + side)

    def bump(self, side: int) -> Tensor:
        """Two bumps of opposite sign, side by side or above each other: (side, side), of norm 1."""
        found = _bumps(side).to(self._like)
        return found.T if torch.rand((), generator=self._generator) > 0.5 else found


def _side(query: int, images: Tensor) -> float:
    """Side of the square for a query, in pixels, before rounding."""
    share = SHARE / 2 ** sum(query > after for after in HALVED_AFTER)
    return math.sqrt(share * images.shape[2] * images.shape[3])


def _stripes(centres: Tensor, eps: float, draws: _Draws) -> Tensor:
    _, channels, _, width = centres.shape
    return (centres + eps * draws.signs(1, channels, 1, width)).clamp(0, 1)


def _coloured(points: Tensor, centres: Tensor, eps: float, side: float, draws: _Draws) -> Tensor:
    """One square in one colour, on a face of the ball in every channel."""
    length = min(max(round(side), 1), *centres.shape[2:])
    rows, columns = draws.place(length)
    tried = points.clone()
    tried[..., rows, columns] += 2 * eps * draws.signs(centres.shape[1], 1, 1)
    return tried.clamp(centres - eps, centres + eps).clamp(0, 1)


def _tiles(centres: Tensor, eps: float, draws: _Draws) -> Tensor:
    """Bumps on a grid, five to a side."""
    _, channels, height, width = centres.shape
    side = max(height // 5, 1)
    begin, pattern = (height - 5 * side) // 2, torch.zeros_like(centres[:1])
    for row in range(height // side):
        for column in range(width // side):
            up, left = max(begin, 0) + row * side, max(begin, 0) + column * side
            tile = pattern[..., up : up + side, left : left + side]
            tile += (draws.bump(side) * draws.signs(channels, 1, 1))[:, : tile.shape[2], : tile.shape[3]]
    return (centres + eps * unit_l2(pattern)).clamp(0, 1)


def _moved(points: Tensor, centres: Tensor, eps: float, side: float, draws: _Draws) -> Tensor:
    """The norm in one square moves to another one, whose pattern gets a bump."""
    channels, length = centres.shape[1], max(round(side), 3)
    length = min(length + (length % 2 == 0), *centres.shape[2:])
    delta, here, there = points - centres, draws.place(length), draws.place(length)
    both = torch.zeros_like(delta)
    both[..., here[0], here[1]] = both[..., there[0], there[1]] = 1
    inside = delta[..., here[0], here[1]]
    free = (eps**2 - l2_norm(delta) ** 2).clamp_min(0) / channels
    energy = per_sample(free, delta) + (delta * both).square().sum((2, 3), keepdim=True)
    pattern = draws.bump(length) * draws.signs(channels, 1, 1) + inside / (_window_norm(inside) + TINY)
    pattern = pattern / (_window_norm(pattern) + TINY) * energy.sqrt()
    delta[..., there[0], there[1]] = 0
    delta[..., here[0], here[1]] = pattern
    return (centres + eps * unit_l2(delta)).clamp(0, 1)


def _window_norm(window: Tensor) -> Tensor:
    """(N, C, s, s) -> (N, C, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(window, dim=(2, 3), keepdim=True)
    return norms


@cache
def _bumps(side: int) -> Tensor:
    found = torch.zeros(side, side)
    found[: side // 2] = _bump(side // 2, side)
    found[side // 2 :] = -_bump(side - side // 2, side)
    return unit_l2(found[None])[0]


def _bump(rows: int, columns: int) -> Tensor:
    """Nested rectangles around the middle, each a pixel wider, with weights 1 / n^2; of norm 1."""
    found = torch.zeros(rows, columns)
    if rows:
        for ring in range(max(rows, columns) // 2 + 1):
            up, left = rows // 2 - ring, columns // 2 - ring
            found[max(up, 0) : up + 2 * ring + 1, max(left, 0) : left + 2 * ring + 1] += 1 / (ring + 1) ** 2
        found /= found.norm()
    return found
