"""Encoding models: responses predicted from features by ridge and banded ridge regression, on images held out.

Ridge regression is solved on kernels (himalaya, Dupre la Tour et al. 2022), so features may outnumber images by far.
Banded ridge has a penalty for each feature space, chosen for each unit, so that a space that says nothing of a unit is
not paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.errors import DataError, InputError

Array = NDArray[np.float64]

FOLDS, INNER_FOLDS = 10, 5
PENALTIES = np.logspace(-2, 5, 15)  # relative to a kernel whose mean eigenvalue is 1
MIXTURES = 10  # of bands that are tried, drawn from Dirichlet distributions
LEAST_CEILING = 0.1  # of a unit that counts where explained variance is divided by the ceiling
LEAST_IMAGES = 2 * FOLDS
DIMENSIONS = 4096  # of a layer's features; more are projected


@dataclass(frozen=True)
class Explained:
    """How well held-out responses are predicted.

    Attributes:
        share: mean over units of the share of variance, 1 - sum of squared errors / sum of squared deviations. Below 0
            where the mean response predicts better.
        over_ceiling: mean over units of share / ceiling; NaN where no ceiling is known.
        low, high: 95 % interval of over_ceiling (of share where it is NaN) over images (bootstrap of the predictions).
        units: with a ceiling of at least `LEAST_CEILING`, of which over_ceiling is the mean; 0: no ceiling is known.
    """

    share: float
    over_ceiling: float
    low: float
    high: float
    units: int


def kernel(features: Array) -> Array:
    """Inner products of standardised features (N, F): (N, N) float64 of mean eigenvalue 1; all 0 for constant ones.

    Features are standardised over all images; no response enters.
    """
    values = np.asarray(features, np.float64)
    spread = values.std(0)
    varies = spread > 1e-6 * spread.max(initial=0.0)
    values = (values[:, varies] - values[:, varies].mean(0)) / spread[varies]
    found: Array = values @ values.T
    return found / max(float(np.trace(found)) / len(found), np.finfo(float).tiny)


def predicted(kernels: Sequence[Array], responses: Array, seed: int, folds: int = FOLDS) -> Array:
    """Responses to every image, predicted by a model that was fitted to the other folds' images.

    The penalty of each unit is chosen by cross-validation inside the other folds; with several kernels their mixture
    too (random search).

    Args:
        kernels: at least one, (N, N) each (`kernel`).
        responses: (N, U), finite.
        seed: of the folds, and of the mixtures.
        folds: how many.

    Returns:
        (N, U) float64.

    Raises:
        DataError: there are fewer images than twice the folds.
        InputError: himalaya is not installed.
    """
    count = len(responses)
    if count < 2 * folds:
        raise DataError(f"an encoding model needs at least {2 * folds} images with responses, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    stack = np.stack(kernels)
    found = np.empty(responses.shape)
    for fold in range(folds):
        held = order[fold::folds]
        seen = np.setdiff1d(order, held)
        mean, spread = responses[seen].mean(0), responses[seen].std(0)
        spread = np.where(spread > 0, spread, 1)
        model = _model(len(kernels), seed)
        inside = _centred(stack, seen, seen)
        model.fit(inside if len(kernels) > 1 else inside[0], (responses[seen] - mean) / spread)
        across = _centred(stack, held, seen)
        found[held] = model.predict(across if len(kernels) > 1 else across[0]) * spread + mean
    return found


def explained(found: Array, responses: Array, ceilings: Array, resamples: int, seed: int) -> Explained:
    """How well predictions fit.

    Args:
        found, responses: (N, U).
        ceilings: (U,) share of each unit's variance that can be explained; NaN: unknown.
        resamples, seed: of the bootstrap over images; a resample's predictions stay those of the whole.
    """
    errors, squares = (responses - found) ** 2, responses**2
    counts = np.random.default_rng(seed).multinomial(len(found), np.full(len(found), 1 / len(found)), resamples)
    shares = _share(errors, responses, squares, np.ones((1, len(found))))[0]
    resampled = _share(errors, responses, squares, counts.astype(float))
    known = np.nan_to_num(ceilings, nan=0.0) >= LEAST_CEILING
    varies = np.ptp(responses, axis=0) > 0
    used = known & varies
    if not varies.any():
        return Explained(*(float("nan"),) * 4, 0)
    over = resampled[:, used] / ceilings[used] if used.any() else resampled[:, varies]
    low, high = np.nanpercentile(over.mean(1), [2.5, 97.5])
    ratio = float((shares[used] / ceilings[used]).mean()) if used.any() else float("nan")
    return Explained(float(shares[varies].mean()), ratio, float(low), float(high), int(used.sum()))


def _share(errors: Array, responses: Array, squares: Array, counts: Array) -> Array:
    """(resamples, U) share of variance explained; NaN where a resample's responses are all the same."""
    total = counts.sum(1, keepdims=True)
    deviations = counts @ squares - (counts @ responses) ** 2 / total
    least = 1e-12 * np.maximum(counts @ squares, np.finfo(float).tiny)
    found: Array = 1 - np.divide(
        counts @ errors, deviations, out=np.full(deviations.shape, np.nan), where=deviations > least
    )
    return found


def _centred(kernels: Array, rows: NDArray[np.int64], seen: NDArray[np.int64]) -> Array:
    """Kernels (K, N, N) between some images and those that were seen, the mean feature of the latter as origin."""
    inside = kernels[:, seen][:, :, seen]
    across = kernels[:, rows][:, :, seen]
    found: Array = (
        across - across.mean(2, keepdims=True) - inside.mean(1, keepdims=True) + inside.mean((1, 2), keepdims=True)
    )
    return found


def _model(kernels: int, seed: int) -> Any:
    need_himalaya()
    from himalaya.kernel_ridge import KernelRidgeCV, MultipleKernelRidgeCV

    if kernels == 1:
        return KernelRidgeCV(alphas=PENALTIES, kernel="precomputed", cv=INNER_FOLDS)
    search = {"n_iter": MIXTURES, "alphas": PENALTIES, "progress_bar": False}
    return MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", solver_params=search, cv=INNER_FOLDS, random_state=seed
    )


def need_himalaya() -> None:
    """Refuse to begin what needs ridge regression.

    Raises:
        InputError: himalaya is not installed.
    """
    if find_spec("himalaya") is None:
        raise InputError("encoding models need himalaya: install it with `pip install 'advalign[neural]'`")
