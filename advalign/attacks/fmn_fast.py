"""Minimum l2 norms in about 92 passes: screen directions, polish them along the linearised boundary, bisect, verify.

FMN takes a thousand small steps to find the point of the decision boundary that is nearest to the image. Near a point
the boundary is a hyperplane, and the nearest point of a hyperplane has a closed form, in the box too (_boundary.py).
So:

1. *Screening.* For each of the strongest classes of other decisions, a few steps to the nearest point of the
   linearised boundary between the right decision and that class. The directions of smallest predicted norm are kept.
2. *Polish.* The same step towards the true boundary, whichever class is nearest, damped: the direction moves towards
   the hyperplane's nearest point by a share that is annealed to almost nothing, and the radius follows by a Newton
   step along the ray, set a little beyond the boundary. In structural reliability this is the damped HL-RF iteration
   (Hasofer and Lind 1974, Rackwitz and Fiessler 1978), which seeks the same point: the nearest one where f = 0.
3. *Bisection* of the smallest adversarial point along its ray, by the judge.

For images that were never flipped, a plain walk with growing steps follows. docs/fmn-fast.md has the derivation,
docs/benchmarks.md the cost and the comparison of norms.
"""

import math
from collections import defaultdict
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advalign.attacks._boundary import TINY, crossing, dot, nearest_on_hyperplane
from advalign.attacks._oracle import ANY
from advalign.attacks._slots import Flight, Item, Slots
from advalign.attacks._walk import walk_until_adversarial
from advalign.attacks.base import MinimumNorm, Oracle
from advalign.settings import Strict
from advalign.tensors.balls import clip_to_box
from advalign.tensors.norms import l2_norm, per_sample


class Budget(NamedTuple):
    """Passes (forward and input gradient) per image: classes * screening + kept * polish."""

    classes: int
    screening: int
    kept: int
    polish: int


BUDGETS = {
    "fast": Budget(classes=4, screening=4, kept=1, polish=30),
    "standard": Budget(classes=4, screening=4, kept=2, polish=38),
    "thorough": Budget(classes=8, screening=5, kept=4, polish=40),
}
POLISH, SCREENING = 0, 1  # turns: polishing comes first, so that few images are open at a time
SLOTS = {"cpu": 48, "cuda": 256}
BOX_ITERATIONS = 3
UNDAMPED = 2  # screening steps without damping
SCREENING_SHARE = 0.5
POLISH_SHARES = 0.8, 0.01
FIRST_OVERSHOOT = 0.02, 0.1  # by turn
OVERSHOOT_RANGE = 1e-3, 0.2
FACTORS, STRAIGHT_FACTORS = (0.7, 1.5), (0.5, 2.0)  # the most a step may shorten or lengthen a perturbation
FIRST_CUT, CUTS, PRECISION = 0.01, 7, 7e-4  # of the norm; how often the cut is doubled at most; where halving ends
STRETCHES = 1.0, 1.003, 1.01, 1.03, 1.1, 1.3  # tried in turn if the judge disagrees with the search model
WALK_STEPS, FIRST_WALK_STEP, WALK_GROWTH = 60, 0.25, 1.1


class FastMinimumNormSearch(MinimumNorm):
    """The default: minimum norms at a tenth of FMN's passes."""

    budget = "budget"
    named_budgets = ("fast", "thorough")
    uses_stand_in = True
    minimum_norm = True

    class Settings(Strict):
        """How thorough: 46, 92 or 200 passes per image."""

        budget: Literal["fast", "standard", "thorough"] = "standard"

    @property
    def passes(self) -> int:
        """Passes of screening and polish; the bisection's forward passes are extra."""
        budget = BUDGETS[self.settings.budget]
        return budget.classes * budget.screening + budget.kept * budget.polish

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring."""
        run = _Run(BUDGETS[self.settings.budget], oracle, index)
        run.screen_and_polish()
        run.ask_the_judge()
        run.walk_where_nothing_was_found()
        run.bisect()
        return run.inputs + run.best_delta


class _Run:
    """One search: the images, and the smallest adversarial perturbation of each so far."""

    def __init__(self, budget: Budget, oracle: Oracle, index: Tensor) -> None:
        self.budget, self.oracle, self.index = budget, oracle, index
        self.inputs = oracle.inputs[index]
        self.best = torch.full((len(index),), torch.inf, device=index.device)
        self.best_delta = torch.zeros_like(self.inputs)
        size = oracle.batch_size or SLOTS.get(index.device.type, SLOTS["cpu"])
        self.slots = Slots(size, self.inputs, FIRST_OVERSHOOT)

    def screen_and_polish(self) -> None:
        """Screen every image's strongest other classes, then polish its best directions."""
        self._drain(self._queue_screening(), judge=False)

    def ask_the_judge(self) -> None:
        """Keep a stand-in's results that the judge confirms, where necessary a little farther out; drop the others."""
        if self.oracle.judge_steps:
            return
        open_ = torch.nonzero(self.best.isfinite())[:, 0]
        for factor in STRETCHES:
            if not len(open_):
                return
            farther = self.best.new_full((len(open_),), factor)
            holds = self._holds(open_, farther)
            self.best_delta[open_[holds]] = self._scaled(open_, farther)[holds]
            open_ = open_[~holds]
        self.best[open_] = torch.inf

    def walk_where_nothing_was_found(self) -> None:
        """Walk against the judge's gradient for images that no direction flipped, then polish by the judge."""
        lost = torch.nonzero(~self.best.isfinite())[:, 0]
        if not len(lost):
            return
        lengths = (FIRST_WALK_STEP * WALK_GROWTH**step for step in range(WALK_STEPS))
        delta = walk_until_adversarial(self.oracle, self.index[lost], lengths) - self.inputs[lost]
        flipped = l2_norm(delta) > 0
        lost, delta = lost[flipped], delta[flipped]
        self.best[lost], self.best_delta[lost] = l2_norm(delta), delta
        for image, start in zip(lost.tolist(), delta, strict=True):
            self.slots.push(Item(POLISH, image, 0, ANY, start))
        self._drain([], judge=True)

    def bisect(self) -> None:
        """Shorten every perturbation along its ray while it stays adversarial: double the cut, then halve it."""
        found = torch.nonzero(self.best.isfinite())[:, 0]
        high = torch.ones(len(found), device=found.device)
        low, open_ = high - FIRST_CUT, torch.arange(len(found), device=found.device)
        for doubling in range(2, CUTS + 2):
            if not len(open_):
                break
            open_ = open_[self._holds(found[open_], low[open_])]
            high[open_] = low[open_]
            low[open_] = max(0.0, 1 - FIRST_CUT * (2**doubling - 1))
        while len(open_ := torch.nonzero(high - low > PRECISION * high)[:, 0]):
            middle = (low[open_] + high[open_]) / 2
            adversarial = self._holds(found[open_], middle)
            high[open_] = torch.where(adversarial, middle, high[open_])
            low[open_] = torch.where(adversarial, low[open_], middle)
        self.best_delta[found] = self._scaled(found, high)

    def _scaled(self, images: Tensor, factor: Tensor) -> Tensor:
        delta = self.best_delta[images]
        return clip_to_box(self.inputs[images], delta * per_sample(factor, delta))

    def _holds(self, images: Tensor, factor: Tensor) -> Tensor:
        points = self.inputs[images] + self._scaled(images, factor)
        return self.oracle.is_adversarial(points.clamp(0, 1), self.index[images])

    def _drain(self, awaited: list[int], *, judge: bool) -> None:
        """Run all items; when all `awaited` screenings of an image have ended, its best directions are queued."""
        slots = self.slots
        reports: dict[int, list[tuple[float, int, Tensor]]] = defaultdict(list)
        while slots.refill():
            flight = slots.flight
            inputs = self.inputs[flight.image]
            points = (inputs + flight.delta).clamp(0, 1)
            margin, decision, gradient = self.oracle.step(points, self.index[flight.image], flight.target, judge=judge)
            self._keep_better(flight, decision < 0)
            before = flight.delta
            straight, predicted = self._advance(flight, inputs, margin, gradient)
            screening = flight.turn == SCREENING
            ended = flight.step >= torch.where(screening, self.budget.screening, self.budget.polish)
            if not ended.any():
                continue
            done = torch.nonzero(ended & screening)[:, 0]
            arrival = clip_to_box(inputs[done], before[done] * per_sample(straight[done], before))
            columns = (flight.image[done].tolist(), predicted[done].tolist(), flight.target[done].tolist())
            for image, norm, target, start in zip(*columns, arrival, strict=True):
                reports[image].append((norm, target, start))
                if len(reports[image]) == awaited[image]:
                    best = sorted(reports.pop(image), key=lambda report: report[:2])[: self.budget.kept]
                    for rank, (_, _, start) in enumerate(best):
                        slots.push(Item(POLISH, image, rank, ANY, start))
            slots.flight = flight.where(~ended)

    def _queue_screening(self) -> list[int]:
        """One item for each of an image's strongest other classes; returns how many each image has."""
        logits = self.oracle.clean_logits[self.index]
        own = self.oracle.own(self.index, logits)
        counts = (~own).sum(1).clamp_max(self.budget.classes).tolist()
        strongest = logits.masked_fill(own, -torch.inf).topk(max(counts), 1).indices
        for image, (count, classes) in enumerate(zip(counts, strongest.tolist(), strict=True)):
            for rank, target in enumerate(classes[:count]):
                self.slots.push(Item(SCREENING, image, rank, target, torch.zeros_like(self.inputs[image])))
        return counts

    def _keep_better(self, flight: Flight, adversarial: Tensor) -> None:
        """Remember points that are adversarial and nearer than the best of their image so far."""
        norm = l2_norm(flight.delta)
        norm = norm.masked_fill(~adversarial | (norm == 0), torch.inf)  # of the clean image a stand-in may be wrong
        nearest = self.best.scatter_reduce(0, flight.image, norm, "amin")
        for slot in torch.nonzero((norm < self.best[flight.image]) & (norm == nearest[flight.image]))[:, 0].tolist():
            self.best_delta[flight.image[slot]] = flight.delta[slot]
        self.best = nearest

    def _advance(self, flight: Flight, inputs: Tensor, margin: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Move every item; returns the factors at which the old rays should meet the boundary, and the norms there."""
        delta = flight.delta
        norm, steepness = l2_norm(delta), l2_norm(gradient)
        usable = steepness.isfinite() & (steepness > 0) & margin.isfinite()
        if not usable.all():
            gradient = gradient.where(per_sample(usable, gradient), 0.0)
            margin, steepness = torch.where(usable, margin, 0.0), torch.where(usable, steepness, 1.0)
        gradient, margin = gradient / per_sample(steepness, gradient), margin / steepness
        along = dot(gradient, delta)
        offset = (along - margin).clamp_max(-TINY)
        nearest = nearest_on_hyperplane(gradient, offset, -inputs, 1 - inputs, BOX_ITERATIONS)
        moved = norm > 0
        share = torch.where(moved, self._share(flight), 1.0) * usable
        length = torch.where(moved, norm / l2_norm(nearest).clamp_min(TINY), 1.0)
        direction = delta * per_sample(1 - share, delta) + nearest * per_sample(share * length, delta)
        grown = torch.where(margin < 0, flight.overshoot * 0.7, flight.overshoot * 1.5).clamp(*OVERSHOOT_RANGE)
        flight.overshoot = torch.where(flight.step > 0, grown, flight.overshoot)
        factor = crossing(dot(gradient, direction), offset).clamp(*FACTORS)
        least = torch.where(margin > 0, norm / l2_norm(direction).clamp_min(TINY), 0.0)
        factor = factor.maximum(least) * (1 + flight.overshoot)
        flight.delta = clip_to_box(inputs, direction * per_sample(torch.where(usable, factor, 1.0), delta))
        flight.step = flight.step + 1
        straight = crossing(along, offset).clamp(*STRAIGHT_FACTORS)
        return straight, torch.where(moved & usable, norm * straight, torch.inf)

    def _share(self, flight: Flight) -> Tensor:
        """The share (B,) by which the direction moves towards the hyperplane's nearest point."""
        first, last = POLISH_SHARES
        annealed = last + (first - last) * (1 + torch.cos(math.pi * flight.step / self.budget.polish)) / 2
        screening = torch.where(flight.step < UNDAMPED, 1.0, SCREENING_SHARE)
        return torch.where(flight.turn == POLISH, annealed, screening)
