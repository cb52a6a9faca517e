"""How well the participants of one image agree: split halves, their interval, and the bounds of Nili et al. 2014."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from advalign.data.human_maps.sides import EMD_EVERY, MEASURES, Sides, Values, as_model, both_ways, mean, weighted
from advalign.tensors.heatmaps import centred_gaussian
from advalign.tensors.ranks import rank_correlation

SIZES = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Numbers of participants that the curve is measured at."""
CURVE_SPLITS = 8  # of every image and number of participants
Columns = dict[str, float]
LEFT_OUT = 120  # comparisons without one participant, about so many, over at least
LEAST_SPLITS = 6
LEAST_SHARE = 0.25  # of the contributions' squares that counts as no noise


def generator(seed: int, image: str, purpose: int) -> np.random.Generator:
    """Random numbers of one image: they depend on neither the other images nor the process."""
    key = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, key, purpose])


def random_halves(count: int, splits: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random splits of `count` participants: (splits, count), True in the first half, which has count // 2."""
    return rng.random((splits, count)).argsort(axis=1).argsort(axis=1) < count // 2


@dataclass(frozen=True)
class Halves:
    """Maps of the two halves of every split, prepared for the measures."""

    first: Sides
    second: Sides

    @classmethod
    def of(cls, maps: Tensor, splits: NDArray[np.bool_]) -> "Halves":
        """Mean maps of the halves that `splits` (S, N) makes of the participants' maps (N, side, side)."""
        return cls(*(Sides.of(weighted(_shares(half), maps)) for half in (splits, ~splits)))


def _shares(weights: NDArray[np.generic]) -> NDArray[np.float32]:
    """Weights (K, N) scaled to sum 1, with which a sum of maps is their mean."""
    shares: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return shares


def ceiling(
    maps: Tensor, halves: Halves, splits: NDArray[np.bool_], resamples: int, rng: np.random.Generator
) -> Columns:
    """Mean agreement of two halves over splits, with its 95 % interval: columns M_ceiling, _low and _high.

    The interval is a bootstrap over participants of the linearised ceiling: what a participant contributes to it is
    measured by leaving them out, so that a resample costs no new comparison of maps. NaN where a half has one member.

    Args:
        maps: (N, side, side), of the participants.
        halves: of `splits`.
        splits: (S, N).
        resamples: of the participants.
        rng: of the resamples.
    """
    found = both_ways(halves.first, halves.second, emd_first=len(splits) // EMD_EVERY)
    count = splits.shape[1]
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples) - 1.0
    contributions = _contributions(maps, halves, splits)
    columns: Columns = {}
    for measure in MEASURES:
        middle = mean(found[measure])
        low, high = np.quantile(middle + drawn @ contributions[measure] / count, (0.025, 0.975))
        columns |= {f"{measure}_ceiling": middle}
        columns |= {f"{measure}_ceiling_low": float(low), f"{measure}_ceiling_high": float(high)}
    return columns


def _contributions(maps: Tensor, halves: Halves, splits: NDArray[np.bool_]) -> Values:
    """Influence of every participant on the ceiling by each measure: (N,), sum 0, in the ceiling's unit.

    It is the jackknife's, over the first splits: the agreement without the participant, less the mean of that over the
    members of the same half. What varies between splits is noise, and shrinks all by one factor.
    """
    count = splits.shape[1]
    used = splits[: max(LEAST_SPLITS, LEFT_OUT // count)]
    few = max(LEAST_SPLITS - 2, LEFT_OUT // EMD_EVERY // count)  # splits for the earth mover's distance
    changes = {measure: np.empty((len(used), count)) for measure in MEASURES}
    for half, other in ((used, halves.second), (~used, halves.first)):
        split, who = np.nonzero(half)
        size = int(half[0].sum())
        left = Sides.of(weighted(_shares(half[split] & ~np.eye(count, dtype=bool)[who]), maps))
        for measure, values in both_ways(left, other.rows(split), emd_first=few * size).items():
            by_split = values.reshape(len(used), size)
            centred = (by_split - by_split.mean(1, keepdims=True)) * (size / max(size - 1, 1)) ** 0.5
            changes[measure][split, who] = centred.ravel()
    changes["emd"] = changes["emd"][:few]
    return {measure: _shrunk(values) * (1 - count) for measure, values in changes.items()}


def _shrunk(changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of (splits, N) over splits, scaled so that their squares add up to what they would without noise: (N,)."""
    means = changes.mean(0)
    noise = changes.var(0, ddof=1).sum() / len(changes)
    total = np.square(means).sum()
    scale = max(LEAST_SHARE, 1 - noise / total) ** 0.5 if total > 0 else total
    shrunk: NDArray[np.float64] = scale * (means - means.mean())
    return shrunk


def spearman_brown(agreement: float) -> float:
    """Agreement expected of two groups that are twice as large: 2 r / (1 + r) (Spearman 1910, Brown 1910)."""
    return 2 * agreement / (1 + agreement)


def floor(halves: Halves, other: Halves) -> Columns:
    """Agreement of an image's first halves with the second halves of another image: columns M_floor.

    Centre bias, and whatever else images have in common, alone give this much.
    """
    found = both_ways(halves.first, other.second, emd_first=len(halves.first.ranks) // EMD_EVERY)
    return {f"{measure}_floor": mean(values) for measure, values in found.items()}


def bounds(maps: Tensor) -> tuple[Columns, NDArray[np.float64]]:
    """Bounds of what a model could reach (Nili et al. 2014): columns M_lower and M_upper, and Spearman per participant.

    M_lower is the mean agreement of a participant's map with the mean of the others', M_upper with the mean of all; the
    participant is the model's side. The second result (N,) is M_lower's Spearman before the mean.
    """
    single, others, group = (Sides.of(part) for part in (maps, without_each(maps), maps.mean(0, keepdim=True)))
    lower, upper = as_model(single, others), as_model(single, group.like(single))
    columns = {f"{measure}_lower": mean(lower[measure]) for measure in MEASURES}
    columns |= {f"{measure}_upper": mean(upper[measure]) for measure in MEASURES}
    return columns, lower["spearman"]


def others_agreement(maps: Tensor) -> NDArray[np.float64]:
    """Spearman correlation of every participant's map (N, side, side) with the mean of the others': (N,)."""
    found: NDArray[np.float64] = rank_correlation(maps.flatten(1), without_each(maps).flatten(1)).cpu().numpy()
    return found


def without_each(maps: Tensor) -> Tensor:
    """Mean map of all participants but one, for each of them: (N, H, W) -> (N, H, W)."""
    count = len(maps)
    return weighted(_shares(1 - np.eye(count)), maps)


def centre(human: Tensor) -> Columns:
    """Agreement of a centred Gaussian (sigma: a quarter of the side) with the map (side, side): columns M_centre."""
    gaussian = centred_gaussian(*human.shape).to(human)
    return references("centre", gaussian, human)


def references(name: str, model: Tensor, human: Tensor) -> Columns:
    """Agreement of one map (side, side), as if a model's, with people's map: columns M_NAME."""
    found = as_model(Sides.of(model[None]), Sides.of(human[None]))
    return {f"{measure}_{name}": float(values[0]) for measure, values in found.items()}


def by_participants(maps: Tensor, rng: np.random.Generator) -> Values:
    """Mean agreement of two disjoint groups of k / 2 participants for every k of `SIZES` up to N: (len(SIZES),) each.

    NaN for more participants than there are.
    """
    count = len(maps)
    sizes = [size for size in SIZES if size <= count]
    ranks = rng.random((CURVE_SPLITS * len(sizes), count)).argsort(axis=1).argsort(axis=1)
    half = np.tile(np.array(sizes) // 2, CURVE_SPLITS)[:, None]  # so that the first pairs are of all sizes
    groups = (ranks < half, (ranks >= half) & (ranks < 2 * half))
    first, second = (Sides.of(weighted(_shares(group), maps)) for group in groups)
    found = both_ways(first, second, emd_first=len(sizes) * (CURVE_SPLITS // EMD_EVERY))
    curves = {}
    for measure, values in found.items():
        means = [mean(part) for part in values.reshape(CURVE_SPLITS, len(sizes)).T]
        curves[measure] = np.array(means + [np.nan] * (len(SIZES) - len(sizes)))
    return curves
