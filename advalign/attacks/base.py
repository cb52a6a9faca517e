"""What every attack shares: checks, the meter, verification. An attack writes only its search."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from advalign import catalog
from advalign.errors import InputError
from advalign.settings import Strict, digest, parse
from advalign.tensors.norms import l2_norm, per_sample

Logits = Callable[[Tensor], Tensor]

STRETCH = 1e-3  # the most that a found perturbation is lengthened along its ray when rounding undid the flip
STRETCHES = 10


class Status(StrEnum):
    """What became of one stimulus."""

    OK = "ok"
    MISCLASSIFIED_CLEAN = "misclassified_clean"
    ATTACK_FAILED = "attack_failed"


@dataclass(frozen=True)
class AttackResult:
    """One row per input.

    Attributes:
        status: list of N `Status`.
        clean_predictions: (N,) int64.
        adversarials: (N, ...) float32 in [0, 1]; equal to the input where the status is not ok.
        norm_l2: (N,) float64, ||adversarial - input||_2; NaN where the status is not ok.
        largest_tried: (N,) float64, the largest norm at which the model was queried: a failed search says
            "not below", so PT can be bounded from below.
        queries: (N,) int64, forward passes spent on the input, its clean pass and verification included.
    """

    status: list[Status]
    clean_predictions: Tensor
    adversarials: Tensor
    norm_l2: Tensor
    largest_tried: Tensor
    queries: Tensor


class Oracle:
    """The attacked function with its meter: the only way an attack may ask the model anything.

    Args:
        logits: (N, ...) in [0, 1] -> (N, K).
        inputs: (N, ...) the clean images.
        labels: (N,) the right outputs.
    """

    def __init__(self, logits: Logits, inputs: Tensor, labels: Tensor) -> None:
        self._logits = logits
        self.inputs = inputs
        self.labels = labels
        self.queries = torch.ones_like(labels)  # the clean image's own pass
        self.largest_tried = torch.zeros(len(labels), dtype=torch.float64, device=inputs.device)

    def margin(self, points: Tensor, index: Tensor) -> Tensor:
        """Right output minus the largest other one; negative means adversarial. Counts one query per point.

        Args:
            points: (M, ...) images in [0, 1].
            index: (M,) int64: which input each point belongs to.
        """
        norms = l2_norm(points.detach() - self.inputs[index]).double().nan_to_num(0.0)
        self.queries.index_add_(0, index, torch.ones_like(index))  # an input may have several points in one batch
        self.largest_tried.scatter_reduce_(0, index, norms, "amax")
        logits = self._logits(points)
        right = self.labels[index][:, None]
        others = logits.scatter(1, right, -torch.inf)
        return logits.gather(1, right)[:, 0] - others.amax(1)

    def margin_and_gradient(self, points: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Margin (M,) and its gradient with respect to the points (M, ...)."""
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            margin = self.margin(points, index)
            (gradient,) = torch.autograd.grad(margin.sum(), points)
        return margin.detach(), gradient

    def is_adversarial(self, points: Tensor, index: Tensor) -> Tensor:
        """(M,) bool, from a plain forward pass."""
        with torch.no_grad():
            return self.margin(points, index) < 0


class Attack(ABC):
    """Base of all attacks: minimise ||delta||_2 so that the decision changes, with inputs + delta in [0, 1]."""

    class Settings(Strict):
        """The attack's own settings, with its protocol's values as defaults."""

    budgeted: ClassVar[bool] = False  # whether NAME-STEPS is a protocol too

    def __init__(self, settings: Strict | None = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @abstractmethod
    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Look for small adversarial perturbations.

        Args:
            oracle: answers queries; holds inputs and labels.
            index: (M,) which inputs to attack.

        Returns:
            (M, ...) adversarial images in [0, 1]; where none was found, the clean image or the last point tried.
        """

    def run(self, logits: Logits, inputs: Tensor, labels: Tensor) -> AttackResult:
        """Attack every input that the model gets right, and verify what the search returns.

        Args:
            logits: the attacked function, (N, ...) in [0, 1] -> (N, K), in evaluation mode.
            inputs: (N, ...) float32 in [0, 1].
            labels: (N,) int64 in 0 .. K - 1.

        Raises:
            InputError: inputs outside [0, 1], not finite or not float32.
        """
        _check(inputs, labels)
        with torch.no_grad():
            clean_predictions = logits(inputs).argmax(1)
        oracle = Oracle(logits, inputs, labels)
        index = torch.nonzero(clean_predictions == labels)[:, 0]
        adversarials = inputs.clone()
        found = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        if len(index):
            candidates, holds = _verify(oracle, self.search(oracle, index), index)
            adversarials[index[holds]] = candidates[holds]
            found[index[holds]] = True
        norms = l2_norm((adversarials - inputs).double())
        right = clean_predictions == labels
        status = [
            Status.OK if ok else Status.ATTACK_FAILED if valid else Status.MISCLASSIFIED_CLEAN
            for ok, valid in zip(found.tolist(), right.tolist(), strict=True)
        ]
        return AttackResult(
            status, clean_predictions, adversarials, norms.masked_fill(~found, torch.nan), oracle.largest_tried,
            oracle.queries,
        )  # fmt: skip


def _check(inputs: Tensor, labels: Tensor) -> None:
    if inputs.dtype != torch.float32 or len(inputs) != len(labels):
        raise InputError(f"an attack wants float32 images and one label each, got {inputs.dtype}, {len(labels)} labels")
    if not torch.isfinite(inputs).all():
        raise InputError("an attack wants finite pixels; got NaN or infinity")
    if len(inputs) and (inputs.min() < 0 or inputs.max() > 1):
        raise InputError(f"an attack wants pixels in [0, 1], got {inputs.min():.3g} .. {inputs.max():.3g}")


def _verify(oracle: Oracle, candidates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate candidates once more; where rounding undid a flip, stretch by at most 0.1 % until it holds."""
    inputs = oracle.inputs[index]
    candidates = candidates.clamp(0, 1)
    perturbation = candidates - inputs
    holds = oracle.is_adversarial(candidates, index)
    for step in range(1, STRETCHES + 1):
        open_ = torch.nonzero(~holds & (l2_norm(perturbation) > 0))[:, 0]
        if not len(open_):
            break
        stretched = (inputs[open_] + perturbation[open_] * (1 + STRETCH * step / STRETCHES)).clamp(0, 1)
        flipped = oracle.is_adversarial(stretched, index[open_])
        keep = per_sample(flipped, stretched)
        candidates = candidates.index_put((open_,), torch.where(keep, stretched, candidates[open_]))
        holds = holds.index_put((open_,), flipped)
    return candidates, holds


@dataclass(frozen=True)
class Protocol:
    """An attack with settled settings, known by a name: results of different protocols are never mixed.

    Attributes:
        name: "fmn", "fmn-100", "feng2025-released", ...
        attack: ready to run.
        sha256: digest of the attack's name and settings.
    """

    name: str
    attack: Attack
    sha256: str


def protocol(name: str) -> Protocol:
    """Resolve a protocol: an attack's name, or NAME-STEPS for the same search under another budget.

    >>> protocol("fmn-100").attack.settings.steps
    100

    Raises:
        InputError: unknown name, or a budget where the attack has none.
    """
    known = catalog.names("attack")
    budget = re.fullmatch(r"(.+)-(\d+)", name)
    if name in known or budget is None or budget[1] not in known:
        attack_class = catalog.load("attack", name)
        settings = attack_class.Settings()
    else:
        attack_class = catalog.load("attack", budget[1])
        if not attack_class.budgeted:
            raise InputError(f"protocol {name!r}: {budget[1]!r} is fixed and takes no number of steps")
        settings = parse(attack_class.Settings, {"steps": int(budget[2])}, f"protocol {name!r}")
    identity = {"attack": attack_class.__name__, **settings.model_dump()}
    return Protocol(name, attack_class(settings), digest(identity))
