"""Certified decisions: the l2 radius within which nothing changes a vote over noisy images (Cohen et al. 2019).

The smoothed model decides by vote: it adds Gaussian noise to an image many times, and the decision that the model makes
most often is the smoothed one. If its share of all votes is at least p > 1/2, no change of the image with an l2 norm
below sigma Phi^-1(p) makes another decision the most frequent one. A bound of p is computed from finitely many votes,
so each certificate is wrong with probability alpha at most. Noisy pixels are not clipped to [0, 1], neither here nor in
the recipe `noise`. See docs/smoothing.md.
"""

import hashlib
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from advalign.attacks.base import Oracle
from advalign.averages import mean_with_interval, share_with_interval
from advalign.data.sets.base import Items
from advalign.errors import DataError
from advalign.metrics.base import Evaluation
from advalign.models.zoo import evaluation_transform
from advalign.probes._certificate import Plan, radius_of
from advalign.probes._sanity import NOT_FINITE
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import Descriptor
from advalign.strict_settings import Strict
from advalign.tensors.norms import Norm
from advalign.vocabulary import UNITS, with_spread

ABSTAINS = -1  # in the column of smoothed decisions
SAMPLES_AT_ONCE = 100  # noisy images in one pass
SHARES = ("_ci_low", "_ci_high")

DECISION, VOTES, SAMPLES = "smoothed_decision", "votes", "samples"
BOUND, RADIUS, CORRECT = "votes_at_least", "certified_radius_l2", "correct"
"""Columns of rows, beside the items' own."""


def certified_accuracy(rows: pd.DataFrame, radii: ArrayLike) -> NDArray[np.float64]:
    """Share of all images whose smoothed decision is right and certified within each radius.

    Args:
        rows: of this probe.
        radii: (R,) l2, at least 0; at 0 only images count whose decision is right and no abstention.

    Returns:
        (R,) values in [0, 1], falling with the radius: a lower bound, unlike robust accuracy under an attack.
    """
    certified = np.where(rows[CORRECT], rows[RADIUS], -np.inf)
    shares: NDArray[np.float64] = (certified[None, :] >= np.asarray(radii)[:, None]).mean(1)
    return shares


class Smoothing(Probe):
    """Randomised smoothing: the l2 radius within which the vote over noisy images is certified."""

    class Settings(Strict):
        """The noise, the votes and their confidence, as in Kannappan 2025: sigma 0.25, 1,000 votes."""

        sigma: float = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")
        n0: int = Field(100, ge=1, description="noisy images that choose the decision")
        n: int = Field(1000, ge=1, description="noisy images that bound its share of votes (published: 100,000)")
        alpha: float = Field(0.001, gt=0, lt=1, description="probability that a certificate is wrong, at most")
        sequential: bool = Field(
            False, description="look at 10, 20, 40 and 100 % of the n votes, and stop where the radii are decided"
        )
        radii: tuple[float, ...] = Field(
            (0.25, 0.5, 0.75, 1.0), min_length=1, description="l2, reported as numbers; what `sequential` decides about"
        )
        seed: int = Field(0, ge=0, description="of the noise; each image's own follows from its pixels")

        @field_validator("radii")
        @classmethod
        def _are_radii(cls, value: tuple[float, ...]) -> tuple[float, ...]:
            if min(value) <= 0 or len({f"{radius:g}" for radius in value}) < len(value):
                raise ValueError("expected different radii above 0, such as [0.25, 0.5]")
            return value

        @model_validator(mode="after")
        def _bounds_more_than_it_chooses(self) -> Self:
            if self.n < self.n0:
                raise ValueError(f"n is {self.n}, less than n0, {self.n0}: give n more votes than the choice has")
            return self

    describes: ClassVar[tuple[Descriptor, ...]] = (
        *with_spread(
            Descriptor("certified_accuracy_eps{}", "certified_eps{}", "certified, l2 {}", "share", "higher"),
            SHARES,
        ),
        *with_spread(Descriptor("smoothed_accuracy", "smoothed_accuracy", "smoothed", "share", "higher"), SHARES),
        *with_spread(Descriptor("abstention_rate", "abstention_rate", "abstains", "share", "lower"), SHARES),
        *with_spread(
            Descriptor("average_certified_radius", "certified_radius", "certified radius", UNITS["l2"], "higher")
        ),
        Descriptor("samples_per_image", "samples_per_image", "samples", "forward passes", "lower"),
    )

    @property
    def passes(self) -> float:
        """The most noisy images of an item; passes without gradient."""
        return float(self.settings.n0 + self.settings.n)

    @property
    def measured_norm(self) -> Norm:
        """Gaussian noise certifies l2 only."""
        return "l2"

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', and for each the smoothed decision (-1: it abstains) with what certifies it.

        Columns: `votes` for the decision of those that bound its share, `samples` (all noisy images, the n0 of the
        choice included), `votes_at_least` (lower bound of the share of votes), `certified_radius_l2` (pixels in [0, 1];
        0 where it abstains), `correct`.
        """
        settings = self.settings
        noisy = _Noisy(model, items, settings, conditions.batch_size or SAMPLES_AT_ONCE)
        chosen = np.array([noisy.decisions(item, settings.n0).bincount().argmax() for item in range(len(items))], int)

        def draw(active: NDArray[np.int64], count: int) -> NDArray[np.int64]:
            agreeing = [int((noisy.decisions(item, count) == chosen[item]).sum()) for item in active]
            return np.array(agreeing, np.int64)

        plan = Plan.of(settings.sigma, settings.n, settings.alpha, settings.radii, sequential=settings.sequential)
        votes, totals, bounds = plan.vote(draw, len(items))
        decided = bounds >= 0.5
        rows = items.table.copy()
        rows[DECISION] = np.where(decided, chosen, ABSTAINS)
        rows[VOTES], rows[SAMPLES], rows[BOUND] = votes, settings.n0 + totals, bounds
        rows[RADIUS] = np.where(decided, radius_of(bounds, settings.sigma), 0.0)
        rows[CORRECT] = decided & (chosen == items.labels.numpy())
        return Measured(rows)

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Certified accuracy at each radius, smoothed accuracy and abstentions, with Wilson's 95 % intervals.

        `average_certified_radius` (Zhai et al. 2020) is the mean over all images of the radius, 0 where the decision is
        wrong or it abstains; with a bootstrap interval. `samples_per_image` counts noisy images.
        """
        rows, found = evaluation.rows, super().summarise(evaluation)
        total, right = len(rows), rows[CORRECT].to_numpy(bool)
        for radius in self.settings.radii:
            held = int((right & (rows[RADIUS] >= radius)).sum())
            found |= share_with_interval(f"certified_accuracy_eps{radius:g}", held, total)
        abstained = int((rows[DECISION] == ABSTAINS).sum())
        return {
            **found,
            **share_with_interval("smoothed_accuracy", int(right.sum()), total),
            **share_with_interval("abstention_rate", abstained, total),
            **mean_with_interval(
                "average_certified_radius", rows[RADIUS] * right, evaluation.resamples, evaluation.seed
            ),
            "samples_per_image": float(rows[SAMPLES].mean()),
        }


class _Noisy:
    """A model's decisions on noisy copies of some items; each image has a stream of noise of its own.

    The stream follows from the seed and the image's pixels, so it depends on no other image, and it goes on where it
    stopped, however many copies are asked for at once.

    Args:
        model: on its device.
        items: on the CPU.
        settings: of the probe.
        batch_size: the most copies in one pass.
    """

    def __init__(self, model: Model, items: Items, settings: Any, batch_size: int) -> None:
        pixels = items.pixels(evaluation_transform(model.classifier.preprocessing))
        self._streams = [np.random.default_rng([settings.seed, _number(image)]) for image in pixels]
        inputs, labels = pixels.to(model.device), items.labels.to(model.device)
        self._oracle = Oracle(model.classifier, inputs, labels, groups=model.groups, batch_size=batch_size)
        self._model, self._sigma, self._at_once = model, settings.sigma, batch_size

    def decisions(self, item: int, count: int) -> Tensor:
        """The decisions on the next `count` copies, (count,) int64 on the CPU.

        Raises:
            DataError: the model's logits are not finite.
        """
        inputs = self._oracle.inputs
        found = []
        for first in range(0, count, self._at_once):
            shape = (min(self._at_once, count - first), *inputs.shape[1:])
            noise = torch.from_numpy(self._streams[item].standard_normal(shape, dtype=np.float32)).to(inputs)
            index = torch.full((len(noise),), int(item), device=inputs.device)
            logits = self._oracle.class_logits(inputs[item] + self._sigma * noise, index)
            if not logits.isfinite().all():
                raise DataError(f"{self._model.name}: {NOT_FINITE}")
            found.append(self._oracle.decide(logits).cpu())
        return torch.cat(found)


def _number(image: Tensor) -> int:
    """A number that an image's pixels give, the same on every machine."""
    return int.from_bytes(hashlib.sha256(image.contiguous().numpy().tobytes()).digest(), "little")
