"""How often a noisy image must be looked at: bounds of the share of votes, and when more votes would change nothing.

An image's votes are the decisions on noisy copies of it. The share p of one decision in all of them is not known; a
lower bound of p from some votes gives a radius (Cohen et al. 2019, theorem 1). With several looks at growing numbers of
votes, each look's bound has its part of alpha, so that all of them hold together with probability 1 - alpha at least.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]

LOOKS = (0.1, 0.2, 0.4, 1.0)
"""Shares of all votes at which the sequential variant looks."""
FUTILE = 0.2
"""An image gets no more votes where p is at most this likely to be as large as the last look needs. No certificate
depends on it: giving up only makes radii smaller."""


def lower_bound(votes: ArrayLike, total: ArrayLike, alpha: float) -> Vector:
    """One-sided bound of Clopper and Pearson (1934): it exceeds the true share with probability alpha at most.

    Args:
        votes: (N,) for one decision.
        total: (N,) or scalar: of all decisions.
        alpha: in (0, 1).

    Returns:
        (N,) in [0, 1).

    >>> bool(lower_bound(1000, 1000, 0.001) == 0.001 ** (1 / 1000)), float(lower_bound(0, 10, 0.05))
    (True, 0.0)
    """
    votes, total = np.asarray(votes), np.asarray(total)
    found = stats.beta.ppf(alpha, np.maximum(votes, 1), total - votes + 1)
    return np.where(votes > 0, found, 0.0)


def radius_of(share: ArrayLike, sigma: float) -> Vector:
    """l2 radius within which the smoothed decision is constant: sigma Phi^-1(share); 0 for a share of at most one half.

    >>> float(np.round(radius_of(0.001 ** (1 / 1000), 0.25), 3))
    0.616
    """
    found: Vector = sigma * np.maximum(stats.norm.ppf(share), 0.0)
    return found


@dataclass(frozen=True)
class Plan:
    """At which numbers of votes an image is looked at, and what each look is for.

    Attributes:
        looks: rising; the last one is the most votes that an image gets.
        alpha: of each look's bound.
        wanted: shares that the radii need, rising, without those that the last look cannot show.
        needed: votes of the last look that show each of them.
    """

    looks: tuple[int, ...]
    alpha: float
    wanted: Vector
    needed: Counts

    @classmethod
    def of(cls, sigma: float, n: int, alpha: float, radii: Sequence[float], *, sequential: bool) -> "Plan":
        """The plan of settings: one look at n votes, or several up to n.

        Args:
            sigma: standard deviation of the noise, pixels in [0, 1].
            n: most votes.
            alpha: of all looks together.
            radii: that the sequential variant decides about, l2; chosen beforehand.
            sequential: whether there are several looks.
        """
        looks = tuple(dict.fromkeys(max(1, round(share * n)) for share in (LOOKS if sequential else (1.0,))))
        each = alpha / len(LOOKS) if sequential else alpha
        wanted = stats.norm.cdf(np.array(sorted({0.0, *radii})) / sigma)
        needed = stats.binom.isf(each, n, wanted).astype(np.int64) + 1  # the fewest votes whose bound is as large
        shown = needed <= n
        return cls(looks, each, wanted[shown], needed[shown])

    def is_decided(self, votes: Counts, total: int, bounds: Vector) -> NDArray[np.bool_]:
        """Whether further votes are not expected to show a larger radius of the plan's, (N,).

        Args:
            votes: (N,) of `total`, for one decision.
            total: at this look.
            bounds: (N,) the best lower bounds so far.
        """
        shown = np.searchsorted(self.wanted, bounds, side="right")
        at_most = 1 - lower_bound(total - votes, total, FUTILE)
        shares = np.append(self.needed / self.looks[-1], np.inf)
        decided: NDArray[np.bool_] = (shown == len(self.wanted)) | (at_most < shares[shown])
        return decided

    def vote(self, draw: Callable[[Counts, int], Counts], count: int) -> tuple[Counts, Counts, Vector]:
        """Let some images get votes until each one is decided.

        Args:
            draw: images (positions), number of new votes -> how many of them are for each image's decision.
            count: number of images.

        Returns:
            votes for the decision, votes in all, and the best lower bound of the share, (count,) each.
        """
        votes, totals = np.zeros(count, np.int64), np.zeros(count, np.int64)
        bounds, active = np.zeros(count), np.arange(count)
        for before, look in zip((0, *self.looks), self.looks, strict=False):
            votes[active] += draw(active, look - before)
            totals[active] = look
            bounds[active] = np.maximum(bounds[active], lower_bound(votes[active], look, self.alpha))
            active = active[~self.is_decided(votes[active], look, bounds[active])]
        return votes, totals, bounds
