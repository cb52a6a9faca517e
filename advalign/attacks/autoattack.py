"""AutoAttack, the standard version (Croce and Hein 2020): four attacks in turn, each on the images that still hold.

1. Auto-PGD on the cross-entropy, from a random start.
2. Auto-PGD on the targeted DLR loss, from random starts, once for each of the likeliest classes of the clean image.
3. The targeted FAB, once for each of the same classes.
4. Square, which needs no gradient.

Where every class is a decision of its own, this is what the AutoAttack package does (`pyautoattack` 0.2.0). Where a
decision is a group of classes, its logit is the largest of its classes', its probability their sum, and the targets are
classes of other decisions. The DLR loss needs four classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from advalign.attacks._auto_pgd import auto_pgd
from advalign.attacks._fab import fast_adaptive_boundary
from advalign.attacks._radius import Starts, ThreatModel, cross_entropy, read_radius, scaled_lead
from advalign.attacks._square import square
from advalign.attacks.base import Bounded, Oracle
from advalign.errors import InputError

CLASSES = 4  # the DLR loss is scaled by the first, third and fourth largest logit

Attempt = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Places of the images that hold, (B,) -> (B, ...) points, and (B,) bool: whether they flip."""


class AutoAttack(Bounded):
    """AutoAttack: whether the strongest common set of attacks changes the decision within eps."""

    class Settings(ThreatModel):
        """The threat model; the numbers of steps, targets and queries are those of the standard version."""

        steps: int = Field(100, ge=1, description="of each Auto-PGD and FAB")
        targets: int = Field(9, ge=1, description="classes that the targeted attacks try, where there are as many")
        queries: int = Field(5000, ge=0, description="of Square")
        seed: int = Field(0, ge=0, description="of random starts and squares")

    @classmethod
    def budgeted(cls, text: str) -> dict[str, Any]:
        """NORMEPS: linf8 (eps in 1/255), l20.5 (eps as it is)."""
        return read_radius(text, f"autoattack-{text}", "autoattack-")

    @property
    def passes(self) -> int:
        """Forward passes of an image that holds: 7,811 by default, 1,910 of them with gradient."""
        steps, targets = self.settings.steps, self.settings.targets
        return int((1 + targets) * (steps + 1) + 2 * targets * steps + 1 + self.settings.queries)

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring.

        Raises:
            InputError: the model has fewer than four classes.
        """
        if oracle.clean_logits.shape[1] < CLASSES:
            raise InputError(
                f"autoattack needs a model of at least {CLASSES} classes (its DLR loss compares {CLASSES} logits), got "
                f"{oracle.clean_logits.shape[1]}: use pgd or fmn-fast"
            )
        found, held = oracle.inputs[index].clone(), torch.arange(len(index), device=index.device)
        for attempt in self._attempts(oracle, index):
            found[held], flipped = attempt(held)
            held = held[~flipped]
            if not len(held):
                break
        return found

    def _attempts(self, oracle: Oracle, index: Tensor) -> Iterator[Attempt]:
        settings, starts = self.settings, Starts(self.settings, self.settings.seed)

        def ascend(loss: Any, target: Tensor | None) -> Attempt:
            def attempt(held: Tensor) -> tuple[Tensor, Tensor]:
                start = starts.draw(oracle.inputs[index[held]])
                seen = None if target is None else target[held]
                return auto_pgd(oracle, index[held], start, loss, seen, settings, settings.steps)

            return attempt

        def walk(target: Tensor) -> Attempt:
            return lambda held: fast_adaptive_boundary(oracle, index[held], target[held], settings, settings.steps)

        targets = self._targets(oracle, index)
        yield ascend(cross_entropy, None)
        yield from (ascend(scaled_lead, target) for target in targets)
        yield from (walk(target) for target in targets)
        yield lambda held: square(oracle, index[held], settings, settings.queries, settings.seed)

    def _targets(self, oracle: Oracle, index: Tensor) -> list[Tensor]:
        """(M, K) bool each: the first, second, ... class of another decision, by its logit on the clean image.

        An image with fewer such classes than others tries its first one again.
        """
        logits = oracle.clean_logits[index]
        rivals = ~oracle.own(index, logits)
        ranked = logits.masked_fill(~rivals, -torch.inf).argsort(dim=1, descending=True, stable=True)
        counts = rivals.sum(1)
        most = min(self.settings.targets, int(counts.max()))
        picked = [ranked.gather(1, torch.where(counts > rank, rank, 0)[:, None]) for rank in range(most)]
        return [torch.zeros_like(rivals).scatter_(1, one, value=True) for one in picked]
