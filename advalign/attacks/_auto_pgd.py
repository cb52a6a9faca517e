"""Auto-PGD (Croce and Hein 2020, Algorithm 1): gradient ascent with momentum that halves its own steps.

From the same start it makes the steps of the AutoAttack package (tests/parity/test_autoattack_package.py). An image
that flips leaves; in the package it stays, which changes no decision.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from advalign.attacks._oracle import Loss, Oracle
from advalign.attacks._radius import ThreatModel
from advalign.tensors.balls import BALLS
from advalign.tensors.norms import per_sample, steepest

RISING = 0.75  # a step is halved where at most this share of the iterates since the last check raised the loss
MOMENTUM = 0.75  # share of the new step; the rest is the one before
FIRST_CHECK, SHRINK, LEAST = (
    0.22,
    0.03,
    0.06,
)  # shares of all steps between two checks: the first, its decrease, the last


@dataclass
class _State:
    """Of the B images that hold; (B, ...) each."""

    place: Tensor  # among the M images
    centres: Tensor
    points: Tensor
    before: Tensor  # the iterate before
    gradient: Tensor  # where the next step begins
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    last_loss: Tensor
    rises: Tensor  # since the last check
    length: Tensor  # of steps
    checked_loss: Tensor  # best loss at the last check
    halved: Tensor  # at the last check

    def keep(self, mask: Tensor) -> None:
        """Drop all other images."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[mask])


def checks(steps: int) -> dict[int, int]:
    """After how many steps the step size is looked at, and how many steps each check looks back on.

    >>> list(checks(100))
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    period, least, shrink = (max(int(share * steps), 1) for share in (FIRST_CHECK, LEAST, SHRINK))
    found, step = {}, period
    while step <= steps:
        found[step] = period
        period = max(period - shrink, least)
        step += period
    return found


def auto_pgd(
    oracle: Oracle, index: Tensor, starts: Tensor, loss: Loss, looked_at: Tensor | None, model: ThreatModel, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb a loss within a radius.

    Args:
        oracle: counts passes: steps + 1 with gradient for an image that holds.
        index: (M,) which inputs.
        starts: (M, ...) in the ball and the box.
        loss: what grows.
        looked_at: (M, K) bool, the classes that the loss looks at, or None.
        model: the ball.
        steps: made by an image that holds.

    Returns:
        (M, ...) the point that flips, or else the one with the largest loss; and (M,) bool: whether it flips.
    """
    found, flipped = starts.clone(), torch.zeros_like(index, dtype=torch.bool)
    state, looks = _begin(oracle.inputs[index], starts, model.eps), checks(steps)
    for step in range(steps + 1):
        seen = None if looked_at is None else looked_at[state.place]
        values, margin, gradient = oracle.climb(loss, state.points, index[state.place], seen)
        over = margin < 0
        found[state.place[over]], flipped[state.place[over]] = state.points[over], True
        state.keep(~over)
        if not len(state.place):
            break
        _take(state, values[~over], gradient[~over], step)
        if step in looks:
            _check(state, looks[step])
        if step < steps:
            _move(state, model, MOMENTUM if step else 1.0)
    found[state.place] = state.best
    return found, flipped


def _begin(inputs: Tensor, starts: Tensor, eps: float) -> _State:
    zeros, count = torch.zeros_like(starts), len(starts)
    return _State(
        place=torch.arange(count, device=starts.device), centres=inputs, points=starts, before=starts, gradient=zeros,
        best=starts, best_gradient=zeros, best_loss=starts.new_full((count,), -torch.inf),
        last_loss=starts.new_zeros(count), rises=starts.new_zeros(count), length=starts.new_full((count,), 2 * eps),
        checked_loss=starts.new_full((count,), -torch.inf),
        halved=torch.ones(count, dtype=torch.bool, device=starts.device),
    )  # fmt: skip


def _take(state: _State, values: Tensor, gradient: Tensor, step: int) -> None:
    """Take in the answers at the current points."""
    better = values > state.best_loss
    state.best_loss = torch.where(better, values, state.best_loss)
    state.best = torch.where(per_sample(better, gradient), state.points, state.best)
    state.best_gradient = torch.where(per_sample(better, gradient), gradient, state.best_gradient)
    state.gradient = gradient
    if step:  # the package compares the first iterate with zero, not with the start
        state.rises = state.rises + (values > state.last_loss)
        state.last_loss = values
    else:
        state.checked_loss = values


def _check(state: _State, period: int) -> None:
    """Halve the step, and go back to the best point, where the loss does not rise any more."""
    stuck = ~state.halved & (state.checked_loss >= state.best_loss)
    halve = (state.rises <= RISING * period) | stuck
    back = per_sample(halve, state.points)
    state.length = torch.where(halve, state.length / 2, state.length)
    state.points = torch.where(back, state.best, state.points)
    state.gradient = torch.where(back, state.best_gradient, state.gradient)
    state.rises = torch.zeros_like(state.rises)
    state.checked_loss, state.halved = state.best_loss, halve


def _move(state: _State, model: ThreatModel, share: float) -> None:
    """A step along the gradient, mixed with the step before."""
    ball, points = BALLS[model.norm](state.centres, model.eps), state.points
    moved = ball.project(points + per_sample(state.length, points) * steepest(model.norm, state.gradient))
    mixed = ball.project(points + (moved - points) * share + (points - state.before) * (1 - share))
    state.before, state.points = points, mixed
