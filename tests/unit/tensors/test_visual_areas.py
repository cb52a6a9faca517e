"""Simulated visual areas on gratings, whose energy is known."""

import math

import pytest
import torch

from advalign.tensors.visual_areas import gabor_energy, second_order


def grating(wavelength, angle=0.0, phase=0.0, mean=0.5, contrast=0.4):
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    return (mean + contrast * torch.cos(2 * math.pi * along / wavelength + phase)).expand(1, 3, 32, 32)


def channels(images):
    """Energy by orientation and wavelength, averaged over places."""
    return gabor_energy(images).reshape(-1, 4, 3, 16).mean(3)


@pytest.mark.parametrize(("wavelength", "place"), [(4.0, 0), (8.0, 1)])
@pytest.mark.parametrize(("angle", "orientation"), [(0.0, 0), (math.pi / 2, 2), (3 * math.pi / 4, 3)])
def test_a_grating_is_seen_by_its_own_channel(wavelength, place, angle, orientation):
    assert int(channels(grating(wavelength, angle)).flatten().argmax()) == 3 * orientation + place


def test_energy_does_not_depend_on_phase_or_brightness_and_grows_with_contrast():
    own = channels(grating(8.0))[0, 0, 1]
    for other in (grating(8.0, phase=1.0), grating(8.0, mean=0.55)):
        assert float(channels(other)[0, 0, 1]) == pytest.approx(float(own), rel=0.05)
    assert float(channels(grating(8.0, contrast=0.2))[0, 0, 1]) == pytest.approx(float(own) / 2, rel=1e-3)


def test_a_grey_image_has_no_energy():
    assert gabor_energy(torch.full((1, 3, 32, 32), 0.7)).abs().max() < 1e-5


def test_second_order_is_large_where_two_channels_meet():
    both = (grating(8.0) + grating(8.0, math.pi / 2)) / 2
    first, second = torch.triu_indices(12, 12)
    pair = int(((first == 1) & (second == 7)).nonzero())  # 8 pixels: orientations 0 and 2
    images = (both, grating(8.0), grating(8.0, math.pi / 2))
    found = [float(second_order(one).reshape(78, 4).mean(1)[pair]) for one in images]
    assert found[0] > 2 * max(found[1:])


def test_sizes():
    images = torch.rand(5, 3, 32, 32)
    assert gabor_energy(images).shape == (5, 192)
    assert second_order(images).shape == (5, 312)
    assert gabor_energy(torch.rand(1, 3, 64, 64)).shape == (1, 192)
