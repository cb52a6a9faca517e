"""Minimum norms in about 100 passes: descend on a margin that cools, start again elsewhere, reheat the best.

FMN takes a thousand small steps to find the point of the decision boundary that is nearest to the image. Near a point
the boundary is a hyperplane, and the nearest point of a hyperplane has a closed form, in the box too (_boundary.py); a
damped walk along such hyperplanes (_plane_steps.py) ends at a nearest point, though seldom at the nearest of all. So
every image starts several times, in different ways, and ends with the best:

1. *Descents* from the image on a smooth margin, T log sum exp(logits / T) in place of the largest logit on both sides.
   Its temperature falls, so that the walk sees all classes first and the nearest at last. The class at whose boundary
   it ended is barred for the descents that follow. Every second one begins at the best point so far.
2. *Refined directions*, where classes are few: they take turns with descents, and come first. For each of the strongest
   classes of other decisions, a few undamped steps; then a damped walk from where the boundary is predicted nearest.
   Beside them every descent begins at the image.
3. *Reheats*: from the best point, steps that begin large and somewhat hot again, as long as that helps.
4. *Bisection* of the smallest adversarial point along its ray, by the judge.

Where no start flips an image, a plain walk with growing steps follows, and noise where the walk fails too. The norm is
l2, or linf (`linf_curve`). docs/fmn-fast.md has the reasons, docs/benchmarks.md the cost and the comparison of norms.
"""

import math
from collections import defaultdict
from collections.abc import Generator
from contextlib import suppress
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from advalign.attacks._budgets import BUDGETS, DESCENT, REFINE, REHEAT, SCHEDULES, SCREEN, Budget
from advalign.attacks._oracle import margins
from advalign.attacks._plane_steps import Schedules, advance
from advalign.attacks._slots import Item, Slots
from advalign.attacks._walk import first_adversarial_noise, walk_until_adversarial
from advalign.attacks.base import MinimumNorm, Norm, Oracle
from advalign.strict_settings import Strict
from advalign.tensors.balls import clip_to_box
from advalign.tensors.norms import NORMS, per_sample

SCREENED = 0.1  # of the classes of other decisions: the least share that is worth screening
GAIN = 0.01  # of the norm: another reheat follows where the last one gained more
SLOTS = {"cpu": 48, "cuda": 256}
FIRST_CUT, CUTS, PRECISION = 0.01, 7, 7e-4  # of the norm; how often the cut is doubled at most; where halving ends
STRETCHES = 1.0, 1.003, 1.01, 1.03, 1.1, 1.3  # tried in turn if the judge disagrees with the search model
WALK_STEPS, WALK_GROWTH, NOISES = 60, 1.1, 16
FIRST_WALK_STEP: dict[Norm, float] = {"l2": 0.25, "linf": 1 / 255}


class FastMinimumNormSearch(MinimumNorm):
    """The default: minimum norms at a tenth of FMN's passes."""

    budget = "budget"
    named_budgets: ClassVar[tuple[str, ...]] = ("fast", "thorough")
    uses_stand_in = True
    minimum_norm = True

    class Settings(Strict):
        """How thorough: about 50, 100 or 200 passes per image."""

        budget: Literal["fast", "standard", "thorough"] = "standard"

    @property
    def passes(self) -> int:
        """The most passes of an image that is flipped at all; the bisection's forward passes are extra."""
        return self._passes(BUDGETS[self.settings.budget].reheats)

    @property
    def typical_passes(self) -> int:
        """With half of the reheats, rounded up: the others are seldom worth it."""
        return self._passes((BUDGETS[self.settings.budget].reheats + 1) // 2)

    def _passes(self, reheats: int) -> int:
        budget = BUDGETS[self.settings.budget]
        reheat, refine, screen, descent, *_ = (schedule.steps for schedule in SCHEDULES)
        refined = min((budget.starts + 1) // 2, budget.classes)
        few_classes = budget.classes * screen + refined * refine + (budget.starts - refined) * descent
        return max(few_classes, budget.starts * descent) + reheats * reheat

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring."""
        run = _Run(BUDGETS[self.settings.budget], oracle, index, self.norm)
        run.start_and_reheat()
        run.ask_the_judge()
        run.walk_where_nothing_was_found()
        run.bisect()
        return run.inputs + run.best_delta

    def polish(self, oracle: Oracle, index: Tensor, points: Tensor) -> Tensor:
        """Walk on from adversarial points (M, ...), and bisect; returns the nearest that were found, (M, ...)."""
        run = _Run(BUDGETS[self.settings.budget], oracle, index, self.norm)
        run.walk_on(torch.arange(len(index), device=index.device), points - run.inputs)
        run.bisect()
        return run.inputs + run.best_delta


class End(NamedTuple):
    """Of an item that has made all its steps.

    Attributes:
        predicted: norm at which its ray should meet the boundary.
        arrival: the point there, shaped like one image.
        nearest: the smallest norm at which it was adversarial, infinite if none.
        rival: the class that it met.
    """

    predicted: float
    arrival: Tensor
    nearest: float
    rival: int


Course = Generator[list[Item], list[End], None]
"""What is run for an image: yields items, and is sent their ends when all have ended."""


class _Run:
    """One search: the images, and the smallest adversarial perturbation of each so far."""

    def __init__(self, budget: Budget, oracle: Oracle, index: Tensor, norm: Norm) -> None:
        self.budget, self.oracle, self.index, self.norm = budget, oracle, index, norm
        self.inputs = oracle.inputs[index]
        self.best = torch.full((len(index),), torch.inf, device=index.device)
        self.best_delta = torch.zeros_like(self.inputs)
        self.logits = oracle.clean_logits[index]
        self.others = ~oracle.own(index, self.logits)
        self.clean_margin = margins(self.logits, ~self.others).to(self.inputs)
        self.schedules = Schedules(SCHEDULES, self.inputs)
        size = oracle.batch_size or SLOTS.get(index.device.type, SLOTS["cpu"])
        overshoot = tuple(schedule.overshoot for schedule in SCHEDULES)
        self.slots = Slots(size, self.inputs, self.logits.shape[1], overshoot)

    def start_and_reheat(self) -> None:
        """Run every image's course, by the search model."""
        self._follow({image: self._course(image) for image in range(len(self.index))}, judge=False)

    def _course(self, image: int) -> Course:
        """Screen, start several times, then reheat."""
        others, zero = self.others[image], torch.zeros_like(self.inputs[image])
        screened: list[End] = []
        strongest = self._to_screen(image)
        if strongest:
            every = torch.arange(len(others), device=others.device)
            screened = yield [Item(SCREEN, image, rank, every == target, zero) for rank, target in enumerate(strongest)]
            screened.sort(key=lambda end: end.predicted)
        free = others.clone()
        ends: list[float] = []
        for number in range(self.budget.starts):
            if number % 2 == 0 and screened:
                (end,) = yield [Item(REFINE, image, number, others, screened.pop(0).arrival)]
            else:
                anew = bool(strongest) or number % 2 == 0
                start = zero if anew else self.best_delta[image].clone()
                (end,) = yield [Item(DESCENT + number // 2, image, number, free.clone(), start)]
                free[end.rival] = False
                free = free if free.any() else others.clone()
            ends.append(end.nearest)
        if len(ends) > 1:
            self.oracle.second_start[self.index[image]] = _second(ends)
        yield from self._reheats(image)

    def _to_screen(self, image: int) -> list[int]:
        """The strongest classes of other decisions; none where they are a small part of all."""
        others = self.others[image]
        total, count = int(others.sum()), self.budget.classes
        if count < SCREENED * total:
            return []
        strongest: list[int] = (
            self.logits[image].masked_fill(~others, -torch.inf).topk(min(count, total)).indices.tolist()
        )
        return strongest

    def _reheats(self, image: int) -> Course:
        """Walk from the best point, if there is one, until that is not worth it."""
        before = math.inf
        for number in range(self.budget.reheats):
            norm = float(self.best[image])
            if not norm < (1 - GAIN) * before:
                return
            before = norm
            yield [Item(REHEAT, image, number, self.others[image], self.best_delta[image].clone())]

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
        """Where no start flipped an image, walk against the judge's gradient or try noise; then polish by the judge."""
        lost = torch.nonzero(~self.best.isfinite())[:, 0]
        if not len(lost):
            return
        lengths = (FIRST_WALK_STEP[self.norm] * WALK_GROWTH**step for step in range(WALK_STEPS))
        delta = walk_until_adversarial(self.oracle, self.index[lost], lengths, self.norm) - self.inputs[lost]
        held = NORMS[self.norm](delta) == 0
        delta[held] = first_adversarial_noise(self.oracle, self.index[lost[held]], NOISES) - self.inputs[lost[held]]
        flipped = NORMS[self.norm](delta) > 0
        self.walk_on(lost[flipped], delta[flipped])

    def walk_on(self, images: Tensor, delta: Tensor) -> None:
        """Reheat adversarial perturbations (B, ...) of some images (B,), by the judge."""
        self.best[images], self.best_delta[images] = NORMS[self.norm](delta), delta
        self._follow({image: self._reheats(image) for image in images.tolist()}, judge=True)

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

    def _follow(self, courses: dict[int, Course], *, judge: bool) -> None:
        """Run the items of all courses to their ends."""
        awaited = {image: self._queue(next(course, [])) for image, course in courses.items()}
        ends: dict[int, list[End]] = defaultdict(list)
        while self.slots.refill():
            for image, end in self._step(judge=judge):
                ends[image].append(end)
                if len(ends[image]) == awaited[image]:
                    with suppress(StopIteration):
                        awaited[image] = self._queue(courses[image].send(ends.pop(image)))

    def _queue(self, items: list[Item]) -> int:
        for item in items:
            self.slots.push(item)
        return len(items)

    def _step(self, *, judge: bool) -> list[tuple[int, End]]:
        """One pass of all items in flight; returns image and end of those that have ended, which leave."""
        flight = self.slots.flight
        inputs = self.inputs[flight.image]
        temperatures = self.schedules.temperature(flight) * self.clean_margin[flight.image]
        points = (inputs + flight.delta).clamp(0, 1)
        found = self.oracle.step(points, self.index[flight.image], temperatures, flight.rivals, judge=judge)
        self._keep_better(found.margin < 0, found.smooth < 0)
        predicted, arrivals = advance(flight, inputs, found.smooth, found.gradient, self.schedules, self.norm)
        ended = self.schedules.ended(flight)
        if not ended.any():
            return []
        left = flight.where(ended)
        self.slots.flight = flight.where(~ended)
        columns = predicted[ended].tolist(), arrivals[ended], left.nearest.tolist(), found.rival[ended].tolist()
        return list(zip(left.image.tolist(), map(End, *columns), strict=True))

    def _keep_better(self, adversarial: Tensor, to_rivals: Tensor) -> None:
        """Remember adversarial points that are nearer than the best of their image, or of their item, so far.

        For an item those count that its own margin calls adversarial: it may begin where another start has ended.
        """
        flight = self.slots.flight
        norm = NORMS[self.norm](flight.delta)
        norm = norm.masked_fill(~adversarial | (norm == 0), torch.inf)  # of the clean image a stand-in may be wrong
        flight.nearest = flight.nearest.minimum(norm.masked_fill(~to_rivals, torch.inf))
        nearest = self.best.scatter_reduce(0, flight.image, norm, "amin")
        for slot in torch.nonzero((norm < self.best[flight.image]) & (norm == nearest[flight.image]))[:, 0].tolist():
            self.best_delta[flight.image[slot]] = flight.delta[slot]
        self.best = nearest


def _second(norms: list[float]) -> float:
    """The second smallest norm of several starts, relative to the smallest; infinite where no two were adversarial."""
    best, second = sorted([*norms, math.inf, math.inf])[:2]
    return second / best if best < math.inf else math.inf
