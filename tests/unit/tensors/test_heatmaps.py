"""Maps by value: scaling, standardising, the two perturbation maps, references and the maps of training."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.ndimage import correlate1d

from advalign.tensors.heatmaps import (
    centre_distance,
    centred_gaussian,
    energy_on_top,
    magnitude_map,
    min_max_scale,
    released_map,
    standardise,
    training_maps,
)

QUICK = settings(max_examples=60, deadline=None)


def random_maps(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_min_max_scale_by_hand_is_per_sample_over_all_channels():
    batch = torch.tensor(
        [[[[2.0, 4.0]], [[6.0, 3.0]]], [[[-1.0, -1.0]], [[-1.0, -1.0]]], [[[0.0, 0.5]], [[1.0, 0.25]]]]
    )
    assert min_max_scale(batch).tolist() == [
        [[[0.0, 0.5]], [[1.0, 0.25]]],
        [[[0.0, 0.0]], [[0.0, 0.0]]],
        [[[0.0, 0.5]], [[1.0, 0.25]]],
    ]


@QUICK
@given(hnp.arrays(np.float32, (3, 2, 3, 4), elements=st.floats(-1000, 1000, width=32)))
def test_min_max_scale_ends_at_exactly_0_and_1_and_keeps_the_order(values):
    batch = torch.from_numpy(values)
    found = min_max_scale(batch).flatten(1)
    for before, after in zip(batch.flatten(1), found, strict=True):
        assert after.min() == 0
        assert after.max() == (0 if before.max() == before.min() else 1)
        assert (after[before.argsort()].diff() >= 0).all()
    torch.testing.assert_close(min_max_scale(found), found, rtol=0, atol=0)


def test_standardise_by_hand():
    maps = torch.tensor([[[0.0, 0.0], [2.0, 2.0]], [[5.0, 5.0], [5.0, 5.0]], [[0.0, 0.0], [0.0, 4.0]]])
    found = standardise(maps)
    one = 1 / (1 + 1e-5)
    assert found[0].flatten().tolist() == pytest.approx([-one, -one, one, one], rel=1e-6)
    assert found[1].flatten().tolist() == [0.0] * 4
    root = math.sqrt(3)  # mean 1, biased variance (1 + 1 + 1 + 9) / 4 = 3
    assert found[2].flatten().tolist() == pytest.approx([-1 / root] * 3 + [3 / root], rel=1e-4)


def test_standardise_agrees_with_numpy():
    maps = random_maps(4, 9, 7) * 50 - 10
    plain = maps.numpy().astype(np.float64)
    expected = (plain - plain.mean((1, 2), keepdims=True)) / (plain.std((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(standardise(maps).numpy(), expected, atol=1e-5)


def test_released_and_magnitude_maps_differ_where_the_largest_magnitude_is_negative():
    # four pixels, channels (r, g, b): all negative, mixed with the negative larger, mixed, zero
    pixels = torch.tensor([[-0.3, -0.1, -0.2], [-0.9, 0.2, 0.1], [0.5, -0.4, 0.0], [0.0, 0.0, 0.0]])
    perturbation = pixels.T.reshape(1, 3, 2, 2)
    assert released_map(perturbation).flatten().tolist() == pytest.approx([0.1, 0.2, 0.5, 0.0])
    assert magnitude_map(perturbation).flatten().tolist() == pytest.approx([0.3, 0.9, 0.5, 0.0])
    assert released_map(perturbation).shape == magnitude_map(perturbation).shape == (1, 2, 2)


@QUICK
@given(hnp.arrays(np.float32, (2, 3, 2, 3), elements=st.floats(-1, 1, width=32)))
def test_the_two_maps_agree_with_numpy(values):
    perturbation = torch.from_numpy(values)
    assert np.array_equal(released_map(perturbation).numpy(), np.abs(values.max(1)))
    assert np.array_equal(magnitude_map(perturbation).numpy(), np.abs(values).max(1))
    assert (released_map(perturbation) <= magnitude_map(perturbation)).all()


def test_centre_distance_by_hand():
    root = math.sqrt
    expected = [[root(2), 1.0, root(2)], [1.0, 0.0, 1.0], [root(2), 1.0, root(2)]]
    assert centre_distance(3, 3).tolist() == [pytest.approx(row) for row in expected]
    assert centre_distance(2, 4)[0].tolist() == pytest.approx([root(2.5), root(0.5), root(0.5), root(2.5)])


def test_centred_gaussian_values():
    # 6 rows, 7 columns: sigma = 6 / 4 = 1.5, and the middle column's second row lies exactly 1.5 from the centre
    found = centred_gaussian(6, 7)
    assert float(found[1, 3]) == pytest.approx(math.exp(-0.5), rel=1e-6)
    assert float(found[4, 3]) == pytest.approx(math.exp(-0.5), rel=1e-6)
    assert float(found[0, 0]) == pytest.approx(math.exp(-(2.5**2 + 3**2) / (2 * 1.5**2)), rel=1e-6)
    assert float(centred_gaussian(5, 5)[2, 2]) == 1
    four = centred_gaussian(4, 4)  # sigma = 1
    assert four[0].tolist() == pytest.approx([math.exp(-d / 2) for d in (4.5, 2.5, 2.5, 4.5)], rel=1e-6)
    for flipped in (found.flip(0), found.flip(1)):
        assert torch.equal(found, flipped)


def test_energy_on_top_by_hand():
    perturbation = torch.zeros(2, 3, 2, 5)
    perturbation[0, :, 0, 1] = torch.tensor([1.0, 2.0, 2.0])  # energy 9 where the first map is highest
    perturbation[0, 0, 1, 4] = 4.0  # energy 16 elsewhere
    perturbation[1, 2, 0, 0] = -3.0
    maps = torch.zeros(2, 2, 5)
    maps[0, 0, 1] = 0.7
    maps[1, 0, 0] = 0.1
    assert energy_on_top(perturbation, maps).tolist() == pytest.approx([9 / 25, 1.0])


def test_energy_on_top_takes_ties_by_position():
    perturbation = torch.ones(1, 3, 4, 5)
    perturbation[0, :, 0, 0], perturbation[0, :, 2, 3] = 2.0, 3.0  # energies 12 and 27, 3 elsewhere
    maps = torch.zeros(1, 4, 5)
    total = 12 + 27 + 18 * 3
    assert float(energy_on_top(perturbation, maps)) == pytest.approx((12 + 3) / total)  # the first two pixels
    maps[0, 2:, :] = 1.0
    assert float(energy_on_top(perturbation, maps)) == pytest.approx(6 / total)  # the first two of the tied ten
    maps[0, 2, 3] = 2.0
    assert float(energy_on_top(perturbation, maps)) == pytest.approx((27 + 3) / total)


@pytest.mark.parametrize(("side", "count"), [(64, 410), (224, 5018), (5, 2)])
def test_energy_of_an_even_perturbation_is_the_share_of_pixels(side, count):
    found = energy_on_top(torch.full((1, 3, side, side), -0.1), random_maps(1, side, side))
    assert float(found) == pytest.approx(count / side**2, rel=1e-4)


def blur_reference(maps):
    offset = np.arange(-5, 6)
    weights = np.exp(-(offset**2) / 200.0)
    weights /= weights.sum()
    return correlate1d(correlate1d(maps, weights, axis=1, mode="mirror"), weights, axis=2, mode="mirror")


def pil_resize(maps, size):
    resized = [Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR) for one in maps]
    return np.stack([np.asarray(one) for one in resized])


def test_training_maps_at_64_are_the_written_out_blur():
    maps = random_maps(3, 64, 64)
    np.testing.assert_allclose(training_maps(maps, 64).numpy(), blur_reference(maps.numpy()), atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(256, 224), (256, 64), (224, 64), (48, 128)])
def test_training_maps_resize_as_pillow_does(source, target):
    maps = random_maps(2, source, source).numpy()
    expected = pil_resize(blur_reference(pil_resize(maps, 64)), target)
    np.testing.assert_allclose(training_maps(torch.from_numpy(maps), target).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(("source", "target"), [(64, 64), (256, 64), (256, 224), (64, 224)])
def test_training_maps_of_a_centred_impulse_stay_centred(source, target):
    """The released even window shifts a map by half a pixel; here nothing moves."""
    impulse = torch.zeros(1, source, source)
    middle, half = source // 2, source // 64
    impulse[0, middle - half : middle + half, middle - half : middle + half] = 1.0
    found = training_maps(impulse, target)
    for other in (found.flip(1), found.flip(2), found.transpose(1, 2)):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-7)
    position = torch.arange(target) - (target - 1) / 2
    assert float((found[0].sum(0) * position).sum() / found.sum()) == pytest.approx(0, abs=1e-4)
    # what was there is spread, not lost: the mean is that of the impulse
    assert float(found.mean()) == pytest.approx(float(impulse.mean()), rel=2e-3)


def test_training_maps_keep_a_flat_map_flat():
    torch.testing.assert_close(training_maps(torch.full((1, 256, 256), 0.37), 224), torch.full((1, 224, 224), 0.37))
