"""How reliable responses are: what of them repeats, per area and subject, with intervals over images.

Responses are z-scored within session first: sessions differ in gain, and differences between sessions would count as
noise (docs/neural.md, section Reliability).

- *Split-half*: each image's odd trials and its even ones are averaged, and correlated over images, unit by unit. The
  mean correlation r of an area becomes 2 r / (1 + r) (Spearman, Brown 1910): the reliability of all trials together.
  A correlation below 0 stays as it is: it says that there is nothing to correct.
- *Ceiling*: share of the variance of an image's average that is not noise. With noise variance n (within images,
  pooled) and signal variance s = variance of trials - n, it is s / (s + n * mean(1 / k)) for images of k trials each:
  ncsnr^2 / (ncsnr^2 + (r3 / 3 + r2 / 2 + r1) / (r1 + r2 + r3)) of Allen et al. 2022, for any numbers of repeats.
  The images are those of the splits in which any image is repeated.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.responses import ResponseStore
from advalign.errors import InputError

AT_ONCE = 64 << 20  # bytes of one unit-wise table in memory
BOOTSTRAP = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class AreaReliability:
    """The reliability of one area of one subject. NaN: no image is repeated.

    Attributes:
        subject, roi: whose, and which.
        units: how many.
        images: with at least two trials.
        trials: of these images, median per image.
        split_half, split_half_low, split_half_high: corrected by Spearman and Brown; 95 % interval over images.
        ceiling, ceiling_low, ceiling_high: median over units of the share of variance; 95 % interval over images.
        above_zero: whether the interval of split_half is; None: unknown.
    """

    subject: str
    roi: str
    units: int
    images: int = 0
    trials: float = math.nan
    split_half: float = math.nan
    split_half_low: float = math.nan
    split_half_high: float = math.nan
    ceiling: float = math.nan
    ceiling_low: float = math.nan
    ceiling_high: float = math.nan
    above_zero: bool | None = None

    @property
    def cells(self) -> list[object]:
        """As a row of a table for people."""
        half = f"{self.split_half_low:.3f} to {self.split_half_high:.3f}" if self.images else None
        ceiling = f"{self.ceiling_low:.3f} to {self.ceiling_high:.3f}" if self.images else None
        told = {True: "yes", False: "no", None: None}[self.above_zero]
        return [
            self.subject, self.roi, self.units, self.images, self.trials, self.split_half, half, self.ceiling, ceiling,
            told,
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def reliability(
    store: ResponseStore, bootstrap: int = BOOTSTRAP, seed: int = 0
) -> tuple[list[AreaReliability], NDArray[np.float32]]:
    """The reliability of every area of every subject, and each unit's ceiling.

    Args:
        store: with trials.
        bootstrap: resamples of the images.
        seed: of the resamples.

    Returns:
        The areas, in the order of the file; (U,) ceilings: 0 in areas whose reliability is not above zero, NaN where
        nothing is repeated.

    Raises:
        InputError: the store holds dissimilarities.
    """
    if not len(store.trials):
        raise InputError(f"{store.path} holds dissimilarities, whose trials are averaged: reliability needs trials")
    ceilings = np.full(len(store.units), np.nan, np.float32)
    found = []
    for subject, roi in store.areas:
        rows = np.flatnonzero(store.mask(roi, subject))
        area, per_unit = _area(store, subject, roi, rows, bootstrap, seed)
        found.append(area)
        ceilings[rows] = 0 if area.above_zero is False else per_unit
    return found, ceilings


def _area(
    store: ResponseStore, subject: str, roi: str, units: NDArray[Any], bootstrap: int, seed: int
) -> tuple[AreaReliability, Array]:
    trials = _repeated(store, units)
    counts = np.bincount(np.unique(store.trials["image"].to_numpy()[trials], return_inverse=True)[1])
    nothing = np.full(len(units), np.nan)
    if not (counts > 1).any():
        return AreaReliability(subject, roi, len(units)), nothing
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=bootstrap)
    weights = np.concatenate([np.ones((1, len(counts))), drawn])  # the first row: every image once
    halves, ceilings = zip(
        *((_split_half(one, weights), _ceiling(one, weights)) for one in _tables(store, trials, units)), strict=True
    )
    mean = _over_units(np.nanmean, np.concatenate(halves, axis=1))
    corrected = np.where(mean > 0, 2 * mean / (1 + np.maximum(mean, 0)), mean)
    of_units = np.concatenate(ceilings, axis=1)
    half, ceiling = _interval(corrected), _interval(_over_units(np.nanmedian, of_units))
    repeated = counts[counts > 1]
    known = AreaReliability(
        subject, roi, len(units), len(repeated), float(np.median(repeated)), *half, *ceiling, bool(half[1] > 0)
    )
    return known, of_units[0]


def _over_units(average: Any, table: Array) -> Array:
    """Average over units that have a value; a resample in which no unit has one is NaN."""
    found = np.full(len(table), np.nan)
    some = ~np.isnan(table).all(axis=1)
    found[some] = average(table[some], axis=1)
    return found


def _interval(resampled: Array) -> tuple[float, float, float]:
    """The value, and the ends of its interval; the value is the first."""
    low, high = np.nanpercentile(resampled[1:], [2.5, 97.5]) if not np.isnan(resampled[1:]).all() else [np.nan] * 2
    return float(resampled[0]), float(low), float(high)


def _repeated(store: ResponseStore, units: NDArray[Any]) -> NDArray[np.bool_]:
    """(T,) mask of trials in which the area has responses, of the splits in which an image is repeated."""
    first = np.zeros(len(store.units), bool)
    first[units] = True
    there = np.zeros(len(store.trials), bool)
    for rows, block in store.blocks(first):
        there[rows] = ~np.isnan(block).all(axis=1)
    seen = store.trials[there]
    twice = seen.loc[seen.duplicated(["split", "image"]), "split"].unique()
    return there & store.trials["split"].isin(twice).to_numpy()


@dataclass(frozen=True)
class _Table:
    """Trials of some units: z (T, u) within session, NaN where absent; image (T,) from 0; odd (T,) of each image's."""

    z: Array
    image: NDArray[np.int64]
    odd: NDArray[np.bool_]

    def sums(self, values: Array, of: NDArray[np.bool_] | slice = slice(None)) -> Array:
        """(images, u) sums of values over the trials of each image; NaN counts as nothing."""
        total = np.zeros((int(self.image.max()) + 1, values.shape[1]))
        np.add.at(total, self.image[of], np.nan_to_num(values[of]))
        return total


def _tables(store: ResponseStore, trials: NDArray[np.bool_], units: NDArray[Any]) -> Iterator[_Table]:
    chosen = store.trials[trials]
    image = np.unique(chosen["image"], return_inverse=True)[1]
    odd = (chosen.groupby("image").cumcount() % 2 == 1).to_numpy()
    session = chosen["session"].to_numpy()
    step = max(1, AT_ONCE // (8 * len(chosen)))
    for start in range(0, len(units), step):
        mask = np.zeros(len(store.units), bool)
        mask[units[start : start + step]] = True
        yield _Table(zscored(store.read(mask, trials).astype(np.float64), session), image, odd)


def zscored(values: Array, session: NDArray[Any]) -> Array:
    """Values of mean 0 and standard deviation 1 within each session, unit by unit.

    A unit that does not vary in a session has no response there.

    Args:
        values: (T, u), NaN where absent.
        session: (T,).

    >>> zscored(np.array([[1.0], [3.0], [10.0], [10.0]]), np.array([0, 0, 1, 1])).ravel().tolist()
    [-1.0, 1.0, nan, nan]
    """
    found = np.full(values.shape, np.nan)
    for one in np.unique(session):
        rows = session == one
        count = np.maximum((~np.isnan(values[rows])).sum(axis=0), 1)
        centred = values[rows] - np.nansum(values[rows], axis=0) / count
        spread = np.sqrt(np.nansum(centred**2, axis=0) / count)
        usable = spread > 1e-6 * np.nanmax(np.abs(np.where(np.isnan(values[rows]), 0, values[rows])), axis=0)
        found[rows] = np.where(usable, centred / np.where(usable, spread, 1), np.nan)
    return found


def _split_half(table: _Table, weights: Array) -> Array:
    """(resamples, u) correlations over images of the averages of odd and even trials; NaN where one does not vary."""
    there = (~np.isnan(table.z)).astype(float)
    odd, even = table.odd, ~table.odd
    counts = table.sums(there, odd), table.sums(there, even)
    both = (counts[0] > 0) & (counts[1] > 0)
    x = np.where(both, table.sums(table.z, odd) / np.maximum(counts[0], 1), 0)
    y = np.where(both, table.sums(table.z, even) / np.maximum(counts[1], 1), 0)
    number = weights @ both
    with np.errstate(all="ignore"):
        mean_x, mean_y = weights @ x / number, weights @ y / number
        covariance = weights @ (x * y) / number - mean_x * mean_y
        spread_x, spread_y = weights @ x**2 / number - mean_x**2, weights @ y**2 / number - mean_y**2
        found: Array = covariance / np.sqrt(spread_x * spread_y)
    found[~np.isfinite(found) | (spread_x < 1e-12) | (spread_y < 1e-12)] = np.nan
    return found


def _ceiling(table: _Table, weights: Array) -> Array:
    """(resamples, u) shares of the variance of averages that are not noise; NaN where nothing is repeated."""
    there = (~np.isnan(table.z)).astype(float)
    number = table.sums(there)
    total, squares = table.sums(table.z), table.sums(table.z**2)
    within = squares - total**2 / np.maximum(number, 1)
    with np.errstate(all="ignore"):
        noise = weights @ within / (weights @ np.maximum(number - 1, 0))
        trials = weights @ number
        variance = weights @ squares / trials - (weights @ total / trials) ** 2
        signal = np.maximum(variance - noise, 0)
        shown = (number > 0).astype(float)
        per_average = weights @ (shown / np.maximum(number, 1)) / (weights @ shown)
        found: Array = signal / (signal + noise * per_average)
    found[~np.isfinite(found)] = np.nan
    return found


def unreliable(areas: list[AreaReliability]) -> list[str]:
    """Names of the areas whose reliability is not above zero, with the subject where there are several."""
    several = len({one.subject for one in areas}) > 1
    return [f"{one.roi} of {one.subject}" if several else one.roi for one in areas if one.above_zero is False]
