"""Base of attacks: bounds, counted passes, verification and success. An attack implements only its search.

There are two kinds. A *minimum-norm* attack looks for the smallest perturbation that changes the decision; a *bounded*
attack looks for any perturbation within a radius that does. Both query the model through an `Oracle`. What they find is
verified here, so no attack's own claim of success is used.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from advalign.attacks._oracle import Logits as Logits
from advalign.attacks._oracle import Oracle as Oracle
from advalign.errors import InputError
from advalign.rows import Status as Status
from advalign.strict_settings import Strict
from advalign.tensors.balls import BALLS
from advalign.tensors.norms import NORMS, per_sample
from advalign.tensors.norms import Norm as Norm

STRETCH = 1e-3  # largest stretch of a perturbation along its ray when rounding undid the flip
STRETCHES = 10
SPREAD = 1e-6  # relative; how far rounding may carry a point outside its ball


@dataclass(frozen=True)
class AttackResult:
    """One row per input.

    Attributes:
        status: list of N `Status`; ok: right on the clean input, and the decision was changed.
        clean_predictions: (N,) int64.
        adversarials: (N, ...) float32 in [0, 1]; equal to the input where the status is not ok.
        norms: (N,) float64, ||adversarial - input|| in the attack's norm; NaN where the status is not ok.
        largest_tried: (N,) float64, the largest norm (the attack's) at which the model was queried: a lower bound of
            the minimum where the search failed.
        queries: (N,) int64, forward passes spent on the input, its clean pass and verification included.
        second_start: (N,) float64, at least 1: norm at which the second best of the search's starts ended, relative to
            the best one's; infinite where no two starts succeeded. NaN where nothing was found, or where the attack
            has no starts to compare.
        audit: (N,) float64: 1 where a second attack found a smaller perturbation than the search, 0 where it found
            none, NaN where it was not asked.
    """

    status: list[Status]
    clean_predictions: Tensor
    adversarials: Tensor
    norms: Tensor
    largest_tried: Tensor
    queries: Tensor
    second_start: Tensor
    audit: Tensor


class Attack(ABC):
    """Base of both kinds of attack: change the decision, with inputs + delta in [0, 1]."""

    class Settings(Strict):
        """The attack's own settings, with its protocol's values as defaults."""

    probe: ClassVar[str]  # name of the probe that runs the attack, by its kind

    budget: ClassVar[str | None] = None  # the setting whose value follows in NAME-VALUE, if such names exist

    named_budgets: ClassVar[tuple[str, ...]] = ()  # values of `budget` in listings, without the default

    uses_stand_in: ClassVar[bool] = False  # whether the search steps along a cheaper function (Oracle.step)

    minimum_norm: ClassVar[bool] = False  # whether the search continues until the norm is small: gates may require it

    def __init__(self, settings: Strict | None = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """The settings that NAME-TEXT stands for: by default the one value of `budget`."""
        if cls.budget is None:
            return {}
        return {cls.budget: int(text) if text.isdecimal() and len(text) < 10 else text}

    @property
    def audits(self) -> bool:
        """Whether a second attack checks results, so that `AttackResult.audit` has values."""
        return False

    @property
    def norm(self) -> Norm:
        """The norm that perturbations are measured in."""
        norm: Norm = getattr(self.settings, "norm", "l2")
        return norm

    @property
    def passes(self) -> int | None:
        """Largest number of passes (forward and input gradient) per image; None where unknown beforehand."""
        steps: int | None = getattr(self.settings, "steps", None)
        return steps

    @property
    def typical_passes(self) -> int | None:
        """Passes that an image usually takes, for estimates; by default the largest number."""
        return self.passes

    @abstractmethod
    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Look for adversarial perturbations.

        Args:
            oracle: answers queries; holds inputs and labels.
            index: (M,) which inputs to attack.

        Returns:
            (M, ...) adversarial images in [0, 1]; where none was found, the clean image or the last point tried.
        """

    @abstractmethod
    def verify(self, oracle: Oracle, candidates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate again, in float32, the points that a search found.

        Args:
            oracle: counts passes; holds the attacked function.
            candidates: (M, ...) in [0, 1].
            index: (M,) the inputs that they belong to.

        Returns:
            (M, ...) the points that count, and (M,) bool: whether they succeed.
        """

    def run(
        self,
        logits: Logits,
        inputs: Tensor,
        labels: Tensor,
        *,
        groups: Tensor | None = None,
        search: Logits | None = None,
        batch_size: int | None = None,
    ) -> AttackResult:
        """Attack every input that the model gets right, and verify what the search returns.

        Args:
            logits: the attacked function, (N, ...) in [0, 1] -> (N, K), in evaluation mode.
            inputs: (N, ...) float32 in [0, 1].
            labels: (N,) int64: the right decisions.
            groups: (K,) int64: the decision that each class belongs to; None: every class is its own.
            search: a cheaper stand-in for `logits` that a search may follow; `logits` decides success.
            batch_size: the most images in one pass; None: the attack decides.

        Raises:
            InputError: inputs outside [0, 1], not finite or not float32.
        """
        _check(inputs, labels)
        oracle = Oracle(logits, inputs, labels, groups=groups, search=search, batch_size=batch_size, norm=self.norm)
        clean_predictions = oracle.decide(oracle.clean_logits)
        right = clean_predictions == labels
        index = torch.nonzero(right)[:, 0]
        adversarials = inputs.clone()
        found = torch.zeros_like(right)
        if len(index):
            candidates, holds = self.verify(oracle, self.search(oracle, index).clamp(0, 1), index)
            adversarials[index[holds]] = candidates[holds]
            found[index[holds]] = True
        norms = NORMS[self.norm]((adversarials - inputs).double())
        return AttackResult(
            _statuses(found, right), clean_predictions, adversarials, norms.masked_fill(~found, torch.nan),
            oracle.largest_tried, oracle.queries, oracle.second_start.masked_fill(~found, torch.nan), oracle.audit,
        )  # fmt: skip


class MinimumNorm(Attack):
    """Minimise ||delta|| so that the decision changes."""

    probe = "minimum-norm"

    def verify(self, oracle: Oracle, candidates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where rounding undid a flip, stretch the perturbation by at most 0.1 % along its ray until it holds."""
        inputs = oracle.inputs[index]
        perturbation = candidates - inputs
        holds = oracle.is_adversarial(candidates, index)
        for step in range(1, STRETCHES + 1):
            open_ = torch.nonzero(~holds & (NORMS[self.norm](perturbation) > 0))[:, 0]
            if not len(open_):
                break
            stretched = (inputs[open_] + perturbation[open_] * (1 + STRETCH * step / STRETCHES)).clamp(0, 1)
            flipped = oracle.is_adversarial(stretched, index[open_])
            keep = per_sample(flipped, stretched)
            candidates = candidates.index_put((open_,), torch.where(keep, stretched, candidates[open_]))
            holds = holds.index_put((open_,), flipped)
        return candidates, holds


class Bounded(Attack):
    """Change the decision within a radius: ||delta|| <= eps. `Settings` must hold `norm` and `eps`."""

    probe = "bounded"

    def verify(self, oracle: Oracle, candidates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Project points outside the ball onto it first: no attack may exceed its radius."""
        inputs, eps = oracle.inputs[index], float(self.settings.eps)
        outside = NORMS[self.norm](candidates - inputs) > eps * (1 + SPREAD)
        inside = BALLS[self.norm](inputs, eps).project(candidates)
        points = torch.where(per_sample(outside, candidates), inside, candidates)
        return points, oracle.is_adversarial(points, index)


def _statuses(found: Tensor, right: Tensor) -> list[Status]:
    """What came of each input, from (N,) bool: an adversarial image was found, the clean image was classified right."""
    return [
        Status.OK if ok else Status.ATTACK_FAILED if valid else Status.MISCLASSIFIED_CLEAN
        for ok, valid in zip(found.tolist(), right.tolist(), strict=True)
    ]


def _check(inputs: Tensor, labels: Tensor) -> None:
    if inputs.dtype != torch.float32 or len(inputs) != len(labels):
        raise InputError(f"an attack wants float32 images and one label each, got {inputs.dtype}, {len(labels)} labels")
    if not torch.isfinite(inputs).all():
        raise InputError("an attack wants finite pixels; got NaN or infinity")
    if len(inputs) and (inputs.min() < 0 or inputs.max() > 1):
        raise InputError(f"an attack wants pixels in [0, 1], got {inputs.min():.3g} .. {inputs.max():.3g}")
