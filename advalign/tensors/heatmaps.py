"""Human maps and perturbation maps: scaling, smoothing, references and scores. Maps are (N, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor

STD_FLOOR = 1e-5  # Fel et al. 2022: keeps a constant map finite when it is standardised
TOP_SHARE = 0.10  # the share of map pixels that counts as "where people look" in the energy control


def min_max_scale(batch: Tensor) -> Tensor:
    """Scale every sample (N, ...) to [0, 1]; a constant sample becomes zero."""
    flat = batch.flatten(1)
    low = flat.min(1, keepdim=True).values
    span = flat.max(1, keepdim=True).values - low
    return ((flat - low) / torch.where(span > 0, span, 1.0)).reshape(batch.shape)


def standardise(maps: Tensor) -> Tensor:
    """Zero mean and unit (biased) deviation per map: (s - mean) / (std + 1e-5). Source: Fel et al. 2022."""
    centred = maps - maps.mean((1, 2), keepdim=True)
    return centred / (maps.std((1, 2), keepdim=True, unbiased=False) + STD_FLOOR)


def training_maps(maps: Tensor, size: int) -> Tensor:
    """Prepare ClickMe maps for the harmonizer: 64x64, Gaussian blur (11x11 window, sigma 10), then (N, size, size).

    Source: Fel et al. 2022; their even 10x10 window shifts the map by half a pixel and is replaced by an odd one.
    """
    small = F.interpolate(maps[:, None], size=(64, 64), mode="bilinear", antialias=True)
    offset = torch.arange(-5, 6).to(maps)
    weights = torch.exp(-offset.square() / (2 * 10.0**2))
    weights = weights / weights.sum()
    padded = F.pad(small, (5, 5, 5, 5), mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None, :])
    return F.interpolate(blurred, size=(size, size), mode="bilinear", antialias=False)[:, 0]


def released_map(perturbation: Tensor) -> Tensor:
    """Perturbation map as in the published table: |max over channels of delta|, (N, 3, H, W) -> (N, H, W)."""
    return perturbation.amax(1).abs()


def magnitude_map(perturbation: Tensor) -> Tensor:
    """Largest magnitude of the perturbation over channels: max |delta|, (N, 3, H, W) -> (N, H, W)."""
    return perturbation.abs().amax(1)


def mean_map(perturbation: Tensor) -> Tensor:
    """Perturbation map of the 2023 results: |mean over channels of delta|, (N, 3, H, W) -> (N, H, W)."""
    return perturbation.mean(1).abs()


def centre_distance(height: int, width: int) -> Tensor:
    """Distance of every pixel from the image centre in pixels: (H, W) float32."""
    rows = torch.arange(height) - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2
    return (rows[:, None].square() + columns[None, :].square()).sqrt()


def centred_gaussian(height: int, width: int) -> Tensor:
    """A fixed centred Gaussian with sigma = a quarter of the side: the reference of centre bias, (H, W) in (0, 1]."""
    sigma = min(height, width) / 4
    return torch.exp(-centre_distance(height, width).square() / (2 * sigma**2))


def energy_on_top(perturbation: Tensor, maps: Tensor) -> Tensor:
    """Share of squared perturbation (N, 3, H, W) on the top 10 % of map pixels (N, H, W), ties by position: (N,)."""
    energy = perturbation.square().sum(1).flatten(1)
    flat = maps.flatten(1)
    top = flat.argsort(dim=1, descending=True, stable=True)[:, : round(TOP_SHARE * flat.shape[1])]
    return energy.gather(1, top).sum(1) / energy.sum(1)
