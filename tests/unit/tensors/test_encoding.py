"""Encoding models: what is linear is found, what is noise is not, and shares are divided by their ceilings."""

import numpy as np
import pytest

from advalign.errors import DataError
from advalign.tensors.encoding import explained, kernel, predicted

pytest.importorskip("himalaya")


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_kernel_is_of_standardised_features():
    features = drawn(12, 5)
    found = kernel(features * [1, 10, 100, 1, 1] + 7)
    np.testing.assert_allclose(found, kernel(features))
    z = (features - features.mean(0)) / features.std(0)
    np.testing.assert_allclose(found, z @ z.T / 5)  # 5 features of variance 1 and 12 images: trace 60, mean 1
    np.testing.assert_allclose(kernel(np.concatenate([features, np.ones((12, 1))], 1)), found)
    assert not kernel(np.ones((4, 3))).any()


def test_linear_responses_are_predicted_and_independent_ones_are_not():
    features = drawn(200, 10)
    responses = np.concatenate([features @ drawn(10, 3, seed=1) + 5, drawn(200, 3, seed=2)], 1)
    found = predicted([kernel(features)], responses, seed=0)
    share = 1 - ((responses - found) ** 2).sum(0) / ((responses - responses.mean(0)) ** 2).sum(0)
    assert (share[:3] > 0.999).all()
    assert (np.abs(share[3:]) < 0.1).all()


def test_a_held_out_image_does_not_teach():
    """Features that name each image alone predict no better than the mean."""
    responses = drawn(40, 4, seed=3)
    found = predicted([kernel(np.eye(40))], responses, seed=0)
    share = 1 - ((responses - found) ** 2).sum() / ((responses - responses.mean(0)) ** 2).sum()
    assert -0.15 < share <= 0


def test_a_band_of_noise_costs_less_than_where_it_is_one_space():
    useful, noise = drawn(150, 8), drawn(150, 600, seed=1)
    responses = useful @ drawn(8, 5, seed=2) + drawn(150, 5, seed=3)
    ceilings = np.full(5, np.nan)
    one = predicted([kernel(np.concatenate([useful, noise], 1))], responses, 0)
    bands = predicted([kernel(useful), kernel(noise)], responses, 0)
    alone = predicted([kernel(useful)], responses, 0)
    shares = [explained(found, responses, ceilings, 100, 0).share for found in (one, bands, alone)]
    assert shares[1] > shares[0] + 0.2
    assert shares[1] > 0.9 * shares[2]


def test_the_same_seed_gives_the_same_predictions():
    features, responses = drawn(60, 4), drawn(60, 2, seed=1)
    kernels = [kernel(features), kernel(features**2)]
    np.testing.assert_array_equal(predicted(kernels, responses, 3), predicted(kernels, responses, 3))


def test_shares_by_hand_and_over_their_ceilings():
    responses = np.array([[1.0, 0.0, 3.0], [2.0, 0.0, 3.0], [3.0, 4.0, 3.0], [4.0, 4.0, 3.0]])
    found = np.array([[1.0, 1.0, 3.0], [2.0, 1.0, 3.0], [3.0, 3.0, 3.0], [2.0, 3.0, 3.0]])
    told = explained(found, responses, np.array([0.5, 0.05, 0.9]), 200, 0)
    assert told.share == pytest.approx((1 - 4 / 5 + 1 - 4 / 16) / 2)  # the third unit never varies
    assert told.units == 1
    assert told.over_ceiling == pytest.approx(0.2 / 0.5)
    unknown = explained(found, responses, np.full(3, np.nan), 200, 0)
    assert (unknown.units, unknown.share) == (0, told.share)
    assert np.isnan(unknown.over_ceiling)
    assert unknown.low <= unknown.share <= unknown.high


def test_intervals_are_over_images():
    truth = drawn(400, 6)
    told = explained(truth + 0.5 * drawn(400, 6, seed=1), truth, np.full(6, 0.8), 500, 0)
    assert told.low < told.over_ceiling < told.high
    assert told.over_ceiling == pytest.approx(0.75 / 0.8, abs=0.02)
    fewer = explained((truth + 0.5 * drawn(400, 6, seed=1))[:50], truth[:50], np.full(6, 0.8), 500, 0)
    assert fewer.high - fewer.low > 2 * (told.high - told.low)


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="at least 20 images with responses, got 19"):
        predicted([kernel(drawn(19, 3))], drawn(19, 2), 0)
