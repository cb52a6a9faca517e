"""A linear map from features of images to responses, fitted by ridge regression: what a predictor is made of.

The fit is that of the encoding models (`tensors.encoding`): on kernels, the penalty of each unit by cross-validation.
Here the map itself is kept, so that it can be applied to images that nobody has seen yet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advalign.tensors.encoding import INNER_FOLDS, PENALTIES, kernel, need_himalaya

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearMap:
    """Features (N, F) -> responses (N, U): standardise, multiply, add.

    Attributes:
        mean, spread: (F,) of each feature over the images of the fit; the spread of a constant feature is 1.
        weights: (F, U) of the standardised features; 0 for constant ones.
        intercept: (U,) mean response.
    """

    mean: Array
    spread: Array
    weights: Array
    intercept: Array

    def __call__(self, features: Array) -> Array:
        """Responses to images by their features: (N, U)."""
        return np.asarray((features - self.mean) / self.spread @ self.weights + self.intercept)


def fit_linear_map(features: Array, responses: Array) -> LinearMap:
    """Fit a map by ridge regression; the penalty of each unit is chosen by cross-validation over the images.

    Args:
        features: (N, F), finite.
        responses: (N, U), finite.

    Raises:
        InputError: himalaya is not installed.
    """
    need_himalaya()
    from himalaya.kernel_ridge import KernelRidgeCV

    mean, spread = features.mean(0), features.std(0)
    varies = spread > 1e-6 * spread.max(initial=0.0)
    spread = np.where(varies, spread, 1.0)
    standardised = (features - mean) / spread * varies
    intercept, scale = responses.mean(0), responses.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    model = KernelRidgeCV(alphas=PENALTIES, kernel="precomputed", cv=INNER_FOLDS)
    model.fit(kernel(features), (responses - intercept) / scale)
    eigenvalue = max(float((standardised**2).sum()) / len(features), np.finfo(float).tiny)  # `kernel` divides by it
    weights = standardised.T @ np.asarray(model.dual_coef_, np.float64) / eigenvalue * scale
    return LinearMap(mean, spread, weights, intercept)
