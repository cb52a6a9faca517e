"""One step of a search along the linearised decision boundary, for all items in flight.

The direction moves a share of the way to the nearest point of the hyperplane that replaces the boundary at the current
point; the radius follows by a Newton step along the ray, and is set a little beyond the boundary. In structural
reliability this is the damped HL-RF iteration (Hasofer and Lind 1974, Rackwitz and Fiessler 1978), which seeks the
point of f = 0 that is nearest to the origin.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from advalign.attacks._boundary import TINY, crossing, dot, nearest_on_hyperplane
from advalign.attacks._slots import Flight
from advalign.tensors.balls import clip_to_box
from advalign.tensors.norms import NORMS, Norm, l2_norm, per_sample

BOX_ITERATIONS = 3
OVERSHOOT_RANGE = 1e-3, 0.2
FACTORS = 0.7, 1.5  # the most a step may shorten or lengthen a perturbation
STRAIGHT_FACTORS = 0.5, 2.0


class Schedule(NamedTuple):
    """How an item moves, from its first step to its last.

    Attributes:
        steps: passes (forward and input gradient).
        shares: of the way to the hyperplane's nearest point that the direction moves, first and last; cosine between.
        temperatures: of the smooth margin, relative to the image's clean margin, first and last; geometric between.
            0: the margin itself.
        overshoot: distance of the first points beyond the predicted boundary, relative to their norm.
    """

    steps: int
    shares: tuple[float, float]
    temperatures: tuple[float, float] = (0.0, 0.0)
    overshoot: float = 0.02


class Schedules:
    """The schedules of all turns, looked up for the items of a flight.

    Args:
        schedules: by turn.
        like: any tensor of the perturbations' type and device.
    """

    def __init__(self, schedules: tuple[Schedule, ...], like: Tensor) -> None:
        self.steps = torch.tensor([one.steps for one in schedules], device=like.device)
        self._shares = like.new_tensor([one.shares for one in schedules])
        self._temperatures = like.new_tensor([one.temperatures for one in schedules])

    def ended(self, flight: Flight) -> Tensor:
        """(B,) bool: the items that have made all their steps."""
        return flight.step >= self.steps[flight.turn]

    def share(self, flight: Flight) -> Tensor:
        """(B,) of the next step."""
        first, last = self._shares[flight.turn].unbind(1)
        return last + (first - last) * (1 + torch.cos(math.pi * self._progress(flight))) / 2

    def temperature(self, flight: Flight) -> Tensor:
        """(B,) of the next step, relative to the clean margin."""
        first, last = self._temperatures[flight.turn].unbind(1)
        return first * (last / first.clamp_min(TINY)) ** self._progress(flight)

    def _progress(self, flight: Flight) -> Tensor:
        return flight.step / self.steps[flight.turn]


def advance(
    flight: Flight, inputs: Tensor, margin: Tensor, gradient: Tensor, schedules: Schedules, norm: Norm
) -> tuple[Tensor, Tensor]:
    """Move every item by one step.

    Args:
        flight: B items; `delta`, `overshoot` and `step` are replaced.
        inputs: (B, ...) their images.
        margin: (B,) at the current points, smooth or not.
        gradient: (B, ...) of the margin.
        schedules: of all turns.
        norm: that is minimised.

    Returns:
        (B,) the norms at which the old rays should meet the boundary, infinite where nothing is known, and (B, ...) the
        points there.
    """
    delta, size, steepness = flight.delta, NORMS[norm](flight.delta), l2_norm(gradient)
    usable = steepness.isfinite() & (steepness > 0) & margin.isfinite()
    if not usable.all():
        gradient = gradient.where(per_sample(usable, gradient), 0.0)
        margin, steepness = torch.where(usable, margin, 0.0), torch.where(usable, steepness, 1.0)
    gradient, margin = gradient / per_sample(steepness, gradient), margin / steepness
    along = dot(gradient, delta)
    offset = (along - margin).clamp_max(-TINY)
    moved = size > 0
    nearest = nearest_on_hyperplane(gradient, offset, -inputs, 1 - inputs, BOX_ITERATIONS, norm)
    share = torch.where(moved, schedules.share(flight), 1.0) * usable
    direction = _turned(delta, nearest, share, torch.where(moved, size, NORMS[norm](nearest)), norm)
    grown = torch.where(margin < 0, flight.overshoot * 0.7, flight.overshoot * 1.5).clamp(*OVERSHOOT_RANGE)
    flight.overshoot = torch.where(flight.step > 0, grown, flight.overshoot)
    factor = crossing(dot(gradient, direction), offset).clamp(*FACTORS)
    least = torch.where(margin > 0, size / NORMS[norm](direction).clamp_min(TINY), 0.0)
    factor = factor.maximum(least) * (1 + flight.overshoot)
    flight.delta = clip_to_box(inputs, direction * per_sample(torch.where(usable, factor, 1.0), delta))
    flight.step = flight.step + 1
    straight = crossing(along, offset).clamp(*STRAIGHT_FACTORS)
    known = moved & usable
    return torch.where(known, size * straight, torch.inf), clip_to_box(inputs, delta * per_sample(straight, delta))


def _turned(delta: Tensor, nearest: Tensor, share: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Directions (B, ...) that lead by a share (B,) from perturbations of length `radius` towards the nearest points.

    On the way to a vertex of the linf ball every entry passes through its interior. So there the step is a sign step
    whose length is relative to the radius, clipped to the ball, and a share of 1 leads to the vertex itself.
    """
    way = share * (radius / NORMS[norm](nearest).clamp_min(TINY))
    if norm == "l2":
        return delta * per_sample(1 - share, delta) + nearest * per_sample(way, delta)
    bound = per_sample(radius, delta)
    return (delta + nearest * per_sample(2 * way, delta)).clamp(-bound, bound)
