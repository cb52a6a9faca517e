"""Maps of clicks against scipy's filters on a grid of the image, and what scaling and cropping do by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from advalign.tensors.click_maps import Blur, click_maps, resized

RNG = np.random.default_rng(0)
SAMPLE = Blur("gaussian", 27, 3.2)  # scipy's kernel for sigma 3.2 and truncate 4


def trials(count, width, height, most=12):
    numbers = RNG.integers(1, most, count)
    return [
        (RNG.integers(0, width, n).astype(np.float32), RNG.integers(0, height, n).astype(np.float32)) for n in numbers
    ]


def counted(trial, width, height, lengths):
    grid = np.zeros(lengths)
    for x, y in zip(*trial, strict=True):
        grid[int((y + 0.5) * lengths[0] / height), int((x + 0.5) * lengths[1] / width)] += 1
    return grid


def test_maps_are_those_of_scipy():
    clicks = trials(7, 64, 64)
    found = click_maps(clicks, (64, 64), 64, SAMPLE, (64, 64), (64, 64))
    expected = [ndimage.gaussian_filter(counted(trial, 64, 64, (64, 64)), 3.2) for trial in clicks]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    torch.testing.assert_close(found.sum((1, 2)), torch.tensor([float(len(x)) for x, _ in clicks]))


@pytest.mark.parametrize("size", [(100, 60), (60, 100)])
def test_an_oblong_image_is_resized_blurred_cropped_and_scaled(size):
    width, height = size
    clicks = trials(5, width, height)
    lengths = resized(width, height, 48)
    assert lengths == ((48, 80) if width > height else (80, 48))
    found = click_maps(clicks, size, 48, Blur("gaussian", 9, 2.0), (40, 40), (16, 16))
    blurred = np.stack(
        [ndimage.gaussian_filter(counted(trial, width, height, lengths), 2.0, radius=4) for trial in clicks]
    )
    top, left = (lengths[0] - 40) // 2, (lengths[1] - 40) // 2
    cropped = torch.from_numpy(blurred[:, top : top + 40, left : left + 40])
    expected = F.interpolate(cropped[:, None], size=(16, 16), mode="bilinear", antialias=True)[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [5, 11])
def test_a_disc_is_applied_twice_and_loses_no_mass(window):
    clicks = trials(4, 40, 30)
    found = click_maps(clicks, (40, 30), 30, Blur("disc", window, 1.0), (30, 40), (30, 40))
    offsets = np.arange(window) - window // 2
    disc = (offsets[:, None] ** 2 + offsets**2 <= (window / 2) ** 2).astype(float)
    disc /= disc.sum()
    once = [ndimage.convolve(counted(trial, 40, 30, (30, 40)), disc, mode="reflect") for trial in clicks]
    expected = [ndimage.convolve(grid, disc, mode="reflect") for grid in once]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    torch.testing.assert_close(found.sum((1, 2)), torch.tensor([float(len(x)) for x, _ in clicks]))


def test_the_pixel_of_a_click():
    blur = Blur("gaussian", 1, 1.0)  # of one pixel: no blur
    x, y = np.array([0, 3, 7, 7.4, -0.4], np.float32), np.array([0, 0, 3, 3.4, 2.6], np.float32)
    half = click_maps([(x, y)], (8, 4), 2, blur, (2, 4), (2, 4))[0]
    assert half.tolist() == [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 2.0]]
    same = click_maps([(x, y)], (8, 4), 4, blur, (4, 8), (4, 8))[0]
    assert [tuple(place) for place in same.nonzero().tolist()] == [(0, 0), (0, 3), (3, 0), (3, 7)]
    assert same[3, 7] == 2


def test_a_trial_does_not_depend_on_the_others():
    clicks = trials(6, 64, 64)
    together = click_maps(clicks, (64, 64), 64, SAMPLE, (56, 56), (32, 32))
    for number, trial in enumerate(clicks):
        alone = click_maps([trial], (64, 64), 64, SAMPLE, (56, 56), (32, 32))[0]
        torch.testing.assert_close(alone, together[number], atol=1e-7, rtol=1e-6)
    empty = (np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert click_maps([empty], (64, 64), 64, SAMPLE, (56, 56), (32, 32)).abs().sum() == 0
    assert click_maps([], (64, 64), 64, SAMPLE, (56, 56), (32, 32)).shape == (0, 32, 32)
