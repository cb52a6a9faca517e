"""Minimum linf norms, hence robust accuracy at every eps: the search of `fmn-fast`, with another norm.

What differs is the nearest point of a plane in the box, and the way towards it (_boundary.py, _plane_steps.py).

A search ends in a local minimum, so robust accuracy is an upper bound, as it is for every attack. The budget `audited`
checks it at one radius: AutoAttack attacks the images that hold there by less than half of the radius, and those that
were never flipped. What it finds is walked on from, so that an image has one norm, the smallest that is known.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advalign.attacks.autoattack import AutoAttack
from advalign.attacks.base import Oracle
from advalign.attacks.fmn_fast import FastMinimumNormSearch
from advalign.strict_settings import Strict, fraction, parse
from advalign.tensors.norms import linf_norm

NEAR = 1.5  # times the audited radius: norms up to here are doubted


class LinfCurve(FastMinimumNormSearch):
    """Minimum linf norms: robust accuracy at every eps, at a tenth of AutoAttack's passes at one."""

    named_budgets: ClassVar[tuple[str, ...]] = ("fast", "thorough", "audited")

    class Settings(Strict):
        """How thorough: about 50, 100 or 200 passes per image; `audited` adds AutoAttack's where a norm is doubted."""

        norm: Literal["linf"] = "linf"
        budget: Literal["fast", "standard", "thorough", "audited"] = "standard"
        audited_eps: float = Field(8 / 255, gt=0, le=1, description="radius that `audited` checks; 8/255 as text")

        @field_validator("audited_eps", mode="before")
        @classmethod
        def _fraction(cls, value: Any) -> Any:
            return fraction(value) if isinstance(value, str) else value

    @property
    def audits(self) -> bool:
        """Whether results are checked by AutoAttack."""
        return bool(self.settings.budget == "audited")

    def search(self, oracle: Oracle, index: Tensor) -> Tensor:
        """See the module's docstring."""
        found = super().search(oracle, index)
        if self.audits:
            self._audit(oracle, index, found)
        return found

    def _audit(self, oracle: Oracle, index: Tensor, found: Tensor) -> None:
        """Replace the points (M, ...) of doubted images that AutoAttack flips within the radius."""
        eps = self.settings.audited_eps
        norms = linf_norm(found - oracle.inputs[index])
        doubted = torch.nonzero(((norms > eps) & (norms <= NEAR * eps)) | (norms == 0))[:, 0]
        if not len(doubted):
            return
        attack = AutoAttack(parse(AutoAttack.Settings, {"norm": "linf", "eps": eps}, "linf-curve-audited"))
        points, fell = attack.verify(oracle, attack.search(oracle, index[doubted]), index[doubted])
        oracle.audit[index[doubted]] = fell.to(oracle.audit)
        found[doubted[fell]] = self.polish(oracle, index[doubted[fell]], points[fell])
