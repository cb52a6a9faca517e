"""A linear map from features of images to responses: what a predictor is made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
