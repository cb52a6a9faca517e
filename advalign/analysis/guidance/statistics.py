"""The statistics of a study of guided models, as pure functions on arrays of numbers.

Seeds and subjects are blocks. With few of them a bootstrap over blocks is too narrow, so a difference has a p value of
its own: the paired t test over the blocks' means (docs/neural.md, section The study and its verdict).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from advalign.analysis.statistics import paired
from advalign.errors import InputError

Vector = npt.NDArray[np.float64]
Table = npt.NDArray[np.float64]

NAN = math.nan
EXACT_COLUMNS, EXACT_BLOCKS = 8, 20  # up to which Page's distribution is counted
LEAST_AREAS = 3
AT_ONCE = 500  # resamples


@dataclass(frozen=True)
class Trend:
    """Page's test for an order that was named before.

    Attributes:
        statistic: L, the sum over areas of place times sum of ranks.
        p, p_falling: one-sided, of values that rise in the order, and of values that fall.
        blocks: those with a value of every area.
        exact: whether p is counted; else from the normal approximation.
        note: why there is no p.
    """

    statistic: float
    p: float
    p_falling: float
    blocks: int
    exact: bool
    note: str = ""


def trend(values: npt.ArrayLike) -> Trend:
    """Page's trend test (Page 1963, J. Am. Stat. Assoc. 58) over ordered areas.

    Args:
        values: (blocks, areas), a column per area in its order; a block with a NaN is left out.

    Returns:
        The test; NaN with a note for fewer than 3 areas or 2 blocks.

    >>> found = trend([[1, 2, 3], [2, 3, 4], [0, 5, 6]])
    >>> found.statistic, round(found.p, 5)
    (42.0, 0.00463)
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"a trend needs blocks x areas, got an array of shape {table.shape}")
    table = table[~np.isnan(table).any(1)]
    blocks, areas = table.shape
    if areas < LEAST_AREAS:
        return Trend(NAN, NAN, NAN, blocks, False, f"{areas} areas, a trend needs {LEAST_AREAS}")
    if blocks < 2:
        return Trend(NAN, NAN, NAN, blocks, False, f"{blocks} blocks of seed and subject, a trend needs 2")
    exact = areas <= EXACT_COLUMNS and blocks <= EXACT_BLOCKS
    method = "exact" if exact else "asymptotic"
    rising = stats.page_trend_test(table, method=method)
    falling = stats.page_trend_test(table[:, ::-1], method=method)
    return Trend(float(rising.statistic), float(rising.pvalue), float(falling.pvalue), blocks, exact)


@dataclass(frozen=True)
class Difference:
    """Mean difference of two arms over the same images.

    Attributes:
        difference: mean over blocks of the blocks' means.
        low, high: 95 % interval (percentiles) of resampled blocks and images.
        p: two-sided, of the paired t test over the blocks' means.
        blocks: with an image that both arms have; images: such images, mean per block.
        note: why something is NaN.
    """

    difference: float
    low: float
    high: float
    p: float
    blocks: int
    images: float
    note: str = ""


def hierarchical_difference(first: npt.ArrayLike, second: npt.ArrayLike, resamples: int, *, seed: int) -> Difference:
    """Difference of two arms, with an interval over blocks (seeds and subjects) and images.

    All blocks measure the same images, so a resample draws blocks and, once for all of them, images (both with
    replacement; Owen 2007, Ann. Appl. Stat. 1: at least as wide as the true interval). An image counts in a block where
    both arms have a norm.

    Args:
        first, second: (blocks, images) norms, NaN where there is none.
        resamples: how many.
        seed: of the resampling, from the settings.

    Returns:
        The difference first - second; p is NaN for one block, the interval too.
    """
    one, two = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (first, second))
    if one.shape != two.shape:
        raise InputError(f"two arms have the same blocks and images, got {one.shape} and {two.shape}")
    delta = one - two
    delta = delta[~np.isnan(delta).all(1)]
    if not len(delta):
        return Difference(NAN, NAN, NAN, NAN, 0, NAN, "no image is right in both")
    there = ~np.isnan(delta)
    means, images = np.nanmean(delta, axis=1), float(there.sum(1).mean())
    if len(delta) < 2:
        return Difference(float(means.mean()), NAN, NAN, NAN, 1, images, "one block: nothing can be tested")
    low, high = _percentiles(delta, there, resamples, np.random.default_rng(seed))
    tested = paired(means, np.zeros(len(means)))
    p = tested.p
    if math.isnan(p):  # all blocks differ by the same amount
        p = 1.0 if means.mean() == 0 else 0.0
    return Difference(float(means.mean()), low, high, p, len(delta), images)


def _percentiles(delta: Table, there: Table, resamples: int, random: np.random.Generator) -> tuple[float, float]:
    blocks, images = delta.shape
    filled, present = np.where(there, delta, 0), there.astype(np.float64)
    found = []
    for start in range(0, resamples, AT_ONCE):
        count = min(AT_ONCE, resamples - start)
        of_blocks = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=count).astype(np.float64)
        of_images = random.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)
        number = of_images @ present.T
        usable = of_blocks * (number > 0)
        with np.errstate(all="ignore"):
            found.append((usable * ((of_images @ filled.T) / np.maximum(number, 1))).sum(1) / usable.sum(1))
    low, high = np.nanpercentile(np.concatenate(found), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Partial:
    """Rank correlation of two series given a third: rho in [-1, 1], 95 % interval, two-sided p, number of models."""

    rho: float
    low: float
    high: float
    p: float
    n: int
    note: str = ""


LEAST_MODELS = 5


def partial_rank_correlation(
    x: npt.ArrayLike, y: npt.ArrayLike, given: npt.ArrayLike, resamples: int, *, seed: int
) -> Partial:
    """Spearman's rank correlation of x and y, with what a third series explains of both removed.

    The residuals of the ranks are correlated (Conover 1999, section 5.4); t has n - 3 degrees of freedom. The interval
    is of resampled models (percentiles).

    Args:
        x, y, given: (n,) numbers; models with a NaN in any of them are left out.
        resamples: how many.
        seed: of the resampling.

    Returns:
        NaN with a note for fewer than 5 models, or a series that does not vary.

    >>> found = partial_rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5], [1, 1, 2, 1, 1, 2], 100, seed=0)
    >>> round(found.rho, 3), found.n
    (0.793, 6)
    """
    table = np.array([np.ravel(np.asarray(one, dtype=np.float64)) for one in (x, y, given)])
    table = table[:, ~np.isnan(table).any(0)]
    n = table.shape[1]
    if n < LEAST_MODELS:
        return Partial(NAN, NAN, NAN, NAN, n, f"{n} models, {LEAST_MODELS} are needed")
    rho = float(_partial(table[None])[0])
    if math.isnan(rho):
        return Partial(NAN, NAN, NAN, NAN, n, "a series does not vary beyond the accuracy")
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    resampled = _partial(table[:, drawn].transpose(1, 0, 2))
    known = resampled[~np.isnan(resampled)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (NAN, NAN)
    degrees = n - 3
    rest = 1 - rho**2
    p = 0.0 if rest < 1e-12 else float(2 * stats.t.sf(abs(rho) * math.sqrt(degrees / rest), degrees))
    return Partial(rho, float(low), float(high), p, n)


def _partial(tables: npt.NDArray[np.float64]) -> Vector:
    """(resamples,) partial rank correlations of tables (resamples, 3, n); NaN where one is not defined."""
    ranks = stats.rankdata(tables, axis=2)
    centred = ranks - ranks.mean(2, keepdims=True)
    products = np.einsum("rin,rjn->rij", centred, centred)
    with np.errstate(all="ignore"):
        spread = np.sqrt(products[:, [0, 1, 2], [0, 1, 2]])
        of = products / (spread[:, :, None] * spread[:, None, :])
        xy, xz, yz = of[:, 0, 1], of[:, 0, 2], of[:, 1, 2]
        flat = products[:, 2, 2] < 1e-12  # a third series that does not vary explains nothing
        xz, yz = np.where(flat, 0, xz), np.where(flat, 0, yz)
        rest = (1 - xz**2) * (1 - yz**2)
        found: Vector = np.where(rest > 1e-9, (xy - xz * yz) / np.sqrt(np.maximum(rest, 1e-300)), NAN)
    return np.clip(found, -1, 1)
