"""The Gaussian pyramid of the neural harmonizer."""

import torch
import torch.nn.functional as F
from torch import Tensor

_BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])


def gaussian_pyramid(maps: Tensor, levels: int) -> list[Tensor]:
    """Build `levels` maps, each half the size of the one before: (N, H, W) -> [(N, H, W), (N, H/2, W/2), ...].

    Every level is the one before, convolved with the normalised outer product of [1 4 6 4 1] (zero padding 2) and
    sampled at stride 2. Source: Fel et al. 2022, released code; Feng et al. 2025, A.3.
    """
    kernel = torch.outer(_BINOMIAL, _BINOMIAL).to(maps)
    kernel = (kernel / kernel.sum())[None, None]
    pyramid = [maps]
    for _ in range(levels - 1):
        pyramid.append(F.conv2d(pyramid[-1][:, None], kernel, padding=2, stride=2)[:, 0])
    return pyramid
