"""What every attack shares: checks, the meter, verification. An attack writes only its search."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from advalign import catalog
from advalign.attacks._oracle import Logits as Logits
from advalign.attacks._oracle import Oracle as Oracle
from advalign.errors import InputError
from advalign.settings import Strict, digest, parse
from advalign.tensors.norms import l2_norm, per_sample

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


class Attack(ABC):
    """Base of all attacks: minimise ||delta||_2 so that the decision changes, with inputs + delta in [0, 1]."""

    class Settings(Strict):
        """The attack's own settings, with its protocol's values as defaults."""

    budget: ClassVar[str | None] = None  # the setting that NAME-VALUE gives, where that is a protocol too

    typical_passes: ClassVar[int | None] = None  # where that is far from the most: for estimates

    uses_stand_in: ClassVar[bool] = False  # whether the search steps along a cheaper function (Oracle.step)

    minimum_norm: ClassVar[bool] = False  # whether the search goes on until the norm is small: what a promotion may ask

    def __init__(self, settings: Strict | None = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @property
    def passes(self) -> int | None:
        """Passes (forward and input gradient) per image, at most; None where that is not known beforehand."""
        steps: int | None = getattr(self.settings, "steps", None)
        return steps

    @abstractmethod
    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Look for small adversarial perturbations.

        Args:
            oracle: answers queries; holds inputs and labels.
            index: (M,) which inputs to attack.

        Returns:
            (M, ...) adversarial images in [0, 1]; where none was found, the clean image or the last point tried.
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
            search: a cheaper stand-in for `logits` that a search may step along; `logits` stays the judge.
            batch_size: the most images in one pass; None: as the attack likes.

        Raises:
            InputError: inputs outside [0, 1], not finite or not float32.
        """
        _check(inputs, labels)
        oracle = Oracle(logits, inputs, labels, groups=groups, search=search, batch_size=batch_size)
        clean_predictions = oracle.decide(oracle.clean_logits)
        right = clean_predictions == labels
        index = torch.nonzero(right)[:, 0]
        adversarials = inputs.clone()
        found = torch.zeros_like(right)
        if len(index):
            candidates, holds = _verify(oracle, self.search(oracle, index), index)
            adversarials[index[holds]] = candidates[holds]
            found[index[holds]] = True
        norms = l2_norm((adversarials - inputs).double())
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
        name: "fmn-fast", "fmn-fast-thorough", "fmn-100", "feng2025-released", ...
        attack: ready to run.
        sha256: digest of the attack's name and settings.
    """

    name: str
    attack: Attack
    sha256: str


def protocol(name: str) -> Protocol:
    """Resolve a protocol: an attack's name, or NAME-BUDGET for the same search under another budget.

    >>> protocol("fmn-100").attack.settings.steps
    100
    >>> protocol("fmn-fast-thorough").attack.settings.budget
    'thorough'

    Raises:
        InputError: unknown name, a budget that the attack does not take, or its own one.
    """
    known = catalog.names("attack")
    attack, _, budget = ("", "", "") if name in known else name.rpartition("-")
    attack_class = catalog.load("attack", attack if attack in known else name)
    settings = attack_class.Settings()
    if attack in known:
        key = attack_class.budget
        if key is None:
            raise InputError(f"protocol {name!r}: {attack!r} is fixed and takes no budget")
        value = int(budget) if re.fullmatch("[0-9]{1,9}", budget) else budget
        settings = parse(attack_class.Settings, {key: value}, f"protocol {name!r}")
        proper = attack if settings == attack_class.Settings() else f"{attack}-{getattr(settings, key)}"
        if name != proper:
            raise InputError(f"protocol {name!r} is called {proper!r}")
    identity = {"attack": attack_class.__name__, **settings.model_dump()}
    return Protocol(name, attack_class(settings), digest(identity))
