"""What attacks within a radius share: the threat model, its part of a protocol's name, losses that grow, random starts.

A loss takes logits (M, K), the classes of the right decision (M, K) bool and the classes that the loss looks at
(M, K) bool, and returns (M,) values; an attack makes them grow. Where every class is a decision of its own, these are
the published losses; of a group of classes the largest logit counts, or all of the probability.
"""

import re
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advalign.errors import InputError
from advalign.strict_settings import Strict, fraction
from advalign.tensors.norms import Norm, unit_l2

RADIUS = re.compile(r"(l2|linf)([0-9]+(?:\.[0-9]+)?)")
TINY = 1e-12  # beside the scale of logits, as in the AutoAttack package


class ThreatModel(Strict):
    """The ball around each image that a perturbation must stay in."""

    norm: Norm = "linf"
    eps: float = Field(8 / 255, gt=0, description="radius of the ball, pixels in [0, 1]; fractions as text: 8/255")

    @field_validator("eps", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        return fraction(value) if isinstance(value, str) else value


def read_radius(text: str, protocol: str, form: str) -> dict[str, Any]:
    """The threat model that NORMEPS stands for: linf8 (eps in 1/255), l20.5 (eps as it is).

    Args:
        text: NORMEPS.
        protocol: the whole name, for the message.
        form: what the name should look like, without NORMEPS.

    Raises:
        InputError: the text is no radius.

    >>> read_radius("linf8", "fgsm-linf8", "fgsm-") == {"norm": "linf", "eps": 8 / 255}
    True
    """
    found = RADIUS.fullmatch(text)
    if found is None:
        raise InputError(f"protocol {protocol!r}: write {form}linfEPS (in 1/255: {form}linf8) or {form}l2EPS")
    norm, eps = found.groups()
    return {"norm": norm, "eps": float(eps) / 255 if norm == "linf" else float(eps)}


class Starts:
    """Random points of balls: uniform for linf, on the sphere for l2.

    Each draw is one perturbation, the same for all images, so an image's result does not depend on the others'.

    Args:
        model: the threat model.
        seed: of the draws.
    """

    def __init__(self, model: ThreatModel, seed: int) -> None:
        self._model, self._generator = model, torch.Generator().manual_seed(seed)

    def draw(self, inputs: Tensor) -> Tensor:
        """The next point around each of the images (M, ...), inside the box."""
        shape = (1, *inputs.shape[1:])
        if self._model.norm == "linf":
            drawn = 2 * torch.rand(shape, generator=self._generator) - 1
        else:
            drawn = unit_l2(torch.randn(shape, generator=self._generator))
        return (inputs + self._model.eps * drawn.to(inputs)).clamp(0, 1)


def lead(logits: Tensor, own: Tensor, looked_at: Tensor) -> Tensor:
    """The largest logit looked at minus the right decision's."""
    return logits.masked_fill(~looked_at, -torch.inf).amax(1) - logits.masked_fill(~own, -torch.inf).amax(1)


def cross_entropy(logits: Tensor, own: Tensor, looked_at: Tensor) -> Tensor:
    """Minus the logarithm of the right decision's probability; it looks at all classes.

    In float32 its gradient vanishes where the margin is large: such logits fool every attack that follows it.
    """
    return -logits.log_softmax(1).masked_fill(~own, -torch.inf).logsumexp(1)


def scaled_lead(logits: Tensor, own: Tensor, looked_at: Tensor) -> Tensor:
    """The lead over the spread of the four largest logits: the targeted DLR loss (Croce and Hein 2020, eq. 7).

    Scaled logits do not change it.
    """
    top = logits.topk(4, dim=1).values
    return lead(logits, own, looked_at) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY)
