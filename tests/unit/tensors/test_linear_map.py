"""The map of a predictor: ridge regression in its closed form, whether features or images are more."""

import numpy as np
import pytest

from advalign.tensors.encoding import PENALTIES
from advalign.tensors.linear_fit import fit_linear_map

pytest.importorskip("himalaya")


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("images", "features"), [(80, 6), (30, 50)])
def test_it_is_ridge_regression_of_standardised_features(images, features):
    x = drawn(images, features) * np.geomspace(0.1, 10, features) + 3
    y = 5 + 2 * (x @ drawn(features, 1, seed=1) + drawn(images, 1, seed=2))
    found = fit_linear_map(x, y)
    z = (x - x.mean(0)) / x.std(0)
    eigenvalue = (z**2).sum() / images
    gram = z.T @ z / eigenvalue
    candidates = [
        np.linalg.solve(gram + one * np.eye(features), z.T @ (y - y.mean(0)) / eigenvalue) for one in PENALTIES
    ]
    differences = [np.abs(one - found.weights).max() for one in candidates]
    assert min(differences) < 1e-6 * np.abs(found.weights).max()
    np.testing.assert_allclose(found(x).mean(0), y.mean(0))


def test_what_is_linear_is_found_under_noise():
    x, w = drawn(2000, 10), drawn(10, 3, seed=1)
    found = fit_linear_map(x, x @ w + 4 + 0.5 * drawn(2000, 3, seed=2))
    new = drawn(500, 10, seed=3)
    np.testing.assert_allclose(found(new), new @ w + 4, atol=0.15)


def test_features_and_responses_that_do_not_vary():
    x = np.concatenate([drawn(40, 4), np.full((40, 1), 7.0)], 1)
    y = np.concatenate([x[:, :1], np.full((40, 1), 2.0)], 1)
    found = fit_linear_map(x, y)
    assert not found.weights[4].any()
    other = x.copy()
    other[:, 4] = 1e6
    np.testing.assert_array_equal(found(other), found(x))
    np.testing.assert_allclose(found(x)[:, 1], 2)
