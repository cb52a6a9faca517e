"""A linear map (`linear_map`), fitted by ridge regression.

The fit is that of the encoding models (`tensors.encoding`): on kernels, the penalty of each unit by cross-validation.
Here the map itself is kept, so that it can be applied to images that nobody has seen yet.
"""

import numpy as np

from advalign.tensors.encoding import INNER_FOLDS, PENALTIES, kernel, need_himalaya
from advalign.tensors.linear_map import Array, LinearMap


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
