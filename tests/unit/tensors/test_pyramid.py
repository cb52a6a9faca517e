"""The harmonizer's Gaussian pyramid, against a convolution written out with scipy."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from advalign.tensors.pyramid import gaussian_pyramid

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def random_maps(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (224, 224), (37, 50)])
def test_every_level_is_the_one_before_convolved_and_sampled(height, width):
    maps = random_maps(2, height, width)
    pyramid = gaussian_pyramid(maps, 5)
    assert len(pyramid) == 5
    assert pyramid[0] is maps
    expected = list(maps.numpy())
    for level in pyramid[1:]:
        expected = [convolve2d(one, KERNEL, mode="same", boundary="fill")[::2, ::2] for one in expected]
        np.testing.assert_allclose(level.numpy(), np.stack(expected), rtol=0, atol=1e-14)


def test_sizes_of_the_levels():
    assert [tuple(level.shape) for level in gaussian_pyramid(random_maps(3, 224, 224), 5)] == [
        (3, side, side) for side in (224, 112, 56, 28, 14)
    ]
    assert [level.shape[-1] for level in gaussian_pyramid(random_maps(1, 7, 7), 4)] == [7, 4, 2, 1]
    assert len(gaussian_pyramid(random_maps(1, 8, 8), 1)) == 1


def test_values_by_hand():
    impulse = torch.zeros(1, 8, 8)
    impulse[0, 4, 4] = 256.0
    level = gaussian_pyramid(impulse, 2)[1][0]
    expected = torch.zeros(4, 4)
    expected[1:4, 1:4] = torch.outer(torch.tensor([1.0, 6.0, 1.0]), torch.tensor([1.0, 6.0, 1.0]))
    assert torch.equal(level, expected)
    flat = gaussian_pyramid(torch.ones(1, 8, 8), 2)[1][0]
    inside, corner = flat[1:3, 1:3], flat[0, 0]
    assert inside.flatten().tolist() == pytest.approx([1.0] * 4)
    assert float(corner) == pytest.approx((11 / 16) ** 2)  # zero padding: only 6 + 4 + 1 of 16 lie inside


def test_gradients_flow_through_all_levels_and_the_kind_of_number_is_kept():
    maps = random_maps(1, 16, 16).requires_grad_(True)
    pyramid = gaussian_pyramid(maps, 3)
    assert all(level.dtype == torch.float64 for level in pyramid)
    (gradient,) = torch.autograd.grad(pyramid[2].sum(), maps)
    # the gradient of a linear map's sum does not depend on where it is taken: compare with finite differences
    step = torch.zeros_like(maps)
    step[0, 5, 9] = 1.0
    difference = gaussian_pyramid(maps.detach() + step, 3)[2].sum() - pyramid[2].sum().detach()
    assert float(gradient[0, 5, 9]) == pytest.approx(float(difference), rel=1e-9)
    assert gaussian_pyramid(torch.ones(1, 8, 8), 2)[1].dtype == torch.float32
