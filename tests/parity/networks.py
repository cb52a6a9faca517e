"""Small trained networks, their images, and CIFAR-10 networks where they lie beside the project."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import _cifar
from tests.conftest import REFERENCE

COUNT, SIDE = 64, 16
CIFAR = REFERENCE / "cifar"
needs_cifar = pytest.mark.skipif(not CIFAR.is_dir(), reason="needs ../shared/reference/cifar: real networks and images")


def batch(seed, count):
    """Noise with a soft bright or dark disc somewhere in it: label 1 or 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    places = torch.rand(count, 2, 1, 1, generator=generator) * 8 + 4
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()
    discs = torch.exp(-(grid - places).square().sum(1, keepdim=True) / 18)
    noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return (0.25 + 0.5 * noise + 0.2 * discs * (2 * labels - 1)[:, None, None, None]).clamp(0, 1), labels


@cache
def trained(kind):
    """Two nets of different make: (ReLU, strided, with batch norm) and (SiLU, pooled, without)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = {
            "strided": nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2),
            ),
            "pooled": nn.Sequential(
                nn.Conv2d(3, 12, 5, padding=2), nn.SiLU(), nn.AvgPool2d(4), nn.Conv2d(12, 12, 3, padding=1), nn.SiLU(),
                nn.Flatten(), nn.Linear(192, 2),
            ),
        }[kind]  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        images, labels = batch(step, 64)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def coloured(seed, count, classes):
    """Noise with a soft disc whose class is its place on a grid of four and its colour."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()
    places = torch.stack([labels % 2, labels // 2 % 2], 1)[..., None, None] * 7.0 + 4
    discs = torch.exp(-(grid - places).square().sum(1, keepdim=True) / 12)
    colour = F.one_hot(labels // 4, 3).float()[..., None, None]
    noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return (0.3 + 0.4 * noise + 0.25 * discs * colour).clamp(0, 1), labels


@cache
def trained_on_colours(classes=10):
    """A net of as many classes as CIFAR has."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(256, classes),
        )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(80):
        images, labels = coloured(step, 64, classes)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def cifar(name, first, count):
    """A CIFAR-10 network, and images and labels from the `first` on."""
    images, labels = _cifar.first_test_images(CIFAR)
    net = _cifar.networks(CIFAR)[name].requires_grad_(False)
    return net, images[first : first + count], labels[first : first + count]


class Counting(nn.Module):
    """A net that counts the images it is shown."""

    def __init__(self, net):
        super().__init__()
        self.net, self.shown = net, 0

    def forward(self, points):
        self.shown += len(points)
        return self.net(points)
