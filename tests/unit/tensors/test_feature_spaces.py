"""Feature spaces by value: gratings through Gabor filters, and what is invariant to what."""

import math

import pytest
import torch

from advalign.tensors.feature_spaces import SPACES, gabor_amplitudes, gabor_energy, in_batches, pixels, second_order


def grating(wavelength, orientation=0, phase=0.0, contrast=1.0, side=64):
    """Varies along the angle pi orientation / 8; whole cycles for orientations 0 and 4."""
    place = torch.arange(side, dtype=torch.float32)
    angle = math.pi * orientation / 8
    along = place[None] * math.cos(angle) + place[:, None] * math.sin(angle)
    return 0.5 + 0.5 * contrast * torch.cos(2 * math.pi * along / wavelength + phase)[None]


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_the_amplitude_of_a_matching_grating_is_half_of_its_contrast_at_any_phase(phase):
    (maps,) = gabor_amplitudes(2 * grating(8, phase=phase, contrast=0.6), [8.0], 8)
    assert maps.shape == (1, 8, 64, 64)
    torch.testing.assert_close(maps[0, 0], torch.full((64, 64), 0.3), rtol=1e-3, atol=1e-4)
    assert maps[0, 4].max() < 0.01


def test_filters_prefer_their_own_orientation_and_scale():
    for orientation in range(8):
        (maps,) = gabor_amplitudes(grating(8, orientation), [8.0], 8)
        assert int(maps[0, :, 16:48, 16:48].mean((1, 2)).argmax()) == orientation
    fine, coarse = gabor_amplitudes(grating(16), [4.0, 16.0], 2)
    assert coarse[0, 0].mean() > 30 * fine[0, 0].mean()


def test_energy_ignores_the_mean_and_the_phase_and_follows_contrast():
    first = gabor_energy(grating(7, phase=0.3))
    torch.testing.assert_close(gabor_energy(grating(7, phase=0.3) + 0.4), first, rtol=1e-3, atol=1e-3)
    assert (first - gabor_energy(grating(7, phase=2.0))).abs().max() < (first - gabor_energy(grating(4.5))).abs().max()
    strongest = first.argmax()
    gain = first[0, strongest] - gabor_energy(grating(7, phase=0.3, contrast=0.5))[0, strongest]
    assert float(gain) == pytest.approx(math.log(2), abs=0.02)


def test_the_second_order_sees_a_texture_whose_contrast_varies():
    """A fine grating modulated slowly and one that is not have the same energy in large cells, not the same order."""
    envelope = 0.5 + 0.5 * torch.cos(2 * math.pi * torch.arange(64.0) / 16)
    modulated = 0.5 + (grating(4.5) - 0.5) * envelope
    plain = 0.5 + (grating(4.5) - 0.5) * 0.6
    change = (second_order(modulated) - second_order(plain)).abs().max()
    assert change > 3 * (gabor_energy(modulated) - gabor_energy(plain))[0, : 8 * 64].abs().max()


def test_shapes_and_batches():
    images = torch.rand(70, 64, 64, generator=torch.Generator().manual_seed(0))
    widths = {"pixels": 32**2, "gabor-energy": 6 * 8 * 64, "second-order": (3 + 2 + 2 + 1 + 1) * 8 * 4 * 64}
    for name, space in SPACES.items():
        found = in_batches(space, images[:3])
        assert found.shape == (3, widths[name])
        assert found.isfinite().all()
    torch.testing.assert_close(in_batches(pixels, images), pixels(images))
    torch.testing.assert_close(pixels(images)[0, 0], images[0, :2, :2].mean())
    assert in_batches(gabor_energy, torch.full((1, 64, 64), 0.5)).isfinite().all()
