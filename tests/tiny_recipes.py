"""A batch and networks that a recipe or a loss term computes in milliseconds."""

from dataclasses import replace

import torch
from torch import nn

from advalign.data.batches import Batch
from advalign.recipes.base import Position

CLASSES = 5
DIMENSIONS = 4  # of brain responses
POSITION = Position(4, 10)  # a step of the map term, in the middle of a ramp


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(96, CLASSES),
        )  # fmt: skip


def batch(count=6):
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.rand(count, 3, 16, 16, generator=generator),
        torch.arange(count) % CLASSES,
        torch.rand(count, 16, 16, generator=generator),
        torch.arange(count) % 3 != 0,
        responses=torch.randn(count, DIMENSIONS, generator=generator),
        has_response=torch.arange(count) != 2,
    )


def told(recipe):
    """The recipe, with what it must know of all training images."""
    generator = torch.Generator().manual_seed(5)
    responses = torch.randn(4 * CLASSES, DIMENSIONS, generator=generator)
    recipe.guided_by(responses, torch.arange(len(responses)) % CLASSES)
    return recipe


def smooth_net():
    """Without batch statistics, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(96, CLASSES),
        ).double()  # fmt: skip


def gradients(model, loss):
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))])


def double(sample):
    return replace(sample, images=sample.images.double(), heatmaps=sample.heatmaps.double())


def taken(sample, part):
    return Batch(**{key: value if value is None else value[part] for key, value in vars(sample).items()})
