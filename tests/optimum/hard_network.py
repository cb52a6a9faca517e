"""Writes hard_network.safetensors: a small network, and images whose minimum norms are known by exhaustion.

python -m tests.optimum.hard_network

Three pixels, two hidden layers of 16, 40 classes. A grid of 200 points a side gives the minimum of an image, a step
too large at most. The search of advalign 0.1 (4 classes screened, 2 of them polished) ended 40 % above it on HARD.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STORED = Path(__file__).with_suffix(".safetensors")
PIXELS, WIDTH, CLASSES, IMAGES = 3, 16, 40, 64
SCALE = 5.0  # of the initial weights: boundaries that bend
SIDE = 200
HARD = 42


def network() -> nn.Sequential:
    """The architecture; (N, 3, 1, 1) -> (N, 40)."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)
    ).requires_grad_(False)


def grid(side: int) -> Tensor:
    """(side^3, 3) points in the middle of equal cells of the cube."""
    axis = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(axis, axis, axis)


def predictions(model: nn.Module, points: Tensor) -> Tensor:
    """Classes (N,) of points (N, 3)."""
    return torch.cat([model(part).argmax(1) for part in points.split(200_000)])


def stored() -> tuple[nn.Sequential, Tensor, Tensor]:
    """The network, images (64, 3, 1, 1) and minimum norms (64,)."""
    tensors = load_file(STORED)
    images, minimum = tensors.pop("images"), tensors.pop("minimum")
    model = network()
    model.load_state_dict(tensors)
    return model, images, minimum


def main() -> None:
    """Initialise, centre the logits over the cube, and search the grid."""
    torch.manual_seed(0)
    model = network()
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight *= SCALE
            layer.bias *= SCALE
    points = grid(SIDE // 2)
    model[-1].bias -= torch.cat([model(part) for part in points.split(200_000)]).mean(0)
    points = grid(SIDE)
    classes = predictions(model, points)
    images = torch.rand(IMAGES, PIXELS, 1, 1, generator=torch.Generator().manual_seed(0))
    others = zip(images.flatten(1), predictions(model, images.flatten(1)), strict=True)
    minimum = torch.stack([(points[classes != label] - image).norm(dim=1).min() for image, label in others])
    save_file({**model.state_dict(), "images": images, "minimum": minimum}, STORED)


if __name__ == "__main__":
    main()
