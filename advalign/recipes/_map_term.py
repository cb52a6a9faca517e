"""The neural harmonizer's map term (Feng et al. 2025, A.3, eq. 1; where they differ, Fel et al. 2022)."""

import torch
from torch import Tensor

from advalign.tensors.heatmaps import standardise
from advalign.tensors.pyramid import gaussian_pyramid

LEVELS = 5
SCALE_FLOOR = 1e-6


def map_term(model_maps: Tensor, human_maps: Tensor, has_map: Tensor) -> Tensor:
    """Mean over pyramid levels of the mean over batch and pixels of t_b (S_l - H_l)^2.

    Both maps are standardised per map and rectified; the human one is scaled to the model one's (detached) maximum.

    Args:
        model_maps: (N, H, W), saliency.
        human_maps: (N, H, W).
        has_map: (N,) bool, t_b: images without a human map add zero but stay in the mean.
    """
    model_maps = standardise(model_maps).relu()
    human_maps = standardise(human_maps).relu()
    scale = model_maps.detach().amax((1, 2), keepdim=True) / (human_maps.amax((1, 2), keepdim=True) + SCALE_FLOOR)
    token = has_map.to(model_maps)[:, None, None]
    pairs = zip(gaussian_pyramid(model_maps, LEVELS), gaussian_pyramid(human_maps * scale, LEVELS), strict=True)
    return torch.stack([(token * (model - human).square()).mean() for model, human in pairs]).mean()
